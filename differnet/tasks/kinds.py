"""The kinds of tasks there are, a closed list: what the record names is looked up here, never imported."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, cast

from differnet.records import DiffernetError
from differnet.store import Store
from differnet.strict_json import from_mapping, to_json
from differnet.tasks.course import Course
from differnet.tasks.inspecting import inspect
from differnet.tasks.learning import retrain, train
from differnet.tasks.making import make_sample, scan, write_reports
from differnet.tasks.weighing import compare_models
from differnet.tasks.wishes import (
    CompareWish,
    InspectWish,
    ReportWish,
    RetrainWish,
    SampleWish,
    ScanWish,
    TrainWish,
    Wish,
)

TRAININGS = ("train", "retrain")
"""Kinds that take the whole machine for minutes: how many of them run at a time is limited."""


class TaskError(DiffernetError):
    """Raised for a task of no kind that there is."""


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    Attributes:
        wish: What may be asked of it.
        work: Does it; returns what came of it, JSON-able.
    """

    wish: type[Any]
    work: Callable[[Any, Store, Course], dict[str, Any]]


KINDS: dict[str, Kind] = {
    "sample": Kind(SampleWish, make_sample),
    "scan": Kind(ScanWish, scan),
    "train": Kind(TrainWish, train),
    "retrain": Kind(RetrainWish, retrain),
    "inspect": Kind(InspectWish, inspect),
    "report": Kind(ReportWish, write_reports),
    "compare": Kind(CompareWish, compare_models),
}


def kind_of(name: str) -> Kind:
    """Return a kind by its name.

    Raises:
        TaskError: There is none of that name.
    """
    if name not in KINDS:
        raise TaskError(
            expected=f"a task of kind {', '.join(KINDS)}",
            found=repr(name[:100]),
            remedy="It was asked for by another version of differnet, or by something else.",
        )
    return KINDS[name]


def name_of(wish: Wish) -> str:
    """Return the kind that a wish is of."""
    return next(name for name, kind in KINDS.items() if kind.wish is type(wish))


def wish_tree(wish: Wish) -> dict[str, Any]:
    """Return a wish as the record keeps it."""
    return cast(dict[str, Any], json.loads(to_json(wish)))


def read_wish(kind: str, tree: dict[str, Any]) -> Wish:
    """Read a wish strictly.

    Raises:
        TaskError: There is no such kind.
        RecordFormatError: A field is unknown, missing, or not of its type.
        WishError: It cannot be fulfilled.
    """
    return cast(Wish, from_mapping(kind_of(kind).wish, tree))


def share(trainings: int) -> dict[str, tuple[Collection[str], int | None]]:
    """Say which kinds share the machine, see `differnet.store.tasks.may_begin`.

    Args:
        trainings: How many trainings may run at a time.
    """
    return dict.fromkeys(TRAININGS, (TRAININGS, trainings))
