"""The review band on a histogram: drawn and dragged in the browser, told to the server while it moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from charts import COLOURS

from differnet.reporting.counts import Truth
from differnet.tuning import Bars

KEY = "review_band"
# Shapes beside colours, so that rows are told apart without either.
HATCHES = {
    Truth.GOOD: "solid",
    Truth.DEFECT: "diagonal",
    Truth.WRONG_INPUT: "cross",
    Truth.UNLABELLED: "level",
}

_HERE = Path(__file__).parent
_MOUNT = st.components.v2.component(
    "review_band",
    css=(_HERE / "band.css").read_text("utf-8"),
    js=(_HERE / "band.js").read_text("utf-8"),
)


@dataclass(frozen=True)
class Picked:
    """A bar that was clicked: parts of a group in a range of strangeness.

    Attributes:
        truth: The group.
        low: Strangeness from which.
        high: Strangeness up to which; ``None`` of the last bar, which has no end.
        count: How many parts.
    """

    truth: Truth
    low: float
    high: float | None
    count: int


def review_band(
    shown: Bars,
    now: tuple[float, float],
    active: tuple[float, float],
    *,
    version: Sequence[object],
    log: bool,
    words: str,
    on_move: Callable[[], None],
    on_pick: Callable[[], None],
) -> None:
    """Show the histogram with the band.

    Args:
        shown: How many parts lie where.
        now: T1 and T2 as they stand.
        active: T1 and T2 in force, drawn faintly.
        version: Names what is shown: the bars are painted anew where it differs.
        log: Whether the bars' heights are logarithms.
        words: What is seen, for those who do not see it.
        on_move: Called before the page is drawn again; `moved_to` says where to.
        on_pick: Called when a bar was clicked; `picked_bar` says which.
    """
    told = st.session_state.get(KEY) or {}
    heard = told.get("band") or {}
    axis = shown.axis
    _MOUNT(
        key=KEY,
        data={
            "rows": [
                {
                    "group": int(truth),
                    "name": truth.words,
                    "total": int(shown.counts[truth].sum()),
                    "counts": shown.counts[truth].tolist(),
                    "colour": COLOURS[truth.words],
                    "hatch": HATCHES[truth],
                }
                for truth in Truth
                if shown.counts[truth].any()
            ],
            "edges": shown.edges.tolist(),
            "axis": {
                "title": axis.title,
                "strangeness": axis.strangeness.tolist(),
                "position": axis.position.tolist(),
                "ticks": [list(tick) for tick in axis.ticks],
            },
            "now": list(now),
            "active": list(active),
            "heard": {"seq": _whole(heard.get("seq")), "client": str(heard.get("client", ""))},
            "version": repr((*version, axis.title, log)),
            "log": log,
            "words": words,
        },
        on_band_change=on_move,
        on_picked_change=on_pick,
    )


def moved_to() -> tuple[float, float] | None:
    """Return T1 and T2 as the browser told them last, or ``None`` where it told nothing of use."""
    told = st.session_state.get(KEY) or {}
    band = told.get("band")
    if not isinstance(band, dict):
        return None
    review, defect = _figure(band.get("review")), _figure(band.get("defect"))
    if review is None or defect is None or not 0 <= review <= defect:
        return None
    return review, defect


def picked_bar(shown: Bars) -> Picked | None:
    """Return the bar that was clicked last, or ``None`` where there is no such bar."""
    told = st.session_state.get(KEY) or {}
    picked = told.get("picked")
    if not isinstance(picked, dict):
        return None
    group, bin_ = _whole(picked.get("group")), _whole(picked.get("bin"))
    if not (0 <= group < len(Truth) and 0 <= bin_ < shown.counts.shape[1]):
        return None
    last = bin_ == shown.counts.shape[1] - 1
    high = None if last else float(shown.edges[bin_ + 1])
    return Picked(Truth(group), float(shown.edges[bin_]), high, int(shown.counts[group, bin_]))


def _figure(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
