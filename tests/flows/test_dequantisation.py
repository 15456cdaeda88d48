"""Logits that never end, grey levels spread and found again, and what a bit is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import logit

from differnet.flows import Flow, FlowError
from differnet.flows.dequantisation import (
    Logit,
    bits_per_dimension,
    dequantise,
    quantise,
)
from flows.checks import EXACT, agree
from flows.image_checks import categorical


def slope(layer: Logit, x: float) -> float:
    """Return the derivative by autograd."""
    point = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    return float(torch.autograd.grad(layer(point)[0].sum(), point)[0])


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_logit_is_the_papers_on_pictures(alpha: float) -> None:
    x = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    z, log_det = Logit(1, alpha)(x)
    y = alpha + (1 - 2 * alpha) * x.numpy()
    agree(z, torch.as_tensor(logit(y)), EXACT, "logit")
    wanted = np.log((1 - 2 * alpha) / (y * (1 - y)))[:, 0]
    agree(log_det, torch.as_tensor(wanted), EXACT, "log_det of the logit")


def test_logit_goes_on_along_its_tangents() -> None:
    layer = Logit(1)
    for end, beyond in ((0.0, -3.0), (1.0, 7.0)):
        inside = 1e-9 if end == 0 else 1 - 1e-9
        # 1e-6: the slope of a logit changes by 2e-8 over 1e-9.
        assert slope(layer, beyond) == pytest.approx(slope(layer, inside), rel=1e-6)
        z = [layer(torch.tensor([v], dtype=torch.float64))[0].item() for v in (end, beyond)]
        assert z[1] - z[0] == pytest.approx(slope(layer, beyond) * (beyond - end))


def test_logit_of_any_number_is_finite_and_returns() -> None:
    x = torch.cat([torch.linspace(-1e6, 1e6, 2001), torch.linspace(-0.5, 1.5, 2001)]).sort().values[:, None]
    z, log_det = Logit(1)(x)
    assert bool(z.isfinite().all())
    assert bool(log_det.isfinite().all())
    assert bool((z.diff(dim=0) >= 0).all())
    # 1e-6 of the number: a few roundings of float32.
    agree(Logit(1).inverse(z)[0], x, 1e-6, "x after the logit")


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1.0, math.nan])
def test_meaningless_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(FlowError):
        Logit(2, alpha)


@pytest.mark.parametrize("levels", [2, 3, 17, 256, 1000, 4096])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extreme", [0.0, 1.0, None])
def test_quantise_undoes_dequantise(
    levels: int, dtype: torch.dtype, extreme: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for the least and the greatest noise that could be drawn: rounding crosses no border."""
    grey = torch.arange(levels).to(dtype).repeat(50, 1)
    if extreme is not None:
        monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, extreme, dtype=dtype))
    x = dequantise(grey, levels, torch.Generator().manual_seed(0))
    assert x.dtype == dtype
    assert float(x.min()) > 0
    assert float(x.max()) < 1
    assert torch.equal(quantise(x, levels), grey.long())


@pytest.mark.parametrize(
    "call",
    [
        lambda: dequantise(torch.tensor([0.5]), 4),
        lambda: dequantise(torch.tensor([4]), 4),
        lambda: dequantise(torch.tensor([-1]), 4),
        lambda: dequantise(torch.tensor([math.nan]), 4),
        lambda: dequantise(torch.tensor([0]), 1),
        lambda: dequantise(torch.tensor([0]), 2**17),
        lambda: quantise(torch.tensor([math.nan]), 4),
        lambda: quantise(torch.tensor([0.5]), 1),
        lambda: bits_per_dimension(torch.tensor(0.0), 0, 256),
        lambda: bits_per_dimension(torch.tensor(0.0), 4, 1),
    ],
)
def test_meaningless_levels_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(FlowError):
        call()


def test_no_flow_needs_less_than_the_entropy() -> None:
    """The entropy bounds every density; this one is near enough to feel a lost log(levels), 2 bits."""
    levels, features = 4, 3
    table = categorical(levels, features)
    entropy = float(-(table * table.log2()).sum() / features)
    generator = torch.Generator().manual_seed(6)
    grey = torch.stack([torch.multinomial(row, 4000, True, generator=generator) for row in table], -1)
    x = dequantise(grey.double(), levels, generator)
    bits = bits_per_dimension(Flow(Logit(features)).log_prob(x), features, levels)
    error = float(bits.std()) / len(bits) ** 0.5
    assert float(bits.mean()) >= entropy - 4 * error
    assert float(bits.mean()) < entropy + math.log2(levels)
