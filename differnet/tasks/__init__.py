"""Long work in processes of its own: asked for by a page, told of in the record, and ended by whoever may."""

from differnet.tasks.kinds import KINDS, TaskError
from differnet.tasks.places import WishError, Workspace, name_from, roots, subfolders, unused_name
from differnet.tasks.starting import again, ask, machine, start, take_up
from differnet.tasks.wishes import (
    CompareWish,
    InspectWish,
    ReportWish,
    RetrainWish,
    SampleWish,
    ScanWish,
    TrainWish,
)

__all__ = [
    "KINDS",
    "CompareWish",
    "InspectWish",
    "ReportWish",
    "RetrainWish",
    "SampleWish",
    "ScanWish",
    "TaskError",
    "TrainWish",
    "WishError",
    "Workspace",
    "again",
    "ask",
    "machine",
    "name_from",
    "roots",
    "start",
    "subfolders",
    "take_up",
    "unused_name",
]
