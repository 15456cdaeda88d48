"""What people said of parts, as tables: every word, words against verdicts and labels, kinds of defect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from differnet.records import Verdict
from differnet.reporting.counts import VERDICTS, Truth, truth_of
from differnet.reporting.tables import legible
from differnet.reviewing.agreeing import words_by_picture
from differnet.reviewing.kinds import last_of_items
from differnet.store import ReviewEntry, RunTable, Said
from differnet.store.run_table import JUDGEMENTS

NO_KIND = "no kind"
"""Stands for the absent kind in tables; a kind of that name would be counted with it."""

LABEL, VERDICT, PEOPLE = "label", "verdict", "people"
"""With what the last word on a part may disagree."""

_CONTRADICTS = {
    ("good", Verdict.DEFECT),
    ("good", Verdict.OOD),
    ("defect", Verdict.PASS),
}


@dataclass(frozen=True)
class LabelFilter:
    """Which rows of the table of labels are shown; what is empty does not matter.

    Attributes:
        people: Who said the last word.
        judgements: What it is.
        kinds: Of defect.
        verdicts: Of the program.
        disagrees: With any of these, see `LABEL`.
        name: Part of the part's name, its label or a note, small and capital letters alike.
    """

    people: tuple[str, ...] = ()
    judgements: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    disagrees: tuple[str, ...] = ()
    name: str = ""


def labels_table(said: Sequence[Said]) -> pd.DataFrame:
    """Lay out the last word on each item, the latest first.

    Args:
        said: Words that stand, in the order in which they were said.

    Returns:
        Columns ``part``, ``verdict``, ``label``, ``is``, ``kind``, ``by``, ``note``, ``said at (UTC)``,
        ``words`` (how many were said), ``disagrees`` (with what), ``strangeness``, ``run``, ``item``.
    """
    counted: dict[tuple[str, str], int] = {}
    for word in said:
        key = word.run_id, word.item_id
        counted[key] = counted.get(key, 0) + 1
    divided = {
        (word.run_id, word.item_id)
        for words in words_by_picture(said).values()
        if len({each.entry.judgement for each in words.values()}) > 1
        for word in words.values()
    }
    last = last_of_items(said)
    rows = [
        {
            "part": legible(word.part_id or word.item_id),
            "verdict": word.verdict.value,
            "label": "" if word.label is None else legible(word.label),
            "is": word.entry.judgement,
            "kind": legible(word.entry.kind),
            "by": legible(word.entry.author),
            "note": legible(word.entry.note),
            "said at (UTC)": word.entry.made_at[:16].replace("T", " "),
            "words": counted[key],
            "disagrees": ", ".join(_disagreements(word, key in divided)),
            "strangeness": word.strangeness,
            "run": word.run_id,
            "item": word.item_id,
        }
        for key, word in sorted(last.items(), key=lambda pair: pair[1].entry.made_at, reverse=True)
    ]
    columns = [
        *("part", "verdict", "label", "is", "kind", "by", "note"),
        *("said at (UTC)", "words", "disagrees", "strangeness", "run", "item"),
    ]
    return pd.DataFrame(rows, columns=columns).astype({"strangeness": "float64"})


def filter_labels(table: pd.DataFrame, wanted: LabelFilter) -> pd.DataFrame:
    """Keep the rows of `labels_table` that a person asks for."""
    kept = pd.Series(True, index=table.index)
    for column, values in (
        ("by", wanted.people),
        ("is", wanted.judgements),
        ("kind", tuple("" if kind == NO_KIND else kind for kind in wanted.kinds)),
        ("verdict", wanted.verdicts),
    ):
        if values:
            kept &= table[column].isin(values)
    if wanted.disagrees:
        kept &= table["disagrees"].map(
            lambda told: any(what in told.split(", ") for what in wanted.disagrees)
        )
    if wanted.name.strip():
        part = wanted.name.strip().casefold()
        searched = table["part"] + "\n" + table["label"] + "\n" + table["note"] + "\n" + table["item"]
        kept &= searched.map(lambda text: part in text.casefold())
    return table[kept.astype(bool)]


def words_by_verdict(said: Iterable[Said]) -> pd.DataFrame:
    """Count the last word on each item against the verdict.

    Args:
        said: Words that stand, in the order in which they were said.

    Returns:
        One row for good, for each kind of defect (the most frequent first) and for unsure, where there are
        any, and one for all; one column a verdict and one for all.
    """
    counts: dict[str, list[int]] = {}
    for word in last_of_items(said).values():
        row = counts.setdefault(_row_name(word.entry), [0] * len(VERDICTS))
        row[VERDICTS.index(word.verdict)] += 1
    return _with_sums(counts, first="good", last="unsure")


def unsaid_by_verdict(table: RunTable) -> pd.DataFrame:
    """Count the parts of a run of which nobody has said anything, by label and verdict.

    Args:
        table: Of the run.

    Returns:
        One row a truth of the label, where there are any, and one for all; one column a verdict and one for
        all.
    """
    silent = table.judgement < 0
    known = {label: int(truth_of(label)) for label in set(table.label)}
    truth = np.array([known[label] for label in table.label], dtype=np.int64)[silent]
    cells = np.bincount(
        truth * len(VERDICTS) + table.verdict[silent], minlength=len(Truth) * len(VERDICTS)
    ).reshape(len(Truth), -1)
    counts = {each.words: cells[each].tolist() for each in Truth if cells[each].any()}
    return _with_sums(counts, first=Truth.GOOD.words, last=Truth.UNLABELLED.words)


def said_share(table: RunTable) -> tuple[int, int, int, int]:
    """Count a run's parts: all, and those whose last word is good, defect and unsure."""
    good, defect, unsure = np.bincount(
        table.judgement[table.judgement >= 0], minlength=len(JUDGEMENTS)
    ).tolist()
    return len(table), good, defect, unsure


def history_table(said: Iterable[Said]) -> pd.DataFrame:
    """Lay out every word, the latest first, those that were taken back among them.

    Args:
        said: Words, in the order in which they were said.
    """
    rows = [
        {
            "said at (UTC)": word.entry.made_at[:19].replace("T", " "),
            "part": legible(word.part_id or word.item_id),
            "is": word.entry.judgement,
            "kind": legible(word.entry.kind),
            "by": legible(word.entry.author),
            "note": legible(word.entry.note),
            "taken back (UTC)": word.withdrawn_at[:19].replace("T", " "),
        }
        for word in reversed(list(said))
    ]
    columns = ["said at (UTC)", "part", "is", "kind", "by", "note", "taken back (UTC)"]
    return pd.DataFrame(rows, columns=columns)


def _disagreements(word: Said, divided: bool) -> list[str]:
    told = []
    truth = truth_of(word.label)
    if (word.entry.judgement, truth) in {("good", Truth.DEFECT), ("defect", Truth.GOOD)}:
        told.append(LABEL)
    if (word.entry.judgement, word.verdict) in _CONTRADICTS:
        told.append(VERDICT)
    if divided:
        told.append(PEOPLE)
    return told


def _row_name(entry: ReviewEntry) -> str:
    if entry.judgement != "defect":
        return entry.judgement
    return f"defect: {legible(entry.kind) or NO_KIND}"


def _with_sums(counts: dict[str, list[int]], first: str, last: str) -> pd.DataFrame:
    def rank(name: str) -> tuple[int, int, str]:
        return (0 if name == first else 2 if name == last else 1), -sum(counts[name]), name

    rows = {name: counts[name] for name in sorted(counts, key=rank)}
    rows["all"] = np.sum(list(rows.values()), axis=0).tolist() if rows else [0] * len(VERDICTS)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[verdict.value for verdict in VERDICTS])
    table["all"] = table.sum(axis=1)
    return table
