"""The report on speed: what was met, what was missed, what was not measured, and its drawings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = {
    "commit": "abc",
    "measured_at": "2026-01-02T03:04:05+00:00",
    "machine": {"processor": "a processor", "processors": 2, "load": 0.5},
    "versions": {"torch": "2"},
}
TIMES = {"p50": 10.0, "p95": 12.0, "p99": 13.0, "least": 9.0}


@pytest.fixture
def speed(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("speed")


def of_runtime(name: str, ratio: float = 1.2) -> dict[str, Any]:
    return {
        "runtime": name,
        "bare": TIMES,
        "picture": TIMES,
        "file": TIMES,
        "picture_ratio": ratio,
        "file_ratio": 1.5,
        "bare_rate": 100.0,
        "rate": 80.0,
        "rate_share": 0.8,
        "cold": {"seconds": 2.0, "megabytes": 300.0},
    }


def trained(ratio: float, megabytes: float = 2_000.0) -> dict[str, Any]:
    stages = {"features": 20.0, "densities": 30.0}
    return {
        "parts": 761,
        "passes": [20.0, 22.0],
        "quick_passes": [10.0, 14.0],
        "stages": stages,
        "seconds": 60.0,
        "ratio": ratio,
        "quick_ratio": 2 * ratio,
        "megabytes": megabytes,
    }


def measured() -> dict[str, Any]:
    figures: dict[str, Any] = {
        "training": trained(2.5),
        "inspecting": {"speeds": [of_runtime("torch"), of_runtime("openvino", 1.4)]},
        "parity": {
            "pictures": 583,
            "torch": {"auroc": 0.985},
            "openvino": {"auroc": 0.9851, "deviation": 0.0004, "flips": 0},
        },
        "sides": {"128": [of_runtime("torch")], "256": [of_runtime("torch")]},
        "parts": {"50": trained(4.0), "200": trained(3.5)},
        "batches": {"torch": {"1": 40.0, "64": 30.0}},
        "peers": {
            "runtime": "openvino",
            "pictures": 583,
            "auroc": 0.985,
            "training": 60.0,
            "padim": {
                "training": 50.0,
                "milliseconds": 80.0,
                "own milliseconds": 16.0,
                "ratio": 5.0,
                "auroc": 0.95,
                "version": "2.7",
            },
            "cflow": {
                "training": 900.0,
                "milliseconds": 500.0,
                "ratio": 3.0,
                "auroc": None,
                "version": "2.7",
            },
        },
    }
    return {name: {"figures": of, "source": SOURCE} for name, of in figures.items()}


def test_every_part_that_is_measured_is_told(speed: ModuleType) -> None:
    assert list(speed.MEASURED) == list(speed.SECTIONS) == list(measured())
    text = speed.report({})
    assert all(f"Not measured yet: {name}." in text for name in speed.MEASURED)


def test_what_misses_a_bar_is_named(speed: ModuleType) -> None:
    found = measured()
    text = speed.report(found)
    assert "Not measured yet" not in text
    assert text.count("**missed**") == 3
    assert "| openvino | 1.40, **missed** | 1.50, met | 0.80, met | 2.00, met | 300, met |" in text
    assert "| differnet | 16.0 | | 60 | 98.5 |" in text
    assert "| 80.0 | 5.0, met | 50, **sooner than differnet** | 95.0 |" in text
    assert "| CFLOW (anomalib 2.7) | 500.0 | 3.0, **missed** | 900 |  |" in text
    words = (
        "A pass took 21.0 s in torch and 12.0 s in OpenVINO, all 60.0 s: features 20.0 s; densities 30.0 s."
    )
    assert words in text
    assert "--only training`, commit abc, 2026-01-02" in text
    found["training"]["figures"] = trained(3.1, 3_000.0)
    found["parity"]["figures"]["openvino"] = {"auroc": 0.98, "deviation": 0.01, "flips": 1}
    worse = speed.report(found)
    assert worse.count("**missed**") == 8
    assert "3,000, **missed**" in worse


def test_costs_are_drawn(speed: ModuleType, tmp_path: Path) -> None:
    speed.draw(measured(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.png", "sides.png"]
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())
