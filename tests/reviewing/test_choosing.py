"""Parts to compare on are chosen by what is known of them, never by verdicts, and none that was learned."""

from __future__ import annotations

import pytest

from differnet.records import Record, Verdict
from differnet.reviewing import parts_to_compare
from differnet.reviewing.comparing import HELD_OUT, REVIEWED
from differnet.store import RunEntry
from reviewing.conftest import Line, sha256_of


def labelled(
    line: Line, run_id: str, label: str | None, name: str, verdict: Verdict = Verdict.PASS
) -> Record:
    """Keep a picture whose folder says what it shows."""
    content = f"{label} {name}".encode()
    (line.root / f"{name}.png").write_bytes(content)
    record = Record(
        run_id,
        item_id=sha256_of(content)[:16],
        part_id=name,
        view_id="",
        path=f"{name}.png",
        sha256=sha256_of(content),
        verdict=verdict,
        reasons=(),
        label=label,
        product="flange",
        model_id="m-flange",
        calibration_id="c1",
    )
    line.store.add_items([record])
    return record


def test_labels_and_words_tell_what_a_part_is(line: Line) -> None:
    good = labelled(line, "monday", "good", "a")
    dent = labelled(line, "monday", "dent", "b")
    labelled(line, "monday", None, "c")
    labelled(line, "monday", "wrong_inputs/blank", "d")
    wrongly_good = labelled(line, "monday", "good", "e")
    doubted = labelled(line, "monday", "good", "f")
    line.say(wrongly_good, "defect", "scratch")
    line.say(doubted, "good")
    line.say(doubted, "unsure")
    found = parts_to_compare(line.store, "flange", frozenset(), [line.root], 100)
    told = {part.sha256: (part.truth, part.origin) for part in found.parts}
    assert told == {
        good.sha256: ("good", HELD_OUT),
        dent.sha256: ("dent", HELD_OUT),
        wrongly_good.sha256: ("scratch", REVIEWED),
    }
    assert found.known == (1, 2)
    assert all(part.path.read_bytes() for part in found.parts)
    assert parts_to_compare(line.store, "gear", frozenset(), [line.root], 100).parts == ()


def test_what_was_learned_is_never_chosen(line: Line) -> None:
    kept = [labelled(line, "monday", "good", f"part {i}") for i in range(6)]
    line.say(kept[0], "good")
    learned = frozenset(record.sha256 for record in kept[:3])
    found = parts_to_compare(line.store, "flange", learned, [line.root], 100)
    assert {part.sha256 for part in found.parts} == {record.sha256 for record in kept[3:]}


@pytest.mark.parametrize(
    ("good", "defects", "limit", "wanted"),
    [
        (30, 30, 20, (10, 10)),
        (30, 4, 20, (16, 4)),
        (3, 30, 20, (3, 17)),
        (5, 5, 20, (5, 5)),
        (30, 0, 8, (8, 0)),
    ],
)
def test_both_classes_get_half_and_what_one_leaves_goes_to_the_other(
    line: Line, good: int, defects: int, limit: int, wanted: tuple[int, int]
) -> None:
    kept = [labelled(line, "monday", "good", f"good {i}", verdict=Verdict.DEFECT) for i in range(good)]
    kept += [labelled(line, "tuesday", "dent", f"dent {i}") for i in range(defects)]
    found = parts_to_compare(line.store, "flange", frozenset(), [line.root], limit)
    chosen = [part.truth for part in found.parts]
    assert (chosen.count("good"), chosen.count("dent")) == wanted
    assert found.known == (good, defects)
    # In the order of their sha256, whatever the verdict.
    of_good = sorted(record.sha256 for record in kept if record.label == "good")
    assert [part.sha256 for part in found.parts if part.truth == "good"] == of_good[: wanted[0]]


def test_a_picture_of_several_runs_counts_once_and_lost_ones_are_named(line: Line) -> None:
    first = labelled(line, "monday", "good", "a")
    line.store.begin_run(RunEntry("again", "flange", "m-flange", "c1", 1.3, 2.0))
    labelled(line, "again", "good", "a")
    gone = labelled(line, "monday", "dent", "b")
    (line.root / "b.png").unlink()
    found = parts_to_compare(line.store, "flange", frozenset(), [line.root], 100)
    assert [part.sha256 for part in found.parts] == [first.sha256]
    assert found.lost == (f"{gone.path}: nothing there that can be read",)


def test_what_is_lost_makes_room_for_the_next(line: Line) -> None:
    kept = [labelled(line, "monday", "good", f"good {i}") for i in range(12)]
    gone = sorted(kept, key=lambda record: record.sha256)[:5]
    for record in gone:
        (line.root / record.path).unlink()
    found = parts_to_compare(line.store, "flange", frozenset(), [line.root], 6)
    assert len(found.parts) == 6
    assert len(found.lost) == 5
    assert not {part.sha256 for part in found.parts} & {record.sha256 for record in gone}
