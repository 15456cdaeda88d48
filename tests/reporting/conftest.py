"""Runs on disk from drawn pictures; no model and no picture from elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.records import Inspection, Record, Region, Verdict
from differnet.reporting.run import CalibrationFacts, RunFacts
from differnet.reporting.run_folder import RunFolder

T_REVIEW, T_DEFECT = 1.301, 2.0
SIDE = 256

Drawn = tuple[NDArray[np.uint8], NDArray[np.float32], tuple[Region, ...]]
MakeRun = Callable[..., RunFolder]


def facts(**changes: Any) -> RunFacts:
    """Facts of a believable run."""
    known: dict[str, Any] = {
        "product": "flange 40 mm",
        "source": "line 3, shift B",
        "model_id": "9f2c41d07ab3e6588c1d",
        "calibration_id": "51c0ffee90aa",
        "t_review": T_REVIEW,
        "t_defect": T_DEFECT,
        "seed": 7,
        "commit": "0123456789abcdef",
        "versions": {"differnet": "0.1.0", "torch": "2.0", "numpy": "2.0"},
        "details": {"Backbone": "tf_efficientnet_lite0", "Picture size": "320 px"},
        "calibration": CalibrationFacts(200, 0.05, 0.01, 1 / 201, (0.0018, 0.0234), (0.027, 0.077), "5-fold"),
    }
    return RunFacts(**(known | changes))


def draw_part(rng: np.random.Generator, flaw: bool, side: int = SIDE) -> Drawn:
    """Draw a turned disc on a dark ground, with a scratch and its heat where it is flawed."""
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    centre = side / 2 + rng.normal(0, 2, 2)
    radius = np.hypot(rows - centre[0], columns - centre[1])
    angle = np.arctan2(rows - centre[0], columns - centre[1])
    light = 60 + 110 * (radius < 0.42 * side) - 90 * (radius < 0.14 * side)
    light = (
        light
        + 18 * np.cos(2 * angle + rng.uniform(0, 6))
        + 6 * np.sin(radius * 1.3)
        + rng.normal(0, 4, radius.shape)
    )
    grid = rng.normal(1.0, 0.8, (32, 32)).astype(np.float32)
    regions: tuple[Region, ...] = ()
    if flaw:
        start = rng.uniform(0.25, 0.45, 2) * side
        end = start + rng.uniform(0.1, 0.25, 2) * side
        stroke = cv2.line(np.zeros((side, side), np.float32), _point(start), _point(end), 1.0, 3)
        light = light + 80 * stroke
        heat = cv2.resize(cv2.GaussianBlur(stroke, (0, 0), 6), (32, 32), interpolation=cv2.INTER_AREA)
        grid = grid + heat * float(rng.uniform(25, 60))
        left, top, right, bottom = *np.minimum(start, end), *np.maximum(start, end)
        area = int(max(60, 5 * np.hypot(*(end - start))))
        box = (int(left) - 5, int(top) - 5, int(right - left) + 10, int(bottom - top) + 10)
        regions = (Region(*box, area, float(grid.max()), 0.005),)
    pixels = np.clip(light, 0, 255).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2), grid.astype(np.float32), regions


def record_of(number: int, verdict: Verdict, **changes: Any) -> Record:
    """A record with every kind of field filled."""
    digest = hashlib.sha256(f"part {number}".encode()).hexdigest()
    known: dict[str, Any] = {
        "run_id": "",
        "item_id": digest[:16],
        "part_id": f"part_{number:04d}",
        "view_id": "top",
        "path": f"test/part_{number:04d}.png",
        "sha256": digest,
        "verdict": verdict,
        "reasons": ("Typical of good parts.",),
        "t_review": T_REVIEW,
        "t_defect": T_DEFECT,
        "width": SIDE,
        "height": SIDE,
        "bit_depth": 8,
        "inference_ms": 20.0 + number % 7,
    }
    return Record(**(known | changes))


def inspection_of(
    rng: np.random.Generator, number: int, label: str | None
) -> tuple[Inspection, NDArray[np.uint8] | None]:
    """Inspect a drawn part the way a detector would report it."""
    kind = label or ""
    if kind == "unreadable":
        return Inspection(
            record_of(
                number,
                Verdict.INVALID,
                reasons=("The file ends after 312 of 40,960 bytes.",),
                width=0,
                height=0,
            )
        ), None
    flaw = kind not in ("", "good") and not kind.startswith("wrong_input")
    pixels, heat_map, regions = draw_part(rng, flaw)
    strangeness = float(rng.gamma(3.0, 0.75) + 1.6 if flaw else rng.exponential(0.434))
    if kind.startswith("wrong_input"):
        pixels = np.full_like(pixels, 200 if "blank" in kind else 40) + rng.integers(
            0, 8, pixels.shape, dtype=np.uint8
        )
        record = record_of(
            number,
            Verdict.OOD,
            label=kind,
            strangeness=6.0,
            p_value_ood=1 / 201,
            reasons=("Not the product: no calibration picture is this plain (p = 0.005).",),
        )
        return Inspection(record, heat_map), pixels
    verdict = (
        Verdict.DEFECT
        if strangeness >= T_DEFECT
        else Verdict.REVIEW
        if strangeness >= T_REVIEW
        else Verdict.PASS
    )
    p_value = max(1 / 201, 10**-strangeness)
    reasons = (
        f"Local density: a region at ({regions[0].x}, {regions[0].y}) is stranger than in 199 of 200 parts."
        if regions and verdict is not Verdict.PASS
        else "Typical of good parts.",
        "Global density agrees with good parts.",
    )
    record = record_of(
        number,
        verdict,
        label=label,
        strangeness=strangeness,
        p_value=p_value,
        p_value_local=p_value,
        p_value_global=0.31,
        p_value_ood=0.62,
        reasons=reasons,
        nll_global=812.5,
        nll_local=44.25,
        regions=regions if verdict is not Verdict.PASS else (),
    )
    return Inspection(record, heat_map), pixels


def fill_run(path: Path, labels: list[str | None], seed: int = 0, **changes: Any) -> RunFolder:
    """Write a run with one drawn part for each label."""
    rng = np.random.default_rng(seed)
    with RunFolder.create(path, facts(**changes)) as run:
        for number, label in enumerate(labels):
            run.append(*inspection_of(rng, number, label))
    return run


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """Make one record: ``make_record(number, verdict, **fields)``."""
    return record_of


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write small runs below the test's own folder."""

    def make(labels: list[str | None], name: str = "run", **changes: Any) -> RunFolder:
        return fill_run(tmp_path / name, labels, **changes)

    return make


def _point(place: NDArray[np.float64]) -> tuple[int, int]:
    return int(place[0]), int(place[1])
