"""What is in force in the dashboard, and who said so: for the page Settings."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from differnet import __version__
from differnet.images.reading import ReadingRule
from differnet.reporting.machine import library_versions
from differnet.reporting.serving import (
    DATA_VARIABLE,
    ORIGINS_VARIABLE,
    PLACE_VARIABLE,
    READ_ONLY_VARIABLE,
    SAFE_OPTIONS,
    WORKSPACE_VARIABLE,
)
from differnet.store import shown_place

UNTOLD = "nobody said: the dashboard was not started by its own command"
_OPTION = "the command of differnet dashboard"
_WHY = {
    "server.address": "the dashboard listens on this machine only",
    "server.allowedHosts": "names under which it may be asked",
    "server.enableXsrfProtection": "no other page of the web can send it anything",
    "server.enableCORS": "no other page of the web can read it",
    "server.enableStaticServing": "no folder is served as it is",
    "server.enableAgentApi": "no other program drives it",
    "server.fileWatcherType": "files are not watched",
    "server.headless": "no browser is opened",
    "server.maxUploadSize": "largest upload, MB",
    "browser.gatherUsageStats": "telemetry",
    "client.showErrorDetails": "what an error shows of the program",
    "client.showErrorLinks": "an error links to nothing on the web",
    "client.allowedOrigins": "no other page can steer this one",
    "client.toolbarMode": "menus for developers",
    "runner.magicEnabled": "bare words in pages are not shown",
}


@dataclass(frozen=True)
class Setting:
    """Something that is in force.

    Attributes:
        name: For a person.
        value: As it is.
        origin: Who said so.
        safe: Whether it is what the dashboard's own command would set.
    """

    name: str
    value: str
    origin: str
    safe: bool = True


def settings_in_force(environ: Mapping[str, str]) -> list[Setting]:
    """Tell where record, workspace and pictures are, and whether anything may be changed.

    Args:
        environ: Of the dashboard's process.

    Returns:
        Without the password of a database.
    """
    try:
        told = json.loads(environ.get(ORIGINS_VARIABLE) or "{}")
    except ValueError:
        told = {}
    origins = told if isinstance(told, dict) else {}
    folders = [folder for folder in (environ.get(DATA_VARIABLE) or "").split(os.pathsep) if folder]
    wanted = (
        ("Record", "record", shown_place(environ.get(PLACE_VARIABLE) or "record.db")),
        ("Workspace", "workspace", str(Path(environ.get(WORKSPACE_VARIABLE) or ".").resolve())),
        ("May be changed", "read_only", "no" if environ.get(READ_ONLY_VARIABLE) else "yes"),
        ("Folders to look for pictures in", "data", ", ".join(folders) or "the usual ones alone"),
    )
    return [Setting(name, value, str(origins.get(key, UNTOLD))) for name, key, value in wanted]


def options_in_force(read: Callable[[str], object], defined: Callable[[str], str]) -> list[Setting]:
    """Compare the server's options with those that the dashboard's own command sets.

    Args:
        read: Returns the value of an option.
        defined: Returns where an option was set.

    Returns:
        One setting an option, named with what it is for.

    Example:
        >>> found = options_in_force(lambda name: SAFE_OPTIONS[name], lambda name: "command-line argument")
        >>> found[0].value, found[0].safe
        ('127.0.0.1', True)
    """
    found = []
    for name, wanted in SAFE_OPTIONS.items():
        value = read(name)
        same = list(wanted) == list(value) if isinstance(value, list | tuple) else wanted == value  # type: ignore[arg-type]
        where = defined(name)
        origin = _OPTION if "command-line" in where else where
        why = f": {_WHY[name]}" if name in _WHY else ""
        found.append(Setting(f"{name}{why}", _words(value), origin, same))
    return found


def limits_in_force() -> list[Setting]:
    """Tell how large a picture may be that pages and commands read."""
    rule = ReadingRule()
    origin = "default; a model keeps its own with it"
    upload = SAFE_OPTIONS["server.maxUploadSize"]
    return [
        Setting("Largest picture", f"{rule.max_pixels:,} pixels", origin),
        Setting("Largest file", f"{rule.max_file_bytes / 2**20:,.0f} MB", origin),
        Setting("Largest upload", f"{upload} MB", "option server.maxUploadSize"),
    ]


def versions_in_force() -> list[Setting]:
    """Tell the versions of this program, Python and the libraries."""
    known = {"differnet": __version__, "Python": platform.python_version()} | {
        name: version or "missing" for name, version in library_versions().items()
    }
    return [Setting(name, version, "installed") for name, version in known.items()]


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
