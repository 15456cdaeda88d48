"""Every transform of the registry has every property of the flow contract."""

from __future__ import annotations

import inspect

import pytest
import torch

import differnet.flows
from differnet.flows import (
    AffineCoupling,
    Compose,
    ElementwiseAffine,
    FlowError,
    Leading,
    LowRankWhitening,
    Permutation,
    Planar,
    Radial,
    Transform,
    Whitening,
)
from differnet.flows.planar_radial import solve_planar
from flows.cases import BY_NAME, CASES
from flows.checks import TRANSFORM_CHECKS
from flows.registry import Case


def test_every_exported_transform_is_registered() -> None:
    exported = [getattr(differnet.flows, name) for name in differnet.flows.__all__]
    transforms = {
        item
        for item in exported
        if inspect.isclass(item) and issubclass(item, Transform) and not inspect.isabstract(item)
    }
    assert len(transforms) >= 8
    assert transforms == {case.kind for case in CASES}
    assert len(BY_NAME) == len(CASES), "two cases share a name"


def test_every_registered_case_builds_its_kind() -> None:
    for case in CASES:
        assert type(case.build()) is case.kind, case.name


@pytest.mark.parametrize("check", TRANSFORM_CHECKS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_property(case: Case, check: str) -> None:
    TRANSFORM_CHECKS[check](case)


def test_coupling_starts_as_the_identity() -> None:
    x, context = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.ones(2)
    z, log_det = AffineCoupling(4, 2)(x, context)
    assert torch.equal(z, x)
    assert torch.equal(log_det, torch.zeros(5))


def test_coupling_bounds_scale_and_shift() -> None:
    coupling = AffineCoupling(2, hidden=8, scale_bound=0.5, shift_bound=3.0)
    with torch.no_grad():
        coupling.net.leave.bias.fill_(1e9)
    z, log_det = coupling(torch.zeros(2))
    assert log_det.item() == pytest.approx(0.5)
    assert z.tolist() == pytest.approx([0.0, 3.0])


def test_coupling_is_constant_far_out() -> None:
    case = BY_NAME["coupling_odd"]
    coupling = case.build(torch.float32)
    far = torch.full((5,), 1e6)
    assert torch.equal(coupling(far)[1], coupling(far * (1 + 1e-6))[1])


def test_low_rank_whitening_puts_principal_axes_first() -> None:
    transform = BY_NAME["low_rank_swapped"].build()
    mean = transform.get_buffer("mean")
    step = torch.zeros(4, dtype=torch.float64)
    step[1] = 3**0.5
    z = transform(mean + step)[0]
    torch.testing.assert_close(z, torch.tensor([1.0, 0, 0, 0], dtype=torch.float64))


@pytest.mark.parametrize(
    "build",
    [
        lambda: AffineCoupling(0),
        lambda: AffineCoupling(2, -1),
        lambda: AffineCoupling(2, hidden=0),
        lambda: AffineCoupling(2, scale_bound=0),
        lambda: AffineCoupling(2, shift_bound=-1),
        lambda: AffineCoupling(2, input_bound=0),
        lambda: Compose([]),
        lambda: Compose([Permutation.reverse(2), Permutation.reverse(3)]),
        lambda: Compose([AffineCoupling(2, 1), AffineCoupling(2, 2)]),
        lambda: ElementwiseAffine(torch.zeros(2), torch.tensor([1.0, 0.0])),
        lambda: ElementwiseAffine(torch.zeros(2), torch.tensor([1.0, torch.inf])),
        lambda: ElementwiseAffine(torch.zeros(2), torch.tensor([1.0, torch.nan])),
        lambda: ElementwiseAffine(torch.tensor([0.0, torch.nan]), torch.ones(2)),
        lambda: ElementwiseAffine(torch.zeros(2), torch.ones(3)),
        lambda: ElementwiseAffine.standardising(torch.zeros(0, 2)),
        lambda: ElementwiseAffine.standardising(torch.full((3, 2), torch.nan)),
        lambda: ElementwiseAffine.standardising(torch.zeros(3)),
        lambda: Leading(AffineCoupling(4), 3),
        lambda: Permutation(torch.tensor([0, 0])),
        lambda: Permutation(torch.tensor([1, 2])),
        lambda: Whitening(torch.zeros(2), torch.eye(3)),
        lambda: Whitening(torch.zeros(2), torch.zeros(2, 2)),
        lambda: Whitening(torch.zeros(2), torch.full((2, 2), torch.nan)),
        lambda: Whitening(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]])),
        lambda: Whitening(torch.tensor([0.0, torch.inf]), torch.eye(2)),
        lambda: Whitening.from_axes(torch.zeros(2), torch.ones(2, 2), torch.ones(2)),
        lambda: Whitening.from_axes(torch.zeros(2), torch.eye(2), torch.tensor([1.0, torch.nan])),
        lambda: LowRankWhitening(torch.zeros(2), torch.eye(2), torch.ones(2), 1.0),
        lambda: LowRankWhitening(torch.zeros(3), torch.ones(3, 1), torch.ones(1), 1.0),
        lambda: LowRankWhitening(torch.zeros(3), torch.eye(3)[:, :1], torch.zeros(1), 1.0),
        lambda: LowRankWhitening(torch.zeros(3), torch.eye(3)[:, :1], torch.ones(1), 0.0),
        lambda: LowRankWhitening(torch.full((3,), torch.nan), torch.eye(3)[:, :1], torch.ones(1), 1.0),
    ],
)
def test_meaningless_transforms_are_refused(build: object) -> None:
    assert callable(build)
    with pytest.raises(FlowError):
        build()


def test_standardising_gives_zero_mean_and_unit_variance() -> None:
    vectors = 4 + 3 * torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    z, _ = ElementwiseAffine.standardising(vectors)(vectors)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_standardising_does_not_blow_up_a_constant_feature() -> None:
    vectors = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    vectors[:, 1] = 2.0
    affine = ElementwiseAffine.standardising(vectors, least=1e-2)
    median = vectors.std(0, correction=0).median()
    assert affine.scale[1].item() == pytest.approx(1e-2 * median.item())
    assert ElementwiseAffine.standardising(torch.ones(4, 2)).scale.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("opens", [False, True])
def test_radial_layer_starts_as_the_identity(opens: bool) -> None:
    layer = Radial(3, 2, opens=opens)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    mapped, log_det = layer(x, torch.ones(2))
    torch.testing.assert_close(mapped, x)
    torch.testing.assert_close(log_det, torch.zeros(50), atol=1e-6, rtol=0)


def test_radial_layer_that_opens_makes_a_hole() -> None:
    """A push of about 2 at an alpha of 0.01: what lay within a hundredth of the centre fills a disc of 1."""
    layer = Radial(2, opens=True)
    with torch.no_grad():
        layer.said.bias.copy_(torch.tensor([0.5, -0.5, 0.0, 2.0]))
    centre = torch.tensor([0.5, -0.5])
    angle = torch.linspace(0, 6, 20)
    circle = torch.stack([angle.cos(), angle.sin()], dim=-1)
    reach = (layer(centre + 0.01 * circle)[0] - centre).norm(dim=-1)
    assert float(reach.detach().min()) > 1
    torch.testing.assert_close(layer.inverse(layer(centre + circle)[0])[0], centre + circle)


def test_planar_layer_without_a_direction_keeps_volumes() -> None:
    """At w = 0 nothing depends on x: the map is a shift, whatever u is."""
    layer = Planar(3).double()
    with torch.no_grad():
        layer.said.bias[:3] = 0.0
        layer.said.bias[6] = 0.7
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z, log_det = layer(x)
    assert torch.equal(log_det, torch.zeros(5, dtype=torch.float64))
    back, log_det = layer.inverse(z)
    torch.testing.assert_close(back, x)
    assert torch.equal(log_det.abs(), torch.zeros(5, dtype=torch.float64))


def test_root_of_a_planar_layer_has_right_second_derivatives() -> None:
    y = torch.tensor([-2.0, 0.1, 3.0], dtype=torch.float64, requires_grad=True)
    for c in (-0.9, 0.5, 4.0):
        slope = torch.tensor([c], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(solve_planar, (y, slope))
        assert torch.autograd.gradgradcheck(solve_planar, (y, slope))


@pytest.mark.parametrize("c", [-0.999999, -0.5, 0.0, 3.0, 1e4])
def test_root_of_a_planar_layer_is_found_to_its_tolerance(c: float) -> None:
    y = torch.cat(
        [torch.linspace(-30, 30, 2001, dtype=torch.float64), torch.tensor([0.0, 1e6, -1e6]).double()]
    )
    a = solve_planar(y, torch.tensor([c], dtype=torch.float64))
    residual = (a + c * torch.tanh(a) - y).abs()
    # The root is known to 4 roundings; the residual is that times the slope, 1 + c at most.
    assert bool((residual <= 8e-16 * (1 + abs(c)) * (1 + a.abs() + y.abs())).all())


def test_a_context_of_another_dtype_is_refused() -> None:
    for context in (torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.long)):
        with pytest.raises(FlowError, match="float32"):
            AffineCoupling(3, 2)(torch.zeros(3), context)
