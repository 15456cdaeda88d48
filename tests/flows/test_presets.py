"""Presets build what they say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from differnet.flows import Flow, FlowError, iaf, maf, nice, planar, radial, real_nvp
from flows.preset_checks import PRESET_CHECKS


@pytest.mark.parametrize("check", PRESET_CHECKS)
def test_property(check: str) -> None:
    PRESET_CHECKS[check]()


@pytest.mark.parametrize(
    "build",
    [
        lambda: real_nvp(2, couplings=-3),
        lambda: nice(2, couplings=-1),
        lambda: maf(2, layers=-1),
        lambda: iaf(2, layers=-1),
        lambda: planar(2, layers=-1),
        lambda: radial(2, layers=-1),
        lambda: maf(2, scale_bound=float("inf")),
        lambda: real_nvp(2, scale_bound=float("nan")),
        lambda: real_nvp(2, input_bound=float("inf")),
    ],
)
def test_meaningless_sizes_are_refused(build: Callable[[], Flow]) -> None:
    with pytest.raises(FlowError):
        build()
