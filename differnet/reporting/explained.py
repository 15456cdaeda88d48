"""An explanation of a judgement, in layers and tables that a page shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from differnet.images.reading import ImageError, read_image
from differnet.records import Record
from differnet.reporting.artefacts import PREVIEW_SIDE, eight_bits, shrink
from differnet.reporting.origins import OriginError
from differnet.reporting.viewing import LARGEST_SIDE, Layer, rarity_words

if TYPE_CHECKING:
    from differnet.detection import Detector, EvidenceMap, Explanation, RoundTrip

CHANGE_SCALE = (0.0, 1.0)
"""Colours of what would have to change, standard deviations of good parts: a place on a defect of the sample
product would have to change by 0.3 to 1.2, the farthest place on a good part by 0.1."""


@dataclass(frozen=True)
class Explained:
    """An explanation with what a page shows beside it; of bounded size.

    Attributes:
        explanation: Of the picture.
        pixels: ``(height, width, 3)`` RGB of it, at most `LARGEST_SIDE` along a side.
        small: The same, at most `PREVIEW_SIDE`.
        nearest: ``(height, width, 3)`` RGB of the good part that is most like it, or ``None``.
        same_calibration: Whether the model's calibration is the one that judged the record.
    """

    explanation: Explanation
    pixels: NDArray[np.uint8]
    small: NDArray[np.uint8]
    nearest: NDArray[np.uint8] | None
    same_calibration: bool


def explain_record(detector: Detector, record: Record, path: Path) -> Explained:
    """Explain the judgement of a picture on record.

    Args:
        detector: Loaded from the bundle that should be of the record's model.
        record: Of the picture.
        path: Of the picture, the very file that was judged.

    Raises:
        OriginError: The bundle is of another model, or the picture cannot be read any more.
        DetectorError: What the model finds is not finite.
    """
    from differnet.detection import explain

    if detector.model_id != record.model_id:
        raise OriginError(
            expected=f"model {record.model_id}, which judged this picture",
            found=f"model {detector.model_id} in its place",
            remedy="Put the model back that judged it, or inspect the picture with this one.",
        )
    try:
        picture = read_image(path, detector.settings.reading)
    except ImageError as error:
        raise OriginError(expected=error.expected, found=error.found, remedy=error.remedy) from error
    found = explain(detector, picture)
    pixels = shrink(eight_bits(picture.pixels), LARGEST_SIDE)
    return Explained(
        found,
        pixels,
        shrink(pixels, PREVIEW_SIDE),
        None if found.nearest is None else found.nearest.pixels,
        found.record.calibration_id == record.calibration_id,
    )


_STATISTICS = {
    "together": "everything that its densities say",
    "typicality": "how far it is from typical for its own kind of texture",
    "improbability": "how improbable it is, its own texture counted",
    "wrong input": "is it the product at all? The middling place of the picture",
}
_DENSITIES = {"all": "all evidence", "whole": "the whole part", "patches": "patches"}


def layer_name(one: EvidenceMap) -> str:
    """Name a map of evidence for a person."""
    rows, columns = one.heat.shape
    if one.density == "patches":
        return f"Patches, {one.name}: {rows} \N{MULTIPLICATION SIGN} {columns} places"
    return "Whole part" if one.zoom == 0 else f"Whole part, closer look {one.zoom}"


def scale_words(scale: tuple[float, float]) -> str:
    """Say what the colours of evidence mean, the same for every density and scale."""
    low, high = scale
    return (
        f"Colours from {low:.1f} ({rarity_words(low)} of good parts is as hot) to {high:.1f} "
        f"({rarity_words(high)}), the same in all."
    )


def evidence_layers(explanation: Explanation, scale: tuple[float, float]) -> list[Layer]:
    """Make a layer of each density and scale, all on one colour scale.

    Args:
        explanation: Of the picture.
        scale: Colours of the run's heat maps.

    Returns:
        Of patches, scale by scale, and then of the whole, zoom by zoom.
    """
    layers = []
    for one in explanation.maps:
        counts = f"It counts {one.weight:.0%} in the heat map."
        if one.density == "whole":
            counts = f"What each place adds to the whole. {counts} That is how much of all the whole says."
        layers.append(Layer(layer_name(one), one.heat, scale, f"{scale_words(scale)} {counts}"))
    return layers


def change_layer(explanation: Explanation) -> Layer:
    """Make the layer of what would have to change for the part to be typical."""
    return Layer(
        "What would have to change",
        explanation.change,
        CHANGE_SCALE,
        "How far the features of a patch are from the nearest typical ones, in standard deviations of good "
        "parts. Typical places do not change at all. What the whole would have to change has no place.",
    )


def statistics_table(explanation: Explanation) -> pd.DataFrame:
    """Lay out what each statistic says, on the scale of the thresholds.

    Returns:
        Columns ``evidence``, ``statistic``, ``strangeness``, ``p-value`` (absent where nothing is promised)
        and ``meaning``.
    """
    rows = []
    for one in explanation.statistics:
        name = _DENSITIES[one.density]
        if one.density == "patches" and one.name:
            name += f", {one.name}"
        elif one.density == "whole" and one.name not in ("", "whole"):
            name += ", closer look"
        rows.append(
            {
                "evidence": name,
                "statistic": one.statistic,
                "strangeness": round(one.strangeness, 2),
                "p-value": one.p_value,
                "meaning": _STATISTICS[one.statistic],
            }
        )
    return pd.DataFrame(rows)


def changes_table(explanation: Explanation) -> pd.DataFrame:
    """Lay out how much would have to change at each scale of patches.

    Returns:
        Columns ``patches``, ``places that move`` and ``share of the change`` (both in percent), and ``largest
        change`` (standard deviations).
    """
    rows = [
        {
            "patches": one.name,
            "places that move": 100 * one.moved,
            "share of the change": 100 * one.share,
            "largest change": float(one.change.max()),
        }
        for one in explanation.patches
    ]
    return pd.DataFrame(rows)


def whole_shares_table(explanation: Explanation) -> pd.DataFrame | None:
    """Lay out which statistics of the whole would have to change, by the network's map and kind.

    Returns:
        One row a map, fine to coarse, and one column a kind of statistic, percent of the energy that goes
        away; ``None`` where the whole is typical. Of the first zoom that is not.
    """
    from differnet.detection import POOLED

    for one in explanation.wholes:
        if one.change > 0:
            rows = [f"every {stride} px" for stride in one.strides]
            return pd.DataFrame(100 * one.shares, index=pd.Index(rows, name="map"), columns=list(POOLED))
    return None


def change_words(explanation: Explanation) -> str:
    """Say in a sentence or two how much would have to change, and what the part would then be."""
    record = explanation.record
    moved = [one for one in explanation.patches if one.moved > 0]
    if not moved and not any(one.change for one in explanation.wholes):
        return "Nothing: every place and the whole are as typical as those of good parts."
    most = max(explanation.patches, key=lambda one: one.share)
    told = (
        f"{most.moved:.1%} of the {most.name} patches would have to move to be typical"
        if moved
        else "No patch would have to move"
    )
    wholes = [one.change for one in explanation.wholes if one.change > 0]
    told += f", and the whole part by {max(wholes):.2f} standard deviations." if wholes else "."
    if record.strangeness is None or explanation.strangeness_after != explanation.strangeness_after:
        return told
    return (
        f"{told} Its strangeness would then be {explanation.strangeness_after:.2f} in place of "
        f"{record.strangeness:.2f}."
    )


def nearest_words(explanation: Explanation) -> str:
    """Say which good part is most like this one and how far it is, or why there is none to show."""
    if explanation.nearest is None:
        return "The model keeps no good parts to show: an older version trained it, or it was to keep none."
    return (
        f"Nearest good part that the model keeps, {explanation.nearest.distance:.1f} standard deviations away"
    )


def badge_words(round_trip: RoundTrip) -> str:
    """Say whether the picture of changes can be trusted, and by which figure."""
    lost, of = round_trip.not_finite, round_trip.vectors
    largest = max(round_trip.largest_error, round_trip.moved_error)
    if lost:
        told = f"{lost:,} of {of:,} features do not come back from the density as numbers"
    else:
        told = (
            f"features come back from the density with relative errors of up to {largest:.0e}, "
            f"{round_trip.median_error:.0e} in the middle; 1e-03 and 1e-05 are allowed"
        )
    if not round_trip.sound:
        return f"Not to be trusted: {told}. The verdict does not rest on the way back."
    return (
        f"The way back is sound here: of {round_trip.vectors:,} features the largest relative error of "
        f"x \N{RIGHTWARDS ARROW} z \N{RIGHTWARDS ARROW} x is {largest:.0e}."
    )
