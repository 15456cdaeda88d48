"""A run laid out for tuning: what the parts of that page share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st
from opened import OpenedRun, place, record

from differnet.reporting.browsing import markdown_safe
from differnet.reporting.counts import Truth, starting_thresholds
from differnet.reporting.gallery_query import GalleryQuery
from differnet.tuning import (
    Bars,
    Basis,
    Evidence,
    Expected,
    Moved,
    Parts,
    Quantiles,
    Separation,
    bars,
    basis_of,
    drifted,
    expect,
    move,
    p_value_axis,
    parts_of,
    separation,
    state_of,
    strangeness_axis,
    uniform_quantiles,
)

STRANGENESS, P_VALUE = "strangeness", "p-value"
# Of the thresholds, T1 and T2.
BOXES = "t_review", "t_defect"
# Seconds in which a browser is expected to draw what it was sent, and in which hardly anybody types the very
# figure anew that a box has just lost; who does has to type it twice.
TOLD_AFTER = 1.0

Name = tuple[str | int | float | bool, ...]


@dataclass(frozen=True)
class Bench:
    """A run laid out for tuning, the same for everybody until something changes.

    Attributes:
        name: What makes it another: record, run, its changes, truth, model and thresholds in force.
        run_id: Of the run.
        judged: Whether the last word of a person counts as the truth.
        folder: Of the model, if the record knows.
        parts: Of the run.
        basis: The good parts that promises are made from, and what is in force.
        active: T1 and T2 in force.
        before: What they do to the parts.
        expected: What the calibration expects of good parts at the thresholds in force, where a rate holds.
        drift: What the comparison with the calibration's good parts says, if anything.
        shown: Histograms by the name of their axis.
    """

    name: Name
    run_id: str
    judged: bool
    folder: Path | None
    parts: Parts
    basis: Basis
    active: tuple[float, float]
    before: Moved
    expected: Expected | None
    drift: str | None
    shown: dict[str, Bars]

    @property
    def upper(self) -> float:
        """Largest threshold that can be set here."""
        return max(*(bars.axis.upper for bars in self.shown.values()), self.active[1])


def lay_out(opened: OpenedRun) -> Bench:
    """Lay a run out for tuning, once for each state of it and of its model."""
    entry = record().model(opened.run.facts.model_id)
    folder = Path(entry.folder) if entry is not None and entry.folder else None
    return _bench(opened, (place(), *opened.key, str(folder), *state_of(folder)), folder)


@st.cache_resource(max_entries=8, show_spinner="Laying out the run")
def _bench(_opened: OpenedRun, name: Name, _folder: Path | None) -> Bench:
    facts = _opened.run.facts
    parts = parts_of(_opened.run.table, judged=_opened.judged)
    recorded = starting_thresholds(facts.t_review, facts.t_defect)
    calibration = facts.calibration
    few = calibration.parts if calibration is not None and not calibration.promised else None
    basis = basis_of(_folder, facts.model_id, facts.calibration_id, parts, recorded, few)
    active = starting_thresholds(basis.t_review, basis.t_defect)
    axis = strangeness_axis(parts.columns, *active)
    shown = {STRANGENESS: bars(parts.columns, axis)}
    if basis.promised and (other := p_value_axis(basis.good, axis.upper)) is not None:
        shown[P_VALUE] = bars(parts.columns, other)
    drift, before = drifted(basis, parts), move(parts, *active)
    known = basis.promised and basis.good.size
    expected = expect(basis.good, parts, *active) if known else None
    run_id, _, judged = _opened.key
    return Bench(name, run_id, judged, _folder, parts, basis, active, before, expected, drift, shown)


@st.cache_resource(max_entries=8, show_spinner=False)
def evidence_of(_bench: Bench, name: Name) -> Evidence:
    """Gather what suggestions rest on; the bench goes by its name."""
    return Evidence.of(_bench.basis.good, _bench.parts)


@st.cache_resource(max_entries=8, show_spinner=False)
def separation_of(_bench: Bench, name: Name) -> Separation:
    """Make the curves of labelled parts; the bench goes by its name."""
    evidence = Evidence.of(_bench.basis.good, _bench.parts)
    return separation(evidence.labelled_good, evidence.defects)


@st.cache_resource(max_entries=8, show_spinner=False)
def quantiles_of(_bench: Bench, name: Name) -> Quantiles | None:
    """Compare the good parts' p-values with uniform ones; the bench goes by its name."""
    p_values = _bench.parts.p_values_of(Truth.GOOD)
    return uniform_quantiles(p_values) if p_values.size else None


def sentence(text: str) -> str:
    """Write a sentence that may hold text from outside, its figures and their ``%`` on one line."""
    return markdown_safe(text).replace(" \\%", "\N{NO-BREAK SPACE}\\%")


@dataclass
class Untold:
    """Thresholds that were moved from here, of which a browser may not know yet.

    What a person does next may be sent before the browser has drawn the move. It sends the figures that its
    boxes still show along with it, and those look like figures that were typed.

    Attributes:
        before: What a box showed before it was moved, by its name.
        drawn: When the moved boxes were last drawn in full, by the clock of `time.monotonic`; ``None`` while
            they are not.
    """

    before: dict[str, set[float]] = field(default_factory=dict)
    drawn: float | None = None

    @property
    def over(self) -> bool:
        """Whether the browser is expected to have drawn the move by now."""
        return self.drawn is not None and time.monotonic() - self.drawn > TOLD_AFTER


def _untold() -> Untold:
    found: Untold = st.session_state.setdefault("untold", Untold())
    if found.over:
        found = st.session_state["untold"] = Untold()
    return found


def put_thresholds(t_review: float, t_defect: float) -> None:
    """Move both thresholds, before the boxes are drawn."""
    untold = _untold()
    for box, moved in zip(BOXES, (t_review, t_defect), strict=True):
        if box in st.session_state and st.session_state[box] != moved:
            untold.before.setdefault(box, set()).add(st.session_state[box])
            untold.drawn = None
        st.session_state[box] = moved
    st.session_state["thresholds"] = t_review, t_defect


def without_echoes() -> frozenset[str]:
    """Let boxes that say what they showed before they were moved from here follow; return their names."""
    before = _untold().before
    moved = dict(zip(BOXES, st.session_state["thresholds"], strict=True))
    echoes = frozenset(
        box
        for box in BOXES
        if st.session_state[box] != moved[box] and st.session_state[box] in before.get(box, ())
    )
    for box in echoes:
        st.session_state[box] = moved[box]
    return echoes


def note_drawn() -> None:
    """Note that the boxes were drawn with what they were moved to."""
    untold = _untold()
    if untold.before and untold.drawn is None:
        untold.drawn = time.monotonic()


def gallery_link(label: str, query: GalleryQuery, words: str | None = None) -> None:
    """Link to the gallery where it is there."""
    st.page_link(
        "gallery.py", label=label, query_params=query.link(), help=words, icon=":material/photo_library:"
    )
