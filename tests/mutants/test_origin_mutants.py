"""Every fault planted in the boundary between defects and wrong inputs is caught.

That the true code passes the same checks is tested in ``tests/calibration``.
"""

from __future__ import annotations

import numpy as np
import pytest

from mutants.calibration_faults import Fault
from mutants.origin_faults import CHECKS, ORIGIN_FAULTS


@pytest.mark.parametrize("fault", ORIGIN_FAULTS, ids=lambda fault: fault.name)
def test_fault_is_caught(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.plant(monkeypatch)
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        CHECKS[fault.by]()


def test_faults_have_names_and_every_check_a_fault() -> None:
    assert len({fault.name for fault in ORIGIN_FAULTS}) == len(ORIGIN_FAULTS)
    assert {fault.by for fault in ORIGIN_FAULTS} == set(CHECKS)
