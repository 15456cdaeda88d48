"""What pages count is what plain Python counts, on both engines."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from differnet.records import Record, Verdict
from differnet.store import Asked, ModelEntry, ReviewEntry, Store
from store.conftest import CALIBRATION, MODEL, record, run

MOST_ASKED = [
    Asked(),
    Asked(product="valve"),
    Asked(run_id="monday"),
    Asked(since="2026-11-23T06:00:30", until="2026-11-24T06:00:10"),
    Asked(product="flange", since="2026-11-23T06:00:05"),
    Asked(verdicts=(Verdict.INVALID,)),
]


def meant(asked: Asked, r: Record) -> bool:
    time = str(r.processed_at)
    return (
        (asked.product is None or r.product == asked.product)
        and (asked.run_id is None or r.run_id == asked.run_id)
        and (asked.since is None or time >= asked.since)
        and (asked.until is None or time < asked.until)
        and (not asked.verdicts or r.verdict in asked.verdicts)
    )


@pytest.fixture
def days(store: Store) -> list[Record]:
    """Two runs of two products on two days, every verdict and label among them."""
    store.add_model(ModelEntry("other", "valve"))
    store.begin_run(run("tuesday", started_at="2026-11-24T06:00:00.000+00:00", product="valve"))
    kept = []
    for number in range(80):
        changes: dict[str, Any] = {"label": ("good", "scratch", None)[number % 3]}
        changes["verdict"] = list(Verdict)[number % 5]
        if changes["verdict"] is Verdict.INVALID:
            changes["reasons"] = (f"the file ends after {number} of 90 bytes", "nothing else")
        changes |= {"decode_ms": 1.5 * number, "inference_ms": 100.0 - number}
        made = record(number, **changes)
        if number >= 50:
            later = str(made.processed_at).replace("23T", "24T")
            made = replace(made, run_id="tuesday", product="valve", processed_at=later)
        kept.append(made)
    store.add_items(kept)
    return kept


@pytest.mark.parametrize("asked", MOST_ASKED)
def test_counts_over_time_are_those_of_the_records(store: Store, days: list[Record], asked: Asked) -> None:
    for digits in (10, 13, 16):
        wanted = Counter((str(r.processed_at)[:digits], r.label, r.verdict) for r in days if meant(asked, r))
        assert store.counts_by_time(asked, digits) == wanted
        assert len(wanted) > 2


def test_counts_of_runs_are_those_of_the_records(store: Store, days: list[Record]) -> None:
    found = store.counts_by_run(["tuesday", "monday", "nobody"])
    assert list(found) == ["tuesday", "monday", "nobody"]
    for run_id, counts in found.items():
        assert counts == Counter(r.verdict for r in days if r.run_id == run_id)
    assert store.counts_by_run([]) == {}
    many = [f"run {n}" for n in range(1200)]
    assert set(store.counts_by_run(["monday", *many])) == {"monday", *many}


@pytest.mark.parametrize("asked", MOST_ASKED)
def test_last_words_are_counted_beside_label_and_verdict(
    store: Store, days: list[Record], asked: Asked
) -> None:
    words: dict[tuple[str, str], ReviewEntry] = {}
    for number, r in enumerate(days):
        for said in range(number % 3):
            judgement = ("good", "defect", "unsure")[(number + said) % 3]
            kind = "dent" if judgement == "defect" and number % 2 else ""
            entry = ReviewEntry(judgement, "ada", kind, made_at=f"2026-11-25T0{said}:00:00.000+00:00")  # type: ignore[arg-type]
            store.review(r.run_id, r.item_id, entry)
            words[r.run_id, r.item_id] = entry
    wanted = Counter(
        (r.label, r.verdict, words[r.run_id, r.item_id].judgement, words[r.run_id, r.item_id].kind)
        for r in days
        if (r.run_id, r.item_id) in words and meant(asked, r)
    )
    assert store.counts_by_judgement(asked) == wanted
    assert wanted


def test_reasons_are_counted_word_for_word(store: Store, days: list[Record]) -> None:
    asked = Asked(product="flange", verdicts=(Verdict.INVALID,))
    wanted = Counter(r.reasons for r in days if meant(asked, r))
    assert store.counts_by_reasons(asked) == wanted
    assert len(wanted) == 10
    assert store.counts_by_reasons(Asked(run_id="wednesday")) == Counter()


def test_times_are_those_of_the_latest(store: Store, days: list[Record]) -> None:
    latest = sorted(days, key=lambda r: str(r.processed_at), reverse=True)
    assert store.times(Asked(), 7) == [(r.decode_ms, r.inference_ms) for r in latest[:7]]
    flange = [(r.decode_ms, r.inference_ms) for r in latest if r.product == "flange"]
    assert store.times(Asked(product="flange"), 1000) == flange
    assert store.times(Asked(product="nothing"), 7) == []


def test_products_and_earlier_runs_are_told(store: Store, days: list[Record]) -> None:
    assert store.products() == ["flange", "valve"]
    assert [r.run_id for r in store.runs(before="2026-11-24T06:00:00.000+00:00")] == ["monday"]
    assert store.runs(before="2026-11-23T06:00:00.000+00:00") == []
    assert store.runs("flange", before="2027")[0].run_id == "monday"


def test_any_change_is_noticed(store: Store, days: list[Record]) -> None:
    seen = [store.changes()]
    store.review("monday", "item-3", ReviewEntry("good", "ada"))
    seen.append(store.changes())
    store.begin_run(run("wednesday"))
    seen.append(store.changes())
    store.add_items([record(1, "wednesday", model_id=MODEL, calibration_id=CALIBRATION)])
    seen.append(store.changes())
    store.finish_run("wednesday")
    seen.append(store.changes())
    assert seen == sorted(set(seen))


def test_everything_is_counted(store: Store, days: list[Record]) -> None:
    store.review("monday", "item-3", ReviewEntry("good", "ada"))
    assert store.sizes() == {"products": 2, "models": 2, "runs": 2, "items": 80, "reviews": 1}


def test_a_table_holds_the_paths(store: Store, days: list[Record]) -> None:
    assert list(store.table("monday").path) == [r.path for r in days if r.run_id == "monday"]
