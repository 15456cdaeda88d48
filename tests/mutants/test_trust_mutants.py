"""Every check that is taken out of the code is missed by the trust check that is meant to miss it."""

from __future__ import annotations

import warnings

import pytest

from mutants.trust_faults import CHECKS, TRUST_FAULTS, Fault


@pytest.mark.parametrize("fault", TRUST_FAULTS, ids=lambda fault: fault.name)
def test_fault_is_reported(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.plant(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = CHECKS[fault.by]()
    assert not found.passed
    assert fault.told in str(found.figures)


def test_every_check_has_a_fault() -> None:
    assert {fault.by for fault in TRUST_FAULTS} == set(CHECKS)
    assert len({fault.name for fault in TRUST_FAULTS}) == len(TRUST_FAULTS)
