"""What is told of a model is what the record, its folder and the file of thresholds beside it say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from differnet.calibration import by_overkill
from differnet.detection import revisions_of
from differnet.reporting.known_models import (
    KnownModel,
    ModelPlaceError,
    known_models,
    models_table,
    promise_words,
    promotions,
    put_model,
    require_place,
    thresholds_table,
)
from differnet.reporting.run import CalibrationFacts
from differnet.store import CalibrationEntry, ModelEntry, RevisionEntry, RunEntry, Store

FACTS = asdict(CalibrationFacts(200, 0.05, 0.01, 1 / 201, (0.004, 0.02), (0.03, 0.08), "split"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "record.db")
    yield opened
    opened.close()


def bundle(folder: Path, model_id: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"model_id": model_id}))
    return folder


def plant(store: Store, model_id: str, day: int, folder: str = "", product: str = "flange") -> None:
    store.add_model(ModelEntry(model_id, product, folder))
    facts = json.loads(json.dumps(FACTS))
    store.add_calibration(CalibrationEntry(model_id, "c", 200, "split", facts))
    started = f"2026-11-{day:02d}T06:00:00.000+00:00"
    store.begin_run(RunEntry(f"run {day}", product, model_id, "c", 1.3, 2.0 + day, day, started_at=started))


def one(store: Store, model_id: str) -> KnownModel:
    return next(model for model in known_models(store) if model.entry.model_id == model_id)


def test_models_stand_in_the_order_of_their_last_run(store: Store, tmp_path: Path) -> None:
    place = bundle(tmp_path / "new", "m2")
    plant(store, "m1", 3)
    plant(store, "m2", 5, str(place))
    plant(store, "m3", 4, product="valve")
    store.add_model(ModelEntry("m4", "flange"))
    found = known_models(store)
    assert [model.entry.model_id for model in found] == ["m2", "m3", "m1", "m4"]
    assert found[0].folder == place
    assert [run.run_id for run in found[0].runs] == ["run 5"]
    assert found[0].in_force == "revision 5: T1 1.300, T2 7.000"
    assert found[3].in_force == "it has judged nothing yet"
    table = models_table(found)
    assert list(table["calibrated on"]) == [*["200 parts, split"] * 3, "nothing that the record knows of"]
    assert list(table["place"])[:2] == [str(place), "the record does not know where it lies"]
    assert list(table["runs"]) == [1, 1, 1, 0]
    assert models_table([]).empty


def test_a_model_that_is_lost_is_called_so_with_the_reason(store: Store, tmp_path: Path) -> None:
    plant(store, "m1", 1, str(tmp_path / "gone"))
    plant(store, "m2", 2, str(bundle(tmp_path / "other", "m9")))
    assert "no model at" in one(store, "m1").lost
    assert "another model, m9" in one(store, "m2").lost
    for model_id, reason in (("m1", "any more"), ("m2", "m9"), ("nobody", "does not know it")):
        with pytest.raises(ModelPlaceError, match=reason):
            require_place(store, model_id)


def test_a_model_is_only_put_where_its_manifest_is(store: Store, tmp_path: Path) -> None:
    plant(store, "m1", 1)
    other = bundle(tmp_path / "other", "m9")
    for wrong, found in ((other, "model m9"), (tmp_path / "nowhere", "no model"), (tmp_path, "no model")):
        with pytest.raises(ModelPlaceError, match=found):
            put_model(store, "m1", wrong)
    assert one(store, "m1").folder is None
    put_model(store, "m1", bundle(tmp_path / "here", "m1"))
    assert require_place(store, "m1") == (tmp_path / "here").resolve()


def test_promises_are_those_of_the_calibration() -> None:
    words = promise_words(CalibrationEntry("m", "c", 200, facts=json.loads(json.dumps(FACTS))))
    assert words == [
        "At most 5.0 % of good parts go beyond T1; 90 in 100 such calibrations give 3.0 % to 8.0 %.",
        "At most 1.0 % of good parts go beyond T2; 90 in 100 such calibrations give 0.4 % to 2.0 %.",
    ]
    nothing = promise_words(CalibrationEntry("m", "c", 2, facts=FACTS | {"promised": False}))
    assert nothing == ["No error rate can be promised from 2 parts; thresholds are provisional."]
    assert "does not know" in promise_words(CalibrationEntry("m", "c", 2))[0]


def test_thresholds_are_told_by_the_file_beside_the_model_or_by_the_record(
    store: Store, tmp_path: Path
) -> None:
    place = bundle(tmp_path / "model", "m1")
    plant(store, "m1", 1, str(place))
    made = "2026-11-20T06:07:08.000+00:00"
    store.add_revision(RevisionEntry("m1", "c", 1, 1.0, 2.0, "ada", "start", "by hand", made))
    kept = revisions_of(place)
    names: dict[str, Any] = {"author": "bo", "calibration_id": "c"}
    kept.append(by_overkill(range(99), 0.05, 0.01), reason="first", model_id="m1", **names)
    kept.append(by_overkill(range(99), 0.10, 0.02), reason="of another", model_id="m0", **names)
    kept.append(by_overkill(range(99), 0.20, 0.02), reason="third", model_id="m1", **names)
    table = thresholds_table(one(store, "m1"))
    assert list(table["number"]) == [3, 1]
    assert list(table["reason"]) == ["third", "first"]
    (place / "manifest.json").unlink()
    lost = thresholds_table(one(store, "m1"))
    assert lost[["number", "set", "by", "reason", "how"]].values.tolist() == [
        [1, "2026-11-20 06:07", "ada", "start", "by hand"]
    ]
    plant(store, "m2", 2)
    assert thresholds_table(one(store, "m2")).empty


def test_promotions_are_read_from_the_audit_trail(store: Store) -> None:
    store.note("ada", "begin promotion", "/m", {"to": "m2"})
    store.note("ada", "promote", "/m", {"to": "m2"})
    store.note("bo", "retried", "item", {})
    store.note("bo", "return to previous model", "/m", {"to": "m1"})
    assert [(e["actor"], e["facts"]["to"]) for e in promotions(store)] == [("bo", "m1"), ("ada", "m2")]
