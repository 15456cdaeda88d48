"""The two densities of a good part: of the whole, and of its patches given the whole.

Both begin with layers that whiten a shrinkage Gaussian; what follows are affine couplings that start as the
identity, as in a Real NVP. Local couplings stay only where they raise the likelihood of good parts they were
not trained on; global ones are there only if they are asked for, and where a trial on held-out parts says so
(they are then trained on all parts). Otherwise the density is exactly its Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from differnet.calibration import Expectation
from differnet.detection.context import coordinates_for, kinds_for, patch_context, position_code, squashed
from differnet.detection.settings import DensitySettings
from differnet.flows import (
    Compose,
    ElementwiseAffine,
    Flow,
    Leading,
    LowRankWhitening,
    TrainingPlan,
    Transform,
    Whitening,
    fit_maximum_likelihood,
    leave_one_out,
    real_nvp,
    shrinkage_whitening,
)
from differnet.flows.transform import FlowError

Progress = Callable[[int, int], None]

_LOG_2PI = math.log(2 * math.pi)
# A curve of so many points shows all that a person reads from it.
_POINTS = 50
# Looks at parts that are held out from training, and how many of their patches are looked at: together less
# than a hundredth of the training, for a look costs a third of a step.
_LOOKS, _LOOKED_AT = 10, 512

# Below this many parts no part can be spared to judge the couplings, so there are none.
_LEAST_PARTS_FOR_COUPLINGS = 12
# Vectors whose likelihood is asked for at once.
_TOGETHER = 16_384
# A covariance of at most 500 features is known to better than a percent from this many vectors.
_COVARIANCE_VECTORS = 100_000


@dataclass(frozen=True)
class TrainingLoss:
    """How far the training of one density is, and what it has made of that which it makes small.

    Attributes:
        density: Its name.
        member: Of which member of the ensemble.
        trial: Of couplings that are trained on some parts to see whether others become more probable.
        step, steps: How many were taken, of how many.
        training: Mean negative log-likelihood under the couplings, nats a vector, over the steps since the
            last one that was told. This is what training makes small: of whitened vectors with smoothing
            noise on them.
        held_out: The same of parts that are not trained on, without the noise, at this step; ``None`` where
            there are none, or where nobody looked.
    """

    density: str
    member: str
    trial: bool
    step: int
    steps: int
    training: float
    held_out: float | None = None


Losses = Callable[[TrainingLoss], None]


class FlowShape(NamedTuple):
    """All that is needed to rebuild a flow before its tensors are loaded.

    Attributes:
        features: Width of the vectors.
        context: Width of the condition.
        rank: Rank of a low-rank whitening; ``None`` for a full one.
        leading: Features that the couplings act on.
        couplings: Number of couplings; 0 for the Gaussian alone.
        hidden: Width of their networks.
    """

    features: int
    context: int
    rank: int | None
    leading: int
    couplings: int
    hidden: int


def training_plan(settings: DensitySettings, seed: int, steps: int) -> TrainingPlan:
    """Return the training plan for one flow."""
    return TrainingPlan(
        steps=steps,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        context_noise=settings.context_noise,
        seed=seed,
    )


def rebuild_flow(shape: FlowShape) -> Flow:
    """Return a flow of the given shape whose tensors are placeholders, ready for `load_state_dict`."""
    # Every tensor is made anew: two buffers that shared one would overwrite each other on loading.
    zeros, ones = torch.zeros(shape.features), torch.ones(shape.features)
    whitening: Transform
    if shape.rank is not None:
        axes = torch.eye(shape.features, shape.rank)
        whitening = LowRankWhitening(zeros.clone(), axes, torch.ones(shape.rank), 1.0)
    else:
        whitening = Whitening.from_axes(zeros.clone(), torch.eye(shape.features), ones.clone())
    chain: list[Transform] = [ElementwiseAffine(zeros, ones), whitening]
    if shape.couplings:
        chain.append(_coupling_chain(shape, torch.ones(shape.leading), seed=0))
    return Flow(Compose(chain))


def _coupling_chain(shape: FlowShape, spread: Tensor, seed: int, *, redrawn: bool = False) -> Leading:
    rescale = ElementwiseAffine(torch.zeros_like(spread), spread)
    couplings = real_nvp(
        shape.leading,
        shape.context,
        couplings=shape.couplings,
        hidden=shape.hidden,
        first=rescale,
        redrawn=redrawn,
        seed=seed,
    )
    return Leading(couplings.transform, shape.features)


class PartDensity(nn.Module):
    """Global density: of a part's pooled statistics.

    Args:
        flow: On the raw statistics.
        shape: What the flow was built from.
        parts: Different good parts that it was learned from, variations of them not counted.
    """

    shape: FlowShape

    def __init__(self, flow: Flow, shape: FlowShape, parts: int) -> None:
        super().__init__()
        self.flow = flow
        self.shape = shape
        self.parts = parts
        self.coordinates = coordinates_for(shape.features if shape.rank is None else shape.rank)

    @classmethod
    def fit(
        cls,
        statistics: Tensor,
        settings: DensitySettings,
        seed: int,
        different: int | None = None,
        losses: Losses | None = None,
    ) -> Self:
        """Fit to ``(parts, features)`` pooled statistics of good parts.

        The couplings act on the leading principal coordinates only, one for every 8 parts and at
        most 32; the many remaining directions, of which each part shows a little, stay Gaussian.

        Args:
            statistics: Of the parts.
            settings: Smoothing, size and steps.
            seed: Of weights, batches, noise and the trial.
            different: How many different parts they are, where some are variations of others; by default all.
            losses: Told how the training goes, some fifty times.
        """
        parts, features = statistics.shape
        different = parts if different is None else different
        gaussian = _gaussian(statistics, noise=0.0)
        rank = _rank(gaussian)
        shape = FlowShape(features, 0, rank, max(1, min(32, parts // 8, features)), 0, settings.hidden)
        coupled = shape._replace(couplings=settings.whole_couplings)
        plan = training_plan(settings, seed, max(1, settings.steps // 4))

        def train(rows: Tensor, base: Compose, held: Tensor | None = None) -> Leading:
            z = base(rows)[0][:, : shape.leading]
            spread = (z.var(0, correction=0) + settings.noise**2).sqrt()
            chain = _coupling_chain(coupled, spread, seed, redrawn=settings.redrawn)
            flow = Flow(chain.transform)
            watch = None
            if losses is not None:
                unseen = None if held is None else (base(held)[0][:, : shape.leading], None)
                watch = _Watch(losses, flow, plan.steps, unseen, trial=held is not None)
            every = _told_every(plan.steps)
            fit_maximum_likelihood(
                flow, z, noise=settings.noise, plan=plan, progress=watch, progress_every=every
            )
            return chain

        if parts >= 2 * _LEAST_PARTS_FOR_COUPLINGS and settings.whole_couplings:
            held = _held_out(parts, seed)
            inner = _gaussian(statistics[~held], noise=0.0)
            trial = Flow(Compose([inner, train(statistics[~held], inner, statistics[held])]))
            with torch.no_grad():
                gain = trial.log_prob(statistics[held]) - Flow(inner).log_prob(statistics[held])
            if float(gain.mean()) > 0:
                chain = train(statistics, gaussian)
                return cls(Flow(Compose([*_links(gaussian), chain])).eval(), coupled, different)
        return cls(Flow(gaussian).eval(), shape, different)

    @torch.no_grad()
    def energy(self, statistics: Tensor, whitened: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``|z|^2 / D`` and the nll in nats of every part, each ``(batch,)``.

        Args:
            statistics: ``(batch, features)``.
            whitened: From `whitened`, where that is known.
        """
        first = gaussian_layers(self.flow)
        z = self.whitened(statistics) if whitened is None else whitened
        log_det = -sum(layer.scale.log().sum() for layer in first)
        if rest := _links_of(self.flow)[2:]:
            z, more = Compose(rest)(z)
            log_det = log_det + more
        half_square = 0.5 * z.square().sum(-1)
        nll = half_square + 0.5 * self.flow.features * _LOG_2PI - log_det
        return (2 * half_square / self.flow.features).clamp_min(torch.finfo(torch.float32).tiny), nll

    @torch.no_grad()
    def standardised(self, statistics: Tensor) -> Tensor:
        """Return ``(batch, features)`` statistics in standard deviations of good parts."""
        z: Tensor = gaussian_layers(self.flow)[0](statistics)[0]
        return z

    @torch.no_grad()
    def whitened(self, statistics: Tensor) -> Tensor:
        """Return ``(batch, features)`` what the Gaussian makes of statistics, principal directions first."""
        z: Tensor = Compose(gaussian_layers(self.flow))(statistics)[0]
        return z

    @torch.no_grad()
    def pull(self, statistics: Tensor, whitened: Tensor | None = None) -> Tensor:
        """Return how each statistic pulls at the energy of the Gaussian part of the density.

        Args:
            statistics: ``(batch, features)``.
            whitened: From `whitened`, where that is known.

        Returns:
            ``(batch, features)`` half the gradient of ``|z|^2 / D`` before the couplings, ``cov^{-1}
            (statistics - mean) / D``: its product with ``statistics - mean`` is that energy.
        """
        standardise, whitening = gaussian_layers(self.flow)
        z = self.whitened(statistics) if whitened is None else whitened
        back = whitening.precision(standardise(statistics)[0], z)
        pull: Tensor = back / (standardise.scale * self.shape.features)
        return pull

    @property
    def mean(self) -> Tensor:
        """``(features,)`` statistics of the middling part."""
        standardise, whitening = gaussian_layers(self.flow)
        mean: Tensor = standardise.inverse(whitening.mean[None])[0][0]
        return mean

    @torch.no_grad()
    def leading(self, statistics: Tensor) -> Tensor:
        """Return the ``(batch, coordinates)`` leading principal coordinates, which condition patches."""
        standardise, whitening = gaussian_layers(self.flow)
        coordinates: Tensor = whitening.leading(standardise(statistics)[0], self.coordinates)
        return coordinates


@dataclass(frozen=True)
class _Patches:
    """Patches of some parts with their condition, made as they are drawn; see `differnet.flows.Material`.

    Attributes:
        grids: ``(parts, rows, columns, features)``.
        kinds: ``(parts, k)`` what is said of each part.
        codes: ``(m, 10)`` what is said of each place that counts.
        parts: ``(n,)`` numbers of the parts that count.
        places: ``(m,)`` numbers of the cells that count.
        whitening: What is done to a vector; ``None`` leaves it as it is.
    """

    grids: Tensor
    kinds: Tensor
    codes: Tensor
    parts: Tensor
    places: Tensor
    whitening: Transform | None = None

    @classmethod
    def of(cls, grids: Tensor, coordinates: Tensor, parts: Tensor, kept: Tensor | None) -> Self:
        """Take patches of parts by number, and of each those that are kept; as in `PatchDensity.fit`."""
        rows, columns = grids.shape[1:3]
        places = torch.arange(rows * columns) if kept is None else torch.nonzero(kept.flatten())[:, 0]
        codes = position_code(rows, columns).flatten(0, 1)[places]
        return cls(grids, squashed(coordinates), codes, parts, places)

    @property
    def context_features(self) -> int:
        """Width of the condition."""
        return self.codes.shape[1] + self.kinds.shape[1]

    def __len__(self) -> int:
        return len(self.parts) * len(self.places)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        part, place = index // len(self.places), index % len(self.places)
        number = self.parts[part]
        rows, columns, features = self.grids.shape[1:]
        x = self.grids.view(-1, features)[number * (rows * columns) + self.places[place]]
        if self.whitening is not None:
            x = self.whitening(x)[0]
        return x, torch.cat([self.codes[place], self.kinds[number]], dim=1)


class PatchDensity(nn.Module):
    """Local density: of a patch's features, given its position and its part's leading coordinates.

    Args:
        flow: On the raw patch vectors.
        shape: What the flow was built from.
    """

    shape: FlowShape

    def __init__(self, flow: Flow, shape: FlowShape) -> None:
        super().__init__()
        self.flow = flow
        self.shape = shape

    @classmethod
    def fit(
        cls,
        patches: Tensor,
        coordinates: Tensor,
        settings: DensitySettings,
        seed: int,
        progress: Progress | None = None,
        kept: Tensor | None = None,
        losses: Losses | None = None,
        parts: Tensor | None = None,
    ) -> Self:
        """Fit to the patches of good parts.

        Args:
            patches: ``(parts, rows, columns, features)``, contiguous. They are not copied.
            coordinates: ``(parts, k)`` from `PartDensity.leading`.
            settings: Smoothing, size and steps.
            seed: Of weights, batches and noise.
            progress: Called with (steps done, steps in all), some fifty times.
            kept: ``(rows, columns)`` bool, the patches to learn from; ``None`` takes all.
            losses: Told how the training goes, some fifty times.
            parts: ``(n,)`` numbers of the parts to learn from; ``None`` for all.
        """
        features = patches.shape[3]
        given = torch.arange(len(patches)) if parts is None else parts
        generator = torch.Generator().manual_seed(seed)
        held = torch.zeros(len(given), dtype=torch.bool)
        if len(given) >= _LEAST_PARTS_FOR_COUPLINGS:
            held = _held_out(len(given), seed)
        seen = _Patches.of(patches, coordinates, given, kept)
        learned = replace(seen, parts=given[~held])
        chosen = torch.randperm(len(learned), generator=generator)[:_COVARIANCE_VECTORS]
        gaussian = _gaussian(learned[chosen][0], noise=settings.noise)
        shape = FlowShape(features, seen.context_features, _rank(gaussian), features, 0, settings.hidden)
        if not held.any() or not settings.couplings:
            return cls(Flow(gaussian).eval(), shape._replace(context=0))

        coupled = shape._replace(couplings=settings.couplings)
        whitening = _links(gaussian)[1]
        # Noise of one size in the standardised features is of this size in each whitened one.
        noise = settings.noise / whitening.scale if isinstance(whitening.scale, Tensor) else settings.noise
        chain = _coupling_chain(coupled, torch.ones(features), seed, redrawn=settings.redrawn)
        flow = Flow(chain.transform)
        unknown = replace(seen, parts=given[held], whitening=gaussian)
        watch = None
        if losses is not None:
            some = torch.randperm(len(unknown), generator=generator)[:_LOOKED_AT]
            watch = _Watch(losses, flow, settings.steps, unknown[some])

        def stepped(step: int, loss: float) -> None:
            if progress is not None:
                progress(step + 1, settings.steps)
            if watch is not None:
                watch(step, loss)

        fit_maximum_likelihood(
            flow,
            replace(learned, whitening=gaussian),
            noise=noise,
            plan=training_plan(settings, seed, settings.steps),
            progress=stepped,
            progress_every=_told_every(settings.steps),
        )
        standard = Flow(ElementwiseAffine(torch.zeros(features), torch.ones(features)))
        trained, start = 0.0, 0.0
        with torch.no_grad():
            for first in range(0, len(unknown), _TOGETHER):
                z, context = unknown[torch.arange(first, min(first + _TOGETHER, len(unknown)))]
                trained += float(flow.log_prob(z, context).double().sum())
                start += float(standard.log_prob(z).double().sum())
        # Asked this way round, a likelihood that is NaN loses too.
        if not trained > start:
            return cls(Flow(gaussian).eval(), shape._replace(context=0))
        return cls(Flow(Compose([*_links(gaussian), chain])).eval(), coupled)

    @torch.no_grad()
    def energy(self, patches: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``|z|^2 / D`` and the nll in nats of every patch, each ``(batch, rows, columns)``."""
        return _energy(self.flow, patches, self.context(patches, coordinates))

    def context(self, patches: Tensor, coordinates: Tensor) -> Tensor | None:
        """Return the condition of every patch, ``(batch, rows, columns, k)``, or ``None`` without one."""
        rows, columns = patches.shape[1:3]
        return patch_context(coordinates, rows, columns) if self.shape.context else None


def gaussian_layers(flow: Flow) -> tuple[ElementwiseAffine, Whitening | LowRankWhitening]:
    """Return the two layers that every density here begins with: what its shrinkage Gaussian whitens by.

    Raises:
        FlowError: The flow begins otherwise.
    """
    links = _links_of(flow)
    match links[:2]:
        case [ElementwiseAffine() as standardise, (Whitening() | LowRankWhitening()) as whitening]:
            return standardise, whitening
    raise FlowError(
        expected="a standardising and a whitening layer",
        found=", ".join(type(link).__name__ for link in links),
        remedy="Rebuild the model by training.",
    )


def _told_every(steps: int) -> int:
    """Return how many steps lie between two points of a training's curve."""
    return max(1, steps // _POINTS)


class _Watch:
    """Tell how a training goes, called every `_told_every` steps; it changes nothing of it.

    Args:
        told: Whom.
        flow: That is trained.
        steps: It takes.
        unseen: Vectors that are not trained on, and their context.
        trial: See `TrainingLoss`.
    """

    def __init__(
        self,
        told: Losses,
        flow: Flow,
        steps: int,
        unseen: tuple[Tensor, Tensor | None] | None,
        *,
        trial: bool = False,
    ) -> None:
        self._told, self._flow, self._steps = told, flow, steps
        self._unseen, self._trial = unseen, trial
        self._every, self._look_every = _told_every(steps), max(1, steps // _LOOKS)

    def __call__(self, step: int, loss: float) -> None:
        taken = step + 1
        # Looks fall on points of the curve, the last step among them.
        looks = taken % self._look_every < self._every or taken == self._steps
        held_out = self._look() if looks else None
        self._told(TrainingLoss("", "", self._trial, taken, self._steps, loss, held_out))

    @torch.no_grad()
    def _look(self) -> float | None:
        if self._unseen is None:
            return None
        # Training puts the flow back into its mode.
        self._flow.eval()
        return -float(self._flow.log_prob(*self._unseen).mean())


def left_out_evidence(statistics: Tensor) -> NDArray[np.float64]:
    """Return the log energy of each part under a Gaussian of the others, plain and beside parts of its kind.

    Args:
        statistics: ``(parts, features)`` pooled statistics of different pictures, at least 3.

    Returns:
        ``(parts, 2)``, the second in standard deviations from what is usual for parts of its kind; each part
        is left out of its own comparison.
    """
    vectors = ElementwiseAffine.standardising(statistics)(statistics)[0]
    # Identical parts have no energy at all.
    left, kinds = leave_one_out(vectors, kinds_for(len(vectors)))
    energies = left.clamp_min(torch.finfo(torch.float64).tiny).log().numpy()
    return np.stack([energies, Expectation.fit(energies, kinds.numpy()).held_out], axis=1)


def _energy(flow: Flow, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    evidence = flow.evidence(x, context)
    # The centred half square back to a ratio; rounding may leave it a hair below zero.
    energy = (1 + 2 * evidence.typicality / flow.features).clamp_min(torch.finfo(torch.float32).tiny)
    return energy, evidence.nll


def _gaussian(vectors: Tensor, noise: float) -> Compose:
    standardise = ElementwiseAffine.standardising(vectors)
    return Compose([standardise, shrinkage_whitening(standardise(vectors)[0], noise=noise)])


def _links_of(flow: Flow) -> list[Transform]:
    chain = flow.transform
    return _links(chain) if isinstance(chain, Compose) else [chain]


def _links(chain: Compose) -> list[Transform]:
    return [t for t in chain.transforms if isinstance(t, Transform)]


def _rank(gaussian: Compose) -> int | None:
    whitening = _links(gaussian)[1]
    return int(whitening.block.shape[1]) if isinstance(whitening, LowRankWhitening) else None


def _held_out(parts: int, seed: int) -> Tensor:
    """Return a mask of the parts (one in eight, at least two) that judge the couplings."""
    order = torch.randperm(parts, generator=torch.Generator().manual_seed(seed + 1))
    held = torch.zeros(parts, dtype=torch.bool)
    held[order[: max(2, parts // 8)]] = True
    return held
