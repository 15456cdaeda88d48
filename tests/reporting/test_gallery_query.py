"""The gallery shows what it is asked for, and an address says it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from differnet.records import Record, Verdict
from differnet.reporting.browsing import UNLABELLED, named_label
from differnet.reporting.counts import (
    KIND_UNNAMED,
    VERDICTS,
    Truth,
    columns_of_table,
    kinds_table,
    truth_of,
    verdict_codes,
    verdict_counts,
)
from differnet.reporting.gallery_query import (
    GalleryQuery,
    GalleryQueryError,
    Order,
    Reviewed,
    asks_gallery,
    describe_query,
    find_places,
    kind_choices,
    kinds_of_table,
    moment,
    read_query,
)
from differnet.reporting.keeping import keep_runs
from differnet.reporting.run_folder import RunFolder
from differnet.store import Asked, ReviewEntry, RunTable, Store

MakeRun = Callable[..., RunFolder]
LABELS = ["good"] * 20 + ["scratch"] * 8 + ["dent"] * 3 + ["wrong_input/blank", "unreadable", None, None]
FULL = GalleryQuery(
    run="monday, shift B",
    verdicts=(Verdict.PASS, Verdict.OOD),
    was=(Verdict.DEFECT,),
    labels=("a&b=c#d", UNLABELLED),
    truths=(Truth.DEFECT, Truth.WRONG_INPUT),
    judged=True,
    kinds=("Kratzer ä", ""),
    products=("flange 40 mm",),
    reviewed=(Reviewed.NONE, Reviewed.UNSURE),
    name="part_0",
    least=0.1 + 0.2,
    below=1e-17,
    since="2026-11-23T13:30:00.000+00:00",
    until="2026-11-24T00:00:00.000+00:00",
    t_review=1.301,
    t_defect=2.0,
    flips=True,
    order=Order.NEAR_T2,
)


@pytest.fixture
def kept(make_run: MakeRun, tmp_path: Path) -> Iterator[Store]:
    make_run(LABELS)
    store = Store.open(tmp_path / "record.db")
    assert keep_runs(store, tmp_path) == []
    ids = [record.item_id for record in store.items(Asked(run_id="run"))]
    store.review("run", ids[0], ReviewEntry("defect", "ada", "dent"))
    store.review("run", ids[1], ReviewEntry("defect", "ada"))
    store.review("run", ids[20], ReviewEntry("good", "ada"))
    store.review("run", ids[21], ReviewEntry("unsure", "ada"))
    yield store
    store.close()


@pytest.fixture
def table(kept: Store) -> RunTable:
    return kept.table("run")


def records_of(kept: Store, table: RunTable, places: Any) -> list[Record]:
    return kept.records("run", [table.item_id[place] for place in places])


def test_an_address_says_all_of_a_query_and_nothing_of_an_empty_one() -> None:
    assert read_query(FULL.params()) == (FULL, ())
    assert GalleryQuery().params() == {}
    assert read_query({}) == (GalleryQuery(), ())
    usual = {field: getattr(GalleryQuery(), field) for field in vars(FULL)}
    # Every field is in the test above, with a value that is not the usual one.
    assert all(getattr(FULL, field) != value for field, value in usual.items())


def test_the_parameters_are_those_that_other_pages_and_people_write() -> None:
    asked = read_query(
        {"run": "r", "truth": ["defect", "wrong-input"], "verdict": "PASS", "t1": "1.3", "t2": "2", "to": "3"}
    )
    wrong = (Truth.DEFECT, Truth.WRONG_INPUT)
    assert asked == (
        GalleryQuery("r", (Verdict.PASS,), truths=wrong, t_review=1.3, t_defect=2.0, below=3.0),
        (),
    )


@pytest.mark.parametrize(
    ("params", "refused"),
    [
        ({"verdict": "pass"}, ("verdict",)),
        ({"truth": "2"}, ("truth",)),
        ({"from": "nan", "to": "inf"}, ("from", "to")),
        ({"from": "1e999", "to": "one"}, ("from", "to")),
        ({"t1": "1"}, ("t1",)),
        ({"t1": "3", "t2": "2"}, ("t1", "t2")),
        ({"flips": "1"}, ("flips",)),
        ({"flips": "yes", "judged": "true"}, ("judged", "flips")),
        ({"since": "yesterday", "until": "0001-01-01T00:00+14:00"}, ("since", "until")),
        ({"label": "x" * 301}, ("label",)),
        ({"order": "best"}, ("order",)),
        ({"review": ""}, ("review",)),
        ({"label": [str(number) for number in range(101)]}, ("label",)),
    ],
)
def test_what_makes_no_sense_is_left_out_and_named(params: dict[str, Any], refused: tuple[str, ...]) -> None:
    query, found = read_query(params)
    assert found == refused
    if refused != ("label",):
        assert query == GalleryQuery()


def test_no_address_makes_an_error() -> None:
    rng = random.Random(5)
    keys = [*FULL.params(), "item", "embed"]
    words = [
        "",
        "1",
        "-1",
        "2.5",
        "nan",
        "PASS",
        "defect",
        "<script>",
        "'; drop",
        "\udcff",
        "x" * 400,
        "٣",
        "0",
    ]
    words += ["2026-11-23", "9999-12-31T23:59-23:59", "near-t1", "none", "1_0", " 1 ", "\x00"]
    for _ in range(3000):
        params = {
            key: rng.choices(words, k=rng.randint(0, 3)) if rng.random() < 0.5 else rng.choice(words)
            for key in rng.sample(keys, rng.randint(0, len(keys)))
        }
        query, _ = read_query(params)
        assert read_query(query.params()) == (query, ())
        assert isinstance(describe_query(query), str)


@pytest.mark.parametrize(
    "changes",
    [
        {"least": float("nan")},
        {"below": float("inf")},
        {"t_review": 1.0},
        {"t_review": 2.0, "t_defect": 1.0},
        {"flips": True},
        {"since": "2026-11-23"},
        {"name": "x" * 301},
        {"labels": tuple(map(str, range(101)))},
    ],
)
def test_a_page_that_asks_for_nonsense_is_told(changes: dict[str, Any]) -> None:
    with pytest.raises(GalleryQueryError):
        GalleryQuery(**changes)


def test_a_link_is_told_from_a_page_that_is_opened_from_the_menu() -> None:
    assert asks_gallery(GalleryQuery(run="r").link())
    assert not asks_gallery({"run": "r", "item": "i"})
    assert read_query(GalleryQuery(run="r").link())[0] == GalleryQuery(run="r")
    assert GalleryQuery(order=Order.FILE).link() == {"order": ["file"]}


def test_every_filter_keeps_what_it_names_and_nothing_else(kept: Store, table: RunTable) -> None:
    ids = set(table.item_id)
    last = {record.item_id: entry for record, entry in kept.reviewed(Asked(run_id="run"))}
    kinds = dict(zip(table.item_id, kinds_of_table(table), strict=True))
    meant: list[tuple[GalleryQuery, Callable[[Record], bool]]] = [
        (GalleryQuery(verdicts=(Verdict.PASS,)), lambda r: r.verdict is Verdict.PASS),
        (
            GalleryQuery(was=(Verdict.OOD, Verdict.INVALID)),
            lambda r: r.verdict in (Verdict.OOD, Verdict.INVALID),
        ),
        (
            GalleryQuery(labels=("scratch", UNLABELLED)),
            lambda r: named_label(r.label) in ("scratch", UNLABELLED),
        ),
        (GalleryQuery(truths=(Truth.DEFECT,)), lambda r: truth_of(r.label) is Truth.DEFECT),
        (GalleryQuery(kinds=("dent",)), lambda r: kinds[r.item_id] == "dent"),
        (GalleryQuery(reviewed=(Reviewed.NONE,)), lambda r: r.item_id not in last),
        (
            GalleryQuery(reviewed=(Reviewed.DEFECT,)),
            lambda r: r.item_id in last and last[r.item_id].judgement == "defect",
        ),
        (GalleryQuery(least=1.0), lambda r: r.strangeness is not None and r.strangeness >= 1.0),
        (GalleryQuery(below=1.0), lambda r: r.strangeness is not None and r.strangeness < 1.0),
        (GalleryQuery(name="PART_000"), lambda r: "part_000" in r.part_id),
        (GalleryQuery(name=table.item_id[5][:10]), lambda r: r.item_id == table.item_id[5]),
        (GalleryQuery(products=("nothing",)), lambda _: False),
        (GalleryQuery(since="2000-01-01T00:00:00.000+00:00"), lambda _: True),
        (GalleryQuery(until="2000-01-01T00:00:00.000+00:00"), lambda _: False),
    ]
    for query, wanted in meant:
        places = find_places(query, table)
        shown = records_of(kept, table, places)
        assert len(shown) == len(places)
        assert all(wanted(record) for record in shown), query
        rest = ids - {record.item_id for record in shown}
        assert not any(wanted(record) for record in kept.records("run", sorted(rest))), query
    everything = find_places(GalleryQuery(), table)
    assert sorted(everything) == list(range(len(table)))


def test_filters_add_up_to_the_cells_of_the_cross_table(table: RunTable) -> None:
    for judged in (False, True):
        columns = columns_of_table(table, judged=judged)
        counts = verdict_counts(columns, 0.4, 1.1)
        for truth in Truth:
            for verdict in VERDICTS:
                query = GalleryQuery(
                    verdicts=(verdict,), truths=(truth,), judged=judged, t_review=0.4, t_defect=1.1
                )
                assert len(find_places(query, table)) == counts.table[truth, VERDICTS.index(verdict)]
                assert len(find_places(query, table, columns)) == len(find_places(query, table))


def test_flips_are_what_thresholds_would_change(table: RunTable) -> None:
    codes = verdict_codes(columns_of_table(table), 0.4, 1.1)
    changed = find_places(GalleryQuery(t_review=0.4, t_defect=1.1, flips=True), table)
    assert set(changed) == set(np.flatnonzero(codes != table.verdict))
    assert len(changed) > 0
    one_cell = GalleryQuery(
        verdicts=(Verdict.REVIEW,), was=(Verdict.PASS,), t_review=0.4, t_defect=1.1, flips=True
    )
    passed = VERDICTS.index(Verdict.PASS)
    assert set(find_places(one_cell, table)) == set(
        np.flatnonzero((codes == VERDICTS.index(Verdict.REVIEW)) & (table.verdict == passed))
    )
    assert len(find_places(GalleryQuery(t_review=1.301, t_defect=2.0, flips=True), table)) == 0


def test_kinds_are_counted_as_in_the_report(kept: Store, table: RunTable) -> None:
    counted = kinds_table(kept.items(Asked(run_id="run")), kept.reviewed(Asked(run_id="run")))
    found = {kind: len(find_places(GalleryQuery(kinds=(kind,)), table)) for kind in kind_choices(table)}
    assert found == {kind: int(row.sum()) for kind, row in counted.items()}
    assert found["dent"] == 4
    assert kind_choices(table)[-1] == KIND_UNNAMED


def test_orders_sort_and_what_has_no_figure_comes_last(table: RunTable) -> None:
    figures = {
        Order.STRANGEST: -table.strangeness,
        Order.LEAST_STRANGE: table.strangeness,
        Order.NEAR_T1: abs(table.strangeness - table.t_review),
        Order.NEAR_T2: abs(table.strangeness - table.t_defect),
        Order.P_VALUE: table.p_value,
        Order.FILE: np.arange(len(table)),
    }
    for order in Order:
        places = find_places(GalleryQuery(order=order), table)
        assert sorted(places) == list(range(len(table)))
        if order is Order.LATEST:
            times = [str(table.processed_at[place]) for place in places]
            assert times == sorted(times, reverse=True)
            continue
        told = figures[order][places]
        known = int(np.isfinite(told).sum())
        assert np.isfinite(told[:known]).all()
        assert list(told[:known]) == sorted(told[:known])
        assert (known < len(told)) is (order is not Order.FILE)


def test_nearness_is_to_the_thresholds_that_are_asked_for(table: RunTable) -> None:
    asked = GalleryQuery(t_review=0.3, t_defect=0.6, order=Order.NEAR_T1)
    apart = abs(table.strangeness - 0.3)
    assert apart[find_places(asked, table)[0]] == np.nanmin(apart)


def test_of_pictures_of_one_moment_the_first_comes_first(table: RunTable) -> None:
    times = np.array(["2026-01-01"] * len(table), dtype=object)
    times[7] = "2026-01-02"
    table.__dict__["processed_at"] = times
    places = find_places(GalleryQuery(order=Order.LATEST), table)
    assert list(places) == [7, *(place for place in range(len(table)) if place != 7)]


def test_words_say_what_is_asked() -> None:
    said = describe_query(FULL)
    for words in (
        "defect or wrong input",
        "PASS or OOD",
        "recorded as DEFECT",
        "without a word or called unsure",
    ):
        assert words in said
    assert "T1 1.301 and T2 2" in said
    assert "processed from 2026-11-23T13:30 before 2026-11-24T00:00" in said
    assert describe_query(GalleryQuery(below=2.0)) == "strangeness below 2"
    assert describe_query(GalleryQuery(name="\u202e")) == 'named like "\\u202e"'


def test_a_filter_is_told_from_an_order() -> None:
    assert not GalleryQuery(run="r", order=Order.FILE, judged=True, t_review=1.0, t_defect=2.0).filters
    assert GalleryQuery(flips=True, t_review=1.0, t_defect=2.0).filters
    assert GalleryQuery(name="a").filters


def test_times_are_written_as_records_write_them() -> None:
    assert moment("2026-11-23") == "2026-11-23T00:00:00.000+00:00"
    assert moment("0001-01-01T00:00+14:00") is None
