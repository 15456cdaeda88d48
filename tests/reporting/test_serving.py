"""The dashboard is started on this machine only."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from differnet.reporting import serving
from differnet.reporting.serving import (
    DATA_VARIABLE,
    PLACE_VARIABLE,
    READ_ONLY_VARIABLE,
    SAFE_OPTIONS,
    THEME_OPTIONS,
    WORKSPACE_VARIABLE,
    DashboardError,
    dashboard_app,
    dashboard_command,
    dashboard_environment,
)


def test_the_command_carries_every_safe_option() -> None:
    command = dashboard_command(8600)
    assert command[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert command[4] == str(dashboard_app().with_name("served.py"))
    for wanted in (
        "--server.address=127.0.0.1",
        "--server.allowedHosts=localhost",
        "--server.allowedHosts=127.0.0.1",
        "--server.enableXsrfProtection=true",
        "--server.fileWatcherType=none",
        "--server.enableStaticServing=false",
        "--browser.gatherUsageStats=false",
        "--client.showErrorDetails=none",
        "--server.port=8600",
    ):
        assert wanted in command
    assert all(word.startswith("--") for word in command[5:])


def test_a_password_is_told_in_the_environment_alone(tmp_path: Path) -> None:
    place = "postgresql://ada:secret@plant/parts"
    told = dashboard_environment(place, tmp_path, read_only=True)
    assert told[PLACE_VARIABLE] == place
    assert told[WORKSPACE_VARIABLE] == str(tmp_path.resolve())
    assert told[READ_ONLY_VARIABLE]
    assert not dashboard_environment(place, tmp_path)[READ_ONLY_VARIABLE]
    assert not dashboard_environment(place, tmp_path)[DATA_VARIABLE]
    given = dashboard_environment(place, tmp_path, data=[tmp_path / "a", tmp_path / "b"])[DATA_VARIABLE]
    assert given.split(os.pathsep) == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert not any("secret" in word for word in dashboard_command())


def test_the_developers_file_says_the_same() -> None:
    file = Path(serving.__file__).resolve().parents[2] / ".streamlit" / "config.toml"
    if not file.is_file():
        pytest.skip("the configuration file belongs to the repository, not to the wheel")
    tree = tomllib.loads(file.read_text("utf-8"))
    for name, value in (SAFE_OPTIONS | THEME_OPTIONS).items():
        place: Any = tree
        for step in name.split("."):
            place = place[step]
        assert place == (list(value) if isinstance(value, tuple) else value), name


@pytest.mark.parametrize("inside", [True, False])
def test_the_pages_are_found_in_a_wheel_and_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.setattr(serving, "__file__", str(tmp_path / "differnet" / "reporting" / "serving.py"))
    monkeypatch.setattr("sysconfig.get_path", {"data": str(tmp_path / "prefix")}.__getitem__)
    home = tmp_path / "prefix" / "share" / "differnet" if inside else tmp_path / "apps"
    with pytest.raises(DashboardError, match=r"app\.py"):
        dashboard_app()
    (home / "dashboard").mkdir(parents=True)
    (home / "dashboard" / "app.py").write_text("")
    assert dashboard_app() == home / "dashboard" / "app.py"
