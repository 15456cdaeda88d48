"""Autoregressive flows: each feature is transformed given all features before it and the context."""

from __future__ import annotations

from torch import Tensor

from differnet.flows.coupling import check_network
from differnet.flows.maps import AffineMap, FeatureMap, SplineMap
from differnet.flows.networks import MaskedConditioner
from differnet.flows.transform import Transform


class Autoregressive(Transform):
    """Map each feature given the features before it, by one masked network.

    With ``g_i`` the feature map with the parameters ``net_i(bounded(x_1 ... x_{i-1}), context)``:
    forward ``z_i = g_i(x_i)``, ``log_det = sum log g_i'(x_i)``;
    inverse ``x_i = g_i^-1(z_i)`` for ``i = 1 ... features`` in turn, ``log_det = -sum log g_i'(x_i)``.

    Cost: forward is one pass of the network, in parallel over the features. The inverse takes ``features``
    steps one after another, each of a few small matrices: the network's units are sorted so that each is
    computed once, which makes the arithmetic that of about one pass instead of ``features`` passes.
    `Inverse` swaps the two costs: that is the inverse autoregressive flow.

    Starts as the identity (the network's last layer is zero).

    Args:
        features: Width of the vectors.
        feature_map: What is done to each feature.
        context_features: Width of the context.
        hidden: Width of the network's two hidden layers.
        input_bound: Bound on the features that the network sees, in the unit of the vectors.

    Raises:
        FlowError: ``hidden`` or a bound is not positive.

    Source: Papamakarios, Pavlakou, Murray 2017, "Masked autoregressive flow for density estimation",
    section 3.
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
        self.feature_map = feature_map
        self.net = MaskedConditioner(
            features, context_features, feature_map.parameters_each, hidden=hidden, input_bound=input_bound
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``g_i(x_i)`` for every feature and ``sum log g_i'(x_i)``."""
        self.check(x, context)
        z, log_slope = self.feature_map(x, self.net(x, context))
        return z, log_slope.sum(-1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``g_i^-1(z_i)``, found feature by feature, and ``-sum log g_i'(x_i)``."""
        self.check(z, context)
        x, log_slope = self.net.unroll(z, context, self.feature_map.inverse)
        return x, log_slope.sum(-1)


class AffineAutoregressive(Autoregressive):
    """The masked autoregressive flow's layer; `Inverse` of it is the inverse autoregressive flow's.

    With ``s_i, t_i = net_i(bounded(x_1 ... x_{i-1}), context)``:
    forward ``z_i = x_i exp(s_i) + t_i``, ``log_det = sum s_i``, in parallel;
    inverse ``x_i = (z_i - t_i) exp(-s_i)``, ``log_det = -sum s_i``, feature by feature.

    Args:
        features: Width of the vectors.
        context_features: Width of the context.
        hidden: Width of the network's two hidden layers.
        scale_bound: Bound on ``|s_i|``, in nats.
        shift_bound: Bound on ``|t_i|``, in the unit of the vectors.
        input_bound: See `Autoregressive`.

    Raises:
        FlowError: ``hidden`` or a bound is not positive.

    Source: Papamakarios, Pavlakou, Murray 2017, "Masked autoregressive flow for density estimation", eq. 3
    to 5; Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow", section 3.
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


class SplineAutoregressive(Autoregressive):
    """Neural spline flow's autoregressive layer: each feature goes through a spline given those before it.

    With ``g_i`` the monotone rational-quadratic spline of parameters ``net_i(bounded(x_1 ... x_{i-1}),
    context)``: forward ``z_i = g_i(x_i)``, ``log_det = sum log g_i'(x_i)``, in parallel; inverse ``x_i =
    g_i^-1(z_i)``, ``log_det = -sum log g_i'(x_i)``, feature by feature.

    Args:
        features: Width of the vectors.
        context_features: Width of the context.
        hidden: Width of the network's two hidden layers.
        bins: Number of bins of each spline.
        edge: The splines are the identity outside ``[-edge, edge]``: standardise the vectors first.
        size_bound: See `SplineMap`.
        slope_bound: See `SplineMap`.
        input_bound: See `Autoregressive`.

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
