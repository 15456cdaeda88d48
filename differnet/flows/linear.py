"""Linear transforms: permutations, and whitening by a shrinkage Gaussian."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from differnet.flows.transform import FlowError, Transform


class Permutation(Transform):
    """Reorder the features. ``z_i = x_{order[i]}``, ``log_det = 0``.

    Args:
        order: ``(features,)`` integers, each of ``0 ... features-1`` once.

    Raises:
        FlowError: A number is missing or stands twice.

    Example:
        >>> import torch
        >>> from differnet.flows import Permutation
        >>> z, log_det = Permutation(torch.tensor([2, 0, 1]))(torch.tensor([1.0, 2.0, 3.0]))
        >>> z.tolist(), log_det.item()
        ([3.0, 1.0, 2.0], 0.0)
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__(int(order.numel()))
        if sorted(order.tolist()) != list(range(order.numel())):
            raise FlowError(
                expected=f"each of 0 to {order.numel() - 1} once",
                found=f"{order.tolist()[:8]}",
                remedy="Use torch.randperm, or Permutation.reverse.",
            )
        self.register_buffer("order", order.long())
        self.register_buffer("back", torch.argsort(order))

    @classmethod
    def reverse(cls, features: int) -> Self:
        """Return the permutation that reverses the features."""
        return cls(torch.arange(features - 1, -1, -1))

    @classmethod
    def random(cls, features: int, generator: torch.Generator) -> Self:
        """Return a permutation drawn from ``generator``."""
        return cls(torch.randperm(features, generator=generator))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``x_{order[i]}`` and 0."""
        self.check(x, context)
        return x[..., self.order], x.new_zeros(x.shape[:-1])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``z_{back[i]}``, ``back`` the inverse of ``order``, and 0."""
        self.check(z, context)
        return z[..., self.back], z.new_zeros(z.shape[:-1])


class Whitening(Transform):
    """Map a Gaussian to the standard one by its eigenvectors; every direction is kept.

    With ``cov = U diag(v) U^T``: ``z = diag(v)^{-1/2} U^T (x - mean)``, ``log_det = -1/2 sum log v``;
    ``x = U diag(v)^{1/2} z + mean``, ``log_det = 1/2 sum log v``. Not trained: it is the closed-form
    Gaussian itself, and a flow whose other layers are the identity has exactly its density.

    Args:
        mean: ``(features,)``.
        covariance: ``(features, features)``, symmetric, positive definite.

    Raises:
        FlowError: The mean is not finite, or the covariance not finite, not symmetric or not positive
            definite.

    Example:
        >>> import torch
        >>> from differnet.flows import Whitening
        >>> whitening = Whitening(torch.zeros(2), torch.tensor([[4.0, 0.0], [0.0, 1.0]]))
        >>> z, log_det = whitening(torch.tensor([2.0, 0.0]))
        >>> round(z.norm().item(), 4), round(log_det.item(), 4)  # one sigma; log of 1/2
        (1.0, -0.6931)
    """

    mean: Tensor
    axes: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        super().__init__(int(mean.numel()))
        features = self.features
        finite = bool(torch.isfinite(covariance).all())
        if covariance.shape != (features, features) or not finite or not _symmetric(covariance):
            raise FlowError(
                expected=f"a finite, symmetric ({features}, {features}) covariance",
                found=f"shape {tuple(covariance.shape)}, {finite=}",
                remedy="Estimate it from finite vectors with shrinkage.",
            )
        # The eigenvectors are found in float64: in float32 the smallest directions, which carry
        # the evidence of defects, are lost in the rounding of the largest.
        variance, axes = torch.linalg.eigh(covariance.double())
        self._keep(mean, axes.flip(-1), variance.flip(-1))

    @classmethod
    def from_axes(cls, mean: Tensor, axes: Tensor, variances: Tensor) -> Self:
        """Return the whitening of a Gaussian given by its principal axes.

        Args:
            mean: ``(features,)``.
            axes: ``(features, features)``, orthonormal columns.
            variances: ``(features,)``, positive, in the order of the columns.

        Raises:
            FlowError: The axes are not orthonormal, a variance not positive or the mean not finite.
        """
        features = mean.numel()
        if axes.shape != (features, features) or not _orthonormal(axes):
            raise FlowError(
                expected=f"{features} orthonormal axes of {features} features",
                found=f"axes of shape {tuple(axes.shape)}",
                remedy="Take them from an eigendecomposition in float64.",
            )
        whitening = cls(mean, torch.eye(mean.numel(), dtype=mean.dtype))
        whitening._keep(mean, axes, variances)
        return whitening

    def _keep(self, mean: Tensor, axes: Tensor, variances: Tensor) -> None:
        if mean.dim() != 1 or not bool(torch.isfinite(mean).all()):
            raise FlowError(
                expected="a finite mean, one number a feature",
                found=f"shape {tuple(mean.shape)}, finite: {bool(torch.isfinite(mean).all())}",
                remedy="Estimate it from finite vectors.",
            )
        # Asked this way round, a variance that is NaN is refused too.
        if not float(variances.min()) > 0:
            raise FlowError(
                expected="a positive definite covariance",
                found=f"smallest eigenvalue {float(variances.min()):.3g}",
                remedy="Shrink it towards the identity first (see shrinkage_whitening).",
            )
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes.to(mean.dtype).contiguous())
        self.register_buffer("scale", variances.sqrt().to(mean.dtype))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``diag(v)^{-1/2} U^T (x - mean)`` and ``-1/2 sum log v``."""
        self.check(x, context)
        z = ((x - self.mean) @ self.axes) / self.scale
        return z, -self.scale.log().sum().expand(x.shape[:-1])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``U diag(v)^{1/2} z + mean`` and ``1/2 sum log v``."""
        self.check(z, context)
        x = (z * self.scale) @ self.axes.T + self.mean
        return x, self.scale.log().sum().expand(z.shape[:-1])


class LowRankWhitening(Transform):
    """Whiten a Gaussian whose covariance is low rank plus a multiple of the identity.

    ``cov = U (diag(v) - floor I) U^T + floor I`` with ``U`` of ``rank`` orthonormal columns: what
    shrinkage makes of fewer vectors than features. Every direction is kept: the vectors are turned
    by an orthogonal ``Q`` whose first columns are ``U``, at the cost of ``4 features rank``
    operations instead of ``features^2``.

    ``z = (Q^T (x - mean)) / s``, ``log_det = -sum log s``; ``x = Q (s z) + mean``, ``log_det = sum log s``,
    with ``s = (sqrt v_1, ..., sqrt v_rank, sqrt floor, ..., sqrt floor)``. The first ``rank``
    coordinates of ``z`` are the principal ones, in the order of the axes.

    ``Q = (I - B B^T) diag(G, I)`` is a block reflection and a turn ``G`` of the first ``rank``
    coordinates. With the singular value decomposition ``P S R^T`` of the top ``rank`` rows of ``U``:
    ``G = -P R^T``, ``W = U - (G; 0)`` and ``B B^T = W (I + R S R^T)^{-1} W^T``. The turn is what makes
    ``I + R S R^T``, whose eigenvalues lie in [1, 2], the only matrix that is inverted.

    Args:
        mean: ``(features,)``.
        axes: ``(features, rank)``, orthonormal columns, ``rank < features``; a rank of 0 is allowed.
        variances: ``(rank,)``, positive, in the order of the columns.
        floor: Variance of every direction outside the span of ``axes``.

    Raises:
        FlowError: The axes are not orthonormal, a variance not positive or the mean not finite.

    Source: Schreiber, Parlett 1988, "Block reflectors: theory and computation".
    """

    mean: Tensor
    block: Tensor
    turn: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, axes: Tensor, variances: Tensor, floor: float) -> None:
        super().__init__(int(mean.numel()))
        rank = axes.shape[-1]
        if axes.shape != (self.features, rank) or rank >= self.features or not _orthonormal(axes):
            raise FlowError(
                expected=f"fewer than {self.features} orthonormal axes of {self.features} features",
                found=f"axes of shape {tuple(axes.shape)}",
                remedy="Take them from an eigendecomposition or a QR factorisation.",
            )
        scale = torch.full((self.features,), float(floor), dtype=torch.float64)
        scale[:rank] = variances.double()
        if not float(scale.min()) > 0 or not bool(torch.isfinite(mean).all()):
            raise FlowError(
                expected="a finite mean, positive variances and a positive floor",
                found=f"floor {floor:.3g}, smallest variance {float(scale.min()):.3g}",
                remedy="Shrink the covariance towards the identity first.",
            )
        block, turn = _reflection(axes.double())
        self.register_buffer("mean", mean)
        self.register_buffer("block", block.to(mean.dtype))
        self.register_buffer("turn", turn.to(mean.dtype))
        self.register_buffer("scale", scale.sqrt().to(mean.dtype))

    def _reflect(self, vectors: Tensor) -> Tensor:
        return vectors - (vectors @ self.block) @ self.block.T

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(Q^T (x - mean)) / s`` and ``-sum log s``."""
        self.check(x, context)
        rank = self.block.shape[1]
        reflected = self._reflect(x - self.mean)
        turned = torch.cat([reflected[..., :rank] @ self.turn, reflected[..., rank:]], dim=-1)
        return turned / self.scale, -self.scale.log().sum().expand(x.shape[:-1])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``Q (s z) + mean`` and ``sum log s``."""
        self.check(z, context)
        rank = self.block.shape[1]
        scaled = z * self.scale
        turned = torch.cat([scaled[..., :rank] @ self.turn.T, scaled[..., rank:]], dim=-1)
        return self._reflect(turned) + self.mean, self.scale.log().sum().expand(z.shape[:-1])


def _reflection(axes: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``B`` and ``G`` of `LowRankWhitening` for ``(features, rank)`` float64 axes."""
    rank = axes.shape[1]
    left, singular, right = torch.linalg.svd(axes[:rank])
    turn = -left @ right
    block = axes.clone()
    block[:rank] -= turn
    core = torch.eye(rank, dtype=axes.dtype) + right.T @ (singular[:, None] * right)
    return block @ torch.linalg.cholesky(torch.linalg.inv(core)), turn


def _orthonormal(axes: Tensor) -> bool:
    gram = axes.double().T @ axes.double()
    # 1e-6: an eigendecomposition in float64 leaves about 1e-13, rounding to float32 about 1e-7; this
    # only catches wrong input. A NaN among the axes compares as false.
    return bool(((gram - torch.eye(len(gram), dtype=gram.dtype)).abs() < 1e-6).all())


def _symmetric(matrix: Tensor) -> bool:
    # 1e-5 of the largest entry: what float32 may leave of a symmetric product, far below a real difference.
    return bool((matrix - matrix.T).abs().max() <= 1e-5 * matrix.abs().max())
