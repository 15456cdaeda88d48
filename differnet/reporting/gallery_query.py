"""What the gallery is asked for, and the address that asks it: a link that pages make and people share.

```
run        name of the run
verdict    PASS, REVIEW, DEFECT, OOD, INVALID; as recorded, or at t1 and t2 where they are given
was        the same, always as recorded
label      of the folder, as written; "unlabelled" for none
truth      good, defect, wrong-input, unlabelled
judged     1: the last word of a person counts as the truth in place of the label
kind       of defect: as a person named it, else the label
product    judged as it
review     none, good, defect, unsure: the last word of a person
name       part of a part's name, small and capital letters alike
from, to   strangeness at least, and below
since, until   processed at or after, and before; UTC unless the time says otherwise
t1, t2     thresholds that decide "verdict"
flips      1: only what t1 and t2 judge otherwise than recorded
order      strangest, least-strange, near-t1, near-t2, latest, file, p-value
```

Verdicts, labels, truths, kinds, products and reviews may be given several times: any of them is meant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from differnet.records import DiffernetError, Verdict
from differnet.reporting.browsing import named_label
from differnet.reporting.counts import (
    KIND_UNNAMED,
    VERDICTS,
    Columns,
    Truth,
    columns_of_table,
    kind_of,
    verdict_codes,
)
from differnet.reporting.tables import legible

if TYPE_CHECKING:
    from differnet.store import RunTable

Thing = TypeVar("Thing")

# Longer than any name that a file can have, and than any list that a person picks by hand.
_LONGEST, _MOST = 300, 100


class GalleryQueryError(DiffernetError):
    """A wish that the gallery cannot fulfil."""


class Order(StrEnum):
    """Which pictures come first. What has no such figure comes last."""

    STRANGEST = "strangest"
    LEAST_STRANGE = "least-strange"
    NEAR_T1 = "near-t1"
    NEAR_T2 = "near-t2"
    LATEST = "latest"
    FILE = "file"
    P_VALUE = "p-value"

    @property
    def words(self) -> str:
        """The order's name for a person."""
        return _ORDER_WORDS[self]


_ORDER_WORDS = {
    Order.STRANGEST: "strangest first",
    Order.LEAST_STRANGE: "least strange first",
    Order.NEAR_T1: "nearest to T1 first",
    Order.NEAR_T2: "nearest to T2 first",
    Order.LATEST: "latest first",
    Order.FILE: "by file",
    Order.P_VALUE: "smallest p-value first",
}


class Reviewed(StrEnum):
    """What a person said last of a picture."""

    NONE = "none"
    GOOD = "good"
    DEFECT = "defect"
    UNSURE = "unsure"


@dataclass(frozen=True)
class GalleryQuery:
    """Which pictures of a run are meant, and in which order; what is empty or ``None`` does not matter.

    Attributes:
        run: Name of the run; empty for the one that is chosen.
        verdicts: Any of these: at `t_review` and `t_defect` where they are given, else as recorded.
        was: Any of these, as recorded.
        labels: Any of these, as `differnet.reporting.browsing.named_label` writes them.
        truths: Any of these.
        judged: The last word of a person counts as the truth in place of the label.
        kinds: Any of these kinds of defect, see `kinds_of_table`.
        products: Any of these.
        reviewed: Any of these.
        name: Part of the part's name or the item's id.
        least, below: Strangeness at least, and below.
        since, until: Processed at or after, and before: UTC, ISO 8601 with milliseconds.
        t_review, t_defect: Thresholds, both or none.
        flips: Only pictures whose verdict the thresholds would change.
        order: Which come first.

    Raises:
        GalleryQueryError: One of them makes no sense.

    Example:
        >>> escapes = GalleryQuery(verdicts=(Verdict.PASS,), truths=(Truth.DEFECT,), t_review=1.3, t_defect=2)
        >>> escapes.params()
        {'verdict': ['PASS'], 'truth': ['defect'], 't1': ['1.3'], 't2': ['2']}
        >>> read_query(escapes.params()) == (escapes, ())
        True
    """

    run: str = ""
    verdicts: tuple[Verdict, ...] = ()
    was: tuple[Verdict, ...] = ()
    labels: tuple[str, ...] = ()
    truths: tuple[Truth, ...] = ()
    judged: bool = False
    kinds: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    reviewed: tuple[Reviewed, ...] = ()
    name: str = ""
    least: float | None = None
    below: float | None = None
    since: str = ""
    until: str = ""
    t_review: float | None = None
    t_defect: float | None = None
    flips: bool = False
    order: Order = Order.STRANGEST

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        thresholds = (self.t_review, self.t_defect)
        given = [figure for figure in (*thresholds, self.least, self.below) if figure is not None]
        if not all(math.isfinite(figure) for figure in given):
            raise _senseless("finite figures", str(given))
        if (self.t_review is None) != (self.t_defect is None):
            raise _senseless("T1 and T2 together", f"T1 {self.t_review}, T2 {self.t_defect}")
        if self.t_review is not None and self.t_defect is not None and self.t_review > self.t_defect:
            raise _senseless("T1 at most T2", f"T1 {self.t_review:g}, T2 {self.t_defect:g}")
        if self.flips and self.t_review is None:
            raise _senseless("T1 and T2 beside the wish for what they change", "neither")
        for name in ("since", "until"):
            if (told := getattr(self, name)) and told != moment(told):
                raise _senseless("times as the record writes them", f"{name} {told!r}")
        for words in (self.run, self.name, *self.labels, *self.kinds, *self.products):
            if len(words) > _LONGEST:
                raise _senseless(f"at most {_LONGEST} characters of text", f"{len(words):,}")
        for several in (self.verdicts, self.was, self.labels, self.kinds, self.products):
            if len(several) > _MOST:
                raise _senseless(f"at most {_MOST} choices of a kind", f"{len(several):,}")

    @property
    def filters(self) -> bool:
        """Whether any picture of a run might be left out."""
        # The rest is how they are judged and sorted.
        meant = replace(
            self, run="", judged=False, t_review=None, t_defect=None, flips=False, order=Order.STRANGEST
        )
        return self.flips or meant != GalleryQuery()

    def params(self) -> dict[str, list[str]]:
        """Return the address's parameters; what does not matter is left out."""
        told: dict[str, list[str]] = {}
        for field in fields(self):
            value, usual = getattr(self, field.name), field.default
            if value == usual:
                continue
            key, write, _ = _KEYS[field.name]
            told[key] = [write(each) for each in (value if isinstance(usual, tuple) else (value,))]
        return told

    def link(self) -> dict[str, list[str]]:
        """Return parameters for a link to the gallery: these, and the order in any case.

        A page that finds no parameter of its own in its address shows what it showed last.
        """
        return {"order": [self.order.value]} | self.params()


def read_query(params: Mapping[str, str | Sequence[str]]) -> tuple[GalleryQuery, tuple[str, ...]]:
    """Understand an address, and leave out of it what makes no sense.

    Args:
        params: Of the address; a parameter that is given several times has several values. Other pages'
            parameters are no matter.

    Returns:
        What is asked for, and the names of the parameters that could not be understood.

    Example:
        >>> query, refused = read_query({"verdict": ["PASS", "<b>"], "t1": "nan", "t2": "2"})
        >>> query == GalleryQuery(verdicts=(Verdict.PASS,)), refused
        (True, ('verdict', 't1', 't2'))
    """
    known: dict[str, Any] = {}
    refused: list[str] = []
    for field in fields(GalleryQuery):
        key, _, read = _KEYS[field.name]
        if key not in params:
            continue
        given = params[key]
        values = [given] if isinstance(given, str) else list(given)
        understood = list(dict.fromkeys(_understood(values[:_MOST], read)))
        if len(understood) < len(dict.fromkeys(values)):
            refused.append(key)
        if isinstance(field.default, tuple):
            known[field.name] = tuple(understood)
        elif understood:
            known[field.name] = understood[-1]
    t_review, t_defect = known.pop("t_review", None), known.pop("t_defect", None)
    if t_review is not None and t_defect is not None and t_review <= t_defect:
        known |= {"t_review": t_review, "t_defect": t_defect}
    else:
        refused += [key for key in ("t1", "t2") if key in params]
    if known.get("flips") and "t_review" not in known:
        refused.append("flips")
        known["flips"] = False
    return GalleryQuery(**known), tuple(dict.fromkeys(refused))


def asks_gallery(params: Iterable[str]) -> bool:
    """Tell whether an address asks the gallery for anything but a run."""
    return bool({key for key, _, _ in _KEYS.values() if key != "run"} & set(params))


def find_places(query: GalleryQuery, table: RunTable, columns: Columns | None = None) -> NDArray[np.int64]:
    """Find the pictures that are asked for.

    Args:
        query: What is asked for; its run is no matter.
        table: Of ``n`` items of a run.
        columns: Of the table, by the same truth as the query's; made where it is not given.

    Returns:
        Places in the table, in the order that is asked for.
    """
    columns = columns_of_table(table, judged=query.judged) if columns is None else columns
    codes = codes_of(query, table, columns)
    kept = np.ones(len(table), dtype=bool)
    if query.verdicts:
        kept &= np.isin(codes, [VERDICTS.index(verdict) for verdict in query.verdicts])
    if query.was:
        kept &= np.isin(table.verdict, [VERDICTS.index(verdict) for verdict in query.was])
    if query.flips:
        kept &= codes != table.verdict
    if query.truths:
        kept &= np.isin(columns.truth, query.truths)
    if query.reviewed:
        kept &= np.isin(table.judgement, [_JUDGED[word] for word in query.reviewed])
    with np.errstate(invalid="ignore"):
        if query.least is not None:
            kept &= table.strangeness >= query.least
        if query.below is not None:
            kept &= table.strangeness < query.below
    if query.labels:
        _keep(kept, table.label, lambda label: named_label(label) in query.labels)
    if query.products:
        _keep(kept, table.product, lambda product: product in query.products)
    if query.kinds:
        kept &= np.array([kind in query.kinds for kind in kinds_of_table(table)], dtype=bool)
    if query.since:
        kept &= np.array([time >= query.since for time in table.processed_at], dtype=bool)
    if query.until:
        kept &= np.array([time < query.until for time in table.processed_at], dtype=bool)
    if query.name:
        wanted = query.name.casefold()
        for place in np.flatnonzero(kept):
            named = f"{legible(table.part_id[place])}\n{table.item_id[place]}".casefold()
            kept[place] = wanted in named
    return _sorted(query, table, np.flatnonzero(kept))


def codes_of(query: GalleryQuery, table: RunTable, columns: Columns) -> NDArray[np.int8]:
    """Return the verdicts that are filtered by, ``(n,)`` places in `VERDICTS`: at thresholds, or recorded."""
    if query.t_review is None or query.t_defect is None:
        return table.verdict
    return verdict_codes(columns, query.t_review, query.t_defect)


def kinds_of_table(table: RunTable) -> NDArray[np.object_]:
    """Name each item's kind of defect or wrong input, as `differnet.reporting.counts.kinds_table` counts it.

    Returns:
        ``(n,)`` text; empty for good and unlabelled parts.
    """
    from differnet.store.run_table import JUDGEMENTS

    known: dict[tuple[str | None, int, str], str] = {}
    named = []
    for case in zip(table.label, table.judgement.tolist(), table.kind, strict=True):
        if case not in known:
            label, judged, kind = case
            known[case] = kind_of(label, None if judged < 0 else JUDGEMENTS[judged], kind) or ""
        named.append(known[case])
    kinds = np.empty(len(table), dtype=object)
    kinds[:] = named
    return kinds


def kind_choices(table: RunTable) -> list[str]:
    """List the kinds that occur in a run, in the order of the alphabet, what has no name last."""
    return sorted({kind for kind in kinds_of_table(table) if kind}, key=lambda k: (k == KIND_UNNAMED, k))


def describe_query(query: GalleryQuery) -> str:
    """Say in words which pictures are meant, for a caption; text from outside is made legible, not escaped.

    Example:
        >>> describe_query(GalleryQuery(verdicts=(Verdict.PASS,), truths=(Truth.DEFECT,), least=1.5))
        'defect; PASS; strangeness from 1.5'
        >>> describe_query(GalleryQuery())
        'all pictures'
    """
    told = [_any(truth.words for truth in query.truths)]
    told += [_any(map(legible, names)) for names in (query.labels, query.kinds, query.products)]
    if query.was:
        told.append(f"recorded as {_any(verdict.value for verdict in query.was)}")
    told.append(_any(verdict.value for verdict in query.verdicts))
    if query.flips:
        told.append("another verdict than recorded")
    if query.t_review is not None:
        told.append(f"at T1 {query.t_review:.4g} and T2 {query.t_defect:.4g}")
    told.append(_any(_REVIEW_WORDS[word] for word in query.reviewed))
    told.append(f'named like "{legible(query.name)}"' if query.name else "")
    least, below = (None if f is None else f"{f:.4g}" for f in (query.least, query.below))
    told.append(_range("strangeness", "from", least, "below", below))
    told.append(_range("processed", "from", query.since[:16], "before", query.until[:16]))
    return "; ".join(filter(None, told)) or "all pictures"


def moment(words: str) -> str | None:
    """Write a time as records do, so that it compares as text; ``None`` where it is no time.

    Example:
        >>> moment("2026-11-23T14:30+01:00"), moment("tomorrow")
        ('2026-11-23T13:30:00.000+00:00', None)
    """
    try:
        given = datetime.fromisoformat(words)
        aware = given if given.tzinfo is not None else given.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        # The year 1 has no earlier one to be brought into UTC.
        return None


_JUDGED = {Reviewed.NONE: -1, Reviewed.GOOD: 0, Reviewed.DEFECT: 1, Reviewed.UNSURE: 2}
_REVIEW_WORDS = {
    Reviewed.NONE: "without a word",
    Reviewed.GOOD: "called good",
    Reviewed.DEFECT: "called defect",
    Reviewed.UNSURE: "called unsure",
}


def _sorted(query: GalleryQuery, table: RunTable, places: NDArray[np.int64]) -> NDArray[np.int64]:
    if query.order is Order.FILE:
        return places
    if query.order is Order.LATEST:
        # Stable from behind, so that of the same moment the first comes first.
        times = np.asarray(table.processed_at[places[::-1]], dtype=str)
        return places[::-1][np.argsort(times, kind="stable")][::-1]
    strangeness = table.strangeness[places]
    with np.errstate(invalid="ignore"):
        if query.order is Order.P_VALUE:
            figure = table.p_value[places]
        elif query.order is Order.NEAR_T1:
            figure = np.abs(strangeness - _threshold(query.t_review, table.t_review[places]))
        elif query.order is Order.NEAR_T2:
            figure = np.abs(strangeness - _threshold(query.t_defect, table.t_defect[places]))
        else:
            figure = strangeness if query.order is Order.LEAST_STRANGE else -strangeness
    # NaN sorts last.
    return places[np.argsort(figure, kind="stable")]


def _threshold(asked: float | None, recorded: NDArray[np.float64]) -> NDArray[np.float64]:
    return recorded if asked is None else np.full(recorded.shape, asked)


def _keep(kept: NDArray[np.bool_], column: NDArray[np.object_], wanted: Callable[[Any], bool]) -> None:
    known = {value: wanted(value) for value in set(column)}
    kept &= np.array([known[value] for value in column], dtype=bool)


def _understood(values: Iterable[str], read: Callable[[str], Thing]) -> Iterable[Thing]:
    for value in values:
        try:
            yield read(value)
        except (ValueError, KeyError):
            # Whoever types an address may err; the caller is told which parameter was refused.
            continue


def _any(words: Iterable[str]) -> str:
    return " or ".join(words)


def _range(what: str, first: str, low: str | None, second: str, high: str | None) -> str:
    told = [f"{word} {bound}" for word, bound in ((first, low), (second, high)) if bound]
    return " ".join([what, *told]) if told else ""


def _senseless(expected: str, found: str) -> GalleryQueryError:
    return GalleryQueryError(expected=expected, found=found, remedy="Change the filters of the gallery.")


def _figure(words: str) -> float:
    figure = float(words)
    if not math.isfinite(figure):
        raise ValueError(words)
    return figure


def _time(words: str) -> str:
    if (found := moment(words)) is None:
        raise ValueError(words)
    return found


def _text(words: str) -> str:
    if len(words) > _LONGEST:
        raise ValueError(words)
    return words


def _flag(words: str) -> bool:
    return {"1": True, "0": False}[words]


def _truth_key(truth: Truth) -> str:
    return truth.words.replace(" ", "-")


def _figure_text(figure: float) -> str:
    # The shortest text that reads back as the same figure; 2.0 is 2.
    return repr(float(figure)).removesuffix(".0")


_TRUTHS = {_truth_key(truth): truth for truth in Truth}
# Field to parameter, how its values are written, and how they are read.
_KEYS: dict[str, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    "run": ("run", str, _text),
    "verdicts": ("verdict", str, Verdict),
    "was": ("was", str, Verdict),
    "labels": ("label", str, _text),
    "truths": ("truth", _truth_key, _TRUTHS.__getitem__),
    "judged": ("judged", lambda flag: str(int(flag)), _flag),
    "kinds": ("kind", str, _text),
    "products": ("product", str, _text),
    "reviewed": ("review", str, Reviewed),
    "name": ("name", str, _text),
    "least": ("from", _figure_text, _figure),
    "below": ("to", _figure_text, _figure),
    "since": ("since", str, _time),
    "until": ("until", str, _time),
    "t_review": ("t1", _figure_text, _figure),
    "t_defect": ("t2", _figure_text, _figure),
    "flips": ("flips", lambda flag: str(int(flag)), _flag),
    "order": ("order", str, Order),
}
