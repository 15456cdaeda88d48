"""A flow as a density: a base distribution seen through a transform."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from differnet.flows.coupling import AffineCoupling
from differnet.flows.linear import LowRankWhitening, Permutation, Whitening
from differnet.flows.transform import Compose, FlowError, Transform

_LOG_2PI = math.log(2 * math.pi)


class Evidence(NamedTuple):
    """What a flow says of vectors; each tensor has the batch's shape ``(*batch,)``.

    Attributes:
        nll: Negative log-density, nats. Higher is stranger.
        typicality: ``(|z|^2 - D) / 2``, nats: nll less the value expected of a vector of the same
            local volume. With a standard normal base ``E[nll | log_det] = D/2 (1 + log 2 pi) - log_det``;
            the difference leaves the z-only statistic of DifferNet, centred.
    """

    nll: Tensor
    typicality: Tensor


class Flow(nn.Module):
    """The density ``log p(x | context) = log N(z; 0, I) + log_det`` with ``z, log_det = transform(x)``.

    Args:
        transform: From data to latent.

    Example:
        >>> import torch
        >>> from differnet.flows import Flow, Permutation
        >>> flow = Flow(Permutation.reverse(2))
        >>> round(flow.log_prob(torch.zeros(2)).item(), 4)  # log of 1 / (2 pi)
        -1.8379
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    @property
    def features(self) -> int:
        """Width of the vectors."""
        return self.transform.features

    @property
    def context_features(self) -> int:
        """Width of the context; 0 when the density is unconditional."""
        return self.transform.context_features

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of ``x`` in nats, ``(*batch,)``.

        Args:
            x: ``(*batch, features)``.
            context: Broadcasts over ``batch``; ``None`` for an unconditional flow.

        Raises:
            FlowError: Shapes do not fit, or a context is missing or not expected.
        """
        z, log_det = self.transform(x, context)
        log_prob: Tensor = -0.5 * (z.square().sum(-1) + self.features * _LOG_2PI) + log_det
        return log_prob

    def evidence(self, x: Tensor, context: Tensor | None = None) -> Evidence:
        """Return nll and typicality of ``x`` from one pass; see `Evidence`."""
        z, log_det = self.transform(x, context)
        half_square = 0.5 * z.square().sum(-1)
        return Evidence(
            nll=half_square + 0.5 * self.features * _LOG_2PI - log_det,
            typicality=half_square - 0.5 * self.features,
        )

    def sample(
        self,
        shape: tuple[int, ...] = (),
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw ``(*shape, features)`` vectors; ``context`` broadcasts over ``shape``.

        Args:
            shape: Of the batch.
            context: As for `log_prob`, with ``batch`` being ``shape``.
            generator: Source of randomness; torch's own when ``None``.

        Raises:
            FlowError: The flow is conditional and no context was given, or the other way round.

        Example:
            >>> import torch
            >>> from differnet.flows import real_nvp
            >>> flow = real_nvp(3, context_features=2)
            >>> flow.sample((5,), torch.zeros(2)).shape
            torch.Size([5, 3])
        """
        like = next((t for t in [*self.parameters(), *self.buffers()] if t.is_floating_point()), None)
        dtype, device = (like.dtype, like.device) if like is not None else (torch.get_default_dtype(), "cpu")
        z = torch.randn(*shape, self.features, generator=generator, dtype=dtype, device=device)
        with torch.no_grad():
            return self.transform.inverse(z, context)[0]


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
    centred = vectors.double()
    mean = centred.mean(0)
    centred = centred - mean
    dual = n <= features
    gram = (centred @ centred.T if dual else centred.T @ centred) / n
    squares = gram.square().sum()
    level = gram.diagonal().sum() / features
    level = level.clamp_min(torch.finfo(torch.float32).eps)
    if shrinkage is None:
        # b^2 / d^2 of the paper's lemma 3.3, without forming the n outer products.
        spread = squares - features * level.square()
        error = (centred.square().sum(1).square().mean() - squares) / n
        shrinkage = float((error / spread).clamp(0, 1)) if float(spread) > 0 else 1.0
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


def real_nvp(
    features: int,
    context_features: int = 0,
    *,
    couplings: int = 6,
    hidden: int = 96,
    scale_bound: float = 1.0,
    shift_bound: float = 8.0,
    input_bound: float = 8.0,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) Real NVP: ``first``, then couplings with permutations between.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        couplings: Number of affine couplings; 0 leaves ``first`` alone.
        hidden: Width of each coupling's network.
        scale_bound: See `AffineCoupling`.
        shift_bound: See `AffineCoupling`.
        input_bound: See `AffineCoupling`.
        first: A transform before the couplings, such as `Whitening`; not trained when it has no
            parameters.
        seed: Of permutations and weights.

    Returns:
        A flow whose density is, until it is trained, that of ``first`` alone: the couplings start
        as the identity.

    Raises:
        FlowError: A size or bound is not positive, or ``first`` has another width.

    Example:
        >>> import torch
        >>> from differnet.flows import real_nvp
        >>> round(real_nvp(2).log_prob(torch.zeros(2)).item(), 4)  # the standard normal's
        -1.8379

    Source: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP".
    """
    generator = torch.Generator().manual_seed(seed)
    chain: list[Transform] = [first] if first is not None else []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(couplings):
            chain.append(Permutation.random(features, generator))
            chain.append(
                AffineCoupling(
                    features,
                    context_features,
                    hidden=hidden,
                    scale_bound=scale_bound,
                    shift_bound=shift_bound,
                    input_bound=input_bound,
                )
            )
    if not chain:
        chain = [Permutation(torch.arange(features))]
    return Flow(Compose(chain))
