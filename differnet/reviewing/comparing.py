"""Compare a retrained model with the one before, on the same pictures, none of which either has learned."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from differnet.durable import write_file
from differnet.evaluation.intervals import (
    AurocDifference,
    Rate,
    auroc_difference,
    auroc_interval,
    largest_rate,
    percent,
    rate,
)
from differnet.images.layouts import GOOD
from differnet.records import DiffernetError, Record, Verdict
from differnet.strict_json import RecordFormatError, from_json

if TYPE_CHECKING:
    from differnet.detection import Detector

SCHEMA = 1
ENDING = ".comparison.json"
HELD_OUT, REVIEWED = "held out", "reviewed"
# Below it an interval of a rate is wider than a line could use, and the normal interval of a difference of
# AUROCs too narrow: of simulated pairs with 14 good parts it held the truth 88 times in 100 instead of 95.
FEW_PARTS = 30
_REJECTED = (Verdict.DEFECT, Verdict.OOD, Verdict.INVALID)


class ComparisonError(DiffernetError):
    """A comparison that would not be fair, or is not what was written."""


@dataclass(frozen=True)
class ComparedPart:
    """A picture that two models are compared on.

    Attributes:
        path: The file.
        sha256: Of its bytes.
        truth: ``good``, or a kind of defect.
        origin: ``held out`` of the data, or ``reviewed`` by a person.
    """

    path: Path
    sha256: str
    truth: str
    origin: str


@dataclass(frozen=True)
class Pair:
    """What two models make of one picture; a strangeness is ``None`` where a model could not judge."""

    path: str
    sha256: str
    truth: str
    origin: str
    old_verdict: Verdict
    new_verdict: Verdict
    old_strangeness: float | None
    new_strangeness: float | None

    @property
    def flips(self) -> bool:
        """Whether the verdict changes."""
        return self.old_verdict is not self.new_verdict


@dataclass(frozen=True)
class Side:
    """One of the two models, and how it did.

    Attributes:
        model_id, calibration_id, threshold_revision: What judged.
        t_review, t_defect: Its own thresholds, in force when it was compared.
        training_parts: That it has learned.
        auroc, auroc_low, auroc_high: Of the image AUROC and its 95 % interval; ``None`` without both classes.
        overkill: Good parts judged DEFECT, OOD or INVALID.
        escape: Defects judged PASS.
        review: Parts judged REVIEW, of all.
    """

    model_id: str
    calibration_id: str
    threshold_revision: int
    t_review: float
    t_defect: float
    training_parts: int
    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    overkill: Rate
    escape: Rate
    review: Rate


@dataclass(frozen=True)
class Comparison:
    """Two models on the same pictures.

    Attributes:
        schema_version: Of this file's form.
        made_at: UTC, ISO 8601.
        product: That both judge.
        source: Folder or manifest that training and held-out parts came from.
        old: The model that is in use.
        new: The retrained one.
        good, defects: Pictures of each.
        held_out, reviewed: Where they came from.
        difference: New minus old image AUROC on the same pictures; ``None`` where a class has fewer than two.
        cannot: Sentences: what does not follow from this.
        left_out: Pictures that were meant but not compared, each with its reason.
        pictures: Every picture, with both verdicts.
    """

    schema_version: int
    made_at: str
    product: str
    source: str
    old: Side
    new: Side
    good: int
    defects: int
    held_out: int
    reviewed: int
    difference: AurocDifference | None
    cannot: tuple[str, ...]
    left_out: tuple[str, ...]
    pictures: tuple[Pair, ...]

    @property
    def flips(self) -> tuple[Pair, ...]:
        """Pictures whose verdict changes."""
        return tuple(pair for pair in self.pictures if pair.flips)


def compare(
    old: Detector,
    new: Detector,
    parts: Sequence[ComparedPart],
    source: str,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Let two models judge the same pictures, each by its own thresholds.

    Args:
        old: The model in use.
        new: The retrained one.
        parts: Pictures that neither was trained on, each once.
        source: Where they came from, for a person.
        progress: Called with (stage, done, total).

    Returns:
        The comparison. Pictures that cannot be read, or are no longer what they were, are left out for both.

    Raises:
        ComparisonError: A model was trained on one of the pictures, or one stands there twice.
    """
    _require_unseen(old, new, parts)

    def told(model: str) -> Callable[[str, int, int], None] | None:
        return None if progress is None else lambda _, done, total: progress(f"{model} model", done, total)

    paths = [part.path for part in parts]
    by_old = [inspection.record for inspection in old.inspect_many(paths, told("present"))]
    by_new = [inspection.record for inspection in new.inspect_many(paths, told("new"))]
    pairs: list[Pair] = []
    left_out: list[str] = []
    for part, ours, theirs in zip(parts, by_old, by_new, strict=True):
        if {ours.sha256, theirs.sha256} != {part.sha256}:
            left_out.append(f"{part.path}: changed while the models were compared")
        elif not ours.width and not theirs.width:
            left_out.append(f"{part.path}: {ours.reasons[0]}")
        else:
            pairs.append(_pair(part, ours, theirs))
    defective = np.array([pair.truth != GOOD for pair in pairs], dtype=bool)
    strangeness = [
        np.array([math.inf if value is None else value for value in values], dtype=np.float64)
        for values in ([p.old_strangeness for p in pairs], [p.new_strangeness for p in pairs])
    ]
    sides = [
        _side(detector, values, [getattr(pair, f"{name}_verdict") for pair in pairs], defective)
        for detector, values, name in ((old, strangeness[0], "old"), (new, strangeness[1], "new"))
    ]
    defects, good = int(defective.sum()), int((~defective).sum())
    enough = min(defects, good) >= 2
    difference = auroc_difference(strangeness[1], strangeness[0], defective) if enough else None
    reviewed = sum(pair.origin == REVIEWED for pair in pairs)
    return Comparison(
        schema_version=SCHEMA,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        product=new.settings.product,
        source=source,
        old=sides[0],
        new=sides[1],
        good=good,
        defects=defects,
        held_out=len(pairs) - reviewed,
        reviewed=reviewed,
        difference=difference,
        cannot=_limits(good, defects, reviewed, difference, sides),
        left_out=tuple(left_out),
        pictures=tuple(pairs),
    )


def comparison_rows(compared: Comparison) -> list[tuple[str, str, str]]:
    """Lay two models beside each other.

    Args:
        compared: On the same pictures.

    Returns:
        Figure, the present model's and the new one's, as a person reads them; intervals follow their figure.
    """
    old, new = compared.old, compared.new
    rows = [("AUROC, part", _auroc(old.auroc), _auroc(new.auroc))]
    if old.auroc is not None:
        lower, higher = (f"{side.auroc_low:.4f} to {side.auroc_high:.4f}" for side in (old, new))
        rows.append(("  95 %", lower, higher))
    for name, before, after in (
        ("overkill (good parts rejected)", old.overkill, new.overkill),
        ("escapes (defects passed)", old.escape, new.escape),
        ("sent to review", old.review, new.review),
    ):
        rows.append((name, _count(before), _count(after)))
        if before.of:
            rows.append(("  95 %", _bounds(before), _bounds(after)))
    return rows


def comparison_words(compared: Comparison) -> list[str]:
    """Say what two models were compared on, and whether one is better.

    Args:
        compared: On the same pictures.
    """
    told = [
        f"Compared on {compared.good:,} good parts and {compared.defects:,} defects that neither model has "
        f"learned ({compared.held_out:,} held out, {compared.reviewed:,} reviewed), each model by its own "
        "thresholds."
    ]
    if (difference := compared.difference) is not None:
        verdicts = {"above": "the new model is better", "below": "the new model is worse", "tie": "a tie"}
        told.append(
            f"AUROC, new minus present: {difference.difference:+.4f} "
            f"(95 %: {difference.low:+.4f} to {difference.high:+.4f}), {verdicts[difference.word]}."
        )
    return told


def flip_rows(pairs: Sequence[Pair]) -> list[tuple[str, str, str, str]]:
    """Lay out pictures with what the two models make of them.

    Args:
        pairs: Such as `Comparison.flips`.

    Returns:
        Picture, truth, both verdicts, both figures of strangeness.
    """
    return [
        (
            pair.path,
            pair.truth,
            f"{pair.old_verdict.value} -> {pair.new_verdict.value}",
            f"{_short(pair.old_strangeness)} -> {_short(pair.new_strangeness)}",
        )
        for pair in pairs
    ]


def comparison_of(model: Path) -> Path:
    """Return where the comparison of a model is kept: beside it."""
    place = model.resolve()
    return place.with_name(place.name + ENDING)


def keep(comparison: Comparison, model: Path) -> Path:
    """Keep a comparison beside the new model.

    Raises:
        OSError: The disk refused; an older comparison stands as it was.
    """
    place = comparison_of(model)
    text = json.dumps(asdict(comparison), indent=1, allow_nan=False) + "\n"
    write_file(place, text.encode("ascii"))
    return place


def kept_comparison(model: Path) -> Comparison | None:
    """Read the comparison that is kept beside a model, ``None`` where there is none.

    Raises:
        ComparisonError: It is not one.
    """
    place = comparison_of(model)
    try:
        found = from_json(Comparison, place.read_bytes())
    except FileNotFoundError:
        return None
    except (RecordFormatError, UnicodeDecodeError) as error:
        raise ComparisonError(
            expected=f"a comparison at {place}",
            found=str(error)[:200],
            remedy="Compare again: differnet retrain MODEL DATA --out NEW.",
        ) from error
    if found.schema_version != SCHEMA:
        raise ComparisonError(
            expected=f"a comparison of form {SCHEMA} at {place}",
            found=f"form {found.schema_version}",
            remedy="Use the version of differnet that wrote it, or compare again.",
        )
    return found


def _auroc(auroc: float | None) -> str:
    return "not measured" if auroc is None else f"{auroc:.4f}"


def _count(of: Rate) -> str:
    return "no cases" if of.share is None else f"{of.events:,} of {of.of:,}, {percent(of.share)}"


def _bounds(of: Rate) -> str:
    return f"{percent(of.low)} to {percent(of.high)}"


def _short(strangeness: float | None) -> str:
    return "none" if strangeness is None else f"{strangeness:.2f}"


def _require_unseen(old: Detector, new: Detector, parts: Sequence[ComparedPart]) -> None:
    seen = [part for part in parts if part.sha256 in old.trained_on or part.sha256 in new.trained_on]
    if seen:
        raise ComparisonError(
            expected="pictures that neither model was trained on",
            found=f"{len(seen):,} of {len(parts):,} that one was, such as {seen[0].path}",
            remedy="A model finds what it has learned less strange than fresh parts: leave them out.",
        )
    if len({part.sha256 for part in parts}) < len(parts):
        raise ComparisonError(
            expected="every picture once",
            found=f"{len(parts):,} files of {len({part.sha256 for part in parts}):,} pictures",
            remedy="Leave the copies out: they are no further parts.",
        )


def _pair(part: ComparedPart, old: Record, new: Record) -> Pair:
    return Pair(
        str(part.path),
        part.sha256,
        part.truth,
        part.origin,
        old.verdict,
        new.verdict,
        old.strangeness,
        new.strangeness,
    )


def _side(
    detector: Detector, strangeness: np.ndarray, verdicts: Sequence[Verdict], defective: np.ndarray
) -> Side:
    facts = detector.facts()
    measured = None
    if defective.any() and not defective.all():
        measured = auroc_interval(strangeness, defective)
    good = [v for v, wrong in zip(verdicts, defective, strict=True) if not wrong]
    defects = [v for v, wrong in zip(verdicts, defective, strict=True) if wrong]
    return Side(
        model_id=facts["model_id"],
        calibration_id=facts["calibration_id"],
        threshold_revision=facts["threshold_revision"],
        t_review=facts["t_review"],
        t_defect=facts["t_defect"],
        training_parts=facts["training_parts"],
        auroc=None if measured is None else measured.auroc,
        auroc_low=None if measured is None else measured.low,
        auroc_high=None if measured is None else measured.high,
        overkill=rate(sum(v in _REJECTED for v in good), len(good)),
        escape=rate(sum(v is Verdict.PASS for v in defects), len(defects)),
        review=rate(sum(v is Verdict.REVIEW for v in verdicts), len(verdicts)),
    )


def _limits(
    good: int, defects: int, reviewed: int, difference: AurocDifference | None, sides: Sequence[Side]
) -> tuple[str, ...]:
    """Say what does not follow."""
    if not good and not defects:
        return ("Nothing was compared: no picture is left that neither model has learned.",)
    told: list[str] = []
    for number, what, cannot in (
        (good, "good part", "overkill"),
        (defects, "defect", "escapes"),
    ):
        if not number:
            told.append(f"No {what} was compared: nothing is said of {cannot}.")
        elif number < FEW_PARTS:
            told.append(
                f"{number} {what}{'' if number == 1 else 's'} bound{'s' if number == 1 else ''} {cannot} no "
                "better than the intervals above: no small rate can be claimed of either model."
            )
    if difference is None:
        told.append("An AUROC needs both classes, and its difference at least two parts of each.")
    elif difference.word == "tie":
        told.append(
            "Which model tells defects from good parts better cannot be said: the interval of the "
            "difference holds 0."
        )
    if difference is not None and min(good, defects) < FEW_PARTS:
        told.append(
            "With so few parts of a class the interval of the difference is, if anything, too narrow."
        )
    if defects and not any(side.escape.events for side in sides):
        told.append(
            f"0 escapes in {defects} defects says, with 95 % confidence, a rate below "
            f"{percent(largest_rate(0, defects))}, of defects like these."
        )
    if reviewed:
        told.append(
            f"{reviewed} of the {good + defects} parts were chosen by people to be looked at, often because "
            "the present model doubted them. That favours the new one: on the line it may do worse."
        )
    return tuple(told)
