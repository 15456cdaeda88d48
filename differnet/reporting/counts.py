"""Counts, rates and intervals that the report and the dashboard show.

Arrays in, figures out; nothing here knows of files or pages. The words: *overkill* is a good part
that was rejected, *escape* a defect that passed, *review load* the share a person must look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from differnet.evaluation.intervals import Rate, rate
from differnet.records import Record, Verdict

if TYPE_CHECKING:
    from differnet.store import ReviewEntry, RunTable

VERDICTS = tuple(Verdict)
"""Order of the verdict columns in every table: PASS, REVIEW, DEFECT, OOD, INVALID."""

HISTOGRAM_BINS = 48
"""Bins over the shown range: about 14 px each on a 700 px chart, narrow enough to set a threshold."""

WRONG_INPUT_LABELS = ("wrong input", "wrong inputs", "ood")
"""Labels, or first words of labels, of pictures that do not show the product as it should be."""


KIND_UNNAMED = "defect, kind not named"
"""Stands for the kind of what a person called a defect, and nobody anything closer."""

UNREVIEWED = ""
"""Stands for the judgement of a part that nobody has said anything of."""

Counts = Mapping[tuple[str | None, Verdict, str, str], int]
"""Pictures by label, verdict, what a person said last (or `UNREVIEWED`) and the kind of defect they named."""


class Truth(IntEnum):
    """What the folder said a picture shows."""

    GOOD = 0
    DEFECT = 1
    WRONG_INPUT = 2
    UNLABELLED = 3

    @property
    def words(self) -> str:
        """The group's name for a person."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class VerdictCounts:
    """What two thresholds do to a set of pictures.

    Attributes:
        table: ``(4, 5)`` counts, rows in the order of `Truth`, columns of `VERDICTS`.
        overkill: Good parts judged DEFECT or OOD, among the good parts that could be judged.
        escape: Defects judged PASS, among the defects that could be judged.
        review_load: Pictures judged REVIEW, among all that could be judged.
        passed: Pictures judged PASS, among all pictures: the first-pass yield.
    """

    table: NDArray[np.int64]
    overkill: Rate
    escape: Rate
    review_load: Rate
    passed: Rate

    def of_verdict(self, verdict: Verdict) -> int:
        """Count the pictures with one verdict."""
        return int(self.table[:, VERDICTS.index(verdict)].sum())


@dataclass(frozen=True)
class Histogram:
    """How strangeness is spread, by what the pictures show.

    Attributes:
        edges: ``(bins + 1,)`` ascending, from 0 to `upper`.
        counts: ``(4, bins)``, rows in the order of `Truth`. The last bin also holds all above.
        upper: End of the shown range.
        above: Pictures beyond `upper`, counted in the last bin.
        absent: Pictures without a finite strangeness, counted nowhere.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    upper: float
    above: int
    absent: int


@dataclass(frozen=True)
class Columns:
    """The columns of a run that thresholds act on, as arrays.

    Attributes:
        strangeness: ``(n,)`` float64, NaN where there is none.
        truth: ``(n,)`` int8 of `Truth`.
        fixed: ``(n,)`` int8: the column in `VERDICTS` of pictures whose verdict no threshold can
            change (OOD, INVALID), else -1.
        doubted: ``(n,)`` bool: reviewed for another reason than strangeness, such as a picture that came
            twice; no threshold makes it pass.
        p_value: ``(n,)`` float64, NaN where there is none.
    """

    strangeness: NDArray[np.float64]
    truth: NDArray[np.int8]
    fixed: NDArray[np.int8]
    doubted: NDArray[np.bool_]
    p_value: NDArray[np.float64]


@dataclass(frozen=True)
class Discoveries:
    """What can be said of flagged parts when many were tested at once.

    Attributes:
        tested: Parts with a p-value.
        selected: Parts that Benjamini-Hochberg selects.
        rate: The false discovery rate that the selection keeps.
        expected_good: Largest expected number of good parts among the selected, ``rate * selected``.
    """

    tested: int
    selected: int
    rate: float
    expected_good: float


def truth_of(label: str | None) -> Truth:
    """Sort a label into what it means for overkill and escape.

    Example:
        >>> truth_of("good").words, truth_of("scratch").words, truth_of(None).words
        ('good', 'defect', 'unlabelled')
        >>> truth_of("wrong_input/blurred").words, truth_of("wrong colour").words
        ('wrong input', 'defect')
    """
    if label is None:
        return Truth.UNLABELLED
    words = " ".join(label.lower().replace("_", " ").replace("-", " ").replace("/", " ").split())
    if words in ("good", "normal"):
        return Truth.GOOD
    if any(words == wrong or words.startswith(f"{wrong} ") for wrong in WRONG_INPUT_LABELS):
        return Truth.WRONG_INPUT
    return Truth.DEFECT


def columns_of(records: Sequence[Record]) -> Columns:
    """Take out of records what the threshold mathematics needs.

    Args:
        records: ``n`` records.

    Returns:
        Arrays of length ``n``.
    """
    known: dict[str | None, int] = {}
    truth = [known.setdefault(r.label, int(truth_of(r.label))) for r in records]
    fixed = [
        VERDICTS.index(r.verdict) if r.verdict in (Verdict.OOD, Verdict.INVALID) else -1 for r in records
    ]
    return Columns(
        strangeness=_numbers(record.strangeness for record in records),
        truth=np.array(truth, dtype=np.int8),
        fixed=np.array(fixed, dtype=np.int8),
        doubted=np.array([_doubted(record) for record in records], dtype=bool),
        p_value=_numbers(record.p_value for record in records),
    )


def columns_of_table(table: RunTable, *, judged: bool = False) -> Columns:
    """Take out of a run's table what the threshold mathematics needs.

    Args:
        table: Of ``n`` items.
        judged: The last word of a person, good or defect, counts as the truth of its item in place of the
            label.

    Returns:
        Arrays of length ``n``.
    """
    from differnet.store.run_table import JUDGEMENTS

    known = {label: int(truth_of(label)) for label in set(table.label)}
    truth = np.array([known[label] for label in table.label], dtype=np.int8)
    if judged:
        truth[table.judgement == JUDGEMENTS.index("good")] = Truth.GOOD
        truth[table.judgement == JUDGEMENTS.index("defect")] = Truth.DEFECT
    settled = [VERDICTS.index(verdict) for verdict in (Verdict.OOD, Verdict.INVALID)]
    fixed = np.where(np.isin(table.verdict, settled), table.verdict, -1).astype(np.int8)
    with np.errstate(invalid="ignore"):
        below = table.strangeness < table.t_review
    return Columns(
        strangeness=table.strangeness,
        truth=truth,
        fixed=fixed,
        doubted=(table.verdict == VERDICTS.index(Verdict.REVIEW)) & below,
        p_value=table.p_value,
    )


def verdict_codes(columns: Columns, t_review: float, t_defect: float) -> NDArray[np.int8]:
    """Judge every picture by two thresholds.

    Args:
        columns: Of ``n`` pictures.
        t_review: T1. At or above it a part goes to review.
        t_defect: T2, at least T1. At or above it a part is a defect.

    Returns:
        ``(n,)`` int8 column in `VERDICTS`. OOD and INVALID stay what they are, and what was reviewed for
        another reason does not pass; a strangeness that is not finite is INVALID, whatever the thresholds.

    Raises:
        ValueError: A threshold is not finite, or T2 is below T1.
    """
    if not (np.isfinite([t_review, t_defect]).all() and t_review <= t_defect):
        raise ValueError(f"thresholds must be finite with T1 <= T2, got T1 {t_review}, T2 {t_defect}")
    strangeness = columns.strangeness
    codes = np.zeros(strangeness.shape, dtype=np.int8)
    codes[(strangeness >= t_review) | columns.doubted] = VERDICTS.index(Verdict.REVIEW)
    codes[strangeness >= t_defect] = VERDICTS.index(Verdict.DEFECT)
    codes[~np.isfinite(strangeness)] = VERDICTS.index(Verdict.INVALID)
    return np.where(columns.fixed >= 0, columns.fixed, codes)


def verdict_counts(columns: Columns, t_review: float, t_defect: float) -> VerdictCounts:
    """Count what two thresholds would do.

    Args:
        columns: Of ``n`` pictures.
        t_review: T1.
        t_defect: T2, at least T1.

    Returns:
        The table of truth by verdict, and the rates with their intervals.

    Raises:
        ValueError: A threshold is not finite, or T2 is below T1.
    """
    return tabulate(columns.truth, verdict_codes(columns, t_review, t_defect))


def recorded_counts(records: Sequence[Record]) -> VerdictCounts:
    """Count the verdicts as they were given, whatever thresholds were in force.

    Args:
        records: Any number of records.

    Returns:
        The table of truth by verdict, and the rates with their intervals.
    """
    codes = np.array([VERDICTS.index(record.verdict) for record in records], dtype=np.int8)
    return tabulate(columns_of(records).truth, codes)


def tabulate(truth: NDArray[np.int8], codes: NDArray[np.int8]) -> VerdictCounts:
    """Cross truth with verdict.

    Args:
        truth: ``(n,)`` of `Truth`.
        codes: ``(n,)`` column in `VERDICTS`.

    Returns:
        The table, and the rates with their intervals.
    """
    width = len(VERDICTS)
    cells = np.bincount(truth.astype(np.int64) * width + codes, minlength=len(Truth) * width)
    return counted(cells.reshape(len(Truth), width).astype(np.int64))


def counted(table: NDArray[np.int64]) -> VerdictCounts:
    """Take the rates from a table of truth by verdict.

    Args:
        table: ``(4, 5)`` counts, rows in the order of `Truth`, columns of `VERDICTS`.

    Returns:
        The table, and the rates with their intervals.

    Example:
        >>> table = np.zeros((4, 5), np.int64)
        >>> table[Truth.GOOD], table[Truth.DEFECT] = [90, 5, 5, 0, 0], [2, 0, 18, 0, 0]
        >>> str(counted(table).overkill), str(counted(table).escape)
        ('5.0 % (1.6 % to 11.3 %)', '10.0 % (1.2 % to 31.7 %)')
    """
    passed, review, defect, ood, invalid = (int(column) for column in table.sum(axis=0))
    good, faulty = table[Truth.GOOD], table[Truth.DEFECT]
    judged = passed + review + defect + ood
    return VerdictCounts(
        table=table,
        overkill=rate(int(good[2] + good[3]), int(good[:4].sum())),
        escape=rate(int(faulty[0]), int(faulty[:4].sum())),
        review_load=rate(review, judged),
        passed=rate(passed, judged + invalid),
    )


def discoveries(p_values: ArrayLike, largest_share: float = 0.1) -> Discoveries:
    """Select strange parts so that few of the selected are good on average.

    Benjamini and Hochberg (1995). Conformal p-values of one calibration set depend on each other,
    but positively, and the procedure keeps its promise (Bates et al. 2023, Ann. Statist. 51).

    Args:
        p_values: ``(n,)``; NaN for parts that have none.
        largest_share: Largest expected share of good parts among the selected (q).

    Returns:
        How many are selected, and how many of them may be good.

    Example:
        >>> discoveries([0.001, 0.002, 0.5, 0.7]).selected
        2
    """
    values = np.asarray(p_values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return Discoveries(0, 0, largest_share, 0.0)
    selected = int(np.count_nonzero(stats.false_discovery_control(values, method="bh") <= largest_share))
    return Discoveries(int(values.size), selected, largest_share, largest_share * selected)


def histogram(columns: Columns, t_review: float, t_defect: float, bins: int = HISTOGRAM_BINS) -> Histogram:
    """Count strangeness in bins, over a range in which the thresholds can be told apart.

    A few very strange parts would squeeze everything that matters into the first bins. The range
    therefore ends at five times T2, and the last bin holds what lies beyond.

    Args:
        columns: Of ``n`` pictures.
        t_review: T1.
        t_defect: T2.
        bins: How many.

    Returns:
        The counts by group.
    """
    finite = np.isfinite(columns.strangeness)
    shown, truth = columns.strangeness[finite], columns.truth[finite]
    largest = float(shown.max()) if shown.size else 1.0
    upper = float(np.clip(largest, max(1.25 * t_defect, 1.25 * t_review, 1.0), max(5 * t_defect, 1.0)))
    edges = np.linspace(0.0, upper, bins + 1)
    places = np.clip(shown / upper * bins, 0, bins - 1).astype(np.int64)
    cells = np.bincount(truth.astype(np.int64) * bins + places, minlength=len(Truth) * bins)
    return Histogram(
        edges=edges,
        counts=cells.reshape(len(Truth), bins).astype(np.int64),
        upper=upper,
        above=int(np.count_nonzero(shown > upper)),
        absent=int(np.count_nonzero(~finite)),
    )


def one_in(threshold: float) -> str:
    """Say how rare a strangeness is among good parts, by the calibration's own scale.

    Args:
        threshold: On strangeness, the negative decimal logarithm of a tail probability.

    Returns:
        Words with two figures.

    Example:
        >>> one_in(2.0), one_in(0.0), one_in(1.3)
        ('1 good part in 100', '1 good part in 1', '1 good part in 20')
    """
    number = 10.0 ** min(threshold, 15.0)
    return (
        f"1 good part in {float(f'{number:.2g}'):,.0f}" if number >= 9.5 else f"1 good part in {number:.2g}"
    )


def kinds_table(
    records: Iterable[Record], reviews: Iterable[tuple[Record, ReviewEntry]] = ()
) -> dict[str, NDArray[np.int64]]:
    """Count verdicts for each kind of defect and wrong input, the most frequent first.

    Args:
        records: Any number of records; good and unlabelled ones are left out.
        reviews: What a person said of some of them, which counts before the label. A defect without a kind
            keeps its label where that is one of a defect, else it is `KIND_UNNAMED`.

    Returns:
        Kind to ``(5,)`` counts in the order of `VERDICTS`.
    """
    said = {record.item_id: (review.judgement, review.kind) for record, review in reviews}
    return kinds_of_counts(
        Counter((r.label, r.verdict, *said.get(r.item_id, (UNREVIEWED, ""))) for r in records)
    )


def kinds_of_counts(counts: Counts) -> dict[str, NDArray[np.int64]]:
    """Count verdicts for each kind of defect and wrong input, see `kinds_table`.

    Args:
        counts: Of pictures by label, verdict, what a person said last, and which kind of defect they named.

    Returns:
        Kind to ``(5,)`` counts in the order of `VERDICTS`, the most frequent first.
    """
    kinds: dict[str, NDArray[np.int64]] = {}
    for (label, verdict, judgement, named), number in counts.items():
        kind = kind_of(label, judgement or None, named)
        if kind is not None:
            row = kinds.setdefault(kind, np.zeros(len(VERDICTS), dtype=np.int64))
            row[VERDICTS.index(verdict)] += number
    return dict(sorted(kinds.items(), key=lambda item: (-int(item[1].sum()), item[0])))


def kind_of(label: str | None, judgement: str | None, kind: str) -> str | None:
    """Name the kind of defect or wrong input of a part, as a person named it, else by its label.

    Args:
        label: Of the folder.
        judgement: The last word of a person, if anybody said one.
        kind: That the person named, else empty.

    Returns:
        The kind; ``None`` for good and unlabelled parts.

    Example:
        >>> kind_of("dent", None, ""), kind_of("dent", "defect", "scratch"), kind_of("dent", "good", "")
        ('dent', 'scratch', None)
        >>> kind_of("good", "defect", ""), kind_of("dent", "unsure", ""), kind_of("good", None, "")
        ('defect, kind not named', 'dent', None)
    """
    labelled = label if label is not None and truth_of(label) is not Truth.GOOD else None
    if judgement is None or judgement == "unsure":
        return labelled
    if judgement == "good":
        return None
    return kind or (labelled if truth_of(labelled) is Truth.DEFECT else KIND_UNNAMED)


def truth_of_review(label: str | None, judgement: str) -> Truth:
    """Sort a part into what it counts as where a person's last word stands over the label.

    Args:
        label: Of its folder.
        judgement: ``good``, ``defect``, ``unsure``, or `UNREVIEWED`.

    Example:
        >>> truth_of_review("good", "defect").words, truth_of_review("dent", "unsure").words
        ('defect', 'defect')
    """
    return {"good": Truth.GOOD, "defect": Truth.DEFECT}.get(judgement, truth_of(label))


def judgements_table(reviews: Iterable[tuple[Record, ReviewEntry]]) -> dict[str, NDArray[np.int64]]:
    """Count verdicts for each judgement of a person.

    Args:
        reviews: Records with the last word on each.

    Returns:
        Judgement to ``(5,)`` counts in the order of `VERDICTS`; those that nobody gave are left out.
    """
    table = {name: np.zeros(len(VERDICTS), dtype=np.int64) for name in ("good", "defect", "unsure")}
    for record, review in reviews:
        table[review.judgement][VERDICTS.index(record.verdict)] += 1
    return {name: row for name, row in table.items() if row.any()}


def contradicted(reviews: Iterable[tuple[Record, ReviewEntry]]) -> list[tuple[Record, ReviewEntry]]:
    """Choose the reviews that say otherwise than the verdict: good but rejected, a defect but passed."""
    wrong = {("good", Verdict.DEFECT), ("good", Verdict.OOD), ("defect", Verdict.PASS)}
    return [(record, review) for record, review in reviews if (review.judgement, record.verdict) in wrong]


def starting_thresholds(facts_review: float | None, facts_defect: float | None) -> tuple[float, float]:
    """Choose the two thresholds a person starts from.

    Args:
        facts_review: T1 of the run, if it has one.
        facts_defect: T2 of the run, if it has one.

    Returns:
        T1 and T2, T1 <= T2, both finite and not negative. Without thresholds in the run these are
        strangeness 1.3 and 2: one good part in 20 and in 100.
    """
    t_review = 1.3 if facts_review is None else max(0.0, facts_review)
    t_defect = max(2.0 if facts_defect is None else facts_defect, t_review)
    return t_review, t_defect


def _doubted(record: Record) -> bool:
    if record.verdict is not Verdict.REVIEW or record.strangeness is None or record.t_review is None:
        return False
    return record.strangeness < record.t_review


def _numbers(figures: Iterable[Any]) -> NDArray[np.float64]:
    return np.array([np.nan if figure is None else figure for figure in figures], dtype=np.float64)
