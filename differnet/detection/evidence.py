"""Evidence of parts before calibration, whatever computed it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Share of a picture's patches whose mean energy is the part's local evidence: one strange patch alone may
# be noise, and a defect that covers a patch nearly always touches its neighbours.
STRANGEST_SHARE = 0.005
# A wrong input is strange in most of a 4 x 4 grid, a defect in a few cells; averaging a cell's
# patches first makes good parts so alike in this figure that the two separate.
EXTENT_CELLS = 4
# Shares of those cells; between them they tell a place, a half and the whole of a picture apart.
REACHES = (0.1, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class RawEvidence:
    """Evidence of some parts before calibration.

    An *energy* is ``|z|^2 / D``, a squared latent norm in units of what it is on average: 1 for a vector as
    typical as can be. It is the z-only statistic: the log-determinant, a vector's local volume, is left out.
    The nll counts it.

    Attributes:
        whole: ``(parts, zooms)`` log energy of the pooled statistics.
        local: ``(parts, scales)`` log of the mean energy of the patches of highest energy.
        extent: ``(parts, scales)`` energy of the median cell of a coarse grid: how strange is most of the
            picture?
        cells: ``(parts, 4 scales)`` log energies that a tenth, a quarter, half and three quarters of that
            grid's cells lie below: how far does what is strange reach?
        nll_whole: ``(parts,)`` nll at the first zoom, nats a feature.
        nll_local: ``(parts, scales)`` mean nll of the patches of highest nll, nats a feature.
        kinds: ``(parts, k)`` leading coordinates of the pooled statistics: what kind of part it is.
        maps: One ``(parts, rows, columns)`` map of energies a scale; 0, below every energy, where ignored.
        shares: One ``(parts, rows, columns)`` a zoom: what each cell adds to the energy of the whole, in
            units of the mean over cells. It is negative where a place is more usual than usual.
    """

    whole: NDArray[np.float64]
    local: NDArray[np.float64]
    extent: NDArray[np.float64]
    cells: NDArray[np.float64]
    nll_whole: NDArray[np.float64]
    nll_local: NDArray[np.float64]
    kinds: NDArray[np.float64]
    maps: tuple[NDArray[np.float32], ...]
    shares: tuple[NDArray[np.float32], ...]

    @property
    def figures(self) -> dict[str, NDArray[np.float64]]:
        """Everything but the maps."""
        names = ("whole", "local", "extent", "cells", "nll_whole", "nll_local", "kinds")
        return {name: getattr(self, name) for name in names}

    def __getitem__(self, index: NDArray[np.intp] | slice) -> RawEvidence:
        return RawEvidence(
            **{k: v[index] for k, v in self.figures.items()},
            maps=tuple(m[index] for m in self.maps),
            shares=tuple(m[index] for m in self.shares),
        )

    def is_finite(self, index: int) -> bool:
        """Whether everything that is known of one part is a finite number."""
        known: list[NDArray[Any]] = [*self.figures.values(), *self.maps, *self.shares]
        return all(bool(np.isfinite(f[index]).all()) for f in known)

    @classmethod
    def joined(cls, some: Sequence[RawEvidence]) -> RawEvidence:
        """Put parts behind one another."""
        return cls(
            **{k: np.concatenate([e.figures[k] for e in some]) for k in some[0].figures},
            maps=tuple(np.concatenate(maps) for maps in zip(*(e.maps for e in some), strict=True)),
            shares=tuple(np.concatenate(maps) for maps in zip(*(e.shares for e in some), strict=True)),
        )
