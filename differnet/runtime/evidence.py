"""From what a graph says of a batch to raw evidence: numpy alone, the same whatever runs the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet.detection.evidence import (
    EXTENT_CELLS,
    REACHES,
    STRANGEST_SHARE,
    RawEvidence,
)
from differnet.detection.ignoring import averages
from differnet.runtime.wholes import FoldedWhole

Figures = NDArray[np.float64]
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Grid:
    """What is asked of one scale's map.

    Attributes:
        kept: ``(rows, columns)`` bool: the patches that count.
        features: Of a patch.
        windows: Two matrices ``(4, rows)`` and ``(columns, 4)`` that average a map into a coarse grid.
        shares: ``(16,)`` how much of each coarse cell counts.
    """

    kept: NDArray[np.bool_]
    features: int
    windows: tuple[NDArray[np.float32], NDArray[np.float32]]
    shares: NDArray[np.float32]

    @classmethod
    def of(cls, kept: NDArray[np.bool_], features: int) -> Grid:
        """Prepare for maps of one scale.

        Args:
            kept: ``(rows, columns)`` the patches that count.
            features: Of a patch.
        """
        down, across = (averages(n, EXTENT_CELLS).astype(np.float32) for n in kept.shape)
        return cls(kept, features, (down, across.T), (down @ kept.astype(np.float32) @ across.T).ravel())


def evidence_of(
    some: Sequence[Sequence[NDArray[Any]]],
    wholes: Sequence[FoldedWhole],
    grids: Sequence[Grid],
    kinds: int,
) -> RawEvidence:
    """Turn what a graph says into raw evidence.

    Args:
        some: What it said each time it ran, of one picture or several: outputs in the order of
            `differnet.runtime.graph.Looked`.
        wholes: One a zoom.
        grids: One a scale.
        kinds: Coordinates that tell the kind of a part.
    """
    zooms, scales = len(wholes), len(grids)
    each = (len(some[0]) - 1 - zooms - 2 * scales) // zooms
    behind = zooms * (1 + each)
    # The maps, by far the most of it, are left where they lie.
    outputs = {i: _joined(some, i) for i in (*range(zooms), *range(behind, len(some[0])))}
    judged = [
        whole.evidence(outputs[i], [of[zooms + each * i : zooms + each * (i + 1)] for of in some])
        for i, whole in enumerate(wholes)
    ]
    strongest, nats, extents, cells, energies = [], [], [], [], []
    for i, grid in enumerate(grids):
        energy, nll = outputs[behind + 1 + i], outputs[behind + 1 + scales + i]
        strongest.append(_top(energy[:, grid.kept]))
        nats.append(_top(nll[:, grid.kept]) / grid.features)
        if not grid.kept.all():
            energy = energy * grid.kept
        coarse = (grid.windows[0] @ energy @ grid.windows[1]).reshape(len(energy), -1)
        counted = grid.shares > 0
        reached = _reached(coarse[:, counted] / grid.shares[counted])
        extents.append(reached[:, REACHES.index(0.5)])
        cells.append(reached)
        energies.append(np.ascontiguousarray(energy, dtype=np.float32))
    return RawEvidence(
        whole=np.log(np.stack([whole.energy for whole in judged], 1)),
        local=np.log(np.stack(strongest, 1)),
        extent=np.stack(extents, 1),
        cells=np.log(np.maximum(np.concatenate(cells, 1), _TINY)),
        nll_whole=judged[0].nll / wholes[0].features,
        nll_local=np.stack(nats, 1),
        kinds=outputs[behind][:, :kinds].astype(np.float64),
        maps=tuple(energies),
        shares=tuple(whole.shares for whole in judged),
    )


def _joined(some: Sequence[Sequence[NDArray[Any]]], place: int) -> NDArray[Any]:
    return some[0][place] if len(some) == 1 else np.concatenate([outputs[place] for outputs in some])


def _reached(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``(batch, 4)`` the figures that `REACHES` of ``(batch, n)`` cells lie below, interpolated."""
    ordered = np.sort(cells, axis=1)
    place = np.asarray(REACHES) * (cells.shape[1] - 1)
    below = place.astype(np.intp)
    beyond = np.minimum(below + 1, cells.shape[1] - 1)
    weight = (place - below).astype(np.float32)
    return np.asarray(ordered[:, below] + weight * (ordered[:, beyond] - ordered[:, below]))


def _top(per_patch: NDArray[Any]) -> Figures:
    count = max(1, round(STRANGEST_SHARE * per_patch.shape[1]))
    top = np.partition(per_patch, per_patch.shape[1] - count, axis=1)[:, -count:]
    return np.asarray(top.astype(np.float64).mean(1))
