"""Every fault planted in calibration is caught, and by the check that is meant to catch it.

That the true code passes the same checks is tested in ``tests/calibration`` and at the end of this file.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from calibration.checks import CALIBRATION_CHECKS
from numpy.typing import NDArray

from differnet.detection import DensitySettings, Detector, DetectorSettings, cross_fitting
from differnet.images.synthetic import render_part
from mutants.calibration_faults import CALIBRATION_FAULTS, Fault

SIZE = 64


@pytest.mark.parametrize("fault", CALIBRATION_FAULTS, ids=lambda fault: fault.name)
def test_fault_is_caught(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.plant(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AssertionError):
            CALIBRATION_CHECKS[fault.by]()


@pytest.mark.parametrize("by", sorted({fault.by for fault in CALIBRATION_FAULTS}))
def test_true_code_passes_what_the_mutants_fail(by: str) -> None:
    CALIBRATION_CHECKS[by]()


def test_faults_have_names_of_their_own() -> None:
    assert len({fault.name for fault in CALIBRATION_FAULTS}) == len(CALIBRATION_FAULTS)


@pytest.fixture(scope="module")
def parts() -> NDArray[np.uint8]:
    """64 good parts: half to train on, half that nobody has seen."""
    return np.stack([render_part(seed, size=SIZE).pixels for seed in range(64)])


def fresh_p_values(parts: NDArray[np.uint8]) -> NDArray[np.float64]:
    density = DensitySettings(steps=30, couplings=2, hidden=16)
    settings = DetectorSettings(image_size=SIZE, folds=2, density=density, device="cpu")
    detector = Detector(settings).fit(list(parts[:32])).calibrate()
    records = [i.record for i in detector.inspect_many(parts[32:])]
    return np.array([r.p_value for r in records], dtype=np.float64)


def excess(p_values: NDArray[np.float64]) -> float:
    """Return by how many standard errors fresh good parts are too strange, at the worst of three rates."""
    rates = np.array([0.1, 0.25, 0.5])
    shares = np.array([np.mean(p_values <= rate) for rate in rates])
    return float(np.max((shares - rates) / np.sqrt(rates * (1 - rates) / len(p_values))))


@pytest.mark.parametrize("halves_from", [1, 200])
def test_calibrating_on_training_pictures_is_noticed(
    halves_from: int, parts: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members that have seen the parts they judge find fresh good parts strange."""
    monkeypatch.setattr(cross_fitting, "HALVES_FROM", halves_from)
    assert excess(fresh_p_values(parts)) < 4
    monkeypatch.setattr(cross_fitting, "learned_from", lambda dealt, missed: torch.arange(len(dealt)))
    assert excess(fresh_p_values(parts)) > 4
