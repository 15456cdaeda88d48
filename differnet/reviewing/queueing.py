"""Which parts a person looks at, in which order, and what a random sample of them tells of all."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from differnet.evaluation.intervals import Rate, rate
from differnet.records import Verdict
from differnet.reporting.counts import VERDICTS, Truth, truth_of
from differnet.reviewing.judgements import ReviewError
from differnet.store.run_table import JUDGEMENTS

if TYPE_CHECKING:
    from differnet.reporting.gallery_query import GalleryQuery
    from differnet.store import RunTable, Said

_PASSED = (Verdict.PASS,)
_REJECTED = (Verdict.DEFECT, Verdict.OOD)
# Of either side of a sample: 0 wrong in 300 says, with 95 % confidence, at most one in a hundred.
USUAL_SAMPLE = 100
LARGEST_SAMPLE = 100_000


class Source(StrEnum):
    """Which parts are queued."""

    BAND = "band"
    DISAGREEMENT = "disagreement"
    FLAGGED = "flagged"
    SAMPLE = "sample"
    SECOND = "second"
    CHOSEN = "chosen"

    @property
    def words(self) -> str:
        """The parts' name for a person."""
        return _SOURCE_WORDS[self]

    @property
    def meaning(self) -> str:
        """What they are good for, a sentence."""
        return _SOURCE_MEANINGS[self]

    @property
    def blind(self) -> bool:
        """Whether what others said of a part, program or person, is best hidden until one has decided."""
        return self in (Source.SAMPLE, Source.SECOND)


_SOURCE_WORDS = {
    Source.BAND: "between T1 and T2",
    Source.DISAGREEMENT: "label and verdict disagree",
    Source.FLAGGED: "rejected",
    Source.SAMPLE: "random sample",
    Source.SECOND: "second look",
    Source.CHOSEN: "chosen in the gallery",
}
_SOURCE_MEANINGS = {
    Source.BAND: "Parts judged REVIEW: whether they are good is for a person to say.",
    Source.DISAGREEMENT: "Good by their label but rejected, or a defect by it but passed: one is wrong.",
    Source.FLAGGED: "Parts judged DEFECT or OOD: those that are good are overkill.",
    Source.SAMPLE: (
        "Passed and rejected parts drawn by lot: the only ones that tell escapes and overkill of all parts."
    ),
    Source.SECOND: "Parts that somebody else has judged: how far people agree.",
    Source.CHOSEN: "The pictures that the gallery's filters leave.",
}


class QueueOrder(StrEnum):
    """Which parts come first. Samples and second looks are in an order by lot, whatever is asked for."""

    STRANGEST = "strangest"
    NEAREST = "nearest"
    FILE = "file"
    LOT = "lot"

    @property
    def words(self) -> str:
        """The order's name for a person."""
        return _ORDER_WORDS[self]


_ORDER_WORDS = {
    QueueOrder.STRANGEST: "strangest first",
    QueueOrder.NEAREST: "nearest to a threshold first",
    QueueOrder.FILE: "by file",
    QueueOrder.LOT: "by lot",
}


@dataclass(frozen=True)
class QueueWish:
    """What a person wants to look at.

    Attributes:
        source: Which parts.
        order: Which first. Nearest to T1 or T2 teaches most: there a word moves a threshold.
        person: Who looks.
        seed: Of the lot, not negative.
        passed, rejected: How many of each a sample draws.
        again: Also parts that have a word already.
        chosen: What the gallery was asked for.

    Raises:
        ReviewError: A sample of less than nothing or more than `LARGEST_SAMPLE`, or a second look by nobody.
    """

    source: Source = Source.BAND
    order: QueueOrder = QueueOrder.STRANGEST
    person: str = ""
    seed: int = 0
    passed: int = USUAL_SAMPLE
    rejected: int = USUAL_SAMPLE
    again: bool = False
    chosen: GalleryQuery | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.seed < 0 or not all(0 <= n <= LARGEST_SAMPLE for n in (self.passed, self.rejected)):
            raise ReviewError(
                expected=f"samples of 0 to {LARGEST_SAMPLE:,} parts, and a seed that is not negative",
                found=f"{self.passed:,} passed and {self.rejected:,} rejected ones, seed {self.seed}",
                remedy="Ask for other numbers.",
            )
        if self.source is Source.SECOND and not self.person.strip():
            raise ReviewError(
                expected="to know who looks a second time",
                found="no name",
                remedy="Type your name in the sidebar.",
            )


@dataclass(frozen=True)
class Sample:
    """Parts drawn by lot, places in a run's table in the order of the lot.

    Attributes:
        passed, rejected: That were drawn.
        passed_of, rejected_of: Out of how many.
    """

    passed: NDArray[np.int64]
    rejected: NDArray[np.int64]
    passed_of: int
    rejected_of: int


@dataclass(frozen=True)
class Estimate:
    """What a sample tells of all parts that were passed, or rejected.

    Attributes:
        drawn, of: Parts in the sample, and out of how many.
        wrong: Those called otherwise than the verdict, of those called good or defect: with a 95 % interval.
        unsure: Called unsure.
        skipped: Without a word, though some that were drawn later have one. A sample that is not looked
            through in its order is none.
        left: Without a word.
    """

    drawn: int
    of: int
    wrong: Rate
    unsure: int
    skipped: int
    left: int

    @property
    def in_all(self) -> tuple[int, int]:
        """How many of all parts may be wrong: the interval in whole parts."""
        return math.floor(self.wrong.low * self.of), math.ceil(self.wrong.high * self.of)


def draw_sample(table: RunTable, seed: int, passed: int, rejected: int) -> Sample:
    """Draw parts by lot: whichever have a word already, for leaving them out would make another rate.

    The lot of a part depends on the seed and its item id alone. A run that grows keeps its sample, but for
    what the new parts push out.

    Args:
        table: Of the run.
        seed: Another seed draws others.
        passed: How many passed parts at most.
        rejected: How many rejected parts at most.
    """
    found, of = [], []
    for verdicts, number in ((_PASSED, passed), (_REJECTED, rejected)):
        places = _places_of(table, verdicts)
        found.append(by_lot(table, places, seed)[:number])
        of.append(len(places))
    return Sample(found[0], found[1], of[0], of[1])


def estimates(sample: Sample, table: RunTable) -> tuple[Estimate, Estimate]:
    """Count what people said of a sample.

    Args:
        sample: Of the run.
        table: Of the run, as it stands now.

    Returns:
        Of the passed parts, how many are defects (escapes); of the rejected, how many are good (overkill).
    """
    return (
        _estimate(sample.passed, sample.passed_of, table, "defect"),
        _estimate(sample.rejected, sample.rejected_of, table, "good"),
    )


def queue_places(wish: QueueWish, table: RunTable, said: Iterable[Said] = ()) -> NDArray[np.int64]:
    """Choose the parts of a queue.

    Args:
        wish: Which.
        table: Of the run.
        said: Every word on the run's parts; only a second look asks who said what.

    Returns:
        Places in the table, the first to look at first.
    """
    if wish.source is Source.SAMPLE:
        sample = draw_sample(table, wish.seed, wish.passed, wish.rejected)
        return _mixed(sample, wish.seed)
    if wish.source is Source.SECOND:
        places = _for_second_look(wish, table, said)
        return by_lot(table, places, wish.seed)
    if wish.source is Source.CHOSEN:
        from differnet.reporting.gallery_query import GalleryQuery, find_places

        places = find_places(wish.chosen or GalleryQuery(), table)
    elif wish.source is Source.DISAGREEMENT:
        places = np.flatnonzero(_disagrees(table))
    else:
        places = _places_of(table, (Verdict.REVIEW,) if wish.source is Source.BAND else _REJECTED)
    if not wish.again:
        places = places[table.judgement[places] < 0]
    if wish.source is Source.CHOSEN:
        # In the gallery's own order.
        return places
    return _ordered(wish, table, places)


def by_lot(table: RunTable, places: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Sort parts by lot: by a hash of seed and item id, which knows nothing of what they look like."""
    lots = [
        hashlib.blake2b(f"{seed}:{item_id}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
        for item_id in table.item_id[places]
    ]
    drawn: NDArray[np.int64] = places[sorted(range(len(lots)), key=lots.__getitem__)]
    return drawn


def settled(
    wish: QueueWish, table: RunTable, said: Iterable[Said] = (), mine: Collection[str] = ()
) -> frozenset[str]:
    """Choose the parts of a run that need no further look.

    Args:
        wish: Of the queue.
        table: Of the run, as it stands now.
        said: Every word on the run's parts; only a second look asks who said what.
        mine: Item ids that the person has judged since the queue was made; they alone count where parts are
            looked at again.

    Returns:
        Item ids: of a second look what this person has judged, else what anybody has.
    """
    if wish.source is Source.SECOND:
        return frozenset(word.item_id for word in said if word.entry.author == wish.person)
    if wish.again and wish.source is not Source.SAMPLE:
        return frozenset(mine)
    return frozenset(table.item_id[table.judgement >= 0])


def following(item_ids: Sequence[str], here: str | None, done: Collection[str]) -> str | None:
    """Find the next part that needs a look, after a place, and then from the beginning.

    Args:
        item_ids: The queue.
        here: The part that is looked at; the beginning where it is ``None`` or not in the queue.
        done: Parts that need none.

    Returns:
        Its item id, ``None`` where nothing is left.

    Example:
        >>> following("abcd", "b", {"c"}), following("abcd", "d", {"a"}), following("ab", "a", {"b", "a"})
        ('d', 'b', None)
    """
    start = item_ids.index(here) + 1 if here is not None and here in item_ids else 0
    return next((i for i in (*item_ids[start:], *item_ids[:start]) if i not in done), None)


def _mixed(sample: Sample, seed: int) -> NDArray[np.int64]:
    """Mix both sides, each in the order of its lot: the place in the queue tells no verdict."""
    sides = np.repeat([0, 1], [len(sample.passed), len(sample.rejected)])
    np.random.default_rng(seed).shuffle(sides)
    places = np.empty(len(sides), dtype=np.int64)
    places[sides == 0], places[sides == 1] = sample.passed, sample.rejected
    return places


def _estimate(places: NDArray[np.int64], of: int, table: RunTable, wrong: str) -> Estimate:
    judged = table.judgement[places]
    called = np.bincount(judged[judged >= 0], minlength=len(JUDGEMENTS))
    good, defect, unsure = (int(number) for number in called)
    said = np.flatnonzero(judged >= 0)
    skipped = int(np.count_nonzero(judged[: said[-1]] < 0)) if said.size else 0
    return Estimate(
        drawn=len(places),
        of=of,
        wrong=rate(defect if wrong == "defect" else good, good + defect),
        unsure=unsure,
        skipped=skipped,
        left=int(np.count_nonzero(judged < 0)),
    )


def _for_second_look(wish: QueueWish, table: RunTable, said: Iterable[Said]) -> NDArray[np.int64]:
    authors: dict[str, set[str]] = {}
    for word in said:
        authors.setdefault(word.item_id, set()).add(word.entry.author)
    wanted = {
        item_id for item_id, people in authors.items() if people - {wish.person} and wish.person not in people
    }
    return np.array([i for i, item_id in enumerate(table.item_id) if item_id in wanted], dtype=np.int64)


def _disagrees(table: RunTable) -> NDArray[np.bool_]:
    known = {label: int(truth_of(label)) for label in set(table.label)}
    truth = np.array([known[label] for label in table.label], dtype=np.int8)
    overkill = (truth == Truth.GOOD) & np.isin(table.verdict, _codes(_REJECTED))
    escape = (truth == Truth.DEFECT) & np.isin(table.verdict, _codes(_PASSED))
    disagrees: NDArray[np.bool_] = overkill | escape
    return disagrees


def _ordered(wish: QueueWish, table: RunTable, places: NDArray[np.int64]) -> NDArray[np.int64]:
    if wish.order is QueueOrder.FILE:
        return places
    if wish.order is QueueOrder.LOT:
        return by_lot(table, places, wish.seed)
    strangeness = table.strangeness[places]
    with np.errstate(invalid="ignore"):
        if wish.order is QueueOrder.NEAREST:
            to_review = np.abs(strangeness - table.t_review[places])
            figure = np.fmin(to_review, np.abs(strangeness - table.t_defect[places]))
        else:
            figure = -strangeness
    # NaN sorts last.
    return places[np.argsort(figure, kind="stable")]


def _places_of(table: RunTable, verdicts: Collection[Verdict]) -> NDArray[np.int64]:
    return np.flatnonzero(np.isin(table.verdict, _codes(verdicts)))


def _codes(verdicts: Collection[Verdict]) -> list[int]:
    return [VERDICTS.index(verdict) for verdict in verdicts]
