from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Invoke = Callable[..., Result]


def test_json_names_versions_and_checks(invoke: Invoke, tmp_path: Path) -> None:
    shown = invoke("doctor", "--json", "--folder", tmp_path)
    found = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert shown.exit_code == (0 if found["healthy"] else 1)
    names = {check["name"] for check in found["checks"]}
    assert {
        "python",
        "libraries",
        "cv2",
        "processor",
        "gpu",
        "write and rename",
        "free disk",
        "telemetry",
    } <= names
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_stands_in_the_way(invoke: Invoke, tmp_path: Path) -> None:
    shown = invoke("doctor", "--folder", tmp_path / "absent")
    assert shown.exit_code == 1
    assert "write and rename" in shown.stdout
    assert "1 in the way" in shown.stdout
