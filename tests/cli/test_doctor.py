from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from differnet.cli import doctor
from differnet.cli.doctor import State

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


def test_two_opencv_wheels_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"opencv-python": "4.12", "opencv-python-headless": "5.0"}
    monkeypatch.setattr(doctor, "_version", installed.get)
    (check,) = doctor.check_opencv()
    assert check.state is State.WARNING
    assert "pip uninstall -y opencv-python opencv-python-headless" in check.remedy


def test_one_opencv_wheel_of_either_kind_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", {"opencv-python": "4.12"}.get)
    assert [check.state for check in doctor.check_opencv()] == [State.OK]
    monkeypatch.setattr(doctor, "_version", {}.get)
    assert [check.state for check in doctor.check_opencv()] == [State.PROBLEM]


def test_a_folder_that_cannot_be_written_stands_in_the_way(invoke: Invoke, tmp_path: Path) -> None:
    shown = invoke("doctor", "--folder", tmp_path / "absent")
    assert shown.exit_code == 1
    assert "write and rename" in shown.stdout
    assert "1 in the way" in shown.stdout


def test_a_changed_weights_file_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forged = tmp_path / "weights.pth"
    forged.write_bytes(b"not the weights")
    monkeypatch.setattr(
        "differnet.features.weights.packaged_file", lambda name: forged if name.endswith("lite0") else None
    )
    states = {check.name: check.state for check in doctor.check_weights()}
    assert states["weights efficientnet_lite0"] is State.PROBLEM
    assert states["weights efficientnet_lite1"] is State.NOTE


def test_absent_default_weights_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("differnet.features.weights.packaged_file", lambda _: None)
    states = {check.name: check.state for check in doctor.check_weights()}
    assert states["weights efficientnet_lite0"] is State.PROBLEM


def test_little_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Usage:
        free = 2**20

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    states = {check.name: check.state for check in doctor.check_folder(tmp_path)}
    assert states == {"write and rename": State.OK, "free disk": State.PROBLEM}


def test_a_missing_library_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "library_versions", lambda: {"torch": "2.9", "scipy": None})
    (check,) = doctor.check_libraries()
    assert (check.state, check.found) == (State.PROBLEM, "missing: scipy")


def test_telemetry_is_off() -> None:
    assert [check.state for check in doctor.check_telemetry()] == [State.OK]
