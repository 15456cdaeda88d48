"""Every fault planted in the flows is caught, and by the check that is meant to catch it."""

from __future__ import annotations

import warnings

import pytest
from flows.checks import FLOW_CHECKS, TRANSFORM_CHECKS
from flows.registry import BY_NAME

from mutants.faults import CASES, FAULTS, Check, Fault


def verdicts(checks: dict[str, Check]) -> dict[str, str]:
    """Return, for every check, how it failed; an empty string where it passed."""
    found = {}
    for name, check in checks.items():
        try:
            with warnings.catch_warnings():
                # Some faults divide by zero on the way to being caught.
                warnings.simplefilter("ignore")
                check()
        except AssertionError as failure:
            found[name] = str(failure)
        except Exception as error:
            found[name] = f"stopped by {type(error).__name__}: {error}"
        else:
            found[name] = ""
    return found


def table(fault: Fault, found: dict[str, str]) -> str:
    lines = [f"{name:32} {'caught: ' + why if why else 'passed'}" for name, why in found.items()]
    return "\n".join([f"{fault.name} (to be caught by {fault.by})", *lines])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_caught(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.plant(monkeypatch)
    found = verdicts(fault.checks)
    monkeypatch.undo()
    assert any(found.values()), f"nobody noticed\n{table(fault, found)}"
    assert found[fault.by], f"caught by accident only\n{table(fault, found)}"


def test_true_code_passes_what_the_mutants_fail() -> None:
    """Otherwise 'caught' would mean nothing. The training checks are run by tests/flows."""
    for names in CASES.values():
        for case in names:
            for check in TRANSFORM_CHECKS.values():
                check(BY_NAME[case])
    for name in ("evidence_is_log_prob", "whitening_is_the_gaussian", "shrinkage_is_ledoit_wolf"):
        FLOW_CHECKS[name]()


def test_faults_have_names_of_their_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len(FAULTS) >= 90
