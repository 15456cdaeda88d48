"""The densities of one product: members that each miss a fold, and one that has seen every part.

Every good part is judged by a member that has never seen it, so that no part is spent on calibration
alone. A new part's whole is judged by all members, because with fewer parts than features a density that has
seen more parts finds every new one more probable, and the comparison with held-out parts would be unfair. Its
patches, of which there are thousands to a feature, are judged by the one density of all parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from differnet.detection.context import kinds_for
from differnet.detection.densities import Losses, PartDensity, PatchDensity
from differnet.detection.evidence import EXTENT_CELLS, REACHES, STRANGEST_SHARE, RawEvidence
from differnet.detection.settings import DensitySettings
from differnet.detection.side_by_side import one_thread
from differnet.detection.statistics import divide_among_cells

# Called with (steps done, steps in all).
Told = Callable[[int, int], None]

_CHUNK = 32


@dataclass(frozen=True)
class Features:
    """What the backbone makes of some parts.

    Attributes:
        statistics: One ``(parts, features)`` a zoom, pooled.
        patches: One ``(parts, rows, columns, channels)`` a scale.
        kept: One ``(rows, columns)`` bool a scale: the patches that count, the same of every part.
        fields: A zoom's maps ``(parts, channels, rows, columns)``, half precision: they only say where.
        shares: How much of each cell of a zoom's maps counts, ``(rows, columns)`` a map, the same of every
            part; ``None`` where all counts.
    """

    statistics: tuple[Tensor, ...]
    patches: tuple[Tensor, ...]
    kept: tuple[Tensor, ...]
    fields: tuple[tuple[Tensor, ...], ...]
    shares: tuple[tuple[Tensor, ...] | None, ...]

    def __getitem__(self, index: Tensor | slice) -> Features:
        return replace(
            self,
            statistics=tuple(s[index] for s in self.statistics),
            patches=tuple(p[index] for p in self.patches),
            fields=tuple(tuple(m[index] for m in maps) for maps in self.fields),
        )

    def __len__(self) -> int:
        return len(self.statistics[0])

    @classmethod
    def joined(cls, some: Sequence[Features]) -> Features:
        """Put parts behind one another."""
        zooms, scales = range(len(some[0].statistics)), range(len(some[0].patches))
        return cls(
            tuple(torch.cat([f.statistics[i] for f in some]) for i in zooms),
            tuple(torch.cat([f.patches[i] for f in some]) for i in scales),
            some[0].kept,
            tuple(
                tuple(torch.cat(maps) for maps in zip(*(f.fields[i] for f in some), strict=True))
                for i in zooms
            ),
            some[0].shares,
        )


@dataclass(frozen=True)
class Member:
    """Densities learned from the same parts: a global one a zoom, and a local one a scale."""

    wholes: tuple[PartDensity, ...]
    patches: tuple[PatchDensity, ...]

    @property
    def named(self) -> list[tuple[str, PartDensity | PatchDensity]]:
        """Every density by its name in a model."""
        wholes = [(f"whole{i}", w) for i, w in enumerate(self.wholes)]
        return [*wholes, *((f"patches{i}", p) for i, p in enumerate(self.patches))]

    @classmethod
    def fit(
        cls,
        features: Features,
        density: DensitySettings,
        seed: int,
        told: Told | None = None,
        different: int | None = None,
        losses: Losses | None = None,
        parts: Tensor | None = None,
    ) -> Member:
        """Learn from good parts.

        Args:
            features: Of the parts.
            density: How.
            seed: Of weights, batches and noise.
            told: Called with (steps done, steps in all).
            different: As for `PartDensity.fit`.
            losses: Told how each training goes; densities go by their names in a model.
            parts: ``(n,)`` numbers of the parts to learn from; ``None`` for all.
        """
        chosen = torch.arange(len(features)) if parts is None else parts

        def of(name: str) -> Losses | None:
            return None if losses is None else lambda loss: losses(replace(loss, density=name))

        wholes = tuple(
            PartDensity.fit(s[chosen], density, seed + 100 * i, different, of(f"whole{i}"))
            for i, s in enumerate(features.statistics)
        )
        coordinates = wholes[0].leading(features.statistics[0])
        total = len(features.patches) * density.steps
        fitted: list[PatchDensity] = []
        for i, (patches, kept) in enumerate(zip(features.patches, features.kept, strict=True)):
            before = i * density.steps

            def step(done: int, _: int, before: int = before) -> None:
                if told is not None:
                    told(before + done, total)

            losses_of = of(f"patches{i}")
            fitted.append(
                PatchDensity.fit(patches, coordinates, density, seed + i + 1, step, kept, losses_of, chosen)
            )
            step(density.steps, density.steps)
        return cls(wholes, tuple(fitted))


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
            raw = _evidence([m.wholes for m in self.members], self.complete, features)
        return replace(raw, kinds=raw.kinds[:, : self.kind_features])

    def kinds(self, features: Features) -> NDArray[np.float64]:
        """Return ``(parts, k)`` coordinates of what kind of part each is."""
        leading = self.complete.wholes[0].leading(features.statistics[0])
        return _figures(leading[:, : self.kind_features])

    @property
    def kind_features(self) -> int:
        """How many coordinates tell the kind of a part."""
        whole = self.complete.wholes[0]
        return min(kinds_for(whole.parts), whole.coordinates)


def held_out(member: Member, features: Features) -> RawEvidence:
    """Judge parts by a member that has missed them. Their kinds, which take all parts to tell, are empty."""
    with one_thread():
        raw = _evidence([member.wholes], member, features)
    return replace(raw, kinds=raw.kinds[:, :0])


def plain_local(features: Features, density: DensitySettings) -> NDArray[np.float64]:
    """Return each part's local evidence under a Gaussian of all parts' coarsest patches, ``(parts, 1)``.

    A defect that spoils a model is large enough to be seen there; finer patches tell no further ones, and
    each further kind of evidence makes all of them count less.
    """
    coarsest = min(range(len(features.patches)), key=lambda i: features.patches[i].shape[1:3].numel())
    patches, kept = features.patches[coarsest], features.kept[coarsest]
    nothing = torch.zeros(len(features), 1)
    with one_thread():
        gaussian = PatchDensity.fit(patches, nothing, replace(density, couplings=0), 0, kept=kept)
        chunks = [patches[s : s + _CHUNK] for s in range(0, len(features), _CHUNK)]
        energies = torch.cat([gaussian.energy(c, nothing[: len(c)])[0][:, kept] for c in chunks])
    return _figures(strangest_mean(energies).log())[:, None]


@torch.inference_mode()
def _evidence(wholes: Sequence[tuple[PartDensity, ...]], local: Member, features: Features) -> RawEvidence:
    starts = range(0, len(features), _CHUNK)
    return RawEvidence.joined([_of_chunk(wholes, local, features[slice(s, s + _CHUNK)]) for s in starts])


def _of_chunk(wholes: Sequence[tuple[PartDensity, ...]], local: Member, some: Features) -> RawEvidence:
    judged = [[w[i].energy(s) for w in wholes] for i, s in enumerate(some.statistics)]
    energies = [torch.stack([energy for energy, _ in of]).mean(0) for of in judged]
    coordinates = local.wholes[0].leading(some.statistics[0])
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
        shares=tuple(_cell_shares([w[i] for w in wholes], some, i) for i in range(len(some.statistics))),
    )


def _cell_shares(members: Sequence[PartDensity], some: Features, zoom: int) -> NDArray[np.float32]:
    """Divide the energy of some parts' wholes, the members' mean, among the cells of one zoom.

    The mean of the members' quadratic forms about the mean of their centres: what is the same for every part
    is left out, and what their couplings change.
    """
    centre = torch.stack([member.mean for member in members]).mean(0)
    pulls = [m.pull(some.statistics[zoom]) + m.pull(centre[None]) for m in members]
    pull = torch.stack(pulls).mean(0)
    cells = divide_among_cells(some.fields[zoom], pull, pull * centre, some.shares[zoom])
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
