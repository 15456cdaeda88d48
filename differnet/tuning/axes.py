"""Histograms of strangeness on an axis that two thresholds can be drawn and moved on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from differnet.calibration import p_values, smallest_alpha
from differnet.reporting.counts import HISTOGRAM_BINS, Columns, Histogram, Truth, histogram
from differnet.reporting.figures import axis_ticks
from differnet.tuning.curves import thin

Figures = NDArray[np.float64]

FEWEST_FOR_P_VALUES = 19
"""Good parts from which an axis of p-values tells anything: with 19 the smallest is 5 %."""

# Where the axis of p-values ends and that of what is stranger than every good part begins.
_BEYOND = 0.9
# Stops of an axis: it is straight between them, and a screen has some 1,000 pixels.
_STOPS = 200


@dataclass(frozen=True)
class Axis:
    """Where strangeness lies on a line from 0 to 1, straight between its stops.

    Attributes:
        title: What the axis shows.
        strangeness: ``(k,)`` ascending, of the stops.
        position: ``(k,)`` ascending from 0 to 1.
        ticks: Positions with what is written there.
    """

    title: str
    strangeness: Figures
    position: Figures
    ticks: tuple[tuple[float, str], ...]

    def place(self, strangeness: ArrayLike) -> Figures:
        """Return the positions of figures; what lies beyond an end stands at it."""
        return np.interp(np.asarray(strangeness, dtype=np.float64), self.strangeness, self.position)

    @property
    def upper(self) -> float:
        """Strangeness at its end."""
        return float(self.strangeness[-1])


@dataclass(frozen=True)
class Bars:
    """How many parts lie where on an axis, by what they are.

    Attributes:
        axis: The axis.
        edges: ``(bins + 1,)`` strangeness at the bins' ends.
        counts: ``(4, bins)``, rows in the order of `Truth`. The last bin also holds all above.
        above: Parts beyond the axis, counted in the last bin.
        absent: Parts without a finite strangeness, counted nowhere.
    """

    axis: Axis
    edges: Figures
    counts: NDArray[np.int64]
    above: int
    absent: int

    @property
    def histogram(self) -> Histogram:
        """The same counts, to be described and laid out."""
        return Histogram(self.edges, self.counts, self.axis.upper, self.above, self.absent)


def strangeness_axis(columns: Columns, t_review: float, t_defect: float) -> Axis:
    """Make an axis of strangeness, over a range in which thresholds can be told apart.

    Args:
        columns: Of the parts to be shown.
        t_review: T1 in force.
        t_defect: T2 in force.
    """
    upper = histogram(columns, t_review, t_defect).upper
    ticks = tuple((tick / upper, f"{tick:g}") for tick in axis_ticks(upper, 10))
    return Axis("strangeness", np.array([0.0, upper]), np.array([0.0, 1.0]), ticks)


def p_value_axis(good: ArrayLike, upper: float) -> Axis | None:
    """Make an axis of conformal p-values on a logarithmic scale, the strangest parts on its right.

    A p-value says where a figure stands among the good parts, and of what is stranger than all of them only
    that. The last tenth of the axis is of strangeness again, so that a threshold can be moved there too.

    Args:
        good: ``(n,)`` strangeness of the calibration parts.
        upper: Strangeness at the end of the axis; raised where good parts lie beyond it.

    Returns:
        The axis; ``None`` of fewer good parts than `FEWEST_FOR_P_VALUES`, or of equal ones.
    """
    figures = np.unique(np.asarray(good, dtype=np.float64))
    n = int(np.asarray(good).size)
    if n < FEWEST_FOR_P_VALUES or len(figures) < 2:
        return None
    rarest = float(p_values(good, figures[-1:])[0])

    def place(p: ArrayLike) -> Figures:
        return np.asarray(_BEYOND * np.log(np.asarray(p)) / np.log(rarest), dtype=np.float64)

    position = place(p_values(good, figures))
    kept, _ = thin(figures, position, _STOPS)
    end = max(upper, 1.25 * float(figures[-1]))
    strangeness = np.concatenate([[min(0.0, float(figures[0]))], figures[kept], [end]])
    positions = np.concatenate([[0.0], position[kept], [1.0]])
    decades = [p for k in range(12) for p in (1 / 10**k, 0.5 / 10**k, 0.2 / 10**k)]
    shown = [p for p in decades if p >= rarest and float(place(p)) < _BEYOND - 0.03]
    ticks = [(float(place(p)), f"{p:g}") for p in shown]
    ticks.append(((1 + _BEYOND) / 2, f"{smallest_alpha(n):.2g}"))
    return Axis("p-value among the calibration's good parts", strangeness, positions, tuple(ticks))


def bars(columns: Columns, axis: Axis, bins: int = HISTOGRAM_BINS) -> Bars:
    """Count parts in bins that are equally wide on an axis.

    Args:
        columns: Of ``n`` parts.
        axis: The axis.
        bins: How many.
    """
    finite = np.isfinite(columns.strangeness)
    shown, truth = columns.strangeness[finite], columns.truth[finite]
    places = np.clip(axis.place(shown) * bins, 0, bins - 1).astype(np.int64)
    cells = np.bincount(truth.astype(np.int64) * bins + places, minlength=len(Truth) * bins)
    edges = np.interp(np.linspace(0.0, 1.0, bins + 1), axis.position, axis.strangeness)
    # Where an axis begins level, its end is what the first bin begins with.
    edges[0] = axis.strangeness[0]
    return Bars(
        axis,
        edges,
        cells.reshape(len(Truth), bins).astype(np.int64),
        int(np.count_nonzero(shown > axis.upper)),
        int(np.count_nonzero(~finite)),
    )
