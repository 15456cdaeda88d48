"""Every fault planted in tests of typicality and drift is caught, and by the check that is meant to catch it.

That the true code passes the same checks is tested in ``tests/calibration``.
"""

from __future__ import annotations

import warnings

import pytest
from calibration.drift_checks import DRIFT_CHECKS, TYPICALITY_CHECKS

from mutants.calibration_faults import Fault
from mutants.drift_faults import DRIFT_FAULTS

CHECKS = TYPICALITY_CHECKS | DRIFT_CHECKS


@pytest.mark.parametrize("fault", DRIFT_FAULTS, ids=lambda fault: fault.name)
def test_fault_is_caught(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.plant(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AssertionError):
            CHECKS[fault.by]()


def test_faults_have_names_of_their_own() -> None:
    assert len({fault.name for fault in DRIFT_FAULTS}) == len(DRIFT_FAULTS)
