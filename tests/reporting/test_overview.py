"""What the first page says is what plain counting says, of a run and of a span of time alike."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from differnet.evaluation.intervals import percent, rate
from differnet.records import Record, Verdict
from differnet.reporting.counts import VERDICTS, Truth, kinds_table, recorded_counts
from differnet.reporting.lots import lots_of, lots_of_counts, lots_of_table
from differnet.reporting.overview import (
    SPANS,
    change_words,
    changes_between,
    chart_table,
    latest_runs,
    overview_of_run,
    overview_of_span,
    pareto_table,
    reasons_of_invalid,
    run_charts,
    signals_of,
    since_of,
)
from differnet.store import CalibrationEntry, ModelEntry, ReviewEntry, RunEntry, Store

MakeRecord = Callable[..., Record]

NOW = datetime.now(UTC).replace(minute=5, second=0, microsecond=0)
LABELS = ("good", "good", "scratch", "dent", None, "wrong_inputs/blank")


def run_of(run_id: str, **changes: Any) -> RunEntry:
    told: dict[str, Any] = {"threshold_revision": 0, "started_at": (NOW - timedelta(hours=9)).isoformat()}
    return RunEntry(run_id, "flange", "m", "c", t_review=1.301, t_defect=2.0, **(told | changes))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "record.db")
    opened.add_model(ModelEntry("m", "flange"))
    opened.add_calibration(CalibrationEntry("m", "c", 200))
    yield opened
    opened.close()


@pytest.fixture
def records(store: Store, make_record: MakeRecord) -> list[Record]:
    """Three hundred parts of a run over the last eight hours; every verdict, label and judgement."""
    rng = np.random.default_rng(0)
    store.begin_run(run_of("shift"))
    kept = []
    for number in range(300):
        verdict = VERDICTS[int(rng.choice(5, p=[0.7, 0.1, 0.1, 0.05, 0.05]))]
        changes: dict[str, Any] = {"strangeness": None if verdict is Verdict.INVALID else 1.0}
        if verdict is Verdict.INVALID:
            changes["reasons"] = (f"expected a file; found a PNG that ends at byte {number}. Copy it.",)
        kept.append(
            make_record(
                number,
                verdict,
                run_id="shift",
                label=LABELS[number % len(LABELS)],
                product="flange",
                processed_at=(NOW - timedelta(hours=8) + number * timedelta(minutes=1.5)).isoformat(
                    timespec="milliseconds"
                ),
                decode_ms=5.0,
                inference_ms=float(number % 100 + 1),
                model_id="m",
                calibration_id="c",
                path=f"shots/{number}.png",
                **changes,
            )
        )
    store.add_items(kept)
    for number in range(0, 300, 4):
        judgement = ("good", "defect", "unsure")[number // 4 % 3]
        kind = "hole" if judgement == "defect" and number % 8 else ""
        store.review("shift", kept[number].item_id, ReviewEntry(judgement, "ada", kind))  # type: ignore[arg-type]
    return kept


def by_people(store: Store, records: list[Record]) -> list[Record]:
    """Put what people said last in the place of labels."""
    said = {record.item_id: review for record, review in store.reviewed(_all())}
    return [
        dataclasses.replace(
            record,
            label={"good": "good", "defect": "defect"}.get(
                said[record.item_id].judgement if record.item_id in said else "", record.label
            ),
        )
        for record in records
    ]


def _all() -> Any:
    from differnet.store import Asked

    return Asked()


@pytest.mark.parametrize("judged", [False, True])
def test_a_run_is_told_as_its_records_say(store: Store, records: list[Record], judged: bool) -> None:
    found = overview_of_run(store, store.table("shift"), judged=judged)
    wanted = recorded_counts(by_people(store, records) if judged else records)
    assert found.counts.table.tolist() == wanted.table.tolist()
    assert (found.counts.overkill, found.counts.escape) == (wanted.overkill, wanted.escape)
    said = store.reviewed(_all())
    assert found.reviewed == len(said) == 75
    spoken = {record.item_id for record, _ in said}
    waiting = [r for r in records if r.verdict is Verdict.REVIEW and r.item_id not in spoken]
    assert found.backlog == len(waiting) > 5
    kinds = kinds_table(records, said if judged else ())
    assert {k: v.tolist() for k, v in found.kinds.items()} == {k: v.tolist() for k, v in kinds.items()}
    assert list(found.kinds) == list(kinds)
    assert found.invalid == (
        ("a PNG that ends at byte …", sum(r.verdict is Verdict.INVALID for r in records)),
    )
    lasted = [5.0 + r.inference_ms for r in records]
    assert found.times is not None
    assert (found.times.parts, found.times.latest) == (300, False)
    assert found.times.median_ms == pytest.approx(np.median(lasted))
    assert found.times.p95_ms == pytest.approx(np.quantile(lasted, 0.95))


@pytest.mark.parametrize("judged", [False, True])
def test_a_span_that_holds_one_run_tells_the_same(store: Store, records: list[Record], judged: bool) -> None:
    run = overview_of_run(store, store.table("shift"), judged=judged)
    for since in (None, NOW - timedelta(days=2)):
        span = overview_of_span(store, "flange", since, judged=judged)
        assert span.counts.table.tolist() == run.counts.table.tolist()
        assert {k: v.tolist() for k, v in span.kinds.items()} == {k: v.tolist() for k, v in run.kinds.items()}
        assert (span.backlog, span.reviewed, span.invalid) == (run.backlog, run.reviewed, run.invalid)
        assert span.times == run.times


def test_a_span_begins_when_it_says_and_is_of_its_product(store: Store, records: list[Record]) -> None:
    since = NOW - timedelta(hours=4)
    meant = [r for r in records if datetime.fromisoformat(str(r.processed_at)) >= since]
    assert 50 < len(meant) < 250
    found = overview_of_span(store, "flange", since)
    assert found.counts.table.tolist() == recorded_counts(meant).table.tolist()
    elsewhere = timezone(timedelta(hours=-7))
    assert overview_of_span(store, None, since.astimezone(elsewhere)).parts == len(meant)
    nothing = overview_of_span(store, "valve", None)
    assert (nothing.parts, nothing.times, nothing.kinds, nothing.invalid) == (0, None, {}, ())
    assert nothing.lots.groups == ()
    assert run_charts(nothing.lots) == {}


def test_times_of_many_are_those_of_the_latest(
    store: Store, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("differnet.reporting.overview.TIMED_PARTS", 100)
    times = overview_of_span(store, "flange", None).times
    assert times is not None
    assert (times.parts, times.latest) == (100, True)
    assert times.p95_ms == pytest.approx(np.quantile([5.0 + r.inference_ms for r in records[-100:]], 0.95))


def test_lots_of_a_table_are_those_of_its_records(store: Store, records: list[Record]) -> None:
    table = store.table("shift")
    assert _told(lots_of_table(table)) == _told(lots_of(records))
    assert len(lots_of(records).groups) > 3


def test_lots_of_hours_are_those_of_the_parts(store: Store, records: list[Record]) -> None:
    counts = Counter((str(r.processed_at)[:13], r.label, r.verdict) for r in records)
    found = lots_of_counts(counts)
    assert found.words == "A lot is what was inspected within an hour."
    inputs = sum(r.label == "wrong_inputs/blank" for r in records)
    assert sum(group.passed.of for group in found.groups) == len(records) - inputs
    hours = Counter(str(r.processed_at)[:13] for r in records if r.label != "wrong_inputs/blank")
    assert [group.passed.of for group in found.groups] == [hours[hour] for hour in sorted(hours)]
    assert found.groups[0].name.startswith(min(hours).replace("T", " ") + ":00 to ")
    # In another zone the same hours have other names.
    east = lots_of_counts(counts, timezone(timedelta(hours=5)))
    assert [group.counts.tolist() for group in east.groups] == [g.counts.tolist() for g in found.groups]
    first = datetime.fromisoformat(min(hours) + ":00:00") + timedelta(hours=5)
    assert east.groups[0].name.startswith(f"{first:%Y-%m-%d %H:00}")


def test_days_are_joined_where_they_are_many() -> None:
    day = datetime(2026, 1, 5, tzinfo=UTC)
    counts: Counter[tuple[str, str | None, Verdict]] = Counter(
        {(f"{day + timedelta(days=i):%Y-%m-%d}", None, Verdict.PASS): 30 + i for i in range(120)}
    )
    weeks = lots_of_counts(counts, most=48)
    assert weeks.words == "A lot is what was inspected within a week of UTC."
    assert [g.passed.of for g in weeks.groups][:2] == [sum(range(30, 37)), sum(range(37, 44))]
    assert sum(g.passed.of for g in weeks.groups) == sum(counts.values())
    assert lots_of_counts(Counter({("2026-01-05", None, Verdict.PASS): 9})).groups == ()
    assert lots_of_counts(Counter()).groups == ()


def _told(lots: Any) -> list[Any]:
    return [lots.words, *((g.name, g.counts.tolist(), g.passed) for g in lots.groups)]


@pytest.mark.parametrize("span", SPANS)
def test_spans_are_whole_days_of_the_persons_zone(span: str) -> None:
    now = datetime(2026, 11, 28, 1, 30, tzinfo=timezone(timedelta(hours=9)))
    since = since_of(span, now)
    if SPANS[span] is None:
        assert since is None
        return
    assert since is not None
    assert (since.hour, since.minute, since.tzinfo) == (0, 0, now.tzinfo)
    assert (now.date() - since.date()).days + 1 == SPANS[span]


def test_charts_tell_the_lot_that_stands_out(store: Store, make_record: MakeRecord) -> None:
    store.begin_run(run_of("lots"))
    kept = [
        make_record(
            100 * lot + i,
            Verdict.DEFECT if i < (24 if lot == 3 else 3) else Verdict.PASS,
            run_id="lots",
            path=f"lot-{lot}/{i}.png",
            model_id="m",
            calibration_id="c",
        )
        for lot in range(6)
        for i in range(60)
    ]
    store.add_items(kept)
    found = overview_of_run(store, store.table("lots"))
    charts = run_charts(found.lots)
    assert list(charts) == [Verdict.PASS, Verdict.DEFECT]
    table = chart_table(found.lots.groups, Verdict.DEFECT, charts[Verdict.DEFECT])
    assert table["number"].tolist() == [3, 3, 3, 24, 3, 3]
    assert table["share"].tolist() == pytest.approx([0.05, 0.05, 0.05, 0.4, 0.05, 0.05])
    assert table["signal"].tolist() == ["", "", "", "above the limits", "", ""]
    assert (table["lower"] <= table["upper"]).all()
    signals = signals_of(found.lots, charts)
    assert [words.partition(" the limit")[0] for words in signals.outside] == [
        "lot-3: 60.0 % PASS, below",
        "lot-3: 40.0 % DEFECT, above",
    ]
    assert signals.runs == ()
    told = percent(1 - (1 - charts[Verdict.PASS].chance) * (1 - charts[Verdict.DEFECT].chance))
    assert signals.chance.endswith(f"with a chance of about {told}.")


def test_a_steady_line_and_small_lots_are_called_so(make_record: MakeRecord) -> None:
    steady = lots_of(
        [
            make_record(100 * lot + i, Verdict.PASS if i % 10 else Verdict.REVIEW, path=f"lot-{lot}/{i}.png")
            for lot in range(5)
            for i in range(50)
        ]
    )
    told = signals_of(steady, run_charts(steady))
    assert told.outside == told.runs == ()
    assert told.summary == "No lot differs from the average by more than chance explains."
    small = lots_of(
        [make_record(i, Verdict.PASS if i % 2 else Verdict.DEFECT, path=f"{i}/{i}.png") for i in range(4)]
    )
    told = signals_of(small, run_charts(small))
    assert told.outside == told.runs == ()
    assert told.summary == "Lots of this size are too small to tell a change from chance."


def test_a_long_run_is_told_apart_from_lots_outside(make_record: MakeRecord) -> None:
    lots = lots_of(
        [
            make_record(
                100 * lot + i,
                Verdict.REVIEW if i < (8 if lot < 9 else 13) else Verdict.PASS,
                path=f"lot-{lot:02d}/{i}.png",
            )
            for lot in range(12)
            for i in range(100)
        ]
    )
    told = signals_of(lots, run_charts(lots))
    assert told.outside == ()
    assert told.runs == (
        "PASS: 9 lots in a row above the average of 90.8 %, the first lot-00, the last lot-08.",
        "REVIEW: 9 lots in a row below the average of 9.2 %, the first lot-00, the last lot-08.",
    )


def test_rare_kinds_stand_together() -> None:
    kinds = {f"kind {i:02d}": np.array([1, 0, 20 - i, 0, 0]) for i in range(20)}
    table = pareto_table(kinds, most=5)
    assert table["kind"].tolist()[-1] == "16 rarer kinds together"
    assert int(table["parts"].sum()) == sum(int(row.sum()) for row in kinds.values())
    assert int(table["escaped"].sum()) == 20
    assert table["cumulative"].is_monotonic_increasing
    assert table["cumulative"].iloc[-1] == 1.0
    assert pareto_table({}).empty


def test_what_changed_since_the_run_before_is_named() -> None:
    before = run_of("a", facts={"versions": {"differnet": "0.1.0"}})
    after = dataclasses.replace(
        before, run_id="b", calibration_id="c2", threshold_revision=3, t_defect=2.5, facts={}
    )
    counts = {Verdict.PASS: 180, Verdict.DEFECT: 20}
    changes = changes_between(before, after, counts, {Verdict.PASS: 90, Verdict.DEFECT: 110})
    assert [change.what for change in changes if change.differs] == [
        "Calibration",
        "Thresholds",
        "differnet",
        "First-pass yield",
    ]
    assert changes[2].now == "revision 3: T1 1.301, T2 2.500"
    assert changes[3].now == "not told"
    assert changes[4].before == str(rate(180, 200))
    assert change_words(changes) == (
        "Otherwise than before: calibration, thresholds, differnet. The yield differs by more than chance "
        "explains (Fisher's exact test at 5 %)."
    )
    same = changes_between(before, before, counts, {Verdict.PASS: 178, Verdict.DEFECT: 22})
    assert change_words(same) == (
        "Judged by the same as before. The yield differs by no more than chance explains."
    )
    assert not changes_between(before, before, {}, counts)[-1].differs


def test_the_latest_runs_stand_with_their_yield(store: Store, records: list[Record]) -> None:
    store.begin_run(run_of("later", started_at=NOW.isoformat()))
    rows = latest_runs(store, "flange")
    assert [row.entry.run_id for row in rows] == ["later", "shift"]
    assert rows[0].passed.share is None
    assert rows[1].counts == Counter(r.verdict for r in records)
    assert rows[1].passed.events == sum(r.verdict is Verdict.PASS for r in records)
    assert latest_runs(store, "valve") == []
    assert len(latest_runs(store, limit=1)) == 1


def test_reasons_that_differ_in_figures_alone_are_one() -> None:
    told = {
        ("nothing finite",): 2,
        (): 1,
        ("expected at most 200,000,000 pixels; found 400,000,000. Use a smaller one.",): 1,
        ("expected at most 200,000,000 pixels; found 500,000,000. Use a smaller one.",): 4,
        ("expected 8-bit; found 16-bit grey with sha256 none. Convert.",): 1,
    }
    assert reasons_of_invalid(told) == (
        ("expected at most … pixels; found …", 5),
        ("nothing finite", 2),
        ("16-bit grey with sha256 none", 1),
        ("no reason on record", 1),
    )


def test_truth_rows_are_where_they_belong(store: Store, records: list[Record]) -> None:
    table = overview_of_run(store, store.table("shift")).counts.table
    blank = Counter(r.verdict for r in records if r.label == "wrong_inputs/blank")
    assert table[Truth.WRONG_INPUT].tolist() == [blank[verdict] for verdict in VERDICTS]
