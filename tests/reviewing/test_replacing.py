"""A model takes another one's place by the same steps for everybody, and the record knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from differnet.detection import Detector
from differnet.reviewing import (
    PromotionError,
    compare,
    keep,
    replace_model,
    require_previous,
    return_to_previous,
    weigh,
)
from differnet.reviewing import replacing as room
from differnet.store import ModelEntry, Store
from reviewing.test_comparing import detectors, parts
from reviewing.test_promotion import make, model_at

__all__ = ["parts"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "record.db")
    for model_id in ("old", "new"):
        opened.add_model(ModelEntry(model_id, "flange", str(tmp_path / model_id)))
    yield opened
    opened.close()


@pytest.fixture
def scene(tmp_path: Path, parts: list[Any]) -> tuple[Path, Path, Detector, Detector]:
    """Folder of the model in use, of the new one, and both loaded; a comparison is kept."""
    model, new = make(tmp_path / "model", "old"), make(tmp_path / "elsewhere" / "new", "new")
    old_detector, new_detector = detectors()
    keep(compare(old_detector, new_detector, parts, "data"), new)
    return model, new, old_detector, new_detector


def test_the_record_is_told_before_and_after_and_where_both_lie(
    store: Store, scene: tuple[Path, Path, Detector, Detector]
) -> None:
    model, new, old, newer = scene
    weighed = weigh(new, model, newer, old)
    assert weighed.comparison is not None
    done = replace_model(store, weighed, author="ada", reason="fewer escapes", anyway=bool(weighed.against))
    assert model_at(model) == "new"
    assert model_at(done.previous) == "old"
    after, before = store.audit()
    assert (before["action"], after["action"]) == ("begin promotion", "promote")
    assert (after["actor"], after["subject"]) == ("ada", str(model.resolve()))
    told = after["facts"]
    assert (told["from"], told["to"], told["reason"]) == (old.model_id, newer.model_id, "fewer escapes")
    places = {entry.model_id: entry.folder for entry in store.models()}
    assert places[newer.model_id] == str(model.resolve())
    assert places[old.model_id] == str(done.previous)
    assert done.previous.name in done.words
    back = return_to_previous(store, model, old, author="bo", reason="it was worse")
    assert model_at(model) == "old"
    assert [entry["action"] for entry in store.audit()][:2] == ["return to previous model", "begin return"]
    places = {entry.model_id: entry.folder for entry in store.models()}
    assert places[old.model_id] == str(model.resolve())
    # What the folder said of itself was no manifest here.
    assert back.facts["from"] is None


def test_what_speaks_against_it_stops_it_unless_anyway(
    store: Store, scene: tuple[Path, Path, Detector, Detector], tmp_path: Path
) -> None:
    model, new, old, newer = scene
    new.with_name("new.comparison.json").unlink()
    weighed = weigh(new, model, newer, old)
    assert weighed.against == ("no comparison is kept beside the new model",)
    with pytest.raises(PromotionError, match="no comparison is kept"):
        replace_model(store, weighed, author="ada", reason="x")
    assert model_at(model) == "old"
    assert store.audit() == []
    done = replace_model(store, weighed, author="ada", reason="x", anyway=True)
    assert model_at(model) == "new"
    assert done.facts["against"] == list(weighed.against)
    assert store.audit()[0]["facts"]["anyway"] is True


def test_one_that_fails_is_on_record_as_begun(
    store: Store, scene: tuple[Path, Path, Detector, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, new, old, newer = scene

    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room, "promote", full)
    weighed = weigh(new, model, newer, old)
    with pytest.raises(OSError, match="No space"):
        replace_model(store, weighed, author="ada", reason="x", anyway=True)
    assert model_at(model) == "old"
    assert [entry["action"] for entry in store.audit()] == ["begin promotion"]
    assert {entry.folder for entry in store.models()} == {
        str(model.parent / "old"),
        str(model.parent / "new"),
    }


def test_the_same_model_is_not_weighed_against_itself(
    scene: tuple[Path, Path, Detector, Detector],
) -> None:
    model, new, old, _ = scene
    with pytest.raises(PromotionError, match="the same at"):
        weigh(new, model, old, old)


def test_without_a_previous_model_there_is_no_return(store: Store, tmp_path: Path) -> None:
    model = make(tmp_path / "alone", "old")
    with pytest.raises(PromotionError, match="the previous model"):
        require_previous(model)
    with pytest.raises(PromotionError, match="the previous model"):
        return_to_previous(store, model, detectors()[0], author="ada", reason="x")
    assert store.audit() == []
