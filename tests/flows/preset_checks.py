"""What presets promise of the flows they build: how features mix, and that every argument arrives."""

from __future__ import annotations

from collections.abc import Callable

import torch

from differnet.flows import (
    AffineAutoregressive,
    AffineMap,
    Compose,
    ElementwiseAffine,
    Flow,
    Inverse,
    Permutation,
    Scaling,
    SplineMap,
    Transform,
    glow_layers,
    presets,
)
from differnet.flows.networks import Conditioner, MaskedConditioner
from flows.checks import require
from flows.registry import normal, randomise

MIXING: dict[str, Callable[..., Flow]] = {
    "nice": presets.nice,
    "real_nvp": presets.real_nvp,
    "glow": glow_layers.glow,
    "maf": presets.maf,
    "iaf": presets.iaf,
    "spline_coupling": presets.spline_coupling,
    "spline_autoregressive": presets.spline_autoregressive,
}


def chain(flow: Flow) -> list[Transform]:
    """Return the transforms of a preset, data to latent."""
    require(isinstance(flow.transform, Compose), "a preset is not a chain")
    return [t for t in flow.transform.get_submodule("transforms").children() if isinstance(t, Transform)]


def every_feature_depends_on_every_other() -> None:
    """The Jacobian of each preset at its default depth has no zeros; of 7 features, an odd number."""
    for name, family in MIXING.items():
        flow = family(7, hidden=28).double()
        randomise(flow, torch.Generator().manual_seed(3), gain=1.0)
        x = normal(torch.Generator().manual_seed(4), 20, 7)
        rows = []
        for i in range(7):
            points = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(flow.transform(points)[0][:, i].sum(), points)
            rows.append(slope.abs().amax(0))
        least = float(torch.stack(rows).min())
        require(least > 1e-6, f"{name}: a feature ignores another one, largest derivative {least:.1g}")


def couplings_pass_through_other_halves() -> None:
    """Between couplings stand both kinds of permutation: halves exchanged, and features drawn anew."""
    for name in ("nice", "real_nvp", "spline_coupling"):
        orders = [t.order.tolist() for t in chain(MIXING[name](8, hidden=8)) if isinstance(t, Permutation)]
        swap = [4, 5, 6, 7, 0, 1, 2, 3]
        require(orders.count(swap) == 3, f"{name}: {orders.count(swap)} exchanges of halves, not 3")
        require(len({tuple(o) for o in orders}) == 3, f"{name}: permutations are not drawn anew")


def arguments_arrive() -> None:
    """Depth, width, bins, edges and bounds of every preset are those that were asked for."""
    for name, family in MIXING.items():
        depth = {
            "nice": "couplings",
            "real_nvp": "couplings",
            "spline_coupling": "couplings",
            "glow": "steps",
        }
        flow = family(4, 2, hidden=9, **{depth.get(name, "layers"): 3})
        nets = [m for m in flow.modules() if isinstance(m, Conditioner | MaskedConditioner)]
        require(len(nets) == 3, f"{name}: {len(nets)} networks, not 3")
        require({net.middle.in_features for net in nets} == {9}, f"{name}: hidden does not arrive")
    for name in ("real_nvp", "glow", "maf", "iaf"):
        maps = [m for m in MIXING[name](4, scale_bound=0.25).modules() if isinstance(m, AffineMap)]
        bounds = {float(m.bounds[0]) for m in maps}
        require(bounds == {0.25}, f"{name}: scale bounds {bounds}")
    for name in ("spline_coupling", "spline_autoregressive"):
        splines = [m for m in MIXING[name](4, bins=5, edge=3.0).modules() if isinstance(m, SplineMap)]
        require({(m.bins, m.edge) for m in splines} == {(5, 3.0)}, f"{name}: bins or edge do not arrive")


def iaf_is_the_inverse_of_maf() -> None:
    """IAF's layers are swapped, MAF's are not: which direction is one pass is what tells them apart."""
    for name, swapped in (("maf", False), ("iaf", True)):
        layers = [t for t in chain(MIXING[name](3, hidden=8)) if not isinstance(t, Permutation)]
        inner = [t.transform if isinstance(t, Inverse) else t for t in layers]
        require(all(isinstance(t, AffineAutoregressive) for t in inner), f"{name}: other layers")
        require(all(isinstance(t, Inverse) == swapped for t in layers), f"{name}: the wrong direction")


def first_is_first() -> None:
    """``first`` meets the data, and NICE ends in its scaling."""
    for name, family in MIXING.items():
        first = ElementwiseAffine(torch.zeros(3), torch.ones(3))
        found = chain(family(3, hidden=8, first=first))
        require(found[0] is first, f"{name}: first is not first")
        require(isinstance(found[-1], Scaling) == (name == "nice"), f"{name}: the last is {found[-1]}")


PRESET_CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        every_feature_depends_on_every_other,
        couplings_pass_through_other_halves,
        arguments_arrive,
        iaf_is_the_inverse_of_maf,
        first_is_first,
    )
}
