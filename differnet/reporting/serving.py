"""How the dashboard is started: one list of safe options, in one place.

Streamlit's own defaults listen on every address, accept any Host header, report usage and show
tracebacks. None of that suits pictures of someone's product.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from differnet.records import DiffernetError

# Under other names a page on the web, which can point its own name at this machine, would read the dashboard.
ALLOWED_HOSTS = ("localhost", "127.0.0.1")

SAFE_OPTIONS: dict[str, str | bool | int | tuple[str, ...]] = {
    "server.address": "127.0.0.1",
    # Streamlit's own list is for its websocket; differnet.reporting.guarding applies it to every request.
    "server.allowedHosts": ALLOWED_HOSTS,
    "server.enableXsrfProtection": True,
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    "server.enableAgentApi": False,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.maxUploadSize": 64,
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    # Where it shows an error, without links to the web. Nor may pages elsewhere steer this one.
    "client.showErrorLinks": "false",
    "client.allowedOrigins": ("http://127.0.0.1",),
    "client.toolbarMode": "minimal",
    # Magic prints any bare string, docstrings of constants among them, onto the page.
    "runner.magicEnabled": False,
}
"""Options that `dashboard_command` enforces; ``.streamlit/config.toml`` repeats them for developers."""

THEME_OPTIONS: dict[str, str] = {
    "theme.light.primaryColor": "#1d4f91",
    # Captions are this at six tenths: at Streamlit's own #31333f less than 4.5:1.
    "theme.light.textColor": "#14171f",
    "theme.dark.primaryColor": "#7fb2ff",
}
"""One quiet accent; light or dark follows the browser."""


PLACE_VARIABLE = "DIFFERNET_DB"
WORKSPACE_VARIABLE = "DIFFERNET_WORKSPACE"
READ_ONLY_VARIABLE = "DIFFERNET_READ_ONLY"
DATA_VARIABLE = "DIFFERNET_DATA"
ORIGINS_VARIABLE = "DIFFERNET_ORIGINS"


class DashboardError(DiffernetError):
    """Raised when the dashboard's pages are not where they should be."""


def dashboard_app() -> Path:
    """Find the dashboard's main page, in an installed wheel or in the repository.

    Returns:
        Path of ``app.py``.

    Raises:
        DashboardError: It is in neither place.
    """
    repository = Path(__file__).resolve().parents[2]
    installed = Path(sysconfig.get_path("data")) / "share" / "differnet"
    candidates = [root / "dashboard" / "app.py" for root in (repository / "apps", installed)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise DashboardError(
        expected="the dashboard's app.py",
        found="neither " + " nor ".join(str(candidate) for candidate in candidates),
        remedy="Install differnet again; the wheel carries the dashboard.",
    )


def dashboard_command(port: int = 8501) -> list[str]:
    """Make the command that serves the dashboard on this machine only.

    Args:
        port: To listen on.

    Returns:
        Arguments for ``subprocess.run``, without a shell; its environment is `dashboard_environment`.

    Raises:
        DashboardError: The dashboard's pages are missing.

    Example:
        >>> command = dashboard_command(port=8600)
        >>> command[1:4], "--server.address=127.0.0.1" in command, "--server.port=8600" in command
        (['-m', 'streamlit', 'run'], True, True)
    """
    options = [
        f"--{name}={_word(value)}"
        for name, values in (SAFE_OPTIONS | THEME_OPTIONS | {"server.port": port}).items()
        for value in (values if isinstance(values, tuple) else (values,))
    ]
    served = str(dashboard_app().with_name("served.py"))
    return [sys.executable, "-m", "streamlit", "run", served, *options]


def dashboard_environment(
    place: str,
    workspace: Path,
    *,
    read_only: bool = False,
    origins: Mapping[str, str] | None = None,
    data: Sequence[Path] = (),
) -> dict[str, str]:
    """Say to the dashboard what it shows; in variables, for a place may hold a password.

    Args:
        place: Of the record.
        workspace: Folder for models, runs and whatever else pages make.
        read_only: Pages change nothing.
        origins: Who said so, in words, of ``record``, ``workspace``, ``read_only`` and ``data``.
        data: Folders at which pages begin to look for pictures, beside others.

    Returns:
        Variables to add to the environment.
    """
    told = {PLACE_VARIABLE: place, WORKSPACE_VARIABLE: str(workspace.resolve())}
    told |= {ORIGINS_VARIABLE: json.dumps(dict(origins or {}))}
    told |= {DATA_VARIABLE: os.pathsep.join(str(folder.resolve()) for folder in data)}
    return told | {READ_ONLY_VARIABLE: "1" if read_only else ""}


def _word(value: str | bool | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
