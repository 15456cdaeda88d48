"""Every fault planted in the flows is caught, and by the check that is meant to catch it."""

from __future__ import annotations

import inspect
import warnings

import pytest
from flows.cases import BY_NAME
from flows.checks import FLOW_CHECKS, TRAINING_CHECKS, TRANSFORM_CHECKS
from flows.continuous_checks import CONTINUOUS_CHECKS
from flows.image_checks import IMAGE_CHECKS
from flows.preset_checks import PRESET_CHECKS

import differnet.flows
from differnet.flows import Transform
from mutants.continuous_faults import CONTINUOUS_FAULTS
from mutants.density_faults import DENSITY_FAULTS
from mutants.discrete_faults import DISCRETE_FAULTS
from mutants.faults import CASES, GENERAL_FAULTS, Check, Fault, transform_checks
from mutants.image_faults import IMAGE_FAULTS
from mutants.preset_faults import PRESET_FAULTS

FAULTS = (
    *GENERAL_FAULTS,
    *DISCRETE_FAULTS,
    *DENSITY_FAULTS,
    *CONTINUOUS_FAULTS,
    *IMAGE_FAULTS,
    *PRESET_FAULTS,
)


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
    """Otherwise 'caught' would mean nothing.

    Every check of a fault is one of the named checks, all of which tests/flows runs on the true code. The
    properties are run again here, over the very cases that the faults are planted in.
    """
    named = (
        TRANSFORM_CHECKS | FLOW_CHECKS | TRAINING_CHECKS | CONTINUOUS_CHECKS | IMAGE_CHECKS | PRESET_CHECKS
    )
    assert {name for fault in FAULTS for name in fault.checks} <= set(named)
    for kind in CASES:
        for name, check in transform_checks(kind).items():
            check()
            assert name in TRANSFORM_CHECKS


def test_every_fault_is_looked_for_by_its_own_check() -> None:
    assert [fault.name for fault in FAULTS if fault.by not in fault.checks] == []


def test_every_exported_transform_has_faults() -> None:
    exported = [getattr(differnet.flows, name) for name in differnet.flows.__all__]
    transforms = {
        item
        for item in exported
        if inspect.isclass(item) and issubclass(item, Transform) and not inspect.isabstract(item)
    }
    assert transforms == set(CASES)
    for kind, cases in CASES.items():
        built = [module for case in cases for module in BY_NAME[case].build().modules()]
        assert any(type(module) is kind for module in built), f"no case of {kind.__name__} has one"


def test_faults_have_names_of_their_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len(FAULTS) >= 300
