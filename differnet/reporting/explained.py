"""An explanation of a judgement, in layers and tables that a page shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from differnet.reporting.viewing import Layer, rarity_words

if TYPE_CHECKING:
    from differnet.detection import EvidenceMap, Explanation, RoundTrip

CHANGE_SCALE = (0.0, 1.0)
"""Colours of what would have to change, standard deviations of good parts: a place on a defect of the sample
product would have to change by 0.3 to 1.2, the farthest place on a good part by 0.1."""

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


def evidence_layers(explanation: Explanation, scale: tuple[float, float]) -> list[Layer]:
    """Make a layer of each density and scale, all on one colour scale.

    Args:
        explanation: Of the picture.
        scale: Colours of the run's heat maps.

    Returns:
        Of patches, scale by scale, and then of the whole, zoom by zoom.
    """
    low, high = scale
    ends = f"{low:.1f} ({rarity_words(low)} of good parts) to {high:.1f} ({rarity_words(high)})"
    return [
        Layer(
            layer_name(one),
            one.heat,
            scale,
            f"On the scale of the heat map, {ends}. It counts {one.weight:.0%} there."
            if one.density == "patches"
            else f"What each place adds to the whole, on the scale of the heat map, {ends}. It counts "
            f"{one.weight:.0%} there: as much as the whole says of all that is said of this part.",
        )
        for one in explanation.maps
    ]


def change_layer(explanation: Explanation) -> Layer:
    """Make the layer of what would have to change for the part to be typical."""
    return Layer(
        "What would have to change",
        explanation.change,
        CHANGE_SCALE,
        "How far the features of a place are from the nearest typical ones, in standard deviations of good "
        "parts. Typical places do not change at all.",
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
    """Lay out how much would have to change at each scale of patches and of the whole.

    Returns:
        Columns ``density``, ``places that move`` (share; absent for the whole), ``largest change`` (standard
        deviations) and ``share of the change`` (among scales of patches; absent for the whole).
    """
    rows: list[dict[str, object]] = [
        {
            "density": f"patches, {one.name}",
            "places that move": one.moved,
            "largest change": float(one.change.max()),
            "share of the change": one.share,
        }
        for one in explanation.patches
    ]
    rows += [
        {
            "density": "the whole part" if place == 0 else "the whole part, closer look",
            "places that move": None,
            "largest change": one.change,
            "share of the change": None,
        }
        for place, one in enumerate(explanation.wholes)
    ]
    return pd.DataFrame(rows)


def whole_shares_table(explanation: Explanation) -> pd.DataFrame | None:
    """Lay out which statistics of the whole would have to change, by the network's map and kind.

    Returns:
        One row a map, fine to coarse, and one column a kind of statistic, shares of the energy that goes
        away; ``None`` where the whole is typical. Of the first zoom that is not.
    """
    from differnet.detection import POOLED

    for one in explanation.wholes:
        if one.change > 0:
            rows = [f"every {stride} px" for stride in one.strides]
            return pd.DataFrame(one.shares, index=rows, columns=list(POOLED))
    return None


def change_words(explanation: Explanation) -> str:
    """Say in a sentence or two how much would have to change, and what the part would then be."""
    record = explanation.inspection.record
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


def badge_words(round_trip: RoundTrip) -> str:
    """Say whether the picture of changes can be trusted, and by which figure."""
    if round_trip.not_finite:
        return (
            f"Not to be trusted: {round_trip.not_finite:,} of {round_trip.vectors:,} features do not come "
            "back from the density as numbers. The verdict does not rest on the way back."
        )
    largest = max(round_trip.largest_error, round_trip.moved_error)
    if not round_trip.sound:
        return (
            f"Not to be trusted: features come back from the density with a relative error of {largest:.1g}, "
            "more than 1 in 1,000. The verdict does not rest on the way back."
        )
    return (
        f"The way back is sound here: of {round_trip.vectors:,} features the largest relative error of "
        f"x \N{RIGHTWARDS ARROW} z \N{RIGHTWARDS ARROW} x is {largest:.0e}."
    )
