"""What a check of the promises found: figures first, the verdict on them last."""

from __future__ import annotations

from dataclasses import dataclass

Figure = float | int | str


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        id: Of the row in the table of trust figures, such as ``S1``.
        title: What was tested.
        size: How many cases.
        figures: What was counted and measured; times in seconds, memory in MiB.
        passed: Whether every bar of the row was met, those of time and memory included.
        seconds: That the check took.
    """

    id: str
    title: str
    size: int
    figures: dict[str, Figure]
    passed: bool
    seconds: float
