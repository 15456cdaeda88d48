"""The densities of one product: members that each miss a fold, and one that has seen every part.

Every good part is judged by a member that has never seen it, so that no part is spent on calibration
alone. A new part's whole is judged by all members, because with fewer parts than features a density that has
seen more parts finds every new one more probable, and the comparison with held-out parts would be unfair. Its
patches, of which there are thousands to a feature, are judged by the one density of all parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from differnet.detection.context import kinds_for
from differnet.detection.densities import PartDensity, PatchDensity
from differnet.detection.evidence import EXTENT_CELLS, REACHES, STRANGEST_SHARE, RawEvidence
from differnet.detection.gathering import Features
from differnet.detection.settings import DensitySettings
from differnet.detection.side_by_side import one_thread
from differnet.detection.statistics import divide_among_cells

_CHUNK = 32


@dataclass(frozen=True)
class Member:
    """Densities that judge the same parts, which they have missed: a global one a zoom, a local one a scale.

    Attributes:
        wholes: The global ones.
        patches: The local ones; they may have missed more parts.
        condition: Whose leading coordinates the patches are conditioned by, where it is not the first of the
            global ones: it has missed what they have.
    """

    wholes: tuple[PartDensity, ...]
    patches: tuple[PatchDensity, ...]
    condition: PartDensity | None = None

    def coordinates(self, features: Features) -> Tensor:
        """Return the ``(parts, k)`` coordinates that condition the patches of some parts."""
        return (self.condition or self.wholes[0]).leading(features.statistics[0])

    @property
    def named(self) -> list[tuple[str, PartDensity | PatchDensity]]:
        """Every density by its name in a model."""
        wholes = [(f"whole{i}", w) for i, w in enumerate(self.wholes)]
        return [*wholes, *((f"patches{i}", p) for i, p in enumerate(self.patches))]


@dataclass(frozen=True)
class Ensemble:
    """All densities of a product.

    Attributes:
        members: Each has missed a fold; only their global densities judge new parts.
        complete: Has seen every part; its local densities judge new parts, and its leading coordinates
            tell the kind of every part.
    """

    members: tuple[Member, ...]
    complete: Member

    @property
    def judging(self) -> list[tuple[str, PartDensity | PatchDensity]]:
        """The densities that judge new parts, by their names in a model."""
        wholes = [(f"{i}.whole{j}", w) for i, m in enumerate(self.members) for j, w in enumerate(m.wholes)]
        return [*wholes, *((f"complete.{name}", density) for name, density in self.complete.named)]

    def evidence(self, features: Features) -> RawEvidence:
        """Judge parts that nobody has seen."""
        with one_thread():
            wholes = [m.wholes for m in self.members]
            raw = _evidence(wholes, self.complete, features, middles=self._middles)
        return replace(raw, kinds=raw.kinds[:, : self.kind_features])

    @cached_property
    def _middles(self) -> list[_Middle]:
        return _middles([m.wholes for m in self.members])

    def kinds(self, features: Features) -> NDArray[np.float64]:
        """Return ``(parts, k)`` coordinates of what kind of part each is."""
        leading = self.complete.wholes[0].leading(features.statistics[0])
        return _figures(leading[:, : self.kind_features])

    @property
    def kind_features(self) -> int:
        """How many coordinates tell the kind of a part."""
        whole = self.complete.wholes[0]
        return min(kinds_for(whole.parts), whole.coordinates)


def held_out(member: Member, features: Features, parts: Tensor | None = None) -> RawEvidence:
    """Judge parts by a member that has missed them. Their kinds, which take all parts to tell, are empty.

    Args:
        member: That has missed them.
        features: Of the parts, or of parts among which they are.
        parts: Their numbers; ``None`` for all.
    """
    with one_thread():
        raw = _evidence([member.wholes], member, features, parts)
    return replace(raw, kinds=raw.kinds[:, :0])


def plain_local(
    features: Features, density: DensitySettings, parts: Tensor | None = None
) -> NDArray[np.float64]:
    """Return each part's local evidence under a Gaussian of the parts' coarsest patches, ``(parts, 1)``.

    A defect that spoils a model is large enough to be seen there; finer patches tell no further ones, and
    each further kind of evidence makes all of them count less.

    Args:
        features: Of the parts, or of parts among which they are.
        density: Its smoothing.
        parts: Their numbers; ``None`` for all.
    """
    coarsest = min(range(len(features.patches)), key=lambda i: features.patches[i].shape[1:3].numel())
    patches, kept = features.patches[coarsest], features.kept[coarsest]
    asked = torch.arange(len(features)) if parts is None else parts
    nothing = torch.zeros(len(features), 1)
    plain = replace(density, couplings=0)
    with one_thread():
        gaussian = PatchDensity.fit(patches, nothing, plain, 0, kept=kept, parts=asked)
        some = [gaussian.energy(patches[of], nothing[of])[0][:, kept] for of in _chunks(asked)]
        energies = torch.cat(some)
    return _figures(strangest_mean(energies).log())[:, None]


@torch.inference_mode()
def _evidence(
    wholes: Sequence[tuple[PartDensity, ...]],
    local: Member,
    features: Features,
    parts: Tensor | None = None,
    middles: Sequence[_Middle] | None = None,
) -> RawEvidence:
    asked = torch.arange(len(features)) if parts is None else parts
    known = _middles(wholes) if middles is None else middles
    return RawEvidence.joined([_of_chunk(wholes, known, local, features[some]) for some in _chunks(asked)])


def _chunks(parts: Tensor) -> list[Tensor]:
    return [parts[start : start + _CHUNK] for start in range(0, len(parts), _CHUNK)]


def _of_chunk(
    wholes: Sequence[tuple[PartDensity, ...]], middles: Sequence[_Middle], local: Member, some: Features
) -> RawEvidence:
    judged: list[list[tuple[Tensor, Tensor]]] = []
    pulls: list[list[Tensor]] = []
    for i, statistics in enumerate(some.statistics):
        known = [(w[i], w[i].whitened(statistics)) for w in wholes]
        judged.append([whole.energy(statistics, z) for whole, z in known])
        pulls.append([whole.pull(statistics, z) for whole, z in known])
    energies = [torch.stack([energy for energy, _ in of]).mean(0) for of in judged]
    coordinates = local.coordinates(some)
    strongest, nll_local, reached, maps = [], [], [], []
    for density, patches, kept in zip(local.patches, some.patches, some.kept, strict=True):
        energy, nats = density.energy(patches, coordinates)
        strongest.append(strangest_mean(energy[:, kept]))
        nll_local.append(strangest_mean(nats[:, kept]) / patches.shape[-1])
        energy = energy * kept
        share = functional.adaptive_avg_pool2d(kept[None, None].float(), EXTENT_CELLS).flatten()
        cells = functional.adaptive_avg_pool2d(energy[:, None], EXTENT_CELLS).flatten(1)
        # A coarse cell's mean is that of its patches that count; one of which none does has no say.
        cells = cells[:, share > 0] / share[share > 0]
        reached.append(cells.quantile(torch.tensor(REACHES), dim=1).T)
        maps.append(energy.numpy().astype(np.float32))
    return RawEvidence(
        whole=_figures(torch.stack(energies, 1).log()),
        local=_figures(torch.stack(strongest, 1).log()),
        extent=_figures(torch.stack([of_scale[:, REACHES.index(0.5)] for of_scale in reached], 1)),
        cells=_figures(torch.cat(reached, 1).clamp_min(torch.finfo(torch.float32).tiny).log()),
        nll_whole=_figures(torch.stack([nll for _, nll in judged[0]]).mean(0) / some.statistics[0].shape[1]),
        nll_local=_figures(torch.stack(nll_local, 1)),
        kinds=_figures(coordinates),
        maps=tuple(maps),
        shares=tuple(_cell_shares(pulls[i], middle, some, i) for i, middle in enumerate(middles)),
    )


class _Middle(NamedTuple):
    """What the members that judge wholes have in common, at one zoom.

    Attributes:
        at: ``(features,)`` mean of their means.
        slope: ``(features,)`` mean of how each of them pulls there: nothing, where it is one member alone.
    """

    at: Tensor
    slope: Tensor

    @classmethod
    def of(cls, members: Sequence[PartDensity]) -> _Middle:
        at = torch.stack([member.mean for member in members]).mean(0)
        return cls(at, torch.stack([member.pull(at[None])[0] for member in members]).mean(0))


def _middles(wholes: Sequence[tuple[PartDensity, ...]]) -> list[_Middle]:
    return [_Middle.of([of[i] for of in wholes]) for i in range(len(wholes[0]))]


def _cell_shares(pulls: Sequence[Tensor], middle: _Middle, some: Features, zoom: int) -> NDArray[np.float32]:
    """Divide the energy of some parts' wholes, the members' mean, among the cells of one zoom.

    The mean of the members' quadratic forms about the mean of their centres: what is the same for every part
    is left out, and what their couplings change.
    """
    pull = torch.stack(list(pulls)).mean(0) + middle.slope
    cells = divide_among_cells(some.fields[zoom], pull, pull * middle.at, some.shares[zoom])
    return np.asarray(cells.numpy().astype(np.float32))


def strangest_mean(per_patch: Tensor) -> Tensor:
    """Return the mean of the strangest half percent of ``(parts, places)`` figures, ``(parts,)``."""
    count = max(1, round(STRANGEST_SHARE * per_patch.shape[1]))
    return per_patch.topk(count, dim=1).values.mean(1)


def _figures(tensor: Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.double().numpy())


def deal(hashes: Sequence[str], folds: int, seed: int) -> Tensor:
    """Deal parts into folds, ``(parts,)`` whole numbers.

    The same picture twice goes into one fold: a member that learned from one copy has seen the other.
    """
    different = list(dict.fromkeys(hashes))
    order = torch.randperm(len(different), generator=torch.Generator().manual_seed(seed)).tolist()
    fold_of = {different[part]: place % folds for place, part in enumerate(order)}
    return torch.tensor([fold_of[sha256] for sha256 in hashes])
