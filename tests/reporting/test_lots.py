"""Lots are folders or windows of time, as an engineer would part a run, and say what they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from scipy import stats

from differnet.records import Record, Verdict
from differnet.reporting import lots
from differnet.reporting.lots import lots_of, types_of, worst

MakeRecord = Callable[..., Record]

FIRST = datetime(2026, 11, 23, 6, 2, tzinfo=UTC)
ELSEWHERE = timezone(timedelta(hours=5, minutes=30))


def parts(make_record: MakeRecord, folder: str, number: int, passed: int, **changes: object) -> list[Record]:
    return [
        make_record(i, Verdict.PASS if i < passed else Verdict.DEFECT, path=f"{folder}/{i}.png", **changes)
        for i in range(number)
    ]


def test_folders_are_lots_with_exact_intervals(make_record: MakeRecord) -> None:
    records = parts(make_record, "line/lot-7", 40, 38) + parts(make_record, "line/lot-8", 30, 12)
    found = lots_of(records)
    assert "folder" in found.words
    assert [lot.name for lot in found.groups] == ["lot-7", "lot-8"]
    for lot, (passed, of) in zip(found.groups, ((38, 40), (12, 30)), strict=True):
        assert (lot.passed.events, lot.passed.of) == (passed, of)
        assert lot.counts.tolist() == [passed, 0, of - passed, 0, 0]
        exact = stats.binomtest(passed, of).proportion_ci(0.95, "exact")
        assert (lot.passed.low, lot.passed.high) == pytest.approx((exact.low, exact.high))


def test_a_folder_that_is_named_like_the_label_is_no_lot(make_record: MakeRecord) -> None:
    records = parts(make_record, "data/test/good", 20, 20, label="good")
    records += parts(make_record, "data/test/scratch", 20, 0, label="scratch")
    assert lots_of(records).groups == ()
    # The same labels in two deliveries are two lots, whose wrong inputs count in neither.
    records = parts(make_record, "a/good", 20, 20, label="good") + parts(
        make_record, "b/dent", 20, 0, label="dent"
    )
    records += parts(make_record, "b/wrong_inputs/dark", 9, 0, label="wrong_inputs/dark")
    assert [(lot.name, lot.passed.of) for lot in lots_of(records).groups] == [("a", 20), ("b", 20)]


def test_folders_of_single_parts_are_joined_to_the_day_above_them(make_record: MakeRecord) -> None:
    records = [
        make_record(i, Verdict.PASS, path=f"d/2026-11-{23 + i % 3}/part-{i}/left.png") for i in range(60)
    ]
    assert [(lot.name, lot.passed.of) for lot in lots_of(records).groups] == [
        (f"2026-11-{day}", 20) for day in (23, 24, 25)
    ]
    # Where nothing is above them, they stay what they are.
    flat = [make_record(i, Verdict.PASS, path=f"part-{i}/left.png") for i in range(6)]
    assert len(lots_of(flat).groups) == 6


@pytest.mark.parametrize(
    ("hours", "words", "lots"), [(3, "10 minutes", 18), (8, "half an hour", 16), (24, "an hour", 24)]
)
def test_one_folder_is_parted_by_the_time_of_taking(
    make_record: MakeRecord, hours: int, words: str, lots: int
) -> None:
    start = FIRST.replace(minute=0)
    step = timedelta(hours=hours) / 400
    records = [
        make_record(
            i,
            Verdict.PASS,
            path=f"one/{i}.png",
            captured_at=(start + i * step).replace(tzinfo=None).isoformat(),
            processed_at=FIRST.isoformat(),
        )
        for i in range(400)
    ]
    found = lots_of(records)
    assert f"taken within {words}" in found.words
    assert len(found.groups) == lots
    assert sum(lot.passed.of for lot in found.groups) == 400
    assert found.groups[0].name.startswith("2026-11-23 06:00 to 0")


def test_times_of_inspection_stand_in_and_are_said_to(make_record: MakeRecord) -> None:
    def at(i: int) -> str:
        # Written in two zones: the same moments.
        moment = FIRST + timedelta(days=i // 20, minutes=47 * (i % 20))
        return (moment if i % 2 else moment.astimezone(ELSEWHERE)).isoformat()

    records = [
        make_record(i, Verdict.PASS, path=f"one/{i}.png", captured_at="soon", processed_at=at(i))
        for i in range(60)
    ]
    found = lots_of(records)
    assert "inspected" in found.words
    assert "need not be when it was made" in found.words
    assert [lot.name for lot in found.groups] == ["2026-11-23", "2026-11-24", "2026-11-25"]


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe"]
)
def test_times_of_utc_are_read_all_at_once_as_they_are_one_by_one(zone: str) -> None:
    # Through both changes of the clocks, of which one says an hour, or half of one, twice.
    begin = datetime(2026, 3, 1, 0, 7, 59, 999_999, tzinfo=UTC)
    times = [(begin + timedelta(minutes=37 * i)).isoformat() for i in range(12_000)]
    at_once = lots._moments(times, ZoneInfo(zone))
    # The same moments, written so that they have to be read one by one.
    one_by_one = lots._moments([f"{time[:-6]}-00:00" for time in times], ZoneInfo(zone))
    assert at_once is not None
    assert one_by_one is not None
    assert at_once.tolist() == one_by_one.tolist()


@pytest.mark.parametrize("time", ["2026-02-30T00:00:00+00:00", "soon+00:00", "", None])
def test_one_time_that_is_none_leaves_all_unread(time: str | None) -> None:
    assert lots._moments([FIRST.isoformat(), time], UTC) is None


@pytest.mark.parametrize("times", [None, "never", "2026-11-23T06:00:00"])
def test_what_nothing_parts_has_no_lots(make_record: MakeRecord, times: str | None) -> None:
    records = parts(make_record, "one", 50, 40, processed_at=times)
    found = lots_of(records)
    assert found.groups == ()
    assert found.words.endswith("there are no lots.")
    assert lots_of([]).groups == ()


def test_types_are_products_and_views(make_record: MakeRecord) -> None:
    one = parts(make_record, "d", 5, 5, product="flange")
    assert [(kind.name, kind.passed.of) for kind in types_of(one)] == [("flange", 5)]
    more = one + parts(make_record, "d", 4, 1, product="cap", view_id="left")
    assert [(kind.name, str(kind.passed.events)) for kind in types_of(more)] == [
        ("cap, view left", "1"),
        ("flange, view top", "5"),
    ]


def test_the_worst_keep_their_order(make_record: MakeRecord) -> None:
    records = [r for i in range(30) for r in parts(make_record, f"d/{i:02d}", 20, (7 * i) % 20)]
    chosen = worst(lots_of(records).groups, 5)
    assert [lot.passed.events for lot in chosen] == [0, 1, 2, 0, 1]
    assert [lot.name for lot in chosen] == sorted(lot.name for lot in chosen)
