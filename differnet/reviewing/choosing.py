"""Choose from the record what two models may be compared on: known parts that neither has learned."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from differnet.images.layouts import GOOD
from differnet.reporting.counts import Truth, truth_of
from differnet.reporting.origins import OriginError, find_picture
from differnet.reviewing.comparing import HELD_OUT, REVIEWED, ComparedPart
from differnet.reviewing.export import label_of
from differnet.reviewing.judgements import last_words
from differnet.store import Asked, Store

# Runs of a product that are looked through for labelled parts.
_RUNS = 50
# Pictures that are looked for, for each that is wanted, before the rest counts as lost too.
_TRIED = 10


@dataclass(frozen=True)
class Chosen:
    """Parts that two models may be compared on.

    Attributes:
        parts: Each picture once, good parts first.
        lost: Why others that would have been chosen could not be used.
        known: Good parts and defects that neither model has learned, of the runs that were looked through.
    """

    parts: tuple[ComparedPart, ...]
    lost: tuple[str, ...]
    known: tuple[int, int]


def parts_to_compare(
    store: Store, product: str, learned: Collection[str], roots: Sequence[Path], limit: int
) -> Chosen:
    """Choose reviewed and labelled parts of a product by rules that look at no verdict.

    What a person said last of a picture counts before its label; of what nobody can tell nothing is known.
    Of good parts and of defects at most half of ``limit`` each are taken, in the order of their sha256, and
    what one class leaves goes to the other. Runs are looked through from the latest on until both have
    enough.

    Args:
        store: The record.
        product: That both models judge.
        learned: sha256 of what either has learned; no such part is chosen.
        roots: Where relative paths may begin, the likeliest first.
        limit: Parts at most.

    Raises:
        StoreError: The engine refused.
    """
    said = {word.record.sha256: word for word in last_words(store, Asked(product=product))}
    known = {
        sha256: _Known(word.record.run_id, word.record.item_id, label_of(word.entry), REVIEWED)
        for sha256, word in said.items()
        if sha256 and word.entry.judgement != "unsure" and sha256 not in learned
    }
    for run in store.runs(product, _RUNS):
        if min(len(of_class) for of_class in _by_class(known)) >= limit:
            break
        for sha256, one in _labelled(store, run.run_id):
            if sha256 not in said and sha256 not in learned:
                known.setdefault(sha256, one)
    by_class = _by_class(known)
    lost: list[str] = []
    good, defects = (_present(store, known, kind, roots, limit, lost) for kind in by_class)
    of_good = min(len(good), max(limit // 2, limit - len(defects)))
    parts = (*good[:of_good], *defects[: limit - of_good])
    return Chosen(parts, tuple(lost), (len(by_class[0]), len(by_class[1])))


@dataclass(frozen=True)
class _Known:
    run_id: str
    item_id: str
    truth: str
    origin: str


def _by_class(known: Mapping[str, _Known]) -> tuple[list[str], list[str]]:
    """Return good parts and defects, each in the order of their sha256."""
    ordered = sorted(known)
    good = [sha256 for sha256 in ordered if known[sha256].truth == GOOD]
    return good, [sha256 for sha256 in ordered if known[sha256].truth != GOOD]


def _present(
    store: Store,
    known: Mapping[str, _Known],
    ordered: Sequence[str],
    roots: Sequence[Path],
    limit: int,
    lost: list[str],
) -> list[ComparedPart]:
    """Return the first parts of a class whose pictures are where they were, and note which are not."""
    found: list[ComparedPart] = []
    for sha256 in ordered[: _TRIED * limit]:
        if len(found) == limit:
            break
        one = known[sha256]
        (record,) = store.records(one.run_id, [one.item_id])
        try:
            found.append(ComparedPart(find_picture(record, roots), sha256, one.truth, one.origin))
        except OriginError as error:
            lost.append(f"{record.path}: {error.found}")
    return found


def _labelled(store: Store, run_id: str) -> Iterator[tuple[str, _Known]]:
    """Return the good parts and defects of a run, by label."""
    table = store.table(run_id)
    truths = {label: truth_of(label) for label in set(table.label)}
    if not {Truth.GOOD, Truth.DEFECT} & set(truths.values()):
        return
    for sha256, item_id, label in zip(table.sha256, table.item_id, table.label, strict=True):
        if sha256 and truths[label] in (Truth.GOOD, Truth.DEFECT):
            truth = GOOD if truths[label] is Truth.GOOD else label
            yield sha256, _Known(run_id, item_id, truth, HELD_OUT)
