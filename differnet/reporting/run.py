"""A run as reports and pages see it, wherever it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from differnet.records import Record

if TYPE_CHECKING:
    from differnet.calibration import Revision
    from differnet.store import ReviewEntry


@dataclass(frozen=True)
class CalibrationFacts:
    """What the thresholds of a run rest on.

    Attributes:
        parts: Good parts that calibrated the verdict, each judged by what had not been trained on it.
        alpha_review, alpha_defect: Share of good parts that T1 and T2 are allowed to flag.
        smallest_alpha: ``1 / (parts + 1)``; no smaller share can be promised.
        interval_defect: 90 % interval of the share of good parts that this one calibration set
            really gives beyond T2; `Beta(k, n + 1 - k)` of split conformal prediction.
        interval_review: The same for T1.
        scheme: How the calibration parts were kept apart, in words (``held out``, ``5-fold``).
        promised: False where variations joined very few parts: no rate holds, thresholds are provisional.
    """

    parts: int
    alpha_review: float
    alpha_defect: float
    smallest_alpha: float
    interval_defect: tuple[float, float] | None = None
    interval_review: tuple[float, float] | None = None
    scheme: str = ""
    promised: bool = True


@dataclass(frozen=True)
class ThresholdsSet:
    """Thresholds that a person put in force for a run, in place of the calibration's own.

    Attributes:
        number: Of the revision, as records carry it.
        author: Who set them.
        reason: Why.
        time: When, UTC, ISO 8601.
        rule: How they were found.
        sha256: Of the revision, which its file shows to be unchanged.
    """

    number: int
    author: str
    reason: str
    time: str = ""
    rule: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class RunFacts:
    """What is true of a whole run.

    Attributes:
        run_id: Name of the run; the folder's name when empty.
        product: What is made.
        source: Where the pictures came from, for a person to read.
        calibration: What the thresholds rest on.
        t_review, t_defect: T1 and T2 on strangeness.
        thresholds_set: Who set them and why; ``None`` where they are the calibration's own, or nobody knows.
        versions: Library name to version.
        details: Further facts that a reader of the report should see (backbone, weights' hash).
        counts: Verdict to number of pictures; filled when the run is closed.
        heat_scale: Low and high end of the colour scale, in the heat map's unit.
        format_version: Of the folder, raised when a reader of the older form would be misled.
    """

    run_id: str = ""
    product: str = ""
    source: str = ""
    model_id: str = ""
    calibration_id: str = ""
    calibration: CalibrationFacts | None = None
    t_review: float | None = None
    t_defect: float | None = None
    threshold_revision: int = 0
    thresholds_set: ThresholdsSet | None = None
    versions: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    commit: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    heat_scale: tuple[float, float] | None = None
    format_version: int = 1


def run_facts(facts: dict[str, Any], source: str, revision: Revision | None = None) -> RunFacts:
    """Put a detector's facts into a run's.

    Args:
        facts: `Detector.facts`.
        source: Where the pictures came from, for a person.
        revision: Whose thresholds are in force, see `differnet.detection.revision_of`.

    Returns:
        What is known of the run before its first picture.
    """
    return RunFacts(
        product=facts["product"],
        source=source,
        model_id=facts["model_id"],
        calibration_id=facts["calibration_id"],
        calibration=CalibrationFacts(**facts["calibration"]),
        t_review=facts["t_review"],
        t_defect=facts["t_defect"],
        threshold_revision=facts["threshold_revision"],
        thresholds_set=None
        if revision is None
        else ThresholdsSet(**{name: getattr(revision, name) for name in ThresholdsSet.__annotations__}),
        versions={name: str(version) for name, version in facts["versions"].items()},
        details=_details(facts),
        seed=facts["seed"],
    )


def _details(facts: dict[str, Any]) -> dict[str, str]:
    backbone = facts["backbone"]
    return {
        "Backbone": str(backbone["name"]),
        "Weights": f"{backbone['origin']}, sha256 {backbone['sha256']}",
        "Weights' licence": str(backbone["licence"]),
        "Picture size": f"{facts['image_size']} px",
        "Training parts": f"{facts['training_parts']:,}",
        "Trained at": str(facts["trained_at"]),
        "Training fingerprint": str(facts["training_fingerprint"]),
    }


class Run(Protocol):
    """What was inspected together, with the pictures to show for it."""

    @property
    def facts(self) -> RunFacts:
        """What is true of the whole run."""
        ...

    @property
    def records(self) -> Sequence[Record]:
        """All records, in the order of the run."""
        ...

    @property
    def reviews(self) -> Sequence[tuple[Record, ReviewEntry]]:
        """Records that a person judged, each with the last word on it; none where nobody keeps that."""
        ...

    @property
    def heat_scale(self) -> tuple[float, float]:
        """Low and high end of the colour scale, in the heat map's unit."""
        ...

    def heat_map(self, record: Record) -> NDArray[np.float32] | None:
        """Read a record's heat map, ``(rows, columns)``, or ``None`` when there is none."""
        ...

    def preview(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the bounded preview, ``(height, width, 3)`` RGB, or ``None`` when there is none."""
        ...

    def closeup(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the strongest region at full sharpness, RGB, or ``None`` when there is none."""
        ...
