"""Connected strange areas of a heat map."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.calibration.conformal import p_values
from differnet.records import Region

# More would not be read; the strongest are kept.
_MOST_REGIONS = 20


def strange_regions(
    heat_map: NDArray[np.float32], threshold: float, good_peaks: NDArray[np.float64], least_p: float = 0.0
) -> tuple[Region, ...]:
    """Return the connected areas at or above ``threshold``, the strongest first, at most 20.

    Args:
        heat_map: ``(height, width)`` over the picture.
        threshold: In the heat map's unit.
        good_peaks: ``(parts,)`` largest heat of good parts; the reference of the p-values.
        least_p: No p-value is below it: variations of a few parts support none of their number.
    """
    above = (heat_map >= threshold).astype(np.uint8)
    if not above.any():
        return ()
    # Areas are small beside their picture, and labelling takes as long as what is labelled is large.
    left, top, across, down = cv2.boundingRect(above)
    heat_map = heat_map[top : top + down, left : left + across]
    inside = np.ascontiguousarray(above[top : top + down, left : left + across])
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    regions: list[Region] = []
    for label in range(1, count):
        x, y, width, height, area = (int(v) for v in boxes[label])
        window = (slice(y, y + height), slice(x, x + width))
        peak = float(heat_map[window][labels[window] == label].max())
        p_value = max(least_p, float(p_values(good_peaks, [peak])[0]))
        regions.append(Region(left + x, top + y, width, height, area, peak, p_value))
    return tuple(sorted(regions, key=lambda r: -r.peak)[:_MOST_REGIONS])
