"""A run as columns, whether it is still so, and records that cannot be written."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from differnet.records import Record, Verdict
from differnet.store import NoRunError, ReviewEntry, RevisionEntry, Store, StoreError
from differnet.store.queue import Queue, Wanted, item_id_of
from differnet.store.run_table import JUDGEMENTS, VERDICTS, RunTable
from store.conftest import CALIBRATION, MODEL, known, record, run


def judged(run_id: str, path: str, **changes: Any) -> Record:
    return record(7, run_id, item_id=item_id_of(path), path=path, sha256=path, **changes)


RECORDS = [
    record(0),
    record(1, verdict=Verdict.INVALID, strangeness=None, p_value=None, label=None, sha256=""),
    record(2, verdict=Verdict.OOD, part_id="\udcff.png"),
]


def test_a_table_holds_what_the_records_say(store: Store) -> None:
    store.add_items(RECORDS)
    table = store.table("monday")
    assert len(table) == 3
    assert list(table.item_id) == [r.item_id for r in RECORDS]
    assert list(table.part_id) == [r.part_id for r in RECORDS]
    assert list(table.label) == ["good", None, "good"]
    assert [VERDICTS[code] for code in table.verdict] == [r.verdict for r in RECORDS]
    assert table.strangeness.dtype == np.float64
    assert math.isnan(table.strangeness[1])
    assert table.strangeness[2] == 0.2
    assert table.p_value_local[0] == 1 / 3
    assert list(table.judgement) == [-1, -1, -1]


def test_columns_that_are_read_later_are_of_the_same_items(store: Store) -> None:
    store.add_items(RECORDS)
    table = store.table("monday")
    store.add_items([record(11, nll_global=1.0), record(12)])
    assert len(table) == 3
    assert table.nll_global.tolist() == [r.nll_global for r in RECORDS]
    assert list(table.processed_at) == [r.processed_at for r in RECORDS]
    assert table.inference_ms.dtype == table.p_value_ood.dtype == np.float64
    with pytest.raises(AttributeError):
        getattr(table, "colour of the part")


def test_a_run_without_items_is_an_empty_table(store: Store) -> None:
    table = store.table("monday")
    assert len(table) == 0
    assert table.strangeness.shape == (0,)
    with pytest.raises(NoRunError):
        store.table("tuesday")


def test_the_last_word_of_people_stands_in_the_table(store: Store) -> None:
    store.add_items(RECORDS)
    store.review("monday", "item-0", ReviewEntry("good", "ada", made_at="2026-11-23T08:00:00.000+00:00"))
    store.review(
        "monday", "item-0", ReviewEntry("defect", "bo", "dent", made_at="2026-11-23T07:00:00.000+00:00")
    )
    store.review("monday", "item-2", ReviewEntry("defect", "bo", "dent"))
    table = store.table("monday")
    assert [JUDGEMENTS[code] if code >= 0 else None for code in table.judgement] == ["good", None, "defect"]
    assert list(table.kind) == ["", "", "dent"]


def test_whatever_is_written_of_a_run_is_noticed(store: Store) -> None:
    seen = {"monday": store.changed("monday"), "job": -1}

    def moved(run_id: str = "monday") -> bool:
        before, seen[run_id] = seen[run_id], store.changed(run_id)
        return seen[run_id] > before

    store.add_items(RECORDS[:1])
    assert moved()
    store.review("monday", "item-0", ReviewEntry("good", "ada"))
    assert moved()
    store.finish_run("monday")
    assert moved()
    queue = Queue.begin(store, run("job"), [Wanted("parts/7.png"), Wanted("parts/9.png")])
    assert moved("job")
    queue.settle("me", [(queue.claim("me", 1)[0], judged("job", "parts/7.png"))])
    assert moved("job")
    bad = judged("job", "parts/9.png", verdict=Verdict.INVALID, strangeness=None)
    queue.settle("me", [(queue.claim("me", 1)[0], bad)])
    assert moved("job")
    queue.retry()
    assert moved("job")
    queue.settle("me", [(queue.claim("me", 1)[0], judged("job", "parts/9.png"))])
    assert moved("job")
    assert queue.finish()
    assert moved("job")
    assert not moved("job")
    assert not moved()


def test_records_come_in_the_order_asked_for(store: Store) -> None:
    store.add_items(RECORDS)
    assert store.records("monday", ["item-2", "nobody", "item-0"]) == [RECORDS[2], RECORDS[0]]
    assert store.records("monday", []) == []


def test_models_and_their_thresholds_are_listed(store: Store, tmp_path: Path) -> None:
    store.place_model(MODEL, tmp_path)
    assert [(m.model_id, m.folder) for m in store.models("flange")] == [(MODEL, str(tmp_path.resolve()))]
    assert store.models("cap") == []
    assert [c.calibration_id for c in store.calibrations(MODEL)] == [CALIBRATION]
    for number in (1, 2):
        store.add_revision(RevisionEntry(MODEL, CALIBRATION, number, 1.0, 2.0, "ada", "why", made_at="now"))
    assert [r.number for r in store.revisions(MODEL, CALIBRATION)] == [2, 1]


def test_views_are_kept_replaced_and_dropped(store: Store) -> None:
    store.keep_view("gallery", "strange", {"verdicts": ["DEFECT"]}, "ada")
    store.keep_view("gallery", " strange ", {"verdicts": ["REVIEW"]}, "bo")
    store.keep_view("gallery", "all", {}, "bo")
    assert store.views("gallery") == {"all": {}, "strange": {"verdicts": ["REVIEW"]}}
    assert store.views("queue") == {}
    store.drop_view("gallery", "all")
    assert list(store.views("gallery")) == ["strange"]
    with pytest.raises(StoreError, match="name for the view"):
        store.keep_view("gallery", " ", {}, "ada")


def test_a_record_opened_to_read_refuses_to_write(tmp_path: Path) -> None:
    place = tmp_path / "record.db"
    with pytest.raises(StoreError):
        Store.open(place, read_only=True)
    assert not place.exists()
    writing = Store.open(place)
    known(writing).add_items(RECORDS)
    reading = Store.open(place, read_only=True)
    assert reading.read_only
    assert len(reading.table("monday")) == 3
    with pytest.raises(StoreError):
        reading.note("ada", "looked", "monday")
    writing.add_items([record(5)])
    assert len(reading.table("monday")) == 4
    reading.close()
    writing.close()


def test_where_people_only_spoke_the_items_are_not_read_again(store: Store) -> None:
    store.add_items(RECORDS)
    before = store.table("monday")
    nll = before.nll_global
    entry = store.review("monday", "item-1", ReviewEntry("defect", "ada", "dent"))
    after = store.table("monday", before)
    assert after.item_id is before.item_id
    assert after.nll_global is nll
    assert (after.judgement[1], after.kind[1], after.changed) == (1, "dent", before.changed + 1)
    assert after.inspected == before.inspected
    # The table that was read before stays as it was.
    assert (before.judgement[1], before.kind[1]) == (-1, "")
    store.withdraw("monday", ["item-1"], "ada", entry.made_at)
    assert store.table("monday", after).judgement[1] == -1
    assert store.table("monday", after).item_id is before.item_id


def test_where_items_came_or_the_run_ended_all_is_read_again(store: Store) -> None:
    store.add_items(RECORDS)
    before = store.table("monday")
    store.review("monday", "item-1", ReviewEntry("good", "ada"))
    store.add_items([record(11)])
    grown = store.table("monday", before)
    assert len(grown) == 4
    assert grown.judgement.tolist() == [-1, 0, -1, -1]
    store.finish_run("monday")
    assert store.table("monday", grown).inspected == grown.inspected + 1
    store.begin_run(run("tuesday"))
    assert len(store.table("tuesday", grown)) == 0


def test_words_that_are_read_anew_are_those_that_are_read_at_once(store: Store) -> None:
    """Whatever is said and taken back, in whatever order, by steps or all together."""
    rng = random.Random(7)
    store.begin_run(run("tuesday"))
    # Numbers of rows that do not run with the places in the run, and another run's words between.
    store.add_items([record(n, "tuesday") for n in range(3)] + [record(n) for n in range(8)])
    store.add_items([record(n, "tuesday", path=f"t{n}") for n in range(10, 14)])
    known: RunTable | None = None
    said: list[tuple[str, str, str, str]] = []
    for step in range(60):
        run_id = rng.choice(["monday", "monday", "monday", "tuesday"])
        if said and rng.random() < 0.3:
            where, item, author, time = rng.choice(said)
            store.withdraw(where, [item], author, time)
        else:
            numbers = range(8) if run_id == "monday" else range(3)
            items = [f"item-{n}" for n in rng.sample(numbers, rng.randint(1, 2))]
            judgement = rng.choice(["good", "defect", "unsure"])
            kind = rng.choice(["", "dent"]) if judgement == "defect" else ""
            # Also words that were said earlier and come later.
            made_at = f"2026-11-23T{rng.randint(0, 23):02d}:{step:02d}"
            entry = ReviewEntry(judgement, rng.choice("ab"), kind, "", made_at)  # type: ignore[arg-type]
            store.review_all(run_id, items, entry)
            said += [(run_id, item, entry.author, made_at) for item in items]
        if step % 3 == 0:
            known, fresh = store.table("monday", known), store.table("monday")
            assert known.judgement.tolist() == fresh.judgement.tolist(), step
            assert known.kind.tolist() == fresh.kind.tolist(), step
            assert known.changed == fresh.changed
    assert len(set(known.judgement.tolist() if known is not None else [])) > 2
    store.review_all("monday", [f"item-{n}" for n in range(8)], ReviewEntry("good", "c"))
    assert store.table("monday", known).judgement.tolist() == [0] * 8


def test_where_nothing_was_written_the_table_is_the_same(store: Store) -> None:
    store.add_items(RECORDS)
    known = store.table("monday")
    assert store.table("monday", known) is known
