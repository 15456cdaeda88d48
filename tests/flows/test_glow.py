"""Glow's layers and its vector form, beyond the properties that every transform has."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from differnet.flows import FlowError
from differnet.flows.glow_layers import ActNorm, ConvolutionalCoupling, InvertibleLinear, glow
from flows.checks import EXACT, agree
from flows.image_checks import check_started, uneven
from flows.registry import randomise


@pytest.mark.parametrize("x", [torch.zeros(0, 2), torch.full((3, 2), torch.nan), torch.zeros(3, 3)])
def test_actnorm_does_not_start_from_nothing(x: Tensor) -> None:
    with pytest.raises(FlowError):
        ActNorm(2).start_from(x)


@pytest.mark.parametrize(("channels", "positions"), [(1, 1), (5, 1), (4, 6)])
def test_mixing_is_one_matrix_at_every_position(channels: int, positions: int) -> None:
    layer = InvertibleLinear(channels, positions, seed=4).double()
    randomise(layer, torch.Generator().manual_seed(0), 2.0)
    weight = layer.weight()
    x = uneven(7, channels * positions)
    z, log_det = layer(x)
    wanted = torch.stack(
        [weight @ vector for vector in x.reshape(7, channels, positions).transpose(1, 2).flatten(0, 1)]
    )
    agree(z, wanted.reshape(7, positions, channels).transpose(1, 2).flatten(1), EXACT, "z of a mixing")
    slogdet = torch.linalg.slogdet(weight).logabsdet * positions
    agree(log_det, slogdet.expand(7), EXACT, "log_det of a mixing")
    agree(
        layer.inverse_weight() @ weight,
        torch.eye(channels, dtype=torch.float64),
        EXACT,
        "inverse of a mixing",
    )


def test_coupling_starts_as_the_identity() -> None:
    x, context = uneven(5, 12), torch.ones(2, dtype=torch.float64)
    z, log_det = ConvolutionalCoupling((3, 2, 2), 2).double()(x, context)
    assert torch.equal(z, x)
    assert torch.equal(log_det, x.new_zeros(5))


def test_coupling_bounds_scale_and_shift() -> None:
    coupling = ConvolutionalCoupling((2, 1, 2), hidden=4, scale_bound=0.5, shift_bound=3.0)
    with torch.no_grad():
        assert coupling.leave.bias is not None
        coupling.leave.bias.fill_(1e6)
    z, log_det = coupling(torch.zeros(4))
    # 1e-5: a smooth bound is reached at infinity only.
    assert log_det.item() == pytest.approx(2 * 0.5, rel=1e-5)
    assert z.tolist() == pytest.approx([0.0, 0.0, 3.0, 3.0], rel=1e-5)


def rough(coupling: ConvolutionalCoupling) -> ConvolutionalCoupling:
    randomise(coupling, torch.Generator().manual_seed(1), 2.0)
    return coupling.requires_grad_(False)


def test_coupling_is_constant_far_out() -> None:
    coupling = rough(ConvolutionalCoupling((3, 2, 2), hidden=6))
    far = torch.full((12,), 1e6)
    assert torch.equal(coupling(far)[1], coupling(far * (1 + 1e-6))[1])


def test_coupling_sees_the_neighbourhood_and_no_more() -> None:
    """Two convolutions of 3x3 reach two squares far."""
    coupling = rough(ConvolutionalCoupling((2, 7, 7), hidden=6).double())
    x = uneven(1, 98)[0]
    other = x.clone().reshape(2, 7, 7)
    other[0, 1, 2] += 1
    moved = (coupling(other.flatten())[0] - coupling(x)[0]).reshape(2, 7, 7)[1] != 0
    wanted = torch.zeros(7, 7, dtype=torch.bool)
    wanted[:4, :5] = True
    assert torch.equal(moved, wanted)


def test_additive_coupling_keeps_volumes() -> None:
    coupling = rough(ConvolutionalCoupling((3, 2, 2), 2, hidden=6, kind="additive").double())
    x, context = uneven(5, 12), uneven(5, 2)
    z, log_det = coupling(x, context)
    assert torch.equal(log_det, x.new_zeros(5))
    assert torch.equal(z[:, :4], x[:, :4])
    # The shift depends on what is kept and on the context, not on what is moved.
    again = x.clone()
    again[:, 4:] += 1
    agree(coupling(again, context)[0][:, 4:] - again[:, 4:], z[:, 4:] - x[:, 4:], EXACT, "shift")


@pytest.mark.parametrize(
    "build",
    [
        lambda: ActNorm(0),
        lambda: ActNorm(2, 0),
        lambda: InvertibleLinear(0),
        lambda: InvertibleLinear(2, -1),
        lambda: ConvolutionalCoupling((1, 4, 4)),
        lambda: ConvolutionalCoupling((2, 0, 4)),
        lambda: ConvolutionalCoupling((2, 4, 4), -1),
        lambda: ConvolutionalCoupling((2, 4, 4), hidden=0),
        lambda: ConvolutionalCoupling((2, 4, 4), scale_bound=0),
        lambda: ConvolutionalCoupling((2, 4, 4), shift_bound=math.nan),
        lambda: ConvolutionalCoupling((2, 4, 4), input_bound=-1),
        lambda: ConvolutionalCoupling((2, 4, 4), kind="volume"),  # type: ignore[arg-type]
        lambda: glow(2, steps=0),
        lambda: glow(2, first=ActNorm(3)),
    ],
)
def test_meaningless_layers_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(FlowError):
        build()


def test_glow_starts_as_what_is_first() -> None:
    first = ActNorm(5)
    first.start_from(uneven(100, 5).float())
    x = uneven(20, 5).float()
    z, log_det = first(x)
    wanted = -0.5 * (z.square().sum(-1) + 5 * math.log(2 * math.pi)) + log_det
    # 1e-4: float32 through six rotations.
    agree(glow(5, 2, first=first).log_prob(x, torch.ones(2)), wanted, 1e-4, "log-density at the start")


def test_glow_starts_every_actnorm() -> None:
    flow = glow(5, 2, steps=3, hidden=8).double()
    randomise(flow, torch.Generator().manual_seed(0), 1.0)
    x, context = uneven(300, 5), uneven(300, 2)
    flow.transform.start_from(x, context)
    assert check_started(flow.transform, x, context) == 3


def test_seeds_decide_weights() -> None:
    first, again, other = (glow(3, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if name.endswith(("factors", "enter.weight", "middle.weight"))]
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)
    mixings = [first[name] for name in drawn if name.endswith("factors")]
    assert not torch.equal(mixings[0], mixings[1])
