"""Are parts of the record still like those that their model was calibrated on?

Two ways to ask. The record alone knows p-values, which place every part among the calibration parts: they are
enough for a test of the latest parts and for a monitor of the line. Who lets the model look at the pictures
again also learns what changed about them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from differnet.calibration import (
    BatchDrift,
    Monitor,
    MonitorState,
    detectable_shift,
    drift_of_p_values,
    movement_words,
    placed,
)
from differnet.evaluation.intervals import percent
from differnet.records import DiffernetError
from differnet.reporting.counts import Truth, columns_of_table, truth_of_review
from differnet.reporting.origins import OriginError, find_picture
from differnet.store import RunEntry, Store
from differnet.store.run_table import RunTable

if TYPE_CHECKING:
    from differnet.detection.judging import DriftFigures

KINDS = {
    "strangeness": "p_value",
    "strangeness of the whole": "p_value_global",
    "strangeness of the patches": "p_value_local",
    "strangeness of the median cell": "p_value_ood",
}
"""Kinds of evidence to the record's p-value of it."""

USUAL_ALPHA = 0.01
TESTED_PARTS = 500
"""Latest parts that are tested: a shift by a quarter of a standard deviation shows in so many of them."""

WATCHED_PARTS = 5000
"""Latest parts that a monitor watches: a third of a second."""

PICTURES = 200
"""Pictures that are looked at again at most while a person waits."""

# Points of a chart; more are drawn over each other.
_DRAWN = 1200
# Runs that are looked through for the latest parts of a model.
_RUNS = 200


class DriftError(DiffernetError):
    """Nothing can be claimed about drift of these parts."""


@dataclass(frozen=True)
class Line:
    """Parts that may be good, in the order in which they were inspected, ``m`` of each column.

    Attributes:
        run_id, item_id, processed_at: Objects: text.
        strangeness: float64, finite.
        p_values: Kind, one of `KINDS`, to ``(m,)`` p-values.
        parts: Calibration parts that the p-values are among.
        left_out: Parts that are known to be no good ones.
        unjudged: Parts without p-values: INVALID ones.
        earlier: Parts before these, which were not asked for.
    """

    run_id: NDArray[np.object_]
    item_id: NDArray[np.object_]
    processed_at: NDArray[np.object_]
    strangeness: NDArray[np.float64]
    p_values: dict[str, NDArray[np.float64]]
    parts: int
    left_out: int
    unjudged: int
    earlier: int

    def __len__(self) -> int:
        """Count the parts."""
        return len(self.item_id)

    def latest(self, number: int) -> Line:
        """Return the latest parts of these."""
        first = max(0, len(self) - number)
        return Line(
            self.run_id[first:],
            self.item_id[first:],
            self.processed_at[first:],
            self.strangeness[first:],
            {kind: values[first:] for kind, values in self.p_values.items()},
            self.parts,
            self.left_out,
            self.unjudged,
            self.earlier + first,
        )


@dataclass(frozen=True)
class Watch:
    """What a monitor made of a line.

    Attributes:
        wealth_log10: ``(m,)`` decimal logarithm of its capital after each part.
        level_log10: Of the capital at which it sounds an alarm.
        alarm_at: Place of the part at which it first did, ``None`` where it never did.
        state: After the last part.
    """

    wealth_log10: NDArray[np.float64]
    level_log10: float
    alarm_at: int | None
    state: MonitorState


@dataclass(frozen=True)
class Pictures:
    """Pictures of a run that may show good parts, and are where they were, byte for byte.

    Attributes:
        paths: In the order of the run.
        left_out: Pictures of parts that are known to be no good ones.
        lost: Why others are not there.
    """

    paths: tuple[Path, ...]
    left_out: int
    lost: tuple[str, ...]


def may_be_good(label: str | None, judgement: str = "") -> bool:
    """Tell whether a part may be good: no batch of good parts resembles what is known to be otherwise.

    Args:
        label: Of its folder.
        judgement: A person's last word, which counts before the label; empty where there is none.

    Example:
        >>> may_be_good("good"), may_be_good(None), may_be_good("scratch"), may_be_good("scratch", "good")
        (True, True, False, True)
    """
    return truth_of_review(label, judgement) in (Truth.GOOD, Truth.UNLABELLED)


def line_of_run(store: Store, table: RunTable, model_id: str, calibration_id: str) -> Line:
    """Return the parts of a run that may be good.

    Args:
        store: The record.
        table: Of the run.
        model_id: That judged it.
        calibration_id: Likewise.

    Raises:
        DriftError: The model promises no rates, or the record does not know how many parts calibrated it.
    """
    parts = _calibration_parts(store, model_id, calibration_id)
    return _joined([_line(table, parts)])


def line_of_model(store: Store, entry: RunEntry, number: int) -> Line:
    """Return the latest parts that may be good of all runs that the same model and calibration judged.

    Args:
        store: The record.
        entry: A run of that model.
        number: How many at most.

    Raises:
        DriftError: As `line_of_run`.
    """
    parts = _calibration_parts(store, entry.model_id, entry.calibration_id)
    same = [
        run
        for run in store.runs(entry.product, _RUNS)
        if (run.model_id, run.calibration_id) == (entry.model_id, entry.calibration_id)
    ]
    lines: list[Line] = []
    for run in same:
        lines.append(_line(store.table(run.run_id), parts))
        if sum(len(line) for line in lines) >= number:
            break
    return _joined(lines[::-1]).latest(number)


def line_drift(line: Line, alpha: float = USUAL_ALPHA) -> BatchDrift:
    """Test whether parts are still like the calibration parts, by their p-values.

    Args:
        line: The parts; not more than some thousands.
        alpha: False-alarm rate.

    Raises:
        DriftError: There are no parts.
        CalibrationError: There are too few for that rate.
    """
    _require_parts(line)
    return drift_of_p_values(line.p_values, line.parts, alpha)


def watch_line(line: Line, alpha: float = USUAL_ALPHA) -> Watch:
    """Let a monitor bet against the parts still being what the model was calibrated on.

    Args:
        line: The parts. The watch begins with the first of them.
        alpha: Chance that it ever sounds a false alarm.

    Raises:
        DriftError: There are no parts.
        CalibrationError: The p-values are not those of so many calibration parts.
    """
    _require_parts(line)
    calibration, places = placed(line.p_values["strangeness"], line.parts, line.strangeness)
    monitor = Monitor(calibration, alpha)
    states = [monitor.update(place) for place in places.tolist()]
    first = next((place for place, state in enumerate(states) if state.alarm), None)
    wealth = np.array([state.wealth_log10 for state in states])
    return Watch(wealth, -math.log10(alpha), first, states[-1])


def pictures_of_run(store: Store, run_id: str, roots: Sequence[Path], number: int | None = None) -> Pictures:
    """Find the pictures of a run that may show good parts.

    Args:
        store: The record.
        run_id: Of the run.
        roots: Where relative paths may begin, the likeliest first.
        number: Of the latest of them; all where it is not given.

    Raises:
        DriftError: There are none.
        StoreError: There is no such run.
    """
    table = store.table(run_id)
    kept = np.flatnonzero(_good(table))
    chosen = kept if number is None else kept[max(0, len(kept) - number) :]
    found: list[Path] = []
    lost: list[str] = []
    for record in store.records(run_id, [str(table.item_id[place]) for place in chosen]):
        try:
            found.append(find_picture(record, roots))
        except OriginError as error:
            lost.append(f"{record.path}: {error.found}")
    left_out = len(table) - len(kept)
    if not found:
        raise DriftError(
            expected=f"pictures of run {run_id} that may show good parts, where they were",
            found=f"none: {left_out:,} parts are known to be otherwise, {len(lost):,} pictures are lost"
            + (f", such as {lost[0]}" if lost else ""),
            remedy="Ask where relative paths begin, put the pictures back, or ask another run.",
        )
    return Pictures(tuple(found), left_out, tuple(lost))


def drift_words(found: BatchDrift, batch: int, parts: int, what: str = "parts") -> list[str]:
    """Say in sentences whether a batch has drifted, what moved, and what no alarm does not show.

    Args:
        found: By the test.
        batch: Parts of the batch.
        parts: Calibration parts.
        what: The batch is of, in the plural.

    Returns:
        At least two sentences.

    Example:
        >>> drift_words(BatchDrift(0.4, 0.01, False, (), ()), 50, 200)[0]
        'These 50 parts show no drift (p = 0.4, false alarms 1.0 %).'
    """
    verdict = "have drifted" if found.alarm else "show no drift"
    told = [
        f"These {batch:,} {what} {verdict} (p = {found.p_value:.2g}, false alarms {percent(found.alpha)})."
    ]
    told += [f"{words[:1].upper()}{words[1:]}." for words in map(movement_words, found.moved)]
    if not found.alarm:
        shift = detectable_shift(parts, batch, found.alpha, max(1, len(found.statistics)))
        told.append(
            f"That does not show that nothing changed: a mean that moves by less than {shift:.2g} standard "
            f"deviations would often go unnoticed in so few {what}."
        )
    return told


def watch_words(line: Line, watch: Watch) -> str:
    """Say in a sentence whether a monitor has sounded an alarm, and since when parts are otherwise.

    Args:
        line: That it watched.
        watch: What it made of it.
    """
    alpha = percent(10**-watch.level_log10)
    if watch.alarm_at is None:
        return f"No alarm in {len(line):,} parts. The chance of a false one, ever, is {alpha}."
    since = (watch.state.since or 1) - 1
    heard, begun = (_time(line.processed_at, place) for place in (watch.alarm_at, since))
    return (
        f"Alarm after part {watch.alarm_at + 1:,} of {len(line):,}, at {heard} UTC: parts are "
        f"{watch.state.change}, most probably since part {since + 1:,}, at {begun} UTC. Where nothing "
        f"changed, the chance of any such alarm is {alpha}."
    )


def movements_table(found: BatchDrift) -> pd.DataFrame:
    """Lay out what a test found of each figure.

    Args:
        found: By the test.

    Returns:
        Columns ``figure``, ``moved``, ``spread``, ``p``; deviations and spread in calibration standard
        deviations.
    """
    rows = [(each.name, each.deviations, each.spread, each.p_value) for each in found.statistics]
    return pd.DataFrame(rows, columns=["figure", "moved", "spread", "p"])


def watch_table(line: Line, watch: Watch) -> pd.DataFrame:
    """Lay out a line and its monitor to be drawn: of many parts every so manieth, and the last.

    Args:
        line: The parts.
        watch: Of them.

    Returns:
        Columns ``part`` (from 1), ``time``, ``run``, ``item``, ``p_value``, ``wealth``.
    """
    places = _some(len(line))
    return pd.DataFrame(
        {
            "part": places + 1,
            "time": [_time(line.processed_at, place) for place in places.tolist()],
            "run": line.run_id[places],
            "item": line.item_id[places],
            "p_value": line.p_values["strangeness"][places],
            "wealth": watch.wealth_log10[places],
        }
    )


def figures_table(figures: DriftFigures, name: str) -> pd.DataFrame:
    """Lay out one figure of a batch, part by part, beside what is usual.

    Args:
        figures: Of the batch and the calibration parts.
        name: One of its names.

    Returns:
        Columns ``part`` (from 1), ``picture``, ``value``, ``low``, ``high``: between the last two lie 95 in
        100 calibration parts.
    """
    column = figures.names.index(name)
    low, high = (float(q) for q in np.quantile(figures.calibration[:, column], [0.025, 0.975]))
    return pd.DataFrame(
        {
            "part": np.arange(len(figures.batch)) + 1,
            "picture": [Path(picture).name for picture in figures.pictures],
            "value": figures.batch[:, column],
            "low": low,
            "high": high,
        }
    )


def _good(table: RunTable) -> NDArray[np.bool_]:
    truth = columns_of_table(table, judged=True).truth
    return np.isin(truth, [Truth.GOOD, Truth.UNLABELLED])


def _line(table: RunTable, parts: int) -> Line:
    good = _good(table)
    figures = {kind: getattr(table, name) for kind, name in KINDS.items()}
    known = np.isfinite(table.strangeness)
    for values in figures.values():
        known = known & np.isfinite(values)
    kept = np.flatnonzero(good & known)
    return Line(
        np.full(len(kept), table.run_id, dtype=object),
        table.item_id[kept],
        table.processed_at[kept],
        table.strangeness[kept],
        {kind: values[kept] for kind, values in figures.items()},
        parts,
        int(np.count_nonzero(~good)),
        int(np.count_nonzero(good & ~known)),
        0,
    )


def _joined(lines: Iterable[Line]) -> Line:
    """Put the parts of several runs behind each other, by when they were inspected."""
    all_lines = list(lines)
    times = np.concatenate([line.processed_at for line in all_lines])
    order = np.argsort(times.astype(str), kind="stable")

    def column(name: str) -> NDArray[np.object_]:
        joined: NDArray[np.object_] = np.concatenate([getattr(line, name) for line in all_lines])[order]
        return joined

    return Line(
        column("run_id"),
        column("item_id"),
        times[order],
        np.concatenate([line.strangeness for line in all_lines])[order],
        {kind: np.concatenate([line.p_values[kind] for line in all_lines])[order] for kind in KINDS},
        all_lines[0].parts,
        sum(line.left_out for line in all_lines),
        sum(line.unjudged for line in all_lines),
        0,
    )


def _calibration_parts(store: Store, model_id: str, calibration_id: str) -> int:
    known = store.calibration(model_id, calibration_id)
    if known is None or known.parts < 1:
        raise DriftError(
            expected="a calibration whose parts the record has counted",
            found="one of which it knows nothing",
            remedy="Inspect with this version of differnet, which tells the record what judged.",
        )
    if not known.facts.get("promised", True):
        raise DriftError(
            expected="a model that was calibrated on good parts",
            found=f"one of variations of {known.parts}, which no batch resembles",
            remedy="Calibrate it on further good parts: differnet calibrate MODEL GOOD.",
        )
    return known.parts


def _require_parts(line: Line) -> None:
    if not len(line):
        raise DriftError(
            expected="parts that may be good, with p-values",
            found=f"none: {line.left_out:,} are known to be otherwise, {line.unjudged:,} have no p-value",
            remedy="Inspect good or unlabelled parts of the running line.",
        )


def _some(number: int) -> NDArray[np.int64]:
    step = -(-number // _DRAWN)
    places = np.arange(0, number, step, dtype=np.int64)
    last = number - 1
    return places if not number or places[-1] == last else np.append(places, last)


def _time(times: NDArray[np.object_], place: int) -> str:
    return str(times[place])[:16].replace("T", " ")
