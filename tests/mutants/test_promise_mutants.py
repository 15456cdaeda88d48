"""Every fault planted in a promise is caught by the Monte Carlo check that is meant to catch it."""

from __future__ import annotations

import pytest
from validity.promises import PROMISES

from mutants.calibration_faults import Fault
from mutants.promise_faults import PROMISE_FAULTS


@pytest.mark.parametrize("fault", PROMISE_FAULTS, ids=lambda fault: fault.name)
def test_fault_is_caught(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.plant(monkeypatch)
    with pytest.raises(AssertionError):
        PROMISES[fault.by]()


@pytest.mark.parametrize("by", sorted(PROMISES))
def test_true_code_passes_what_the_mutants_fail(by: str) -> None:
    PROMISES[by]()


def test_every_check_has_a_fault_of_its_own() -> None:
    assert {fault.by for fault in PROMISE_FAULTS} == set(PROMISES)
    assert len({fault.name for fault in PROMISE_FAULTS}) == len(PROMISE_FAULTS)
