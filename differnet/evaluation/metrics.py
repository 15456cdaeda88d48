"""How well an order of strangeness separates defects from good parts, per picture and per pixel.

Every metric here is read off one object: the counts of defects and of good parts at or above each
distinct value, from the strangest down. Equal values enter together, so ties are treated as what
they are, whatever the order in which the parts arrived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, ndimage

from differnet.records import DiffernetError

Counts = NDArray[np.int64]

PENDING_PIXELS = 2**22
"""Pixels that wait before they are sorted: some 20 pictures, sorted in well under a second."""

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.int64)
"""Pixels that touch by a corner belong to one region: the convention of Bergmann et al. (2021, IJCV 129)."""


class MetricError(DiffernetError):
    """A metric was asked of values for which it does not exist."""


def image_auroc(strangeness: ArrayLike, defective: ArrayLike) -> float:
    """Return the probability that a defect is stranger than a good part, ties counting half.

    ``AUROC = P(s_defect > s_good) + P(s_defect = s_good) / 2``: the Mann-Whitney statistic over its
    maximum (Hanley and McNeil 1982, Radiology 143), counted in whole numbers and divided once.

    Args:
        strangeness: ``(n,)``, higher is stranger. Infinite values are ordered like any other.
        defective: ``(n,)`` bool, or 0 and 1.

    Returns:
        Between 0 and 1; 0.5 says nothing.

    Raises:
        MetricError: A value is NaN, shapes differ, or one of the two classes is missing.

    Example:
        >>> image_auroc([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
        0.875
    """
    return _area_under_roc(*_curve(strangeness, defective))


def aupr(strangeness: ArrayLike, defective: ArrayLike) -> float:
    """Return the average precision over the defects.

    ``sum_i (R_i - R_{i-1}) P_i`` over the distinct thresholds, without interpolation: straight lines
    between points of a precision-recall curve are too hopeful (Davis and Goadrich 2006, ICML). What
    a blind order reaches is not 0.5 but the share of defects.

    Args:
        strangeness: ``(n,)``, higher is stranger.
        defective: ``(n,)`` bool, or 0 and 1.

    Returns:
        Above 0, at most 1.

    Raises:
        MetricError: A value is NaN, shapes differ, or one of the two classes is missing.

    Example:
        >>> round(aupr([0.1, 0.4, 0.35, 0.8], [False, False, True, True]), 4)
        0.8333
    """
    return _average_precision(*_curve(strangeness, defective))


def fpr_at_tpr(strangeness: ArrayLike, defective: ArrayLike, tpr: float = 0.95) -> float:
    """Return the smallest overkill at which at least a share ``tpr`` of the defects is caught.

    Only thresholds that exist are considered; nothing is interpolated.

    Args:
        strangeness: ``(n,)``, higher is stranger.
        defective: ``(n,)`` bool, or 0 and 1.
        tpr: Share of the defects to catch, above 0, at most 1.

    Returns:
        Share of good parts at or above that threshold.

    Raises:
        MetricError: ``tpr`` is out of range, a value is NaN, shapes differ, or a class is missing.

    Example:
        >>> fpr_at_tpr([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0, 0, 1, 0, 1, 1], tpr=1.0)
        0.3333333333333333
    """
    if not 0.0 < tpr <= 1.0:
        raise MetricError(
            expected="a share of defects above 0, at most 1",
            found=f"tpr {tpr}",
            remedy="Give it as a share, for example 0.95.",
        )
    caught, overkill = _curve(strangeness, defective)
    # The share itself is rounded (0.95 of 20 is 19, not 19.000000000000004); the count is not.
    needed = np.ceil(round(tpr * float(caught[-1]), 9))
    return float(overkill[np.searchsorted(caught, needed)] / overkill[-1])


def f1_oracle(strangeness: ArrayLike, defective: ArrayLike) -> float:
    """Return the best F1 of any threshold, chosen with the labels in sight.

    No deployed threshold knows the labels: this bounds what a threshold could reach, and is to be
    shown as a bound.

    Args:
        strangeness: ``(n,)``, higher is stranger.
        defective: ``(n,)`` bool, or 0 and 1.

    Returns:
        Above 0, at most 1.

    Raises:
        MetricError: A value is NaN, shapes differ, or one of the two classes is missing.

    Example:
        >>> round(f1_oracle([0.1, 0.4, 0.35, 0.8], [False, False, True, True]), 4)
        0.8
    """
    caught, overkill = _curve(strangeness, defective)
    return float(np.max(2.0 * caught / (caught + overkill + caught[-1])))


def operating_points(
    strangeness: ArrayLike, defective: ArrayLike
) -> tuple[NDArray[np.float64], Counts, Counts]:
    """Count what every threshold that tells parts apart would flag, from none to all.

    Args:
        strangeness: ``(n,)``, higher is stranger.
        defective: ``(n,)`` bool, or 0 and 1.

    Returns:
        ``(k,)`` thresholds, descending, the first infinite; ``(k,)`` defects and ``(k,)`` good parts at or
        above each.

    Raises:
        MetricError: A value is NaN, shapes differ, or one of the two classes is missing.

    Example:
        >>> levels, caught, overkill = operating_points([0.1, 0.4, 0.4], [False, False, True])
        >>> levels.tolist(), caught.tolist(), overkill.tolist()
        ([inf, 0.4, 0.1], [0, 1, 1], [0, 1, 2])
    """
    values, of_defect = _checked_parts(strangeness, defective)
    levels, places = np.unique(values, return_inverse=True)
    every = np.arange(levels.size)
    caught, overkill = (
        _from_strangest(np.bincount(places[some], minlength=levels.size), every, levels.size)
        for some in (of_defect, ~of_defect)
    )
    return np.concatenate([[np.inf], levels[::-1]]), caught, overkill


def by_kind(strangeness: ArrayLike, labels: Sequence[str | None], *, good: str = "good") -> dict[str, float]:
    """Return the image AUROC of each kind of defect against all good parts.

    Args:
        strangeness: ``(n,)``, higher is stranger.
        labels: ``n`` labels: ``good``, or a kind. Parts labelled ``None`` are left out.
        good: The label of good parts.

    Returns:
        Kind to AUROC, sorted by kind; empty when there are only good parts.

    Raises:
        MetricError: A labelled part's value is NaN, lengths differ, or no part is good.

    Example:
        >>> by_kind([0.1, 0.3, 0.2, 0.9], ["good", "good", "crack", "fray"])
        {'crack': 0.5, 'fray': 1.0}
    """
    values = np.asarray(strangeness, dtype=np.float64)
    if values.shape != (len(labels),):
        raise MetricError(
            expected=f"one strangeness for each of {len(labels)} labels",
            found=f"an array of shape {values.shape}",
            remedy="Take both from the same records.",
        )
    kinds = sorted({label for label in labels if label not in (None, good)}, key=str)
    of_good = np.array([label == good for label in labels], dtype=bool)
    found: dict[str, float] = {}
    for kind in kinds:
        of_kind = np.array([label == kind for label in labels], dtype=bool)
        found[str(kind)] = image_auroc(values[of_good | of_kind], of_kind[of_good | of_kind])
    return found


class PixelCurves:
    """Pixel metrics over many pictures, in bounded memory.

    Pixels are counted by value, not kept. Values are told apart as float32, which is what heat maps
    are, by their bit pattern in ascending order; while no more than ``bins`` distinct ones have been
    seen, every metric is exact, ties included. Each time there are more, the last bit of all
    patterns is dropped and neighbours become ties. The bits dropped depend on which values were
    seen and not on when, so the order of pictures does not matter, and no range has to be known
    beforehand.

    *Error.* A curve's points at the ends of a bin stay exact; only its course inside the bin is lost.
    `largest_errors` bounds what that can amount to for the very values added. With the default bins
    this bound was 1.5e-5 at most on 584 smooth synthetic heat maps of 58 million pixels, and the true
    error below 1e-6 on 10 million (courses inside bins are nearly straight).

    *Memory.* About 40 bytes a bin at rest, and up to 400 MB for a moment while pixels are sorted.

    Args:
        bins: Distinct values that are told apart among good pixels, and among defective ones; at
            least 2. Raising it lowers the error.

    Raises:
        MetricError: ``bins`` is below 2.

    Example:
        >>> curves = PixelCurves()
        >>> curves.add(np.array([[0.1, 0.2], [0.3, 0.9]]), np.array([[False, False], [False, True]]))
        >>> curves.add(np.array([[0.1, 0.2], [0.3, 0.4]]), np.zeros((2, 2), dtype=bool))
        >>> curves.pixel_auroc(), curves.aupro(), curves.pixel_aupr()
        (1.0, 1.0, 1.0)
    """

    def __init__(self, bins: int = 2**20) -> None:
        if bins < 2:
            raise MetricError(expected="at least 2 bins", found=str(bins), remedy="Use the default.")
        self._bins = bins
        self._dropped_bits = 0
        self._regions = 0
        self._good = _tally(_no_keys(), np.zeros(0, dtype=np.int64), np.zeros(0))
        self._defective = self._good
        self._pending: list[tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float64]]] = []
        self._pending_pixels = 0

    def add(self, heat_map: ArrayLike, mask: ArrayLike) -> None:
        """Count one picture.

        Args:
            heat_map: ``(height, width)``, higher is stranger, finite, at the mask's resolution.
            mask: ``(height, width)`` bool, True on defects; all False for a good part. Each
                8-connected area is one region.

        Raises:
            MetricError: Shapes differ or are not 2-D, the mask is not bool, or a value is not
                finite as float32. Nothing was counted then.
        """
        heat, defective = _checked_picture(heat_map, mask)
        keys = _ordered_keys(heat) >> np.uint32(self._dropped_bits)
        shares, regions = _region_shares(defective)
        self._pending.append((keys[~defective], keys[defective], shares))
        self._pending_pixels += heat.size
        self._regions += regions
        if self._pending_pixels >= PENDING_PIXELS:
            self._count_pending()

    def pixel_auroc(self) -> float:
        """Return the AUROC over all pixels of all pictures.

        Returns:
            Between 0 and 1.

        Raises:
            MetricError: No good or no defective pixel was added.
        """
        curve = self._curve()
        return _area_under_roc(curve.caught, curve.overkill)

    def pixel_aupr(self) -> float:
        """Return the average precision over all pixels, as `aupr` defines it.

        Returns:
            Above 0, at most 1.

        Raises:
            MetricError: No good or no defective pixel was added.
        """
        curve = self._curve()
        return _average_precision(curve.caught, curve.overkill)

    def aupro(self, max_fpr: float = 0.3) -> float:
        """Return the area under the per-region overlap, up to a false-positive rate.

        At each threshold, the overlap is the share of a region's pixels at or above it, averaged
        over the regions of all pictures so that small ones count as much as large ones; the rate is
        the share of all good pixels at or above it. The area under overlap over rate from 0 to
        ``max_fpr`` (trapezoids, linear at the limit) is divided by ``max_fpr`` (Bergmann et al.
        2021, IJCV 129).

        Args:
            max_fpr: End of the integral, above 0, at most 1.

        Returns:
            Between 0 and 1. A blind map reaches ``max_fpr / 2``.

        Raises:
            MetricError: ``max_fpr`` is out of range, or no good or no defective pixel was added.
        """
        rate, overlap = self._overlap_curve(max_fpr)
        inside = int(np.searchsorted(rate, max_fpr, side="right"))
        at_limit = np.interp(max_fpr, rate[inside - 1 : inside + 1], overlap[inside - 1 : inside + 1])
        rate = np.append(rate[:inside], max_fpr)
        overlap = np.append(overlap[:inside], at_limit)
        # Sums of many shares may end a rounding error above 1.
        return min(1.0, float(integrate.trapezoid(overlap, rate)) / max_fpr)

    def largest_errors(self, max_fpr: float = 0.3) -> dict[str, float]:
        """Bound how far binning can have moved each metric, for the values that were added.

        The true curve is monotone and passes through the ends of each bin, so it stays in the box
        between them: half of the boxes' area bounds the error of an area by trapezoids. Precision
        inside a bin is bounded by its course with the defects first and with the defects last.

        Args:
            max_fpr: As in `aupro`.

        Returns:
            ``pixel_auroc``, ``aupro`` and ``pixel_aupr``: largest absolute errors. All 0 while
            every float32 value is told apart.

        Raises:
            MetricError: ``max_fpr`` is out of range, or no good or no defective pixel was added.

        Example:
            >>> curves = PixelCurves()
            >>> curves.add(np.array([[0.1, 0.9]]), np.array([[False, True]]))
            >>> curves.largest_errors()
            {'pixel_auroc': 0.0, 'aupro': 0.0, 'pixel_aupr': 0.0}
        """
        rate, overlap = self._overlap_curve(max_fpr)
        curve = self._curve()
        if not self._dropped_bits:
            return {"pixel_auroc": 0.0, "aupro": 0.0, "pixel_aupr": 0.0}
        caught, overkill = curve.caught, curve.overkill
        boxes = np.diff(caught / caught[-1]) * np.diff(overkill / overkill[-1])
        # The bin that the limit cuts is not halved: the cut part of its box bounds both courses.
        widths = np.diff(np.minimum(rate, max_fpr))
        halves = np.where(rate[1:] <= max_fpr, 0.5, 1.0)
        return {
            "pixel_auroc": float(boxes.sum()) / 2,
            "aupro": float((widths * np.diff(overlap) * halves).sum()) / max_fpr,
            "pixel_aupr": _precision_error(caught, overkill),
        }

    def _count_pending(self) -> None:
        if not self._pending:
            return
        good, defective, shares = (np.concatenate(group) for group in zip(*self._pending, strict=True))
        self._good = _tally(
            np.concatenate([self._good.keys, good]),
            np.concatenate([self._good.pixels, np.ones(good.size, dtype=np.int64)]),
            np.zeros(self._good.keys.size + good.size),
        )
        self._defective = _tally(
            np.concatenate([self._defective.keys, defective]),
            np.concatenate([self._defective.pixels, np.ones(defective.size, dtype=np.int64)]),
            np.concatenate([self._defective.overlap, shares]),
        )
        self._pending, self._pending_pixels = [], 0
        while max(self._good.keys.size, self._defective.keys.size) > self._bins:
            self._good, self._defective = _coarser(self._good), _coarser(self._defective)
            self._dropped_bits += 1

    def _curve(self) -> _PixelCurve:
        self._count_pending()
        good, defective = self._good, self._defective
        if not (good.keys.size and defective.keys.size):
            raise MetricError(
                expected="good and defective pixels",
                found=f"{good.pixels.sum()} good and {defective.pixels.sum()} defective ones",
                remedy="Add pictures with masks; without any defect there is no pixel metric.",
            )
        both = np.sort(np.concatenate([good.keys, defective.keys]))
        keys = both[_first_of_each(both)]
        of_good, of_defective = np.searchsorted(keys, good.keys), np.searchsorted(keys, defective.keys)
        return _PixelCurve(
            caught=_from_strangest(defective.pixels, of_defective, keys.size),
            overkill=_from_strangest(good.pixels, of_good, keys.size),
            overlap=_from_strangest(defective.overlap, of_defective, keys.size) / self._regions,
        )

    def _overlap_curve(self, max_fpr: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if not 0.0 < max_fpr <= 1.0:
            raise MetricError(
                expected="a false-positive rate above 0, at most 1",
                found=f"max_fpr {max_fpr}",
                remedy="The published figures use 0.3.",
            )
        curve = self._curve()
        return curve.overkill / curve.overkill[-1], curve.overlap


@dataclass(frozen=True)
class _Tally:
    """Pixels counted by key: ``keys`` ascending and distinct, the others of the same length.

    ``overlap`` sums ``1 / area of the pixel's region``.
    """

    keys: NDArray[np.uint32]
    pixels: Counts
    overlap: NDArray[np.float64]


@dataclass(frozen=True)
class _PixelCurve:
    """Sums over all pixels at or above each distinct value, the strangest first, starting at 0."""

    caught: Counts
    overkill: Counts
    overlap: NDArray[np.float64]


def _curve(strangeness: ArrayLike, defective: ArrayLike) -> tuple[Counts, Counts]:
    """Count defects and good parts at or above each distinct value, from none to all."""
    _, caught, overkill = operating_points(strangeness, defective)
    return caught, overkill


def _from_strangest(amounts: NDArray[Any], places: NDArray[np.int64], levels: int) -> NDArray[Any]:
    at_level = np.zeros(levels + 1, dtype=amounts.dtype)
    at_level[levels - places] = amounts
    sums: NDArray[Any] = np.cumsum(at_level)
    return sums


def _area_under_roc(caught: Counts, overkill: Counts) -> float:
    twice = int(np.sum(np.diff(overkill) * (caught[1:] + caught[:-1])))
    return twice / (2 * int(caught[-1]) * int(overkill[-1]))


def _average_precision(caught: Counts, overkill: Counts) -> float:
    precision = caught[1:] / (caught[1:] + overkill[1:])
    return min(1.0, float(np.sum(np.diff(caught) * precision)) / int(caught[-1]))


def _precision_error(caught: Counts, overkill: Counts) -> float:
    new = np.diff(caught)
    held = caught[1:] / (caught[1:] + overkill[1:])
    defects_first = caught[1:] / np.maximum(1, caught[1:] + overkill[:-1])
    defects_last = (caught[:-1] + 1) / (caught[:-1] + 1 + overkill[1:])
    return float(np.sum(new * np.maximum(defects_first - held, held - defects_last))) / int(caught[-1])


def _checked_parts(
    strangeness: ArrayLike, defective: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = np.asarray(strangeness, dtype=np.float64)
    classes = np.asarray(defective)
    if values.ndim != 1 or values.shape != classes.shape:
        raise MetricError(
            expected="strangeness and defective of one shape (n,)",
            found=f"shapes {values.shape} and {classes.shape}",
            remedy="Give one value and one truth a part.",
        )
    if not np.isin(classes, (0, 1)).all():
        raise MetricError(
            expected="defective to be True or False",
            found=f"values such as {classes[~np.isin(classes, (0, 1))][0]!r}",
            remedy="Turn labels into `label != 'good'` first.",
        )
    absent = int(np.count_nonzero(np.isnan(values)))
    if absent:
        raise MetricError(
            expected="a strangeness for every part",
            found=f"{absent} NaN among {values.size}",
            remedy="Report INVALID parts apart and leave them out here.",
        )
    of_defect = classes.astype(bool)
    if of_defect.all() or not of_defect.any():
        raise MetricError(
            expected="good parts and defects",
            found=f"{np.count_nonzero(~of_defect)} good and {np.count_nonzero(of_defect)} defective",
            remedy="Without both there is nothing to separate; leave the metric out.",
        )
    return values, of_defect


def _checked_picture(heat_map: ArrayLike, mask: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    with np.errstate(over="ignore"):  # What overflows float32 is refused as infinite below.
        heat = np.asarray(heat_map).astype(np.float32)
    defective = np.asarray(mask)
    if heat.ndim != 2 or heat.shape != defective.shape:
        raise MetricError(
            expected="a heat map and a mask of one shape (height, width)",
            found=f"shapes {heat.shape} and {defective.shape}",
            remedy="Resize the heat map to the mask, not the mask to the heat map.",
        )
    if defective.dtype != np.bool_:
        raise MetricError(
            expected="a mask of bool",
            found=f"a mask of {defective.dtype}",
            remedy="Say what counts as defect, for example `mask > 127`.",
        )
    if not np.isfinite(heat).all():
        raise MetricError(
            expected="finite heat-map values",
            found=f"{np.count_nonzero(~np.isfinite(heat))} that are not (as float32)",
            remedy="Pictures without a sound heat map are INVALID; leave them out and say so.",
        )
    return heat, defective


def _ordered_keys(heat: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Map float32 to unsigned integers in the same order (IEEE 754: sign, exponent, fraction)."""
    # Adding zero turns -0.0, which equals 0.0 but has other bits, into 0.0.
    bits = np.ascontiguousarray(heat + np.float32(0.0)).view(np.uint32)
    sign = np.uint32(0x80000000)
    return np.where(bits & sign, ~bits, bits | sign)


def _region_shares(defective: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """Return ``1 / area of its region`` for each defective pixel in row order, and the regions."""
    if not defective.any():
        return np.zeros(0), 0
    numbered, regions = ndimage.label(defective, structure=EIGHT_NEIGHBOURS)
    region = numbered[defective]
    return 1.0 / np.bincount(region)[region], int(regions)


def _tally(keys: NDArray[np.uint32], pixels: Counts, overlap: NDArray[np.float64]) -> _Tally:
    order = np.argsort(keys, kind="stable")
    return _joined(keys[order], pixels[order], overlap[order])


def _coarser(tally: _Tally) -> _Tally:
    return _joined(tally.keys >> np.uint32(1), tally.pixels, tally.overlap)


def _joined(ascending: NDArray[np.uint32], pixels: Counts, overlap: NDArray[np.float64]) -> _Tally:
    """Sum what has the same key."""
    starts = _first_of_each(ascending)
    if not starts.size:
        return _Tally(ascending, pixels, overlap)
    return _Tally(ascending[starts], np.add.reduceat(pixels, starts), np.add.reduceat(overlap, starts))


def _first_of_each(ascending: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return where each distinct key begins; on a million keys far faster than hashing them."""
    return np.flatnonzero(np.concatenate([[ascending.size > 0], ascending[1:] != ascending[:-1]]))


def _no_keys() -> NDArray[np.uint32]:
    return np.zeros(0, dtype=np.uint32)
