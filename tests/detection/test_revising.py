"""Thresholds that a person set, what a bundle keeps of training parts, and drift of a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.calibration import by_hand
from differnet.detection import Detector, DetectorError, adopt_current, revision_of, revisions_of
from differnet.records import Verdict

Pixels = NDArray[np.uint8]


@pytest.fixture
def loaded(saved: Path) -> Detector:
    """The shared detector once more, free to be changed."""
    return Detector.load(saved, "cpu")


def test_adopted_thresholds_judge_and_stand_on_records(loaded: Detector, fresh: list[Pixels]) -> None:
    before, own = loaded.inspect(fresh[0]).record, loaded.facts()
    after = loaded.adopt_thresholds(0, 0, 7).inspect(fresh[0]).record
    assert after.verdict in (Verdict.DEFECT, Verdict.OOD)
    assert (after.t_review, after.t_defect, after.threshold_revision) == (0, 0, 7)
    assert (before.threshold_revision, own["threshold_revision"]) == (0, 0)
    assert (after.p_value, after.regions) == (before.p_value, before.regions)
    assert loaded.facts()["threshold_revision"] == 7
    assert loaded.facts()["calibration_id"] == own["calibration_id"]
    # The calibration's own thresholds are back with the next calibration or change of rates.
    assert loaded.with_alphas(0.2, 0.1).facts()["threshold_revision"] == 0


def test_rates_follow_the_thresholds_in_force(loaded: Detector) -> None:
    good = np.sort(loaded.good_strangeness)
    facts = loaded.adopt_thresholds(good[-8], good[-2], 1).facts()["calibration"]
    n = len(good)
    assert facts["alpha_review"] == pytest.approx(9 / (n + 1))
    assert facts["alpha_defect"] == pytest.approx(3 / (n + 1))
    low, high = facts["interval_review"]
    assert low < 9 / (n + 1) < high
    assert loaded.adopt_thresholds(0, 0, 2).facts()["calibration"]["interval_review"][1] == 1


@pytest.mark.parametrize(
    ("review", "defect", "revision"),
    [(2, 1, 1), (-1, 1, 1), (np.nan, 1, 1), (1, np.inf, 1), (1, 2, 0)],
)
def test_unfit_thresholds_change_nothing(
    loaded: Detector, review: float, defect: float, revision: int
) -> None:
    before = loaded.facts()
    with pytest.raises(DetectorError):
        loaded.adopt_thresholds(review, defect, revision)
    assert loaded.facts() == before


def test_only_revisions_of_this_calibration_come_into_force(loaded: Detector, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    assert adopt_current(loaded, folder).revision is None
    facts = loaded.facts()
    names = {"author": "ada", "reason": "r", "model_id": facts["model_id"]}
    chosen = by_hand(loaded.good_strangeness, 1, 2)
    revisions_of(folder).append(chosen, **names, calibration_id=facts["calibration_id"])
    assert adopt_current(loaded, folder).revision is not None
    assert loaded.threshold_revision == 1
    assert revision_of(loaded, folder) == revisions_of(folder).current()
    revisions_of(folder).append(chosen, **names, calibration_id="another")
    other = Detector.load(loaded.save(folder), "cpu")
    found = adopt_current(other, folder)
    assert found.revision is None
    assert found.ignored is not None
    assert other.threshold_revision == 0
    assert revision_of(other, folder) is None


def test_a_loaded_model_knows_what_it_was_trained_on(loaded: Detector, good: list[Pixels]) -> None:
    assert len(loaded.trained_on) == loaded.facts()["training_parts"]
    with pytest.raises(DetectorError, match="pictures that were"):
        loaded.calibrate(list(good))


def test_drift_is_found_and_named(loaded: Detector, fresh: list[Pixels]) -> None:
    assert not loaded.drift(list(fresh), 0.01).alarm
    darker = [(0.6 * part).astype(np.uint8) for part in fresh]
    found = loaded.drift(darker, 0.01)
    assert found.alarm
    assert ("brightness", "lower") in {(each.name, each.how) for each in found.moved}
    # Cross-fitted parts' strangest patches are on another scale.
    assert not any("patches" in each.name for each in found.statistics)
