"""A camera that stands still, and pictures that were learned by heart, are never a PASS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from differnet.calibration import LEARNED
from differnet.detection import Detector
from differnet.records import Inspection, Record, Verdict
from differnet.repeats import Repeats

Pixels = NDArray[np.uint8]


def record(sha256: str, verdict: Verdict, path: str = "") -> Inspection:
    return Inspection(Record("", sha256, path, "", path, sha256, verdict, ("as it was",)))


def asked(*inspections: Inspection) -> list[Record]:
    repeats = Repeats()
    return [repeats.asked(inspection).record for inspection in inspections]


def test_only_pass_becomes_review() -> None:
    found = asked(*(record("e3b0", verdict, f"{verdict}.png") for verdict in Verdict))
    assert [r.verdict for r in found[1:]] == [
        Verdict.REVIEW if verdict is Verdict.PASS else verdict for verdict in list(Verdict)[1:]
    ]
    first = found[0]
    assert first.reasons == ("as it was",)
    for again in found[1:]:
        assert again.reasons[0].startswith(f"bit for bit the same picture as {first.path}: ")
        assert again.reasons[1:] == ("as it was",)
        assert again.quality_flags == ("repeated",)


def test_a_second_pass_of_the_same_picture_is_no_pass() -> None:
    one, other, again = asked(
        *(record(s, Verdict.PASS, f"{i}.png") for i, s in enumerate(("e3b0", "c442", "e3b0")))
    )
    assert (one.verdict, other.verdict, again.verdict) == (Verdict.PASS, Verdict.PASS, Verdict.REVIEW)


def test_a_file_named_twice_is_one_picture_and_frames_in_memory_are_not() -> None:
    assert [r.verdict for r in asked(*[record("e3b0", Verdict.PASS, "a.png")] * 2)] == [Verdict.PASS] * 2
    frames = asked(*[record("e3b0", Verdict.PASS)] * 2)
    assert frames[1].verdict is Verdict.REVIEW
    assert "the same picture as an earlier one: " in frames[1].reasons[0]


def test_what_could_not_be_read_is_not_compared() -> None:
    both = asked(record("", Verdict.INVALID, "a.png"), record("", Verdict.INVALID, "b.png"))
    assert all(r.quality_flags == () for r in both)


def test_a_training_picture_never_passes_also_by_a_loaded_model(
    detector: Detector, saved: Path, good: list[Pixels], fresh: list[Pixels]
) -> None:
    learned = detector.inspect(good[3]).record
    assert learned.verdict is not Verdict.PASS
    # Limits beyond everything, so that strangeness has no say.
    loaded = Detector.load(saved, "cpu").adopt_thresholds(50.0, 60.0, 1)
    records = [loaded.inspect(picture).record for picture in (good[3], fresh[0])]
    assert (records[0].verdict, records[0].reasons) == (Verdict.REVIEW, (LEARNED,))
    assert records[1].verdict is Verdict.PASS
