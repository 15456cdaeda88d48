"""Kinds of defect that people named: how often, and other names for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from differnet.reporting.counts import Truth, truth_of
from differnet.reviewing.export import is_kind
from differnet.reviewing.judgements import ReviewError

if TYPE_CHECKING:
    from differnet.store import ReviewEntry, Said, Store

RENAMED = "kind renamed from "
"""Begins the note of a word that only gives a kind another name."""

QUICK = 9
"""Kinds that have a key of their own, 1 to 9."""


def is_renaming(entry: ReviewEntry) -> bool:
    """Whether a word gives a kind of defect another name, and judges nothing."""
    return entry.note.startswith(RENAMED)


def last_of_items(said: Iterable[Said]) -> dict[tuple[str, str], Said]:
    """Return the last word on each item, by run and item id.

    Args:
        said: Words that stand, in the order in which they were said.
    """
    return {(word.run_id, word.item_id): word for word in said}


def kind_counts(said: Iterable[Said]) -> Counter[str]:
    """Count the kinds of defect in the last word on each item, those without a kind left out."""
    return Counter(word.entry.kind for word in last_of_items(said).values() if word.entry.kind)


def quick_kinds(said: Iterable[Said], labels: Iterable[str | None] = ()) -> list[str]:
    """Choose the kinds that a key names: what people named most often, then labels that are kinds.

    Args:
        said: Words on parts of the product.
        labels: Of the run's defects, one for each part.

    Returns:
        At most `QUICK`, the most frequent first; of the same number in the order of the alphabet.

    Example:
        >>> quick_kinds([], ["dent", "crack", "dent", None])
        ['dent', 'crack']
    """
    named = kind_counts(said)
    labelled = Counter(label for label in labels if label and label not in named)
    for label in list(labelled):
        if not is_kind(label) or truth_of(label) is not Truth.DEFECT:
            del labelled[label]
    ranked = [sorted(counted, key=lambda kind: (-counted[kind], kind)) for counted in (named, labelled)]
    return [*ranked[0], *ranked[1]][:QUICK]


def checked_kind(kind: str) -> str:
    """Return a kind of defect as it is kept; empty stays empty.

    Raises:
        ReviewError: A manifest would read the word as good, or as both.

    Example:
        >>> checked_kind("  deep scratch "), checked_kind(" ")
        ('deep scratch', '')
    """
    if kind.strip() and not is_kind(kind):
        raise ReviewError(
            expected="a kind of defect, such as scratch",
            found=ascii(kind.strip()),
            remedy="Words for good parts, 0, 1, yes and no are none. Leave the kind empty if it has no name.",
        )
    return kind.strip()


def rename_kinds(store: Store, said: Iterable[Said], old: Collection[str], new: str, author: str) -> int:
    """Give kinds of defect another name, by saying so once more: what was said stays as it was.

    Several kinds become one so.

    Args:
        store: The record.
        said: Words that stand, in the order in which they were said.
        old: Kinds to rename; those of the last word on an item are.
        new: Their name.
        author: Who renames them.

    Returns:
        Of how many items.

    Raises:
        ReviewError: ``new`` is no kind of defect.
        StoreError: Nobody says it, or the engine refused; runs before it, by name, are renamed.
    """
    from differnet.store import ReviewEntry

    name = checked_kind(new)
    if not name:
        raise ReviewError(expected="a new name", found="none", remedy="Type one.")
    meant: dict[tuple[str, str], list[str]] = {}
    for (run_id, item_id), word in last_of_items(said).items():
        if word.entry.kind in old and word.entry.kind != name:
            meant.setdefault((run_id, word.entry.kind), []).append(item_id)
    for (run_id, kind), item_ids in sorted(meant.items()):
        store.review_all(run_id, item_ids, ReviewEntry("defect", author, name, f"{RENAMED}{kind}"))
    return sum(map(len, meant.values()))
