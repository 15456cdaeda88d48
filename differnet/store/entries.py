"""What the store keeps beside records, and which of them somebody asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from differnet.records import Verdict

Judgement = Literal["good", "defect", "unsure"]
Order = Literal["kept", "strangest", "latest"]


@dataclass(frozen=True)
class ModelEntry:
    """A model as the store knows it.

    Attributes:
        model_id: Of the densities.
        product: What it judges.
        folder: Where its bundle lies.
        facts: What else is known of it, JSON-able.
    """

    model_id: str
    product: str
    folder: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CalibrationEntry:
    """What verdicts of a model rest on.

    Attributes:
        model_id, calibration_id: Of the two.
        parts: Good parts that calibrated.
        scheme: How they were kept apart from training.
        facts: Rates and intervals, JSON-able.
    """

    model_id: str
    calibration_id: str
    parts: int
    scheme: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RevisionEntry:
    """Thresholds that somebody put in force.

    Attributes:
        model_id, calibration_id: Whose strangeness they are for.
        number: From 1; 0 are the calibration's own, which need no entry.
        t_review, t_defect: T1 and T2.
        author, reason, rule: Who, why, and how they were found.
        made_at: UTC, ISO 8601.
    """

    model_id: str
    calibration_id: str
    number: int
    t_review: float
    t_defect: float
    author: str
    reason: str
    rule: str = ""
    made_at: str = ""


@dataclass(frozen=True)
class RunEntry:
    """One inspection of many pictures, or a line's shift.

    Attributes:
        run_id: Its name.
        product, model_id, calibration_id: What judged.
        threshold_revision: Number of the thresholds in force, 0 for the calibration's own.
        t_review, t_defect: T1 and T2 on strangeness.
        source: Where the pictures came from, for a person.
        folder: Where heat maps and previews lie.
        facts: What else a report says, JSON-able.
        started_at, finished_at: UTC, ISO 8601; a run that is not finished can be resumed.
    """

    run_id: str
    product: str
    model_id: str
    calibration_id: str
    t_review: float
    t_defect: float
    threshold_revision: int = 0
    source: str = ""
    folder: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    started_at: str = ""
    finished_at: str | None = None


@dataclass(frozen=True)
class ReviewEntry:
    """What a person said of an item. Nothing is ever changed: who changes their mind says so once more.

    Who said it by mistake takes it back, `Store.withdraw`; it is kept, and does not count any more.

    Attributes:
        judgement: ``good``, ``defect`` or ``unsure``.
        kind: Of defect, else empty.
        author: Who.
        note: Whatever else.
        made_at: When, UTC, ISO 8601.
    """

    judgement: Judgement
    author: str
    kind: str = ""
    note: str = ""
    made_at: str = ""


@dataclass(frozen=True)
class Said:
    """A word of a person, with what it was said of.

    Attributes:
        run_id, item_id, part_id, sha256, label, product: Of the item.
        verdict, strangeness: What the program said of it.
        entry: What the person said.
        withdrawn_at: When the person took it back, UTC, ISO 8601; empty while it stands.
    """

    run_id: str
    item_id: str
    part_id: str
    sha256: str
    label: str | None
    product: str
    verdict: Verdict
    strangeness: float | None
    entry: ReviewEntry
    withdrawn_at: str = ""


@dataclass(frozen=True)
class Asked:
    """Which items are meant; what is ``None`` or empty does not matter.

    Attributes:
        run_id: Of one run.
        product, model_id, calibration_id: Judged as, and by.
        revision: Under which thresholds.
        verdicts: Any of these.
        label: Ground truth of the folder.
        since, until: Processed from, and before, UTC in ISO 8601; a date alone is its first moment.
        part_id, sha256: Of one part, of one picture.
    """

    run_id: str | None = None
    product: str | None = None
    model_id: str | None = None
    calibration_id: str | None = None
    revision: int | None = None
    verdicts: tuple[Verdict, ...] = ()
    label: str | None = None
    since: str | None = None
    until: str | None = None
    part_id: str | None = None
    sha256: str | None = None
