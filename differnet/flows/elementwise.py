"""Transforms that treat every feature alone, and the one that leaves some features alone."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from differnet.flows.networks import ContextLinear, smooth_bound
from differnet.flows.transform import FlowError, Transform


class ElementwiseAffine(Transform):
    """Shift and scale each feature by fixed numbers.

    ``z = (x - shift) / scale``, ``log_det = -sum log scale``;
    ``x = z * scale + shift``, ``log_det = sum log scale``.

    Args:
        shift: ``(features,)``.
        scale: ``(features,)``, positive.

    Raises:
        FlowError: A shift or scale is not finite, or a scale not positive.

    Example:
        >>> import torch
        >>> from differnet.flows import ElementwiseAffine
        >>> affine = ElementwiseAffine(shift=torch.tensor([1.0]), scale=torch.tensor([2.0]))
        >>> z, log_det = affine(torch.tensor([5.0]))
        >>> z.item(), round(log_det.item(), 4)  # log of 1/2
        (2.0, -0.6931)
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__(int(shift.numel()))
        finite = bool(torch.isfinite(shift).all()) and bool(torch.isfinite(scale).all())
        positive = bool((scale > 0).all())
        if shift.dim() != 1 or scale.shape != shift.shape or not finite or not positive:
            raise FlowError(
                expected="a finite shift and a finite, positive scale for every feature",
                found=f"shapes {tuple(shift.shape)} and {tuple(scale.shape)}, {finite=}, {positive=}",
                remedy="Use ElementwiseAffine.standardising on finite vectors.",
            )
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    @classmethod
    def standardising(cls, vectors: Tensor, *, least: float = 1e-3) -> Self:
        """Return the transform that gives ``(n, features)`` vectors zero mean and unit variance.

        Args:
            vectors: ``(n, features)``.
            least: Smallest scale, as a share of the median feature's: a channel that happens to be
                constant on the good parts is not blown up without limit.

        Returns:
            A transform in torch's default dtype, whatever the dtype of ``vectors``.

        Raises:
            FlowError: No vectors, or some that are not finite.
        """
        if vectors.dim() != 2 or len(vectors) == 0 or not bool(torch.isfinite(vectors).all()):
            raise FlowError(
                expected="(n, features) vectors, at least one, all finite",
                found=f"shape {tuple(vectors.shape)}, finite: {bool(torch.isfinite(vectors).all())}",
                remedy="Give more good parts, or look for unreadable pictures among them.",
            )
        vectors = vectors.double()
        scale = vectors.std(0, correction=0)
        median = float(scale.median())
        floor = least * median if median > 0 else 1.0
        dtype = torch.get_default_dtype()
        return cls(vectors.mean(0).to(dtype), scale.clamp_min(floor).to(dtype))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(x - shift) / scale`` and ``-sum log scale``."""
        self.check(x, context)
        return (x - self.shift) / self.scale, -self.scale.log().sum().expand(x.shape[:-1])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``z * scale + shift`` and ``sum log scale``."""
        self.check(z, context)
        return z * self.scale + self.shift, self.scale.log().sum().expand(z.shape[:-1])


class Scaling(Transform):
    """NICE's last layer: a learned scale for every feature, the only layer of NICE that changes volume.

    With ``s = smooth_bound(bias + weight context)``: forward ``z = x * exp(s)``, ``log_det = sum s``; inverse
    ``x = z * exp(-s)``, ``log_det = -sum s``. Starts as the identity.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; the scale is a linear function of it.
        scale_bound: Bound on ``|s|``: 5 leaves scales from 0.007 to 148.

    Raises:
        FlowError: The bound is not positive.

    Source: Dinh, Krueger, Bengio 2015, "NICE: Non-linear independent components estimation", section 3.3.
    """

    def __init__(self, features: int, context_features: int = 0, *, scale_bound: float = 5.0) -> None:
        super().__init__(features, context_features)
        if not 0 < scale_bound < math.inf:
            raise FlowError(
                expected="a positive, finite scale_bound", found=f"{scale_bound=}", remedy="Use the default."
            )
        self.scale_bound = scale_bound
        # With no context the linear layer has no weights: its bias is the scale.
        self.log_scale = ContextLinear(context_features, features)

    def _scale(self, context: Tensor | None) -> Tensor:
        return smooth_bound(self.log_scale(context), self.scale_bound)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``x * exp(s)`` and ``sum s``."""
        self.check(x, context)
        scale = self._scale(context)
        return x * scale.exp(), scale.sum(-1).expand(x.shape[:-1])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``z * exp(-s)`` and ``-sum s``."""
        self.check(z, context)
        scale = self._scale(context)
        return z * (-scale).exp(), -scale.sum(-1).expand(z.shape[:-1])


class Leading(Transform):
    """Apply a transform to the first features and pass the others through.

    The step in which Real NVP factors out half of the variables (Dinh et al. 2017, section 3.6):
    ``z = (f(x_1..k), x_k+1..D)``, ``log_det`` that of ``f``; the inverse likewise.

    Args:
        transform: Acts on the first ``transform.features`` features.
        features: Width of the whole vectors.

    Raises:
        FlowError: The transform is wider than the vectors.
    """

    def __init__(self, transform: Transform, features: int) -> None:
        super().__init__(features, transform.context_features)
        if transform.features > features:
            raise FlowError(
                expected=f"a transform of at most {features} features",
                found=f"one of {transform.features}",
                remedy="Give the width of the whole vectors.",
            )
        self.transform = transform

    def start_from(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let ``f`` start from the leading features of ``x``."""
        self.check(x, context)
        self.transform.start_from(x[..., : self.transform.features], context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(f(x_1..k), x_k+1..D)`` and the log-determinant of ``f``."""
        self.check(x, context)
        width = self.transform.features
        head, log_det = self.transform(x[..., :width], context)
        return torch.cat([head, x[..., width:]], dim=-1), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(f^-1(z_1..k), z_k+1..D)`` and the log-determinant of ``f^-1``."""
        self.check(z, context)
        width = self.transform.features
        head, log_det = self.transform.inverse(z[..., :width], context)
        return torch.cat([head, z[..., width:]], dim=-1), log_det
