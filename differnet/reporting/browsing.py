"""Which pictures of a run a person sees, and in which order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from differnet.records import Record
from differnet.reporting.counts import Histogram, Truth
from differnet.reporting.tables import legible

if TYPE_CHECKING:
    from differnet.store import ReviewEntry, RunTable, Store

Thing = TypeVar("Thing")

# Inspections that are looked through for those of one part.
_LOOKED_THROUGH = 100

UNLABELLED = "unlabelled"
"""Stands for the absent label in filters; a folder of that name would be shown beside it."""


def label_choices(table: RunTable) -> list[str]:
    """List the labels of a run, `UNLABELLED` among them where it occurs."""
    return sorted({named_label(label) for label in set(table.label)})


def named_label(label: str | None) -> str:
    """Name a label for a filter."""
    return UNLABELLED if label is None else legible(label)


def label_name(record: Record) -> str:
    """Name a record's label for a filter."""
    return named_label(record.label)


def page_of(things: Sequence[Thing], page: int, size: int) -> Sequence[Thing]:
    """Cut out one page.

    Args:
        things: All.
        page: From 1; a page that does not exist gives the nearest that does.
        size: Things a page.

    Returns:
        At most ``size`` things.

    Example:
        >>> page_of("abcde", 2, 2), page_of("abcde", 9, 2), page_of("", 1, 2)
        ('cd', 'e', '')
    """
    page = min(max(1, page), page_count(len(things), size))
    return things[(page - 1) * size : page * size]


def page_count(number: int, size: int) -> int:
    """Count pages; nothing at all still makes one."""
    return max(1, -(-number // size))


def neighbours(item_ids: Sequence[str], item_id: str) -> tuple[str | None, str | None]:
    """Find what stands before and after an item.

    Example:
        >>> neighbours(["a", "b", "c"], "b"), neighbours(["a"], "a")
        (('a', 'c'), (None, None))
    """
    place = item_ids.index(item_id)
    before = item_ids[place - 1] if place else None
    after = item_ids[place + 1] if place + 1 < len(item_ids) else None
    return before, after


def histogram_table(histogram: Histogram) -> pd.DataFrame:
    """Lay out a histogram for a chart or to be read.

    Args:
        histogram: The counts.

    Returns:
        Columns ``label``, ``from``, ``to``, ``pictures``; empty bins left out.
    """
    groups, bins = np.nonzero(histogram.counts)
    return pd.DataFrame(
        {
            "label": [Truth(int(group)).words for group in groups],
            "from": histogram.edges[bins],
            "to": histogram.edges[bins + 1],
            "pictures": histogram.counts[groups, bins],
        }
    )


def regions_table(record: Record) -> pd.DataFrame:
    """Lay out a picture's regions, the hottest first."""
    regions = sorted(record.regions, key=lambda region: -region.peak)
    columns = ["x", "y", "width", "height", "area", "peak", "p_value"]
    return pd.DataFrame([asdict(region) for region in regions], columns=columns)


def other_inspections(store: Store, record: Record, limit: int) -> list[Record]:
    """Find other inspections of the same part.

    A part id that is no more than the picture's own file name says little: every folder has a 001. Then the
    same picture is meant, or one at the same path.

    Args:
        store: The record.
        record: Of the part.
        limit: How many to return at most.

    Returns:
        The latest first.
    """
    from differnet.store import Asked

    named = record.part_id and record.part_id != PurePath(record.path).stem
    asked = [Asked(sha256=record.sha256)] if record.sha256 else []
    asked += [Asked(part_id=record.part_id)] if record.part_id else []
    found: dict[tuple[str, str], Record] = {}
    for which in asked:
        for one in store.items(which, "latest", _LOOKED_THROUGH):
            alike = named or one.sha256 == record.sha256 or one.path == record.path
            if alike and (one.run_id, one.item_id) != (record.run_id, record.item_id):
                found[one.run_id, one.item_id] = one
    return sorted(found.values(), key=lambda one: one.processed_at or "", reverse=True)[:limit]


def reviews_table(said: Sequence[ReviewEntry]) -> pd.DataFrame:
    """Lay out what people said of a part, in the order it was said."""
    rows = [
        {
            "when": one.made_at[:19].replace("T", " "),
            "who": legible(one.author),
            "judgement": one.judgement,
            "kind": legible(one.kind),
            "note": legible(one.note),
        }
        for one in said
    ]
    return pd.DataFrame(rows, columns=["when", "who", "judgement", "kind", "note"])


def evidence_table(record: Record) -> pd.DataFrame:
    """Lay out a picture's figures, those that were computed, with what they mean."""
    scale = "the verdict's own scale"
    # Without a p-value it is beside variations of very few parts, and no rate goes with it.
    scale += ": 2 is one good part in 100" if record.p_value is not None else "; no rate goes with it"
    rows = [
        ("Strangeness", record.strangeness, scale),
        ("T1, review", record.t_review, "at or above it a person looks"),
        ("T2, defect", record.t_defect, "at or above it the part is a defect"),
        ("p-value", record.p_value, "share of good calibration parts at least as strange"),
        ("p-value, global", record.p_value_global, "of the part as a whole"),
        ("p-value, local", record.p_value_local, "of its strangest patches"),
        ("p-value, wrong input", record.p_value_ood, "that this is the product as the model knows it"),
        ("nll, global (nats)", record.nll_global, "higher is stranger"),
        ("nll, local (nats)", record.nll_local, "higher is stranger"),
        ("Typicality, local (nats)", record.typicality_local, "nll without the log-determinant, centred"),
    ]
    known = [(name, f"{value:.3g}", meaning) for name, value, meaning in rows if value is not None]
    return pd.DataFrame(known, columns=["evidence", "value", "meaning"])


def markdown_safe(text: str) -> str:
    r"""Make outside text show as it is where a page would read it as Markdown.

    A file that is named like a picture link would otherwise make the browser fetch an address.

    Args:
        text: Anything that came from outside.

    Returns:
        Legible text with every mark of punctuation escaped.

    Example:
        >>> print(markdown_safe("![x](http://a)"))
        \!\[x\]\(http\:\/\/a\)
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", legible(text))
