"""A run as columns says what its records say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet.records import Record, Verdict
from differnet.reporting.counts import Truth, columns_of, columns_of_table
from differnet.reporting.keeping import keep_runs
from differnet.reporting.run_folder import RunFolder
from differnet.reporting.stored_run import StoredRun
from differnet.reporting.tabled_run import TabledRun, drawn_picture
from differnet.store import NoRunError, ReviewEntry, Store

MakeRun = Callable[..., RunFolder]
LABELS = ["good"] * 12 + ["scratch"] * 4 + ["dent", "wrong_input/blank", "unreadable", None]


@pytest.fixture
def kept(make_run: MakeRun, tmp_path: Path) -> Iterator[tuple[Store, RunFolder]]:
    run = make_run(LABELS)
    store = Store.open(tmp_path / "record.db")
    assert keep_runs(store, tmp_path) == []
    yield store, run
    store.close()


def test_columns_are_those_of_the_records(kept: tuple[Store, RunFolder]) -> None:
    store, run = kept
    of_table, of_records = columns_of_table(TabledRun(store, "run").table), columns_of(run.records)
    for name, column in vars(of_records).items():
        np.testing.assert_array_equal(getattr(of_table, name), column, err_msg=name)
        assert getattr(of_table, name).dtype == column.dtype


def test_facts_are_those_of_the_stored_run(kept: tuple[Store, RunFolder]) -> None:
    store, _ = kept
    tabled, stored = TabledRun(store, "run"), StoredRun(store, "run")
    assert tabled.facts == stored.facts
    assert tabled.heat_scale == stored.heat_scale
    assert len(tabled) == len(LABELS)


def test_the_colour_scale_is_found_where_the_run_does_not_know_it(
    make_run: MakeRun, make_record: Callable[..., Record], tmp_path: Path
) -> None:
    open_run = make_run(LABELS)
    facts = (open_run.path / "run.json").read_text()
    assert '"heat_scale":null' not in facts
    store = Store.open(tmp_path / "record.db")
    run = RunFolder.open(open_run.path)
    keep_runs(store, tmp_path)
    tabled = TabledRun(store, "run")
    tabled.facts.__dict__["heat_scale"] = None
    low, high = tabled.heat_scale
    assert (low, high) == pytest.approx(run.heat_scale)
    store.close()


def test_records_and_pictures_are_read_when_asked_for(kept: tuple[Store, RunFolder]) -> None:
    store, run = kept
    tabled = TabledRun(store, "run")
    wanted = run.records[3]
    found = tabled.record(wanted.item_id)
    assert found is not None
    assert found.strangeness == wanted.strangeness
    np.testing.assert_array_equal(tabled.heat_map(found), run.heat_map(wanted))
    np.testing.assert_array_equal(tabled.preview(found), run.preview(wanted))
    assert tabled.record("nobody") is None
    assert tabled.place_of[wanted.item_id] == 3
    with pytest.raises(NoRunError):
        TabledRun(store, "another")


def test_the_last_word_of_people_counts_where_it_is_asked_to(kept: tuple[Store, RunFolder]) -> None:
    store, run = kept
    for number, judgement in ((0, "defect"), (12, "good"), (13, "unsure")):
        store.review("run", run.records[number].item_id, ReviewEntry(judgement, "ada"))  # type: ignore[arg-type]
    table = TabledRun(store, "run").table
    plain, judged = columns_of_table(table).truth, columns_of_table(table, judged=True).truth
    assert [int(i) for i in np.flatnonzero(plain != judged)] == [0, 12]
    assert (judged[0], judged[12], judged[13]) == (Truth.DEFECT, Truth.GOOD, Truth.DEFECT)


def test_a_run_that_people_spoke_of_takes_over_what_was_read_before(kept: tuple[Store, RunFolder]) -> None:
    store, run = kept
    before = TabledRun(store, "run")
    places, scale = before.place_of, before.heat_scale
    store.review("run", run.records[3].item_id, ReviewEntry("defect", "ada", "dent"))
    after = TabledRun(store, "run", before)
    assert after.place_of is places
    assert after.heat_scale is scale
    assert (after.facts, after.entry) == (before.facts, before.entry)
    assert after.table.judgement[3] == 1
    assert before.table.judgement[3] == -1
    assert after.record(run.records[3].item_id) == before.record(run.records[3].item_id)


def test_pictures_are_drawn_at_the_size_that_is_asked_for_and_plain_where_it_is(
    kept: tuple[Store, RunFolder],
) -> None:
    store, _ = kept
    tabled = TabledRun(store, "run")
    record = next(r for r in tabled.records(list(tabled.table.item_id)) if r.regions)

    def pixels(side: int = 512, opacity: float = 0.0, *, regions: bool = False) -> np.ndarray:
        drawn = drawn_picture(tabled, record, side, opacity, regions=regions)
        assert drawn is not None
        return np.asarray(cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR), dtype=np.int64)

    plain = pixels()
    assert plain.shape == (256, 256, 3)
    assert pixels(100).shape == (100, 100, 3)
    # A grey part stays grey within what JPEG loses; heat has colours.
    assert np.ptp(plain, axis=2).max() < 20
    hot, outlined = pixels(opacity=0.8), pixels(regions=True)
    assert np.ptp(hot, axis=2).max() > 100
    assert hot.shape == outlined.shape == (512, 512, 3)
    assert np.ptp(outlined, axis=2).max() < 20
    # Lines in black and white over a picture that is enlarged for them.
    assert np.abs(outlined - plain.repeat(2, axis=0).repeat(2, axis=1)).max() > 100
    unreadable = next(r for r in tabled.records(list(tabled.table.item_id)) if r.verdict is Verdict.INVALID)
    assert drawn_picture(tabled, unreadable) is None
