"""Every family's preset in a small size, for the tests of densities rather than of single transforms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from differnet.flows import (
    Flow,
    ffjord,
    glow,
    iaf,
    maf,
    nice,
    planar,
    radial,
    real_nvp,
    spline_autoregressive,
    spline_coupling,
)
from flows.registry import randomise

FAMILIES: dict[str, Callable[..., Flow]] = {
    "nice": partial(nice, couplings=4, hidden=16),
    "real_nvp": partial(real_nvp, couplings=4, hidden=16),
    "glow": partial(glow, steps=4, hidden=16),
    "maf": partial(maf, layers=3, hidden=16),
    "iaf": partial(iaf, layers=3, hidden=16),
    "spline_coupling": partial(spline_coupling, couplings=4, hidden=16),
    "spline_autoregressive": partial(spline_autoregressive, layers=3, hidden=16),
    "planar": partial(planar, layers=8),
    "planar_fast_sampling": partial(planar, layers=8, fast_sampling=True),
    "radial": partial(radial, layers=8),
    "radial_fast_sampling": partial(radial, layers=8, fast_sampling=True),
    "ffjord": partial(ffjord, hidden=16),
}


# Glow's linear layers have no bound: triangular matrices of random numbers become ill-conditioned as 2^n
# (Viswanath, Trefethen 1998). Its promises are tested nearer to the rotations that it starts from.
CALMER = {"glow": 0.5}


def random_member(
    family: str, features: int, context_features: int = 0, *, seed: int = 0, gain: float = 1.5
) -> Flow:
    """Return a float64 flow of a family whose weights are ``gain`` times torch's usual random ones."""
    flow = FAMILIES[family](features, context_features, seed=seed).double()
    randomise(flow, torch.Generator().manual_seed(seed), gain * CALMER.get(family, 1.0))
    return flow.requires_grad_(False)
