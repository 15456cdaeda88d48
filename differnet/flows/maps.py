"""Monotone maps of single numbers: what couplings and autoregressive flows do to each feature."""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor, nn

from differnet.flows.networks import smooth_bound
from differnet.flows.splines import rational_quadratic, spline_parameters
from differnet.flows.transform import FlowError


class FeatureMap(nn.Module, abc.ABC):
    """An increasing map of one number, described by ``parameters`` numbers that a network says.

    Zeros describe the identity, so that a flow whose networks end in zeros starts as the identity.

    Args:
        bounds: Bound on each of the numbers said, in their order; see `smooth_bound`.

    Raises:
        FlowError: A bound is not positive.
    """

    bounds: Tensor

    def __init__(self, bounds: list[float]) -> None:
        super().__init__()
        # One by one: the least of several numbers hides a NaN among them.
        if not all(0 < bound < math.inf for bound in bounds):
            raise FlowError(
                expected="positive, finite bounds",
                found=f"{sorted(set(bounds))}",
                remedy="Use the defaults unless you know why not.",
            )
        # Not a part of the state: bounds are given where the flow is built, never by a file of weights.
        self.register_buffer("bounds", torch.tensor(bounds), persistent=False)

    @property
    def parameters_each(self) -> int:
        """How many numbers describe the map of one feature."""
        return len(self.bounds)

    @abc.abstractmethod
    def forward(self, values: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Map values ``(*batch)`` by what was said of them, ``(*batch, parameters_each)``.

        Returns:
            The mapped values and the logarithm of the slope, both ``(*batch)``.
        """

    @abc.abstractmethod
    def inverse(self, values: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Map back; return the values and the logarithm of the slope of this direction."""


class AdditiveMap(FeatureMap):
    """``z = x + t``, ``log_det = 0``; ``x = z - t``, ``log_det = 0``.

    Args:
        shift_bound: Bound on ``|t|``.

    Source: Dinh, Krueger, Bengio 2015, "NICE", eq. 9.
    """

    def __init__(self, *, shift_bound: float = 8.0) -> None:
        super().__init__([shift_bound])

    def forward(self, values: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``x + t`` and 0."""
        return values + smooth_bound(said, self.bounds).squeeze(-1), torch.zeros_like(values)

    def inverse(self, values: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``z - t`` and 0."""
        return values - smooth_bound(said, self.bounds).squeeze(-1), torch.zeros_like(values)


class AffineMap(FeatureMap):
    """``z = x exp(s) + t``, ``log_det = s``; ``x = (z - t) exp(-s)``, ``log_det = -s``.

    Args:
        scale_bound: Bound on ``|s|``, in nats.
        shift_bound: Bound on ``|t|``, in the unit of the vectors.

    Source: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP", eq. 7 and 8.
    """

    def __init__(self, *, scale_bound: float = 1.0, shift_bound: float = 8.0) -> None:
        super().__init__([scale_bound, shift_bound])

    def scale_and_shift(self, said: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``s`` and ``t``, bounded."""
        scale, shift = smooth_bound(said, self.bounds).unbind(-1)
        return scale, shift

    def forward(self, values: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``x exp(s) + t`` and ``s``."""
        scale, shift = self.scale_and_shift(said)
        return torch.addcmul(shift, values, scale.exp()), scale

    def inverse(self, values: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(z - t) exp(-s)`` and ``-s``."""
        scale, shift = self.scale_and_shift(said)
        scale = -scale
        return (values - shift) * scale.exp(), scale


class SplineMap(FeatureMap):
    """A monotone rational-quadratic spline inside ``[-edge, edge]``, the identity outside.

    See `rational_quadratic`. The bounds keep the slopes, and so the loss of precision, finite: no bin is
    wider than ``exp(2 size_bound)`` times another one, and no slope at a knot outside
    ``exp(+-slope_bound)``.

    Args:
        bins: Number of bins.
        edge: Half the width of the box.
        size_bound: Bound on the logits of widths and heights.
        slope_bound: Bound on the logarithm of the slope at each inner knot, in nats.

    Raises:
        FlowError: Fewer than two bins, or a bound or the edge is not positive.

    Source: Durkan et al. 2019, "Neural spline flows", section 3.1.
    """

    def __init__(
        self, *, bins: int = 8, edge: float = 5.0, size_bound: float = 1.5, slope_bound: float = 1.5
    ) -> None:
        if bins < 2 or not 0 < edge < math.inf:
            raise FlowError(
                expected="at least two bins and a positive, finite edge",
                found=f"{bins=}, {edge=}",
                remedy="8 bins and an edge of 5 suit standardised vectors.",
            )
        sizes, slopes = 2 * bins, spline_parameters(bins) - 2 * bins
        super().__init__([size_bound] * sizes + [slope_bound] * slopes)
        self.bins = bins
        self.edge = edge

    def forward(self, values: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spline's values and log-slopes."""
        return rational_quadratic(values, smooth_bound(said, self.bounds), bins=self.bins, edge=self.edge)

    def inverse(self, values: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inverse spline's values and log-slopes."""
        said = smooth_bound(said, self.bounds)
        return rational_quadratic(values, said, bins=self.bins, edge=self.edge, inverse=True)
