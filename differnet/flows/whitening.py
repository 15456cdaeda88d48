"""Whitening by a shrinkage Gaussian: the closed-form density that flows start from."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from differnet.flows.transform import FlowError, Transform


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

    def leading(self, x: Tensor, number: int) -> Tensor:
        """Return the first coordinates of whitened vectors alone, ``(*batch, number)``."""
        return ((x - self.mean) @ self.axes[:, :number]) / self.scale[:number]

    def precision(self, x: Tensor, z: Tensor) -> Tensor:
        """Return ``cov^{-1} (x - mean)`` of vectors and of what whitening made of them."""
        del x
        found: Tensor = (z / self.scale) @ self.axes.T
        return found


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
        sound = float(scale.min()) > 0 and bool(torch.isfinite(scale).all())
        if not sound or not bool(torch.isfinite(mean).all()):
            raise FlowError(
                expected="a finite mean, and positive, finite variances and floor",
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

    def leading(self, x: Tensor, number: int) -> Tensor:
        """Return the first coordinates of whitened vectors alone, ``(*batch, number)``; at most ``rank``."""
        rank, centred = self.block.shape[1], x - self.mean
        reflected = centred[..., :rank] - (centred @ self.block) @ self.block[:rank].T
        found: Tensor = (reflected @ self.turn[:, :number]) / self.scale[:number]
        return found

    def precision(self, x: Tensor, z: Tensor) -> Tensor:
        """Return ``cov^{-1} (x - mean)`` of vectors and of what whitening made of them.

        Half the operations of the way back: outside of the span of the axes it is a multiple of the vector.
        """
        rank, floor = self.block.shape[1], self.scale[-1]
        leading = self.scale[:rank]
        along = (z[..., :rank] * (1 / leading - leading / floor.square())) @ self.turn.T
        # The first columns of Q turn and reflect; of what is reflected only the first rows are not 0.
        back = (along @ self.block[:rank]) @ self.block.T
        spread = torch.cat([along, along.new_zeros(*along.shape[:-1], self.features - rank)], dim=-1)
        return (x - self.mean) / floor.square() + spread - back


def shrinkage_whitening(
    vectors: Tensor, *, shrinkage: float | None = None, noise: float = 0.0
) -> Whitening | LowRankWhitening:
    """Fit a Gaussian with a shrunk covariance and return the transform that whitens it.

    ``cov = (1 - s) S + s m I + noise^2 I`` with ``m = tr(S) / D``: the covariance of vectors smoothed
    by Gaussian noise, with Ledoit and Wolf's intensity ``s`` unless one is given. With fewer vectors
    than features the eigenvectors come from the ``(n, n)`` Gram matrix, which is exact and cheaper.

    The mean variance is taken to be 1e-7 at least, so that vectors which do not vary at all still get
    a proper, narrow density: standardise vectors whose unit makes that large.

    Args:
        vectors: ``(n, features)``, ``n >= 2``.
        shrinkage: Fixed intensity in [0, 1], or ``None`` for Ledoit and Wolf's estimate.
        noise: Standard deviation of the smoothing noise, in the unit of the vectors.

    Returns:
        A transform in torch's default dtype, whatever the dtype of ``vectors``; `LowRankWhitening`
        when ``n <= features``.

    Raises:
        FlowError: Fewer than two vectors, some that are not finite, or a shrinkage or noise without
            meaning.

    Source: Ledoit, Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
    """
    _check_estimation(vectors, shrinkage, noise)
    n, features = vectors.shape
    dtype = torch.get_default_dtype()
    dual = n <= features
    mean, centred, gram, level, shrinkage = _second_moments(vectors, shrinkage)
    floor = float(shrinkage * level + noise**2)
    variance, axes = torch.linalg.eigh(gram)
    variance, axes = variance.flip(0), axes.flip(1)
    if not dual:
        full = (1 - shrinkage) * variance.clamp_min(0) + floor
        return Whitening.from_axes(mean.to(dtype), axes, full.clamp_min(float(level) * 1e-9))
    # Centring takes one direction away: the last eigenvalue of the Gram matrix is zero.
    kept = variance > variance[0] * 1e-10
    kept[features - 1 :] = False
    variance, axes = variance[kept], centred.T @ axes[:, kept]
    axes = torch.linalg.qr(axes).Q if axes.shape[1] else axes
    floor = max(floor, float(level) * 1e-9)
    return LowRankWhitening(mean.to(dtype), axes, (1 - shrinkage) * variance + floor, floor)


def leave_one_out_energies(vectors: Tensor, *, shrinkage: float | None = None) -> Tensor:
    """Judge every vector by the shrinkage Gaussian of all the others, in closed form.

    Taking one vector away changes mean and covariance by rank one, so that Sherman and Morrison's formula
    gives its squared norm from one eigendecomposition of all: with ``d`` its distance from the mean of all
    and ``a = d' A^{-1} d``, ``A = (1 - s) n/(n-1) S + s m I``, it is ``(n/(n-1))^2 a / (1 - c a)`` with
    ``c = (1 - s) n/(n-1)^2``. Intensity ``s`` and level ``m``, to which one vector matters little, are those
    of all.

    Args:
        vectors: ``(n, features)``, ``n >= 3``. Copies of a vector vouch for each other: give each once.
        shrinkage: Fixed intensity in [0, 1], or ``None`` for Ledoit and Wolf's estimate.

    Returns:
        ``(n,)`` float64 energies ``|z|^2 / features``.

    Raises:
        FlowError: Fewer than three vectors, some that are not finite, or a shrinkage without meaning.

    Example:
        >>> energies = leave_one_out_energies(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), shrinkage=0.0)
        >>> energies.round(decimals=2).tolist()
        [1.26, 0.48, 0.11, 96.0]
    """
    return leave_one_out(vectors, 0, shrinkage=shrinkage)[0]


def leave_one_out(vectors: Tensor, leading: int, *, shrinkage: float | None = None) -> tuple[Tensor, Tensor]:
    """Return `leave_one_out_energies`, and whitened coordinates of the vectors, from one decomposition.

    Args:
        vectors: ``(n, features)``, ``n >= 3``.
        leading: How many coordinates.
        shrinkage: Fixed intensity in [0, 1], or ``None`` for Ledoit and Wolf's estimate.

    Returns:
        ``(n,)`` energies, and ``(n, leading)`` the first coordinates that `shrinkage_whitening` of all
        vectors gives, up to their signs; both float64. Directions that no vector has are left out.

    Raises:
        FlowError: As in `leave_one_out_energies`.
    """
    _check_estimation(vectors, shrinkage, 0.0)
    n, features = vectors.shape
    if n < 3:
        raise FlowError(expected="at least three vectors", found=str(n), remedy="Give more good parts.")
    _, centred, gram, level, shrinkage = _second_moments(vectors, shrinkage)
    variance, axes = torch.linalg.eigh(gram)
    variance = variance.clamp_min(0)
    squares = axes.square() * n * variance if n <= features else (centred @ axes).square()
    floor = max(float(shrinkage * level), float(level) * 1e-9)
    norms = (squares / ((1 - shrinkage) * n / (n - 1) * variance + floor)).sum(1)
    left = 1 - (1 - shrinkage) * n / (n - 1) ** 2 * norms
    # A vector that alone spans a direction leaves nothing there but the floor, which rounding may eat up.
    energies: Tensor = (n / (n - 1)) ** 2 * norms / left.clamp_min(1e-9) / features
    first = torch.arange(len(variance) - 1, -1, -1)[:leading]
    spread = ((1 - shrinkage) * variance[first] + floor).sqrt()
    along = axes[:, first] * (n * variance[first]).sqrt() if n <= features else centred @ axes[:, first]
    return energies, along / spread


def _second_moments(vectors: Tensor, shrinkage: float | None) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """Return mean, centred vectors, covariance or Gram matrix, mean variance and intensity."""
    n, features = vectors.shape
    centred = vectors.double()
    mean = centred.mean(0)
    centred = centred - mean
    gram = (centred @ centred.T if n <= features else centred.T @ centred) / n
    squares = gram.square().sum()
    level = gram.diagonal().sum() / features
    level = level.clamp_min(torch.finfo(torch.float32).eps)
    if shrinkage is None:
        # b^2 / d^2 of the paper's lemma 3.3, without forming the n outer products.
        spread = squares - features * level.square()
        error = (centred.square().sum(1).square().mean() - squares) / n
        shrinkage = float((error / spread).clamp(0, 1)) if float(spread) > 0 else 1.0
    return mean, centred, gram, level, shrinkage


def _check_estimation(vectors: Tensor, shrinkage: float | None, noise: float) -> None:
    finite = bool(torch.isfinite(vectors).all())
    if vectors.dim() != 2 or len(vectors) < 2 or not finite:
        raise FlowError(
            expected="(n, features) vectors, at least two, all finite",
            found=f"shape {tuple(vectors.shape)}, {finite=}",
            remedy="Give more good parts, or look for unreadable pictures among them.",
        )
    if not 0 <= noise < math.inf or not (shrinkage is None or 0 <= shrinkage <= 1):
        raise FlowError(
            expected="a shrinkage in [0, 1] and a finite noise of 0 or more",
            found=f"{shrinkage=}, {noise=}",
            remedy="Leave the shrinkage to the estimate (None).",
        )


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
