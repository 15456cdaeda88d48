"""What a line engineer wants to know first: of one run, or of a product over a span of time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from differnet.evaluation.control_chart import ControlChart, p_chart, same_share, signal_words
from differnet.evaluation.intervals import Rate, percent, rate
from differnet.records import Verdict
from differnet.reporting.counts import (
    UNREVIEWED,
    VERDICTS,
    Counts,
    Truth,
    VerdictCounts,
    counted,
    kinds_of_counts,
    truth_of,
    truth_of_review,
)
from differnet.reporting.lots import Group, Lots, lots_of_counts, lots_of_table
from differnet.store import Asked, RunEntry, Store
from differnet.store.run_table import JUDGEMENTS, RunTable

TODAY, ALWAYS = "today", "all"
SPANS = {TODAY: 1, "7 days": 7, "30 days": 30, ALWAYS: None}
"""Names of spans of time to whole days, today among them; ``None`` for everything."""

# Parts whose times stand for all: enough for a 95th percentile to three figures, few enough to read at once.
TIMED_PARTS = 10_000
# Points of a run chart: a month of days, and still room for the names of some.
MOST_POINTS = 48
# Beyond so many days parts are counted by the day: by the hour the record would have to tell too much.
_BY_HOUR_DAYS = 31
# Lots that are compared with an average that they make up themselves.
LEAST_LOTS = 2
# Lower than this, two yields differ by more than chance: the customary level.
DIFFERS = 0.05
PARETO_KINDS = 12


@dataclass(frozen=True)
class Times:
    """How long parts take from the file to the verdict.

    Attributes:
        parts: That were timed.
        median_ms, p95_ms: Milliseconds to decode and judge one part.
        latest: Whether these are only the latest of all.
    """

    parts: int
    median_ms: float
    p95_ms: float
    latest: bool


@dataclass(frozen=True)
class Overview:
    """What is known of many inspected parts together.

    Attributes:
        counts: Truth by verdict, with the rates.
        backlog: Parts to review of which nobody has said anything.
        reviewed: Parts of which somebody has.
        kinds: Kind of defect to ``(5,)`` counts in the order of `VERDICTS`, the most frequent first.
        times: ``None`` where none was timed.
        lots: The parts by folder or time.
        invalid: Why parts are INVALID, and how many, the most frequent first.
    """

    counts: VerdictCounts
    backlog: int
    reviewed: int
    kinds: dict[str, NDArray[np.int64]]
    times: Times | None
    lots: Lots
    invalid: tuple[tuple[str, int], ...]

    @property
    def parts(self) -> int:
        """All of them."""
        return int(self.counts.table.sum())


@dataclass(frozen=True)
class Change:
    """One fact of a run beside that of the run before.

    Attributes:
        what: In words.
        before, now: As a person reads them.
        differs: Whether it is another; of a yield, by more than chance explains.
    """

    what: str
    before: str
    now: str
    differs: bool


@dataclass(frozen=True)
class RunRow:
    """A run in a list.

    Attributes:
        entry: As the record keeps it.
        counts: Of its items.
        passed: First-pass yield.
    """

    entry: RunEntry
    counts: Counter[Verdict]
    passed: Rate


def overview_of_run(store: Store, table: RunTable, *, judged: bool = False, zone: tzinfo = UTC) -> Overview:
    """Tell what is known of a run.

    Args:
        store: The record.
        table: Of the run.
        judged: A person's last word counts as the truth in place of the label.
        zone: Whose times name lots.
    """
    # Where nobody said anything the code is -1, the last place.
    said = np.array([*JUDGEMENTS, UNREVIEWED], dtype=object)[table.judgement]
    verdicts = np.array(VERDICTS, dtype=object)[table.verdict]
    counts: Counts = Counter(
        zip(table.label.tolist(), verdicts.tolist(), said.tolist(), table.kind.tolist(), strict=True)
    )
    lasted = table.decode_ms + table.inference_ms
    return _overview(
        counts,
        _times(lasted[table.inference_ms > 0], latest=False),
        lots_of_table(table, zone, MOST_POINTS),
        store.counts_by_reasons(Asked(run_id=table.run_id, verdicts=(Verdict.INVALID,))),
        judged=judged,
    )


def overview_of_span(
    store: Store, product: str | None, since: datetime | None, *, judged: bool = False, zone: tzinfo = UTC
) -> Overview:
    """Tell what is known of a product over a span of time, whatever runs its parts were inspected in.

    Args:
        store: The record.
        product: Judged as it; of all products where it is not said.
        since: Inspected from then on; ``None`` for everything.
        judged: A person's last word counts as the truth in place of the label.
        zone: Whose times name lots.
    """
    asked = Asked(product=product, since=None if since is None else _moment(since))
    by_hour = since is not None and datetime.now(UTC) - since <= timedelta(days=_BY_HOUR_DAYS)
    timed = store.counts_by_time(asked, 13 if by_hour else 10)
    counts: Counter[tuple[str | None, Verdict, str, str]] = Counter()
    for (_, label, verdict), number in timed.items():
        counts[label, verdict, UNREVIEWED, ""] += number
    for (label, verdict, said, kind), number in store.counts_by_judgement(asked).items():
        counts[label, verdict, said, kind] += number
        counts[label, verdict, UNREVIEWED, ""] -= number
    latest = np.array(store.times(asked, TIMED_PARTS), dtype=np.float64).reshape(-1, 2)
    return _overview(
        counts,
        _times(latest.sum(axis=1)[latest[:, 1] > 0], latest=sum(timed.values()) > TIMED_PARTS),
        lots_of_counts(timed, zone, MOST_POINTS),
        store.counts_by_reasons(Asked(product=product, since=asked.since, verdicts=(Verdict.INVALID,))),
        judged=judged,
    )


def since_of(span: str, now: datetime) -> datetime | None:
    """Return the beginning of a span of whole days that ends now.

    Args:
        span: One of `SPANS`.
        now: With its zone, in which days begin at midnight.

    Example:
        >>> noon = datetime(2026, 11, 28, 12, tzinfo=UTC)
        >>> str(since_of("today", noon)), str(since_of("7 days", noon)), since_of("all", noon)
        ('2026-11-28 00:00:00+00:00', '2026-11-22 00:00:00+00:00', None)
    """
    days = SPANS[span]
    if days is None:
        return None
    first = now.date() - timedelta(days=days - 1)
    return datetime(first.year, first.month, first.day, tzinfo=now.tzinfo)


def run_charts(lots: Lots) -> dict[Verdict, ControlChart]:
    """Compare the share of each verdict in each lot with what a steady line gives.

    Args:
        lots: Of a run or a span.

    Returns:
        One chart a verdict that occurs; none of fewer than two lots.
    """
    if len(lots.groups) < LEAST_LOTS:
        return {}
    rows = np.stack([group.counts for group in lots.groups])
    return {
        verdict: p_chart(rows[:, column], rows.sum(axis=1))
        for column, verdict in enumerate(VERDICTS)
        if rows[:, column].any()
    }


def chart_table(groups: Sequence[Group], verdict: Verdict, chart: ControlChart) -> pd.DataFrame:
    """Lay out the chart of one verdict, to be drawn or read.

    Args:
        groups: The lots.
        verdict: Which.
        chart: Of it.

    Returns:
        Columns ``lot``, ``parts``, ``verdict``, ``number``, ``share``, ``lower``, ``upper``,
        ``signal``; a row a lot.
    """
    column = VERDICTS.index(verdict)
    words = {-1: "below the limits", 0: "", 1: "above the limits"}
    return pd.DataFrame(
        {
            "lot": [group.name for group in groups],
            "parts": [int(group.counts.sum()) for group in groups],
            "verdict": verdict.value,
            "number": [int(group.counts[column]) for group in groups],
            "share": chart.shares,
            "lower": chart.lower,
            "upper": chart.upper,
            "signal": [words[side] for side in chart.outside.tolist()],
        }
    )


@dataclass(frozen=True)
class Signals:
    """What run charts show, in words.

    Attributes:
        outside: Lots that lie outside their limits, a sentence each.
        runs: Long runs of lots on one side of the average, a sentence each.
        summary: What there is to say where there is no signal.
        chance: How often charts of this size show a lot outside though nothing changes.
    """

    outside: tuple[str, ...]
    runs: tuple[str, ...]
    summary: str
    chance: str


def signals_of(lots: Lots, charts: Mapping[Verdict, ControlChart]) -> Signals:
    """Say what the run charts show: every signal, or that there is none, and how often chance gives one.

    Args:
        lots: Of the charts.
        charts: From `run_charts`, at least one.
    """
    names = [group.name for group in lots.groups]
    outside: list[str] = []
    runs: list[str] = []
    for verdict, chart in charts.items():
        if not chart.calm:
            words = signal_words(chart, names, verdict.value)
            outside += words[: len(words) - len(chart.runs)]
            runs += words[len(words) - len(chart.runs) :]
    blind = all(chart.blind for chart in charts.values())
    chance = 1.0 - float(np.prod([1.0 - chart.chance for chart in charts.values()]))
    return Signals(
        tuple(outside),
        tuple(runs),
        "Lots of this size are too small to tell a change from chance."
        if blind
        else "No lot differs from the average by more than chance explains.",
        "Limits are exact binomial ones. Of a line that never changes, charts of this size would show a lot "
        f"outside with a chance of about {percent(chance)}.",
    )


def pareto_table(kinds: Mapping[str, NDArray[np.int64]], most: int = PARETO_KINDS) -> pd.DataFrame:
    """Lay out kinds of defects, the most frequent first, with the share that they and those before make up.

    Args:
        kinds: To counts by verdict.
        most: Kinds at most; the rarer ones stand together in the last row.

    Returns:
        Columns ``kind``, ``parts``, ``escaped`` (judged PASS), ``cumulative``.

    Example:
        >>> kinds = {"dent": np.array([1, 0, 5, 0, 0]), "scratch": np.array([0, 1, 1, 0, 0])}
        >>> pareto_table(kinds).values.tolist()
        [['dent', 6, 1, 0.75], ['scratch', 2, 0, 1.0]]
    """
    rows = [(kind, int(row.sum()), int(row[0])) for kind, row in kinds.items()]
    if len(rows) > most:
        rest = rows[most - 1 :]
        name = f"{len(rest):,} rarer kinds together"
        rows = [*rows[: most - 1], (name, sum(r[1] for r in rest), sum(r[2] for r in rest))]
    table = pd.DataFrame(rows, columns=["kind", "parts", "escaped"])
    table["cumulative"] = table["parts"].cumsum() / max(1, int(table["parts"].sum()))
    return table


def changes_between(
    before: RunEntry, now: RunEntry, before_counts: Mapping[Verdict, int], now_counts: Mapping[Verdict, int]
) -> list[Change]:
    """Lay a run beside the one before it.

    Args:
        before: The earlier run.
        now: The later one.
        before_counts: Of the items of the earlier one.
        now_counts: Of the items of the later one.

    Returns:
        Model, calibration, thresholds, version of the program, first-pass yield.
    """
    versions = [str(run.facts.get("versions", {}).get("differnet", "not told")) for run in (before, now)]
    revisions = [
        f"revision {run.threshold_revision}: T1 {run.t_review:.3f}, T2 {run.t_defect:.3f}"
        for run in (before, now)
    ]
    yields = [_passed(counts) for counts in (before_counts, now_counts)]
    p_value = same_share(yields[0].events, yields[0].of, yields[1].events, yields[1].of)
    same = [
        ("Model", before.model_id, now.model_id),
        ("Calibration", before.calibration_id, now.calibration_id),
        ("Thresholds", revisions[0], revisions[1]),
        ("differnet", versions[0], versions[1]),
    ]
    return [
        *(Change(what, earlier, later, earlier != later) for what, earlier, later in same),
        Change("First-pass yield", str(yields[0]), str(yields[1]), p_value < DIFFERS),
    ]


def change_words(changes: Sequence[Change]) -> str:
    """Say in one sentence what is otherwise than in the run before.

    Example:
        >>> change_words([Change("Model", "a", "b", True), Change("First-pass yield", "9", "8", False)])
        'Otherwise than before: model. The yield differs by no more than chance explains.'
    """
    *facts, last = changes
    named = [change.what[:1].lower() + change.what[1:] for change in facts if change.differs]
    first = f"Otherwise than before: {', '.join(named)}." if named else "Judged by the same as before."
    return first + (
        " The yield differs by more than chance explains (Fisher's exact test at 5 %)."
        if last.differs
        else " The yield differs by no more than chance explains."
    )


def latest_runs(store: Store, product: str | None = None, limit: int = 10) -> list[RunRow]:
    """List the latest runs with their counts.

    Args:
        store: The record.
        product: Judged as it; of all products where it is not said.
        limit: How many at most.
    """
    runs = store.runs(product, limit)
    counts = store.counts_by_run([run.run_id for run in runs])
    return [RunRow(run, counts[run.run_id], _passed(counts[run.run_id])) for run in runs]


def reasons_of_invalid(reasons: Mapping[tuple[str, ...], int]) -> tuple[tuple[str, int], ...]:
    """Sum up why parts are INVALID.

    Of an error what was found is told, and figures in it are left out: one kind of damage ends each file at
    another byte.

    Args:
        reasons: Of a verdict, word for word, to how many parts have them.

    Returns:
        Words and number, the most frequent first.

    Example:
        >>> told = {("expected a picture; found a PNG that ends at byte 31. Copy it again.",): 2,
        ...         ("expected a picture; found a PNG that ends at byte 9. Copy it again.",): 1}
        >>> reasons_of_invalid(told)
        (('a PNG that ends at byte …', 3),)
    """
    summed: Counter[str] = Counter()
    for told, number in reasons.items():
        words = told[0] if told else "no reason on record"
        error = re.match(r"(expected .+?; found (.+?))\. ", words)
        if error is not None:
            # A figure alone says nothing without what was expected.
            words = error.group(2) if re.search(r"[^\W\d]", error.group(2)) else error.group(1)
        # Digits of names, such as 8-bit or sha256, belong to a word and stay.
        summed[re.sub(r"(?<![\w-])\d[\d,.]*(?![\w-])", "…", words)] += number
    return tuple(sorted(summed.items(), key=lambda item: (-item[1], item[0])))


def _overview(
    counts: Counts,
    times: Times | None,
    lots: Lots,
    reasons: Mapping[tuple[str, ...], int],
    *,
    judged: bool,
) -> Overview:
    table = np.zeros((len(Truth), len(VERDICTS)), dtype=np.int64)
    for (label, verdict, said, _), number in counts.items():
        truth = truth_of_review(label, said) if judged else truth_of(label)
        table[truth, VERDICTS.index(verdict)] += number
    unreviewed = {key: number for key, number in counts.items() if key[2] == UNREVIEWED}
    backlog = sum(number for key, number in unreviewed.items() if key[1] is Verdict.REVIEW)
    told = counts if judged else _unsaid(counts)
    return Overview(
        counted(table),
        backlog,
        sum(counts.values()) - sum(unreviewed.values()),
        kinds_of_counts({key: number for key, number in told.items() if number}),
        times,
        lots,
        reasons_of_invalid(reasons),
    )


def _unsaid(counts: Counts) -> Counts:
    """Leave out what people said."""
    summed: Counter[tuple[str | None, Verdict, str, str]] = Counter()
    for (label, verdict, _, _), number in counts.items():
        summed[label, verdict, UNREVIEWED, ""] += number
    return summed


def _times(lasted: NDArray[np.float64], *, latest: bool) -> Times | None:
    if not len(lasted):
        return None
    median, p95 = (float(ms) for ms in np.quantile(lasted, [0.5, 0.95]))
    return Times(len(lasted), median, p95, latest)


def _passed(counts: Mapping[Verdict, int]) -> Rate:
    return rate(counts.get(Verdict.PASS, 0), sum(counts.values()))


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds")
