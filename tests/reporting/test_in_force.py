"""What is in force is told as it is, with who said so, and without a password."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from differnet.reporting.in_force import (
    UNTOLD,
    limits_in_force,
    options_in_force,
    settings_in_force,
    versions_in_force,
)
from differnet.reporting.serving import ORIGINS_VARIABLE, SAFE_OPTIONS, dashboard_environment


def test_places_are_told_with_who_said_so_and_without_a_password(tmp_path: Path) -> None:
    place = "postgresql://ada:secret@plant/parts"
    origins = {"record": "option --db", "workspace": "default", "read_only": "option --read-only"}
    environ = dashboard_environment(place, tmp_path, read_only=True, origins=origins)
    record, workspace, changed, data = settings_in_force(environ)
    assert (data.value, data.origin) == ("the usual ones alone", UNTOLD)
    several = dashboard_environment(place, tmp_path, data=(tmp_path, tmp_path.parent))
    assert settings_in_force(several)[3].value == f"{tmp_path.resolve()}, {tmp_path.parent.resolve()}"
    assert (record.value, record.origin) == ("postgresql://ada:***@plant/parts", "option --db")
    assert (workspace.value, workspace.origin) == (str(tmp_path.resolve()), "default")
    assert (changed.value, changed.origin) == ("no", "option --read-only")
    assert settings_in_force(dashboard_environment(place, tmp_path))[2].value == "yes"


@pytest.mark.parametrize("told", ["", "no JSON", "[1, 2]", "{}"])
def test_where_nobody_said_anything_that_is_told(told: str) -> None:
    found = settings_in_force({ORIGINS_VARIABLE: told})
    assert [each.origin for each in found] == [UNTOLD] * 4
    assert found[0].value == "record.db"
    assert found[1].value == str(Path.cwd())


def test_options_are_compared_with_the_safe_ones() -> None:
    values = dict(SAFE_OPTIONS) | {"server.allowedHosts": ["localhost", "127.0.0.1"]}
    found = options_in_force(values.__getitem__, lambda name: "command-line argument or environment variable")
    assert all(each.safe for each in found)
    assert {each.name.partition(":")[0] for each in found} == set(SAFE_OPTIONS)
    assert [each.name for each in found if not each.name.partition(": ")[2]] == []
    values["browser.gatherUsageStats"] = True
    values["server.allowedHosts"] = ["localhost", "plant"]
    where = "/etc/config.toml"
    changed = {each.name: each for each in options_in_force(values.__getitem__, lambda name: where)}
    assert [name for name, each in changed.items() if not each.safe] == [
        "server.allowedHosts: names under which it may be asked",
        "browser.gatherUsageStats: telemetry",
    ]
    assert changed["browser.gatherUsageStats: telemetry"].value == "on"
    assert changed["browser.gatherUsageStats: telemetry"].origin == where


def test_limits_and_versions_are_those_that_hold() -> None:
    limits = {each.name: each.value for each in limits_in_force()}
    assert limits == {
        "Largest picture": "100,000,000 pixels",
        "Largest file": "512 MB",
        "Largest upload": "64 MB",
    }
    versions = {each.name: each.value for each in versions_in_force()}
    assert versions["streamlit"] == importlib.metadata.version("streamlit")
    assert versions["differnet"]
