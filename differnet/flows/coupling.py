"""Coupling layers: one part of the vector is transformed given the other part and the context."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from differnet.flows.maps import AdditiveMap, AffineMap, FeatureMap, SplineMap
from differnet.flows.networks import Conditioner
from differnet.flows.transform import FlowError, Transform


class Coupling(Transform):
    """Map the second part of the vector, each feature by itself, given the first part and the context.

    With ``x = (a, b)`` and ``g`` the feature map with the parameters ``net(bounded(a), context)``:
    forward ``z = (a, g(b))``, ``log_det = sum log g'(b)``;
    inverse ``x = (a, g^-1(b))``, ``log_det = -sum log g'(g^-1(b))``.

    Starts as the identity (the network's last layer is zero), so that a flow built on a whitened
    Gaussian starts as that Gaussian. Both directions cost one pass of the network.

    Args:
        features: Width of the vectors. The first ``features // 2`` are passed through. With one
            feature there is nothing to pass through: its map depends on the context alone.
        feature_map: What is done to each feature of the second part.
        context_features: Width of the context.
        hidden: Width of the network's two hidden layers.
        input_bound: Bound on the features that the network sees, in the unit of the vectors: beyond it
            the network is constant.

    Raises:
        FlowError: ``hidden`` or a bound is not positive.

    Source: Dinh, Krueger, Bengio 2015, "NICE", section 3.2.
    """

    def __init__(
        self,
        features: int,
        feature_map: FeatureMap,
        context_features: int = 0,
        *,
        hidden: int = 64,
        input_bound: float = 8.0,
    ) -> None:
        super().__init__(features, context_features)
        check_network(hidden, input_bound)
        self.kept = features // 2
        self.feature_map = feature_map
        self.net = Conditioner(
            self.kept,
            context_features,
            (features - self.kept) * feature_map.parameters_each,
            hidden=hidden,
            input_bound=input_bound,
        )

    def _split(self, values: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        kept, moved = values[..., : self.kept], values[..., self.kept :]
        said = self.net(kept, context)
        return kept, moved, said.reshape(*moved.shape, self.feature_map.parameters_each)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(a, g(b))`` and ``sum log g'(b)``."""
        self.check(x, context)
        kept, moved, said = self._split(x, context)
        mapped, log_slope = self.feature_map(moved, said)
        return torch.cat([kept, mapped], dim=-1), log_slope.sum(-1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(a, g^-1(b))`` and ``-sum log g'(g^-1(b))``."""
        self.check(z, context)
        kept, moved, said = self._split(z, context)
        mapped, log_slope = self.feature_map.inverse(moved, said)
        return torch.cat([kept, mapped], dim=-1), log_slope.sum(-1)


class AdditiveCoupling(Coupling):
    """NICE's additive coupling: it moves features and keeps volumes.

    With ``x = (a, b)``, ``t = net(bounded(a), context)``: forward ``z = (a, b + t)``, ``log_det = 0``;
    inverse ``x = (a, b - t)``, ``log_det = 0``.

    Args:
        features: Width of the vectors, see `Coupling`.
        context_features: Width of the context.
        hidden: Width of the network's two hidden layers.
        shift_bound: Bound on ``|t|``, in the unit of the vectors.
        input_bound: See `Coupling`.

    Raises:
        FlowError: ``hidden`` or a bound is not positive.

    Source: Dinh, Krueger, Bengio 2015, "NICE: Non-linear independent components estimation", section 3.2.
    """

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        *,
        hidden: int = 64,
        shift_bound: float = 8.0,
        input_bound: float = 8.0,
    ) -> None:
        additive = AdditiveMap(shift_bound=shift_bound)
        super().__init__(features, additive, context_features, hidden=hidden, input_bound=input_bound)


class AffineCoupling(Coupling):
    """Real NVP's affine coupling, with a bound on what the network sees and smooth ones on what it says.

    With ``x = (a, b)``, ``s, t = net(bounded(a), context)``:
    forward ``z = (a, b * exp(s) + t)``, ``log_det = sum s``;
    inverse ``x = (a, (b - t) * exp(-s))``, ``log_det = -sum s``.

    The bounds keep the inverse stable (Behrmann et al. 2020, "Understanding and mitigating exploding
    inverses"). ``a`` itself is not exact on the way back: far out, its rounding error alone (0.06 at
    1e6 in float32) would move ``s`` and ``t``. With ``input_bound`` the network is constant there.
    `tests/flows/test_numerics.py` holds this with random weights three times torch's usual ones.

    Args:
        features: Width of the vectors, see `Coupling`.
        context_features: Width of the context.
        hidden: Width of the network's two hidden layers.
        scale_bound: Bound on ``|s|``, in nats a feature.
        shift_bound: Bound on ``|t|``, in the unit of the vectors (standard deviations after
            whitening).
        input_bound: See `Coupling`.

    Raises:
        FlowError: ``hidden`` or a bound is not positive.

    Source: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP", eq. 7 and 8.
    """

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        *,
        hidden: int = 64,
        scale_bound: float = 1.0,
        shift_bound: float = 8.0,
        input_bound: float = 8.0,
    ) -> None:
        affine = AffineMap(scale_bound=scale_bound, shift_bound=shift_bound)
        super().__init__(features, affine, context_features, hidden=hidden, input_bound=input_bound)


class SplineCoupling(Coupling):
    """Neural spline flow's coupling: each feature of the second part goes through its own spline.

    With ``x = (a, b)`` and ``g`` the monotone rational-quadratic spline of parameters ``net(bounded(a),
    context)``: forward ``z = (a, g(b))``, ``log_det = sum log g'(b)``; inverse ``x = (a, g^-1(b))``,
    ``log_det = -sum log g'(g^-1(b))``, both in closed form.

    Args:
        features: Width of the vectors, see `Coupling`.
        context_features: Width of the context.
        hidden: Width of the network's two hidden layers.
        bins: Number of bins of each spline.
        edge: The splines are the identity outside ``[-edge, edge]``: standardise the vectors first.
        size_bound: See `SplineMap`.
        slope_bound: See `SplineMap`.
        input_bound: See `Coupling`.

    Raises:
        FlowError: ``hidden``, ``bins`` or a bound is not positive.

    Source: Durkan et al. 2019, "Neural spline flows", section 3.2.
    """

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        *,
        hidden: int = 64,
        bins: int = 8,
        edge: float = 5.0,
        size_bound: float = 1.5,
        slope_bound: float = 1.5,
        input_bound: float = 8.0,
    ) -> None:
        spline = SplineMap(bins=bins, edge=edge, size_bound=size_bound, slope_bound=slope_bound)
        super().__init__(features, spline, context_features, hidden=hidden, input_bound=input_bound)


def check_network(hidden: int, input_bound: float) -> None:
    """Check the sizes of a conditioning network.

    Raises:
        FlowError: ``hidden`` or ``input_bound`` is not positive.
    """
    if hidden < 1 or not 0 < input_bound < math.inf:
        raise FlowError(
            expected="hidden >= 1 and a positive, finite input_bound",
            found=f"hidden={hidden}, {input_bound=}",
            remedy="Use the defaults unless you know why not.",
        )
