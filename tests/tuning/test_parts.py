"""Parts from the record's columns and from records are the same parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from differnet.records import Record, Verdict
from differnet.reporting.counts import KIND_UNNAMED, Truth
from differnet.store import CalibrationEntry, ModelEntry, ReviewEntry, RunEntry, Store
from differnet.tuning import parts_of, parts_of_records

LABELS = ["good", "scratch", None, "wrong_input/blank", "dent", "good"]


def record(number: int, label: str | None, verdict: Verdict = Verdict.PASS, **told: object) -> Record:
    strangeness = {"strangeness": number / 2, "t_review": 1.0, "t_defect": 2.0}
    return Record(
        "monday", f"i{number}", f"p{number}", "", f"{number}.png", f"{number:064x}", verdict, (),
        label=label, model_id="m", calibration_id="c", **(strangeness | told),  # type: ignore[arg-type]
    )  # fmt: skip


def kept(folder: Path, records: list[Record]) -> Store:
    store = Store.open(folder / "record.db")
    store.add_model(ModelEntry("m", "flange"))
    store.add_calibration(CalibrationEntry("m", "c", parts=99))
    store.begin_run(RunEntry("monday", "flange", "m", "c", 1.0, 2.0))
    store.add_items(records)
    return store


def test_columns_of_the_record_and_records_give_the_same_parts(tmp_path: Path) -> None:
    records = [record(i, label) for i, label in enumerate(LABELS)]
    records += [
        record(6, "good", Verdict.INVALID, strangeness=None),
        record(7, None, Verdict.OOD),
        # Reviewed though it is not strange: the model was trained on it.
        record(8, "good", Verdict.REVIEW, strangeness=0.1),
    ]
    store = kept(tmp_path, records)
    try:
        ours, theirs = parts_of(store.table("monday")), parts_of_records(records)
    finally:
        store.close()
    for name, column in vars(theirs.columns).items():
        assert np.array_equal(getattr(ours.columns, name), column, equal_nan=column.dtype.kind == "f"), name
    assert ours.kinds == theirs.kinds == ("dent", "scratch", "wrong_input/blank")
    assert ours.kind.tolist() == theirs.kind.tolist() == [-1, 1, -1, 2, 0, -1, -1, -1, -1]
    assert ours.columns.doubted.tolist() == [False] * 8 + [True]
    assert ours.labelled
    assert (ours.count(Truth.GOOD), ours.count(Truth.DEFECT)) == (4, 2)
    assert ours.strangeness_of(Truth.GOOD).tolist() == [0.0, 2.5, 0.1]
    assert len(ours.strangeness_of()) == 8


def test_what_a_person_said_counts_where_it_is_asked_for(tmp_path: Path) -> None:
    store = kept(tmp_path, [record(i, label) for i, label in enumerate(LABELS)])
    try:
        for item, judgement, kind in (
            ("i0", "defect", "crack"),
            ("i1", "good", ""),
            ("i2", "defect", ""),
            ("i4", "unsure", ""),
        ):
            store.review("monday", item, ReviewEntry(judgement, "ada", kind))  # type: ignore[arg-type]
        table = store.table("monday")
    finally:
        store.close()
    said, labelled = parts_of(table, judged=True), parts_of(table)
    names = {-1: None} | dict(enumerate(said.kinds))
    assert [names[int(kind)] for kind in said.kind] == [
        "crack",
        None,
        KIND_UNNAMED,
        "wrong_input/blank",
        "dent",
        None,
    ]
    assert said.columns.truth.tolist() == [
        Truth.DEFECT,
        Truth.GOOD,
        Truth.DEFECT,
        Truth.WRONG_INPUT,
        Truth.DEFECT,
        Truth.GOOD,
    ]
    assert labelled.kinds == ("dent", "scratch", "wrong_input/blank")
    assert not parts_of_records([record(0, None)]).labelled
