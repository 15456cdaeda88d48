"""The likelihood of a Real NVP and its gradients in closed form, for training.

A step of training works on a few hundred vectors of some tens of features: products that take a core
microseconds, and around them, when the gradients are left to automatic differentiation, several small
operations each with its own bookkeeping. Written out, a step of the detector takes two thirds of the time.
What it computes is the same; ``tests/flows/test_by_hand.py`` holds it against automatic differentiation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from differnet.flows.coupling import AffineCoupling
from differnet.flows.density import Density, Flow
from differnet.flows.elementwise import ElementwiseAffine
from differnet.flows.linear import Permutation
from differnet.flows.maps import AffineMap
from differnet.flows.transform import Compose, Transform

_LOG_2PI = math.log(2 * math.pi)
# One operation each, where comparing and multiplying takes three.
_RELU = torch.ops.aten.threshold_backward.grad_input
_CLAMPED = torch.ops.aten.hardtanh_backward


class _Weights(NamedTuple):
    """The weights of one coupling's network, or their gradients: views of one row of numbers.

    Attributes:
        enter, enter_bias: ``(hidden, kept + context features)`` and ``(hidden,)``.
        middle, middle_bias: ``(hidden, hidden)`` and ``(hidden,)``.
        says, says_bias: ``(2 moved, hidden)`` and ``(2 moved,)``: all scales, then all shifts.
    """

    enter: Tensor
    enter_bias: Tensor
    middle: Tensor
    middle_bias: Tensor
    says: Tensor
    says_bias: Tensor


class _Passed(NamedTuple):
    """What the way back needs of one coupling's way forward; vectors are columns."""

    given: Tensor
    first: Tensor
    second: Tensor
    inside: Tensor
    slope: Tensor
    stretch: Tensor
    stretched: Tensor


class CouplingLikelihood:
    """Mean negative log-likelihood of a chain of affine couplings, with its gradients.

    Args:
        chain: Couplings, permutations and fixed affine maps.

    Attributes:
        weights: All numbers that are learned, in one row; a parameter whose ``grad`` `loss` fills.
    """

    def __init__(self, chain: Sequence[Transform]) -> None:
        self._chain = tuple(chain)
        self._couplings = tuple(link for link in chain if isinstance(link, AffineCoupling))
        like = self._couplings[0].net.enter.weight
        size = sum(p.numel() for c in self._couplings for p in c.net.parameters())
        self.weights = nn.Parameter(like.new_zeros(size))
        self.weights.grad = torch.zeros_like(self.weights)
        self._at = self._laid_out(self.weights.detach())
        self._slopes = self._laid_out(self.weights.grad)
        # The smooth bound is b x / (b + |x|): one over b of every number that a network says.
        self._bounds = [
            (1 / c.feature_map.bounds).to(like).repeat_interleave(c.features - c.kept)[:, None]
            for c in self._couplings
        ]
        self._take()

    @classmethod
    def of(cls, flow: Density) -> Self | None:
        """Return the likelihood of a flow, or ``None`` where it has layers that are not written out here."""
        if type(flow) is not Flow:
            return None
        chain = _links(flow.transform)
        couplings = [link for link in chain if isinstance(link, AffineCoupling)]
        written = all(
            type(link) in (Permutation, ElementwiseAffine)
            or (type(link) is AffineCoupling and type(link.feature_map) is AffineMap and link.kept > 0)
            for link in chain
        )
        parameters = list(flow.parameters())
        counted = sum(len(list(c.net.parameters())) for c in couplings)
        plain = all(p.requires_grad and p.device.type == "cpu" for p in parameters)
        return cls(chain) if couplings and written and plain and counted == len(parameters) else None

    @torch.no_grad()
    def loss(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Return the mean nll of vectors in nats, and put its gradients into ``weights.grad``.

        Args:
            x: ``(n, features)``.
            context: ``(n, context_features)``, or ``None``.
        """
        number = len(x)
        # Vectors as columns: halves of a vector are then whole blocks of memory, and permuting moves rows.
        z, given = x.T.contiguous(), x.new_empty(0, number) if context is None else context.T
        log_det = z.new_zeros(())
        passed: list[_Passed] = []
        for link in self._chain:
            if isinstance(link, Permutation):
                z = z.index_select(0, link.order)
            elif isinstance(link, ElementwiseAffine):
                z = (z - link.shift[:, None]) / link.scale[:, None]
                log_det -= number * link.scale.log().sum()
            elif isinstance(link, AffineCoupling):
                z, way = self._forward(link, len(passed), z, given)
                log_det += way.slope.sum()
                passed.append(way)
        half_squares = 0.5 * z.square().sum()
        # From here on the gradient of the mean nll by what each layer gave.
        pull = z.div_(number)
        for link in reversed(self._chain):
            if isinstance(link, Permutation):
                pull = pull.index_select(0, link.back)
            elif isinstance(link, ElementwiseAffine):
                pull = pull / link.scale[:, None]
            elif isinstance(link, AffineCoupling):
                self._backward(link, len(passed) - 1, pull, passed.pop(), 1 / number)
        features = self._chain[0].features
        loss: Tensor = (half_squares - log_det) / number + 0.5 * features * _LOG_2PI
        return loss

    @torch.no_grad()
    def give(self) -> None:
        """Put the weights as they are now into the flow's own parameters."""
        for coupling, at in zip(self._couplings, self._at, strict=True):
            net, moved = coupling.net, coupling.features - coupling.kept
            net.enter.weight.copy_(at.enter)
            net.enter.bias.copy_(at.enter_bias)
            net.middle.weight.copy_(at.middle)
            net.middle.bias.copy_(at.middle_bias)
            # The flow says scale and shift of a feature side by side.
            net.leave.weight.view(moved, 2, -1).copy_(at.says.view(2, moved, -1).transpose(0, 1))
            net.leave.bias.view(moved, 2).copy_(at.says_bias.view(2, moved).T)

    @torch.no_grad()
    def _take(self) -> None:
        for coupling, at in zip(self._couplings, self._at, strict=True):
            net, moved = coupling.net, coupling.features - coupling.kept
            at.enter.copy_(net.enter.weight)
            at.enter_bias.copy_(net.enter.bias)
            at.middle.copy_(net.middle.weight)
            at.middle_bias.copy_(net.middle.bias)
            at.says.view(2, moved, -1).copy_(net.leave.weight.view(moved, 2, -1).transpose(0, 1))
            at.says_bias.view(2, moved).copy_(net.leave.bias.view(moved, 2).T)

    def _laid_out(self, row: Tensor) -> list[_Weights]:
        found: list[_Weights] = []
        start = 0
        for coupling in self._couplings:
            hidden, said = len(coupling.net.enter.bias), 2 * (coupling.features - coupling.kept)
            seen = coupling.kept + coupling.context_features
            views: list[Tensor] = []
            for shape in ((hidden, seen), (hidden,), (hidden, hidden), (hidden,), (said, hidden), (said,)):
                size = math.prod(shape)
                views.append(row[start : start + size].view(shape))
                start += size
            found.append(_Weights(*views))
        return found

    def _forward(
        self, link: AffineCoupling, place: int, x: Tensor, context: Tensor
    ) -> tuple[Tensor, _Passed]:
        at, bound, kept = self._at[place], link.net.input_bound, link.kept
        seen, moved = x[:kept], x[kept:]
        # One product with all that the network sees, and one on the way back.
        given = x.new_empty(at.enter.shape[1], x.shape[1])
        torch.clamp(seen, -bound, bound, out=given[:kept])
        given[kept:] = context
        first = torch.addmm(at.enter_bias[:, None], at.enter, given).relu_()
        second = torch.addmm(at.middle_bias[:, None], at.middle, first).relu_()
        said = torch.addmm(at.says_bias[:, None], at.says, second)
        inside = said.abs().mul_(self._bounds[place]).add_(1).reciprocal_()
        slope, shift = said.mul_(inside).chunk(2)
        stretch = slope.exp()
        stretched = moved * stretch
        z = torch.empty_like(x)
        z[:kept] = seen
        torch.add(stretched, shift, out=z[kept:])
        return z, _Passed(given, first, second, inside, slope, stretch, stretched)

    def _backward(self, link: AffineCoupling, place: int, pull: Tensor, passed: _Passed, each: float) -> None:
        """Turn the gradient by what a coupling gave, in place, into that by what it was given."""
        at, slopes, bound, kept = self._at[place], self._slopes[place], link.net.input_bound, link.kept
        of_seen, of_moved = pull[:kept], pull[kept:]
        said = torch.empty_like(passed.inside)
        of_slope, of_shift = said.chunk(2)
        torch.mul(of_moved, passed.stretched, out=of_slope).sub_(each)
        of_shift.copy_(of_moved)
        # The slope of the smooth bound is its own ratio, squared.
        said.mul_(passed.inside).mul_(passed.inside)
        torch.mm(said, passed.second.T, out=slopes.says)
        torch.sum(said, 1, out=slopes.says_bias)
        second = _through_relu(torch.mm(at.says.T, said), passed.second)
        torch.mm(second, passed.first.T, out=slopes.middle)
        torch.sum(second, 1, out=slopes.middle_bias)
        first = _through_relu(torch.mm(at.middle.T, second), passed.first)
        torch.mm(first, passed.given.T, out=slopes.enter)
        torch.sum(first, 1, out=slopes.enter_bias)
        of_seen.add_(_CLAMPED(torch.mm(at.enter[:, :kept].T, first), passed.given[:kept], -bound, bound))
        of_moved.mul_(passed.stretch)


def _through_relu(pull: Tensor, given: Tensor) -> Tensor:
    found: Tensor = _RELU(pull, given, 0, grad_input=pull)
    return found


def _links(transform: Transform) -> list[Transform]:
    if not isinstance(transform, Compose):
        return [transform]
    return [each for link in transform.transforms if isinstance(link, Transform) for each in _links(link)]
