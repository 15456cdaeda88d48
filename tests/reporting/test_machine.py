"""What is looked at on a machine is told as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from differnet.reporting import machine
from differnet.reporting.machine import Check, State, machine_checks, summary


def test_two_opencv_wheels_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"opencv-python": "4.12", "opencv-python-headless": "5.0"}
    monkeypatch.setattr(machine, "_version", installed.get)
    (check,) = machine.check_opencv()
    assert check.state is State.WARNING
    assert "pip uninstall -y opencv-python opencv-python-headless" in check.remedy


def test_one_opencv_wheel_of_either_kind_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_version", {"opencv-python": "4.12"}.get)
    assert [check.state for check in machine.check_opencv()] == [State.OK]
    monkeypatch.setattr(machine, "_version", {}.get)
    assert [check.state for check in machine.check_opencv()] == [State.PROBLEM]


def test_a_changed_weights_file_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forged = tmp_path / "weights.pth"
    forged.write_bytes(b"not the weights")
    monkeypatch.setattr(
        "differnet.features.weights.packaged_file", lambda name: forged if name.endswith("lite0") else None
    )
    states = {check.name: check.state for check in machine.check_weights()}
    assert states["weights efficientnet_lite0"] is State.PROBLEM
    assert states["weights efficientnet_lite1"] is State.NOTE


def test_absent_default_weights_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("differnet.features.weights.packaged_file", lambda _: None)
    states = {check.name: check.state for check in machine.check_weights()}
    assert states["weights efficientnet_lite0"] is State.PROBLEM


def test_little_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Usage:
        free = 2**20

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    states = {check.name: check.state for check in machine.check_folder(tmp_path)}
    assert states == {"write and rename": State.OK, "free disk": State.PROBLEM}


def test_a_missing_library_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "library_versions", lambda: {"torch": "2.9", "scipy": None})
    (check,) = machine.check_libraries()
    assert (check.state, check.found) == (State.PROBLEM, "missing: scipy")


def test_telemetry_is_off() -> None:
    assert [check.state for check in machine.check_telemetry()] == [State.OK]


def test_a_gpu_is_named_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("differnet.features.gpus", lambda: [("Card 7", 8 * 2**30)])
    (check,) = machine.check_gpu()
    assert check.state is State.OK
    assert check.found.startswith("Card 7, 8 GB, torch ")
    monkeypatch.setattr("differnet.features.gpus", list)
    assert [each.state for each in machine.check_gpu()] == [State.NOTE]


def test_all_is_looked_at_and_told_of(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    checks = machine_checks(tmp_path, lambda *step: told.append(step))
    assert [done for _, done, _ in told] == list(range(told[-1][2] + 1))
    assert {"python", "gpu", "write and rename", "telemetry"} <= {check.name for check in checks}
    assert list(tmp_path.iterdir()) == []


def test_the_summary_counts_what_is_not_well() -> None:
    bad, odd, fine = (Check("x", s, "y") for s in (State.PROBLEM, State.WARNING, State.NOTE))
    assert summary([bad, odd, fine, fine]) == "1 in the way, 1 to look at."
    assert summary([fine]) == "All well."
