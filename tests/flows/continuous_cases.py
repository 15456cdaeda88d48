"""Continuous transforms in awkward settings, for the registry's property checks.

The solver is asked for 1e-8 a step. The checks compare with what is exact to 1e-6, as promised of
log-determinants: tens of steps and the field's amplification leave a tenth of that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from differnet.flows import Compose
from differnet.flows.continuous import ContinuousTransform, Gradients
from differnet.flows.velocity import PerceptronVelocity, Velocity
from flows.registry import Case, Maker, whitening

TIGHT = 1e-8


class OneLayer(Velocity):
    """A field as a user would write it: `forward` alone, the derivatives come from the class above."""

    def __init__(self, features: int, context_features: int = 0) -> None:
        super().__init__(features, context_features)
        self.enter = nn.Linear(features + context_features + 1, 8)
        self.leave = nn.Linear(8, features)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        time = t.reshape(-1, 1).expand(len(x), 1)
        seen = [x, time] if context is None else [x, time, context]
        v: Tensor = self.leave(torch.tanh(self.enter(torch.cat(seen, dim=-1))))
        return v


def perceptron(
    features: int, context_features: int = 0, *, gradients: Gradients = "direct", method: str = "dopri5"
) -> Maker:
    return lambda _: ContinuousTransform(
        PerceptronVelocity(features, context_features, hidden=8, frequencies=1),
        gradients=gradients,
        method=method,
        rtol=TIGHT,
        atol=TIGHT,
    )


def one_layer(features: int, context_features: int = 0) -> Maker:
    return lambda _: ContinuousTransform(OneLayer(features, context_features), rtol=TIGHT, atol=TIGHT)


def whitened(features: int, context_features: int = 0) -> Maker:
    return lambda g: Compose([whitening(features)(g), perceptron(features, context_features)(g)])


def case(
    name: str, make: Maker, kind: type[ContinuousTransform] | type[Compose] = ContinuousTransform
) -> Case:
    return Case(name, kind, make, log_det_varies=True, tolerance=1e-6)


CONTINUOUS_CASES: tuple[Case, ...] = (
    case("continuous_one_feature_context", perceptron(1, 3)),
    case("continuous_odd", perceptron(5)),
    case("continuous_context", perceptron(4, 2)),
    case("continuous_wide_context", perceptron(3, 40)),
    case("continuous_dopri8", perceptron(2, 1, method="dopri8")),
    case("continuous_adjoint", perceptron(2, 1, gradients="adjoint")),
    case("continuous_own_field_context", one_layer(2, 2)),
    case("continuous_whitened", whitened(3, 2), Compose),
)
