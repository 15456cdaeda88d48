"""The report of verdicts counts every picture once, and its bands are those of the promise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest
from scipy import stats

from differnet.detection import DensitySettings, DetectorSettings
from differnet.images.disturbances import WRONG_INPUT_SIMULATIONS
from differnet.images.layouts import Dataset, read_layout
from differnet.images.synthetic import make_sample_product

SMALL = DetectorSettings(
    image_size=64, folds=2, device="cpu", density=DensitySettings(steps=10, couplings=2, hidden=8)
)


@pytest.fixture(scope="module")
def verdicts(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("verdicts")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("verdicts") / "flange"
    return read_layout(make_sample_product(folder, train=34, good_test=11, per_defect=1, per_wrong=0))


@pytest.fixture(scope="module")
def measured(verdicts: ModuleType, product: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = verdicts.measure(product, {"twin": product}, SMALL, 0)
    return found


def test_every_picture_gets_one_verdict(measured: dict[str, Any], product: Dataset) -> None:
    assert sum(sum(v.values()) for v in measured["verdicts"].values()) == 11 + len(product.kinds)
    wrong = measured["wrong"]
    assert set(wrong) == {*WRONG_INPUT_SIMULATIONS, "parts of twin"} - {"other_product"}
    for kind, row in wrong.items():
        assert sum(row["verdicts"].values()) == row["n"]
        assert row["n"] == (30 if kind == "parts of twin" else 11)
        # What no boundary was learned from has none without it.
        assert ("unseen" in row) == (kind != "parts of twin")
    assert wrong["noise"]["auroc"] == wrong["black"]["auroc"] == 1.0
    assert wrong["black"]["verdicts"] == {"OOD": 11}
    # Parts of the product itself are no wrong input.
    assert wrong["parts of twin"]["verdicts"].get("OOD", 0) == 0
    assert wrong["parts of twin"]["auroc"] < 0.9


def test_drift_is_asked_of_batches_of_ten(measured: dict[str, Any]) -> None:
    drift = measured["drift"]
    assert set(drift) == {"good", *measured["wrong"]}
    # Eleven good parts are one batch of ten; those of a disturbance overlap.
    assert all(d["batches"] == (1 if kind == "good" else 10) for kind, d in drift.items())
    assert drift["noise"]["alarms"] == 10


def test_no_threshold_beats_the_best(measured: dict[str, Any]) -> None:
    f1 = measured["f1"]
    assert all(0 <= f1[name] <= f1["oracle"] <= 1 for name in f1)


def test_the_tables_hold_every_product_and_the_band_of_its_promise(
    verdicts: ModuleType, measured: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"commit": "c0ffee", "sha256": "0" * 16}
    split = {"seed": 1, "calibration": measured["calibration"], "good_p": [0.01, 0.05, *[0.5] * 9]}
    stored = {"by_seed": [measured], "splits": [split], "configuration": made, "measured_at": "now"}
    stored["machine"] = "here"
    (tmp_path / "verdicts-flange.json").write_text(json.dumps(stored, allow_nan=False), encoding="utf-8")
    monkeypatch.setattr(verdicts, "REPORTS", tmp_path)
    text = verdicts.tables()
    n = measured["calibration"]
    law = stats.betabinom(11, 1, n)
    own = sum(p <= 0.05 for p in measured["good_p"])
    band = f"{int(law.ppf(0.005))} to {int(law.ppf(0.995))} of 11"
    assert f"| flange | 2 | {n} | 5 % | {band} | {own}, 2 |" in text
    assert f"nothing is promised below {100 / (n + 1):.1f} %" in text
    for name in (*WRONG_INPUT_SIMULATIONS, "parts of twin"):
        assert (f"| flange | {name} |" in text) == (name != "other_product")
    lengths = {line.count("|") for line in text.splitlines() if line.startswith("| flange | mirror")}
    assert lengths == {10, 5}


def test_the_map_holds_every_picture_where_its_verdict_is(
    verdicts: ModuleType, measured: dict[str, Any], tmp_path: Path
) -> None:
    where = measured["map"]
    for label, verdict in measured["verdicts"].items():
        assert len(where["parts"][label]) == sum(verdict.values())
    for kind, row in measured["wrong"].items():
        places = where["wrong"][kind]
        beyond = sum(s >= where["defect"] and w >= 0 for s, w in places)
        # Blank pictures are OOD by themselves.
        assert row["verdicts"].get("OOD", 0) >= beyond
        assert row["verdicts"].get("DEFECT", 0) <= sum(s >= where["defect"] and w < 0 for s, w in places)
    verdicts.draw("flange", measured, tmp_path / "verdicts" / "flange.png")
    picture = cv2.imread(str(tmp_path / "verdicts" / "flange.png"))
    assert picture is not None
    assert picture.std() > 10


def test_a_split_is_a_training_with_that_seed(
    verdicts: ModuleType, product: Dataset, measured: dict[str, Any]
) -> None:
    split = verdicts.measure_overkill(product, SMALL, 0)
    assert split == {key: measured[key] for key in ("seed", "calibration", "good_p")}
