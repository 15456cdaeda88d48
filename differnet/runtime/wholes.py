"""The global densities of a model, folded into one, in numpy.

They are a product with one tall matrix, there and back, and many small steps. Inside of a graph these cost a
runtime more than the local densities do: measured with OpenVINO on 2 cores, a model of 761 parts took 5 ms
there, of which the products' own copies of the matrix and the network's weights that they drove from the
cache were the larger share. Here it is one and a half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.detection.sources import processors

Figures = NDArray[np.float32]

STATISTICS = 6
"""Of every channel of a map: mean, standard deviation, and the means of the quadrants."""

_TINY = float(np.finfo(np.float32).tiny)
_LEAST_DEVIATION = 1e-6
# Of the matrix at a time: 0.7 MB of a network with 2,832 statistics.
_ROWS = 64


class WholeEvidence(NamedTuple):
    """What the global densities of one zoom say.

    Attributes:
        energy: ``(batch,)`` ``|z|^2 / D``, mean over the members.
        nll: ``(batch,)`` nats, mean over the members.
        shares: ``(batch, rows, columns)`` what each cell adds to the energy.
    """

    energy: NDArray[np.float64]
    nll: NDArray[np.float64]
    shares: Figures


class FoldedWhole:
    """The global densities of one zoom.

    With ``x`` the statistics less their centre, the mean of the members' energies before their couplings is
    ``diagonal . x^2 + weights . (rows x)^2 + 2 slope . x + constant``, of which all but the constant is
    divided among the cells.

    Args:
        arrays: See `differnet.runtime.graph.folded_wholes`.
        counts: How much of each cell counts, ``(rows, columns)`` a map.
        channels: Of each map.
    """

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], counts: Sequence[Figures], channels: Sequence[int]
    ) -> None:
        self.arrays = dict(arrays)
        self.features = len(arrays["centre"])
        self._channels = tuple(channels)
        self._parts = [cell_parts(count) for count in counts]
        self._shapes = [count.shape for count in counts]
        self._members = int(arrays["members"][0])
        self._constant, self._nll_constant = (float(c) for c in arrays["constants"])
        rows, weights = arrays["rows"], arrays["weights"]
        starts = range(0, len(rows), _ROWS)
        self._blocks = [(rows[i : i + _ROWS], weights[i : i + _ROWS]) for i in starts]
        number = sum(name.endswith(".seen") for name in arrays)
        self._couplings = [
            {n: arrays[f"coupling{i}.{n}"] for n in ("seen", "middle", "says", "bounds")}
            | {n: arrays[f"coupling{i}.{n}"][:, None] for n in ("enter", "middle_bias", "says_bias")}
            for i in range(number)
        ]

    def evidence(self, statistics: Figures, maps: Sequence[Sequence[Figures]]) -> WholeEvidence:
        """Judge the wholes of a batch.

        Args:
            statistics: ``(batch, features)``.
            maps: Of one picture after another, or of several at once: each
                ``(pictures, rows, columns, channels)``.
        """
        a = self.arrays
        x = statistics - a["centre"]
        pull = a["diagonal"] * x
        pull += 2 * a["slope"]
        helper = _helper() if len(x) == 1 else None
        if helper is None:
            pull += self._pulled(x, self._blocks)
        else:
            # One picture waits for the matrix to come from memory, of which each processor fetches its half.
            half = len(self._blocks) // 2
            others = helper.submit(self._pulled, x, self._blocks[half:])
            pull += self._pulled(x, self._blocks[:half])
            pull += others.result()
        energy = np.einsum("bf,bf->b", x, pull).astype(np.float64) + self._constant
        nll = 0.5 * self.features * energy + self._nll_constant
        if self._couplings:
            change, log_det = self._leading(x @ a["axes"].T)
            energy += change / (self._members * self.features)
            nll += (0.5 * change - log_det) / self._members
        shares, start = list[Figures](), 0
        for some in maps:
            here = slice(start, start + len(some[0]))
            start = here.stop
            shares.append(self._shares(statistics[here], pull[here], some))
        return WholeEvidence(np.maximum(energy, _TINY), nll, np.concatenate(shares))

    def _pulled(self, x: Figures, blocks: Sequence[tuple[Figures, Figures]]) -> Figures:
        found = np.zeros_like(x)
        # Some rows at a time, which stay in the processor's cache for the way back.
        for rows, weights in blocks:
            found += ((x @ rows.T) * weights) @ rows
        return found

    def _leading(self, along: Figures) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return by how much the members' couplings change ``|z|^2``, and their log-determinants, in all."""
        a = self.arrays
        members, width = a["scale"].shape
        before = along.reshape(-1, members, width).transpose(1, 0, 2) + a["axes_offset"][:, None]
        z = before * a["scale"][:, None] + a["shift"][:, None]
        log_det = np.zeros(len(along))
        for c in self._couplings:
            input_bound, scale_bound, shift_bound = c["bounds"]
            hidden = np.clip(z, -input_bound, input_bound) @ c["seen"] + c["enter"]
            hidden = np.maximum(hidden, 0, out=hidden) @ c["middle"] + c["middle_bias"]
            said = np.maximum(hidden, 0, out=hidden) @ c["says"] + c["says_bias"]
            said /= 1 + np.abs(said)
            slope = scale_bound * said[..., :width]
            log_det += slope.sum((0, 2))
            z = z * np.exp(slope) + shift_bound * said[..., width:]
        change = (np.square(z) - np.square(before)).sum((0, 2))
        return change.astype(np.float64), log_det

    def _shares(self, statistics: Figures, pull: Figures, maps: Sequence[Figures]) -> Figures:
        """Divide the energy among cells; see `differnet.detection.statistics.divide_among_cells`."""
        usual = pull * self.arrays["centre"]
        total: Figures | None = None
        start = 0
        for features, parts, width in zip(maps, self._parts, self._channels, strict=True):
            batch, rows, columns, _ = features.shape
            flat = features.reshape(batch, rows * columns, width)
            here = slice(start, start + STATISTICS * width)
            start = here.stop
            pulls = pull[:, here].reshape(batch, STATISTICS, width)
            pooled = statistics[:, here].reshape(batch, STATISTICS, width)
            of_it = usual[:, here].reshape(batch, STATISTICS, width).sum(2)
            linear = flat @ pulls[:, [0, 2, 3, 4, 5]].transpose(0, 2, 1)
            squares = flat - pooled[:, :1]
            np.square(squares, out=squares)
            curved = squares @ (pulls[:, 1] / np.maximum(pooled[:, 1], _LEAST_DEVIATION))[:, :, None]
            cells = np.einsum("bpk,kp->bp", linear, parts)
            cells += (curved[:, :, 0] - of_it[:, 1:2]) * parts[0]
            cells -= of_it[:, [0, 2, 3, 4, 5]] @ parts
            grid = cells.reshape(batch, rows, columns)
            total = grid if total is None else total + _enlarged(grid, total.shape[1:])
        if total is None:
            raise ValueError("a network without maps")
        return total


@lru_cache(maxsize=1)
def _helper() -> ThreadPoolExecutor | None:
    """Return a thread beside the one that asks, where there is a processor for it."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="wholes") if processors() > 1 else None


def cell_parts(count: Figures) -> Figures:
    """Return ``(5, cells)``: how much each cell counts in the mean of all and in those of the quadrants.

    In units of the mean over cells: a figure of all cells is their mean of part times cell.

    Args:
        count: ``(rows, columns)`` how much of each cell counts.
    """
    rows, columns = count.shape[0] // 2, count.shape[1] // 2
    found = np.zeros((STATISTICS - 1, *count.shape), dtype=np.float32)
    if count.any():
        found[0] = count / count.mean()
    quadrant = 1
    for vertical in (slice(None, rows), slice(rows, None)):
        for horizontal in (slice(None, columns), slice(columns, None)):
            inside = count[vertical, horizontal]
            if inside.any():
                found[quadrant, vertical, horizontal] = inside * (count.size / inside.sum())
            quadrant += 1
    return found.reshape(STATISTICS - 1, -1)


def _enlarged(cells: Figures, shape: Sequence[int]) -> Figures:
    # OpenCV's bilinear interpolation is torch's without aligned corners.
    rows, columns = shape
    return np.stack([cv2.resize(c, (columns, rows), interpolation=cv2.INTER_LINEAR) for c in cells])
