"""A run that is kept in the record and read back says what its folder said."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from differnet.records import Inspection, Record, Verdict
from differnet.reporting import CalibrationFacts, RunFolder, StoredRun, ThresholdsSet
from differnet.reporting.keeping import RunFactsError, entries_of, keep_run
from differnet.reporting.report import render_report
from differnet.reporting.run import RunFacts
from differnet.store import (
    CalibrationEntry,
    ModelEntry,
    ReviewEntry,
    RevisionEntry,
    RunEntry,
    Store,
    StoreError,
)
from differnet.strict_json import RecordFormatError

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]

MIXED = ["good"] * 6 + ["scratch"] * 3 + ["wrong_input/blank", "unreadable", None]
SET = ThresholdsSet(4, "Ada", "reviewers drowned", "2026-11-23T06:00:00.000000+00:00", "by hand", "ab" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "record.db")
    yield opened
    opened.close()


def test_a_folder_that_is_kept_and_read_back_is_equal(make_run: MakeRun, store: Store) -> None:
    run = make_run(MIXED, threshold_revision=4, thresholds_set=SET)
    assert keep_run(store, run) == len(MIXED)
    again = StoredRun(store, run.facts.run_id)
    assert again.facts == run.facts
    assert again.records == run.records
    assert again.heat_scale == run.heat_scale
    for record in run.records:
        for read in ("heat_map", "preview", "closeup"):
            ours, theirs = getattr(again, read)(record), getattr(run, read)(record)
            assert (ours is None) == (theirs is None)
            assert ours is None or np.array_equal(ours, theirs)
    assert render_report(again) == render_report(run)


@pytest.mark.parametrize("calibration", [None, CalibrationFacts(50, 0.1, 0.05, 1 / 51)])
def test_absent_facts_stay_absent(
    make_run: MakeRun, store: Store, calibration: CalibrationFacts | None
) -> None:
    run = make_run(["good"], calibration=calibration, seed=None, commit=None, details={}, versions={})
    keep_run(store, run)
    assert StoredRun(store, "run").facts == run.facts


def test_a_run_that_is_kept_while_it_goes_on_is_whole_when_it_is_kept_again(
    make_record: MakeRecord, make_run: MakeRun, store: Store, tmp_path: Path
) -> None:
    facts = make_run([], "other").facts
    run = RunFolder.create(
        tmp_path / "long", replace(facts, run_id="", finished_at=None, counts={}, heat_scale=None)
    )
    run.append(Inspection(make_record(1, Verdict.PASS), np.ones((2, 2), np.float32)), None)
    keep_run(store, run)
    assert StoredRun(store, "long").facts == run.facts
    assert StoredRun(store, "long").facts.finished_at is None
    run.append(Inspection(make_record(2, Verdict.DEFECT), np.full((2, 2), 9, np.float32)), None)
    run.close()
    for _ in range(2):
        keep_run(store, run)
        again = StoredRun(store, "long")
        assert (again.facts, again.records) == (run.facts, run.records)
    assert again.facts.heat_scale is not None


def test_runs_of_one_calibration_keep_the_rates_of_their_own_thresholds(
    make_run: MakeRun, store: Store
) -> None:
    calibration = CalibrationFacts(200, 0.05, 0.01, 1 / 201)
    runs = [
        make_run(["good"], "first", calibration=calibration),
        make_run(
            ["good"], "second", threshold_revision=1, calibration=replace(calibration, alpha_defect=0.02)
        ),
    ]
    for run in runs:
        keep_run(store, run)
    for run in runs:
        assert StoredRun(store, run.facts.run_id).facts == run.facts


def test_a_run_without_its_folder_has_a_report_without_pictures(make_run: MakeRun, store: Store) -> None:
    run = make_run(MIXED)
    keep_run(store, run)
    shutil.rmtree(run.path)
    again = StoredRun(store, "run")
    assert again.records == run.records
    assert all(again.preview(record) is None and again.heat_map(record) is None for record in run.records)
    text = render_report(again)
    flagged = [r for r in run.records if r.verdict in (Verdict.DEFECT, Verdict.REVIEW)]
    assert flagged
    assert text.count("<article>") == len(flagged)
    assert text.count("There is no picture of it") == len(flagged)
    assert text.count("data:image/") == 1, "the colour scale alone"


def test_records_stay_as_they_were_read_while_a_job_goes_on(
    make_run: MakeRun, make_record: MakeRecord, store: Store
) -> None:
    run = make_run(["good", "good"])
    keep_run(store, run)
    read = StoredRun(store, "run")
    store.add_items([make_record(77, Verdict.PASS, run_id="run")])
    assert len(read.records) == 2
    assert len(StoredRun(store, "run").records) == 3


def test_what_people_said_comes_with_the_run(make_run: MakeRun, store: Store) -> None:
    run = make_run(["scratch", "good"])
    keep_run(store, run)
    (first, _) = run.records
    for entry in (ReviewEntry("unsure", "Ada"), ReviewEntry("defect", "Bo", "scratch", "deep")):
        store.review("run", first.item_id, entry)
    ((record, review),) = StoredRun(store, "run").reviews
    assert record == first
    assert (review.judgement, review.author, review.kind, review.note) == ("defect", "Bo", "scratch", "deep")
    assert run.reviews == ()


def test_a_run_that_another_program_began_takes_what_the_record_knows(store: Store) -> None:
    rates: dict[str, Any] = {"parts": 99, "alpha_review": 0.05, "alpha_defect": 0.01, "smallest_alpha": 0.01}
    store.add_model(ModelEntry("m", "flange", facts={"details": {"Backbone": "lite0"}}))
    store.add_calibration(CalibrationEntry("m", "c", 99, facts=rates))
    store.add_revision(RevisionEntry("m", "c", 3, 1.0, 2.0, "Ada", "Monday", "by hand", "2026-11-22"))
    began = RunEntry("job", "flange", "m", "c", 1.0, 2.0, 3, facts={"queue": 3}, started_at="2026-11-23")
    store.begin_run(began)
    facts = StoredRun(store, "job").facts
    assert facts.calibration == CalibrationFacts(99, 0.05, 0.01, 0.01)
    assert facts.details == {"Backbone": "lite0"}
    assert facts.thresholds_set == ThresholdsSet(3, "Ada", "Monday", "2026-11-22", "by hand")
    assert (facts.finished_at, facts.counts) == (None, {})
    store.finish_run("job", facts={"heat_scale": (1.0, 2.0)})
    assert StoredRun(store, "job").heat_scale == (1.0, 2.0)
    # What was there stays.
    assert store.run("job").facts == {"queue": 3, "heat_scale": [1.0, 2.0]}


def test_facts_that_are_none_are_refused(store: Store) -> None:
    store.add_model(ModelEntry("m", "flange"))
    store.add_calibration(CalibrationEntry("m", "c", 99, facts={"alpha_review": "much"}))
    store.begin_run(RunEntry("job", "flange", "m", "c", 1.0, 2.0))
    with pytest.raises(RecordFormatError):
        StoredRun(store, "job")
    with pytest.raises(StoreError, match="nobody"):
        StoredRun(store, "nobody")
    with pytest.raises(RunFactsError):
        entries_of(RunFacts(run_id="bare"), Path())


def test_names_that_are_no_text_come_back_as_they_were(
    make_run: MakeRun, make_record: MakeRecord, store: Store, tmp_path: Path
) -> None:
    odd = b"part\xff".decode("utf-8", "surrogateescape")
    facts = replace(make_run([], "other").facts, finished_at=None, counts={}, source=odd)
    run = RunFolder.create(tmp_path / "run", facts)
    run.append(Inspection(make_record(1, Verdict.PASS, path=odd, label=odd, reasons=(odd,))), None)
    assert keep_run(store, run) == 1
    assert keep_run(store, run) == 0
    again = StoredRun(store, run.facts.run_id)
    assert (again.facts, again.records) == (run.facts, run.records)
