"""What is learned from and what is compared on follow rules that look at no verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from differnet.detection import Detector, DetectorSettings
from differnet.detection.ignoring import IgnoreMask
from differnet.images.layouts import GOOD, Dataset, Part
from differnet.reviewing import ReviewError, last_words, locate, plan, same_settings, set_aside
from differnet.reviewing.retraining import Plan
from differnet.store import Asked
from reviewing.conftest import Line, sha256_of


@pytest.fixture
def dataset(line: Line) -> Dataset:
    """Six good training parts, two good test parts and one defect."""
    parts = []
    for name, label, split in (
        *((f"train-{n}", GOOD, "train") for n in range(6)),
        *((f"test-{n}", GOOD, "test") for n in range(2)),
        ("broken", "dent", "test"),
    ):
        path = line.root / f"{name}.png"
        path.write_bytes(name.encode())
        parts.append(Part(path, label, split))  # type: ignore[arg-type]
    return Dataset(line.root, "folder", tuple(parts))


def hashed(*names: str) -> set[str]:
    return {sha256_of(name.encode()) for name in names}


def say(line: Line, name: str, judgement: str) -> None:
    line.say(line.inspect("monday", f"{name}.png", name.encode()), judgement)


def planned(line: Line, dataset: Dataset, trained_on: set[str]) -> Plan:
    words = last_words(line.store, Asked())
    decided = [word for word in words if word.entry.judgement != "unsure"]
    return plan(dataset, locate(line.store, decided, line.root)[0], words, trained_on)


def learned(found: Plan) -> set[str]:
    return {path.stem for path in found.training}


def compared(found: Plan) -> dict[str, str]:
    return {part.path.stem: part.truth for part in found.compared}


TRAIN = [f"train-{n}" for n in range(6)]


def test_without_reviews_the_data_alone_counts(line: Line, dataset: Dataset) -> None:
    found = planned(line, dataset, hashed(*TRAIN))
    assert learned(found) == set(TRAIN)
    assert compared(found) == {"test-0": GOOD, "test-1": GOOD, "broken": "dent"}
    assert (found.added, found.aside) == (0, 0)


def test_reviewed_good_parts_are_added_but_every_fourth(line: Line, dataset: Dataset) -> None:
    names = [f"line-{n}" for n in range(9)]
    for name in names:
        say(line, name, "good")
    say(line, "bad", "defect")
    found = planned(line, dataset, hashed(*TRAIN))
    aside = {name for name in names if sha256_of(name.encode()) in set_aside(hashed(*names))}
    assert len(aside) == 2
    assert learned(found) == set(TRAIN) | set(names) - aside
    assert set(compared(found)) == {"test-0", "test-1", "broken", "bad"} | aside
    assert (found.added, found.aside) == (7, 2)


def test_nothing_that_was_called_a_defect_is_learned(line: Line, dataset: Dataset) -> None:
    say(line, "train-2", "defect")
    # A copy under another name, too: it goes by its bytes.
    line.say(line.inspect("tuesday", "copy.png", b"train-3"), "defect")
    say(line, "line-0", "good")
    line.say(line.inspect("tuesday", "line-0.png", b"line-0"), "defect")
    found = planned(line, dataset, hashed(*TRAIN))
    assert learned(found) == set(TRAIN) - {"train-2", "train-3"}
    assert {path.stem for path in found.called_defect} == {"train-2", "train-3"}
    # The present model has learned the first two: it cannot be compared on them.
    assert set(compared(found)) == {"test-0", "test-1", "broken", "line-0"}


def test_what_was_called_a_defect_in_another_run_is_not_learned_either(line: Line, dataset: Dataset) -> None:
    line.say(line.inspect("tuesday", "train-1.png", b"train-1"), "defect")
    words = last_words(line.store, Asked())
    found = plan(dataset, [], words, hashed(*TRAIN))
    assert learned(found) == set(TRAIN) - {"train-1"}


def test_test_parts_stay_test_parts_and_a_persons_word_is_their_truth(line: Line, dataset: Dataset) -> None:
    say(line, "test-0", "good")
    say(line, "test-1", "defect")
    say(line, "broken", "unsure")
    found = planned(line, dataset, hashed(*TRAIN))
    assert learned(found) == set(TRAIN)
    assert compared(found) == {"test-0": GOOD, "test-1": "defect"}
    assert (found.overruled, found.doubted, found.added) == (1, 1, 0)


def test_nothing_that_the_present_model_learned_is_compared_on(line: Line, dataset: Dataset) -> None:
    say(line, "line-0", "defect")
    names = [f"line-{n}" for n in range(1, 9)]
    for name in names:
        say(line, name, "good")
    known = hashed(*TRAIN, "test-0", "line-0", "line-1", "line-2")
    found = planned(line, dataset, known)
    assert not known & {part.sha256 for part in found.compared}
    assert {"line-1", "line-2"} <= learned(found)
    # Of the six that are new to it the fourth.
    assert found.aside == 1


def test_a_picture_is_learned_once_and_never_both(line: Line, dataset: Dataset) -> None:
    (line.root / "again.png").write_bytes(b"train-0")
    more = replace(dataset, parts=(*dataset.parts, Part(line.root / "again.png", GOOD, "train")))
    line.say(line.inspect("monday", "once-more.png", b"train-1"), "good")
    found = planned(line, more, set())
    hashes = [sha256_of(path.read_bytes()) for path in found.training]
    assert len(hashes) == len(set(hashes)) == 6
    assert not set(hashes) & {part.sha256 for part in found.compared}


def test_nothing_to_learn_from_is_refused(line: Line, dataset: Dataset) -> None:
    for name in TRAIN:
        say(line, name, "defect")
    with pytest.raises(ReviewError):
        planned(line, dataset, set())


def test_a_model_is_trained_again_as_it_was(tmp_path: Path) -> None:
    cells = np.zeros((12, 12), dtype=bool)
    cells[3:5, :7] = True
    detector = Detector(DetectorSettings(image_size=96, seed=5, product="nut", zooms=(1.0,)))
    detector.ignored_ = IgnoreMask(cells)
    sha256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    detector.provenance_ = {"backbone": {"sha256": sha256}}
    with same_settings(detector, keep_suspects=True) as settings:
        assert settings.ignore is not None
        again = IgnoreMask.read(settings.ignore, settings.sizes, settings.reading)
        assert (again.cells == cells).all()
        assert replace(settings, ignore=None, keep_suspects=False) == detector.settings
    detector.provenance_ = {"backbone": {"sha256": "0" * 64}}
    with pytest.raises(ReviewError, match="--weights"), same_settings(detector):
        pytest.fail("other weights were taken")
