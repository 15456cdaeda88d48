"""A picture and a model are only used where they are still what the record says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from differnet.images.reading import write_png
from differnet.records import Record, Verdict
from differnet.reporting.origins import OriginError, bundle_digest, find_model, find_picture, true_mask
from differnet.store import ModelEntry, RunEntry, Store

MakeRecord = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "record.db")
    yield opened
    opened.close()


def recorded(make_record: MakeRecord, root: Path, name: str) -> Record:
    content = (root / name).read_bytes()
    return make_record(1, Verdict.DEFECT, path=name, sha256=hashlib.sha256(content).hexdigest())


def test_the_very_picture_is_found_where_relative_paths_begin(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for root in (here, there):
        root.mkdir()
    write_png(there / "a.png", np.zeros((4, 4), np.uint8))
    record = recorded(make_record, there, "a.png")
    assert find_picture(record, [here, there]) == there / "a.png"
    assert find_picture(replace(record, path=str(there / "a.png")), [here]) == there / "a.png"
    # Another picture under the same name does not hide the right one.
    write_png(here / "a.png", np.ones((4, 4), np.uint8))
    assert find_picture(record, [here, there]) == there / "a.png"


def test_a_picture_that_is_gone_or_changed_is_told_apart(make_record: MakeRecord, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    record = recorded(make_record, tmp_path, "a.png")
    write_png(tmp_path / "a.png", np.ones((4, 4), np.uint8))
    with pytest.raises(OriginError, match="another picture") as caught:
        find_picture(record, [tmp_path])
    assert "Put the file back" in caught.value.remedy
    (tmp_path / "a.png").unlink()
    with pytest.raises(OriginError, match="nothing there"):
        find_picture(record, [tmp_path])
    for nameless in (replace(record, path=""), replace(record, sha256="")):
        with pytest.raises(OriginError, match="one without"):
            find_picture(nameless, [tmp_path])
    for name in ("x" * 5000, "a\0b", "."):
        with pytest.raises(OriginError):
            find_picture(replace(record, path=name), [tmp_path])


def test_a_model_is_found_by_the_run_or_by_the_record(
    store: Store, make_record: MakeRecord, tmp_path: Path
) -> None:
    record = make_record(1, Verdict.PASS, model_id="m")
    run = RunEntry("r", "flange", "m", "c", 1.3, 2.0)
    with pytest.raises(OriginError, match="none that the record knows"):
        find_model(store, run, record)
    store.add_model(ModelEntry("m", "flange", str(tmp_path / "gone")))
    with pytest.raises(OriginError, match=r"no model at .*gone"):
        find_model(store, run, record)
    place = tmp_path / "model"
    place.mkdir()
    (place / "manifest.json").write_text("{}")
    found = find_model(store, replace(run, facts={"model_folder": str(place)}), record)
    assert found == place
    # What a run says of its own model is not believed of another's.
    with pytest.raises(OriginError):
        find_model(store, replace(run, model_id="n", facts={"model_folder": str(place)}), record)
    for sense in ({"model_folder": 7}, {"model_folder": None}):
        with pytest.raises(OriginError):
            find_model(store, replace(run, facts=sense), record)


def test_a_bundle_is_known_by_its_manifest(tmp_path: Path) -> None:
    with pytest.raises(OriginError, match="manifest"):
        bundle_digest(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    before = bundle_digest(tmp_path)
    assert before == hashlib.sha256(b"{}").hexdigest()
    manifest.write_text("{ }")
    assert bundle_digest(tmp_path) != before
    with manifest.open("wb") as stream:
        stream.truncate(5 << 20)
    with pytest.raises(OriginError, match="too large"):
        bundle_digest(tmp_path)


def test_the_true_mask_lies_where_layouts_have_it(tmp_path: Path) -> None:
    picture = tmp_path / "test" / "dent" / "000.png"
    mask = tmp_path / "ground_truth" / "dent" / "000_mask.png"
    for file in (picture, mask):
        file.parent.mkdir(parents=True)
    write_png(picture, np.zeros((6, 8), np.uint8))
    assert true_mask(picture, 6, 8) is None
    marked = np.zeros((6, 8), np.uint8)
    write_png(mask, marked)
    assert true_mask(picture, 6, 8) is None
    marked[2:4, 3:5] = 255
    write_png(mask, marked)
    found = true_mask(picture, 6, 8)
    assert found is not None
    assert np.array_equal(found, marked > 0)
    with pytest.raises(OriginError, match="8 x 6"):
        true_mask(picture, 8, 6)
    mask.write_bytes(b"broken")
    with pytest.raises(OriginError):
        true_mask(picture, 6, 8)
