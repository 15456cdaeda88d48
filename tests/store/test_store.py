"""What is kept comes back as it was, once, and every question has the answer that plain Python gives."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import pytest

from differnet.records import Record, Verdict
from differnet.store import (
    Asked,
    CalibrationEntry,
    ModelEntry,
    ReviewEntry,
    RunEntry,
    Said,
    Store,
    StoreError,
)
from store.conftest import CALIBRATION, MODEL, known, record, run

VERDICTS = list(Verdict)


def mixed(count: int = 40) -> list[Record]:
    """Records of every verdict and label, as a run at T1 1 and T2 2 gives them."""
    found = []
    for number in range(count):
        made = record(number, label=("good", "scratch", None)[number % 3])
        verdict = Verdict.PASS if number < 10 else Verdict.REVIEW if number < 20 else Verdict.DEFECT
        if number % 7 == 3:
            verdict = Verdict.OOD
        if number % 11 == 5:
            made = replace(made, strangeness=None, p_value=None, regions=())
            verdict = Verdict.INVALID
        found.append(replace(made, verdict=verdict))
    return found


def test_records_come_back_as_they_were(store: Store) -> None:
    kept = mixed()
    assert store.add_items(kept) == len(kept)
    assert store.items(Asked(run_id="monday")) == kept
    bare = Record("monday", "bare", "p", "", "", "", Verdict.INVALID, (), processed_at="2026-11-23T09:00:00Z")
    bare = replace(bare, model_id=MODEL, calibration_id=CALIBRATION)
    store.add_items([bare])
    assert store.items(Asked(part_id="p")) == [bare]


def test_everything_else_comes_back_as_it_was(store: Store) -> None:
    assert store.run("monday") == run()
    review = ReviewEntry("defect", "Ada", "scratch", "rim", "2026-11-23T07:00:00.000+00:00")
    store.add_items([record(1)])
    store.review("monday", "item-1", review)
    assert store.reviews("monday", "item-1") == [review]
    store.note("Ada", "promote", "model m1", {"from": None, "figures": [1, 2.5]})
    (entry,) = store.audit()
    assert entry["facts"] == {"from": None, "figures": [1, 2.5]}
    assert (entry["actor"], entry["action"], entry["subject"]) == ("Ada", "promote", "model m1")


def test_what_is_kept_again_is_kept_once(store: Store) -> None:
    kept = mixed(10)
    assert store.add_items(kept[:6]) == 6
    assert store.add_items(kept) == 4
    assert store.add_items(kept) == 0
    assert store.items(Asked()) == kept
    known(store)
    assert store.runs() == [run()]


def test_what_a_person_says_has_to_be_text(store: Store) -> None:
    store.add_items([record(1)])
    with pytest.raises(StoreError, match=r"udcff"):
        store.review("monday", "item-1", ReviewEntry("good", "ada", note="a\udcff"))
    assert store.reviews("monday", "item-1") == []


def test_items_go_by_id_part_and_path(store: Store) -> None:
    kept = [record(number) for number in range(4)]
    odd = record(4, path="a\udcff.png", part_id="a\udcff")
    store.add_items([*kept, odd])
    assert store.named("monday", "a\udcff.png") == store.named("monday", "a\udcff") == [odd]
    assert store.named("monday", "item-1") == [kept[1]]
    assert store.named("monday", "part-1") == kept[2:]
    assert store.named("monday", "parts/3.png") == [kept[3]]
    assert store.named("monday", "3.png") == store.named("tuesday", "item-1") == []


def test_all_of_a_batch_is_kept_or_none(store: Store) -> None:
    store.add_items([record(0)])
    other = replace(record(5), item_id="item-0")
    with pytest.raises(StoreError, match="expected rows that belong together"):
        store.add_items([record(1), record(2), other])
    assert [r.item_id for r in store.items(Asked())] == ["item-0"]
    with pytest.raises(StoreError):
        store.add_items([record(1), replace(record(2), run_id="nobody began it")])
    assert [r.item_id for r in store.items(Asked())] == ["item-0"]


ASKED: list[tuple[Asked, Any]] = [
    (Asked(), lambda r: True),
    (Asked(run_id="tuesday"), lambda r: r.run_id == "tuesday"),
    (Asked(run_id="wednesday"), lambda r: False),
    (Asked(product="valve"), lambda r: r.product == "valve"),
    (Asked(model_id=MODEL, calibration_id="c2"), lambda r: r.calibration_id == "c2"),
    (Asked(revision=4), lambda r: r.threshold_revision == 4),
    (Asked(verdicts=(Verdict.DEFECT, Verdict.OOD)), lambda r: r.verdict in (Verdict.DEFECT, Verdict.OOD)),
    (Asked(label="scratch"), lambda r: r.label == "scratch"),
    (Asked(part_id="part-3"), lambda r: r.part_id == "part-3"),
    (Asked(sha256=f"{7:064x}"), lambda r: r.sha256 == f"{7:064x}"),
    (Asked(since="2026-11-23T06:00:20"), lambda r: r.processed_at >= "2026-11-23T06:00:20"),
    (Asked(until="2026-11-23T06:00:20"), lambda r: r.processed_at < "2026-11-23T06:00:20"),
    (Asked(since="2026-11-24"), lambda r: r.run_id == "tuesday"),
    (
        Asked(run_id="monday", revision=3, verdicts=(Verdict.REVIEW,), since="2026-11-23T06:00:15"),
        lambda r: r.run_id == "monday" and r.verdict is Verdict.REVIEW and r.strangeness >= 1.5,
    ),
]


@pytest.fixture
def week(store: Store) -> list[Record]:
    """Two runs by two calibrations and revisions, all kept."""
    store.add_calibration(CalibrationEntry(MODEL, "c2", 120))
    store.begin_run(run("tuesday", calibration_id="c2", threshold_revision=4))
    tuesday = [
        replace(
            r,
            run_id="tuesday",
            calibration_id="c2",
            threshold_revision=4,
            product="valve",
            processed_at=str(r.processed_at).replace("23T", "24T"),
        )
        for r in mixed(25)
    ]
    kept = [*mixed(), *tuesday]
    store.add_items(kept)
    return kept


def test_every_question_is_answered_as_by_hand(store: Store, week: list[Record]) -> None:
    for asked, meant in ASKED:
        wanted = [r for r in week if meant(r)]
        assert store.items(asked) == wanted, asked
        assert store.verdict_counts(asked) == Counter(r.verdict for r in wanted)
        by_label: dict[str | None, Counter[Verdict]] = {}
        for r in wanted:
            by_label.setdefault(r.label, Counter())[r.verdict] += 1
        assert store.counts_by_label(asked) == by_label


def test_items_are_ordered_and_paged(store: Store, week: list[Record]) -> None:
    strangest = store.items(Asked(), "strangest")
    figures = [r.strangeness for r in strangest]
    finite = [f for f in figures if f is not None]
    assert finite == sorted(finite, reverse=True)
    assert figures == [*finite, *[None] * (len(figures) - len(finite))]
    latest = [r.processed_at for r in store.items(Asked(), "latest")]
    assert latest == sorted(latest, key=str, reverse=True)
    pages = [store.items(Asked(), "strangest", limit=10, offset=start) for start in range(0, 70, 10)]
    assert [r for page in pages for r in page] == strangest
    assert store.items(Asked(), offset=60) == week[60:]


@pytest.mark.parametrize("thresholds", [(1.0, 2.0), (0.5, 2.5), (3.0, 5.0), (0.0, 0.0), (9.0, 9.0)])
def test_what_flips_is_what_the_dashboard_says(store: Store, thresholds: tuple[float, float]) -> None:
    from differnet.reporting.counts import VERDICTS, columns_of, verdict_codes

    kept = mixed()
    # One that came twice is reviewed though it is not strange.
    kept[2] = replace(kept[2], verdict=Verdict.REVIEW)
    store.add_items(kept)
    codes = verdict_codes(columns_of(kept), *thresholds)
    wanted = [(r, VERDICTS[code]) for r, code in zip(kept, codes, strict=True) if VERDICTS[code] != r.verdict]
    found = store.flips(Asked(run_id="monday"), *thresholds)
    assert sorted(found, key=lambda pair: pair[0].item_id) == sorted(wanted, key=lambda p: p[0].item_id)
    assert len(found) == 0 if thresholds == (1.0, 2.0) else len(found) > 3
    assert store.flips(Asked(run_id="monday"), *thresholds, limit=2) == found[:2]


def test_the_last_word_on_an_item_counts(store: Store) -> None:
    store.add_items(mixed(6))
    said = [
        ("item-4", ReviewEntry("good", "Ada", made_at="1")),
        ("item-1", ReviewEntry("unsure", "Ada", made_at="2")),
        ("item-4", ReviewEntry("defect", "Bea", "scratch", made_at="3")),
        ("item-1", ReviewEntry("good", "Bea", made_at="4")),
    ]
    for item, entry in said:
        store.review("monday", item, entry)
    last = [(r.item_id, entry) for r, entry in store.reviewed(Asked(run_id="monday"))]
    assert last == [said[3], said[2]]
    assert store.reviews("monday", "item-4") == [said[0][1], said[2][1]]
    assert store.reviewed(Asked(run_id="tuesday")) == []


@pytest.mark.parametrize(
    ("item", "entry"),
    [
        ("nobody", ReviewEntry("good", "Ada")),
        ("item-1", ReviewEntry("good", " ")),
        ("item-1", ReviewEntry("good", "Ada", kind="scratch")),
        ("item-1", ReviewEntry("fine", "Ada")),  # type: ignore[arg-type]
    ],
)
def test_reviews_that_say_nothing_are_refused(store: Store, item: str, entry: ReviewEntry) -> None:
    store.add_items([record(1)])
    with pytest.raises(StoreError):
        store.review("monday", item, entry)
    assert store.reviewed(Asked()) == []


def test_a_word_that_is_taken_back_is_kept_and_no_longer_counts(store: Store) -> None:
    store.add_items([record(1), record(2)])
    first = store.review("monday", "item-1", ReviewEntry("good", "Ada", made_at="1"))
    second = store.review("monday", "item-1", ReviewEntry("defect", "Ada", "scratch", made_at="2"))
    other = store.review("monday", "item-1", ReviewEntry("unsure", "Bea", made_at="3"))
    asked = Asked(run_id="monday")

    def last() -> list[ReviewEntry]:
        return [entry for _, entry in store.reviewed(asked)]

    assert last() == [other]
    assert store.withdraw("monday", ["item-1"], "Bea", other.made_at) == 1
    assert last() == [second]
    assert (store.table("monday").judgement[0], store.table("monday").kind[0]) == (1, "scratch")
    assert store.withdraw("monday", ["item-1"], "Ada", second.made_at) == 1
    assert last() == store.reviews("monday", "item-1") == [first]
    assert store.table("monday").judgement[0] == 0
    # Once more changes nothing.
    assert store.withdraw("monday", ["item-1"], "Ada", second.made_at) == 0
    assert store.withdraw("monday", ["item-1"], "Ada", first.made_at) == 1
    assert last() == []
    assert store.said(asked) == []
    assert store.table("monday").judgement[0] == -1
    kept = store.said(asked, withdrawn=True)
    assert [word.entry for word in kept] == [first, second, other]
    assert all(word.withdrawn_at for word in kept)


def test_who_takes_back_by_mistake_says_it_once_more(store: Store) -> None:
    store.add_items([record(1)])
    entry = ReviewEntry("good", "Ada", made_at="1")
    store.review("monday", "item-1", entry)
    store.withdraw("monday", ["item-1"], "Ada", "1")
    again = store.review("monday", "item-1", ReviewEntry("good", "Ada"))
    assert [e for _, e in store.reviewed(Asked())] == [again]
    assert again.made_at > "1"


def test_only_ones_own_words_are_taken_back_and_all_or_none(store: Store) -> None:
    store.add_items([record(1), record(2), record(3)])
    entry = store.review_all("monday", ["item-1", "item-2"], ReviewEntry("good", "Ada"))
    before = store.changed("monday")
    for items, author, time in (
        (["item-1"], "Bea", entry.made_at),
        (["item-1"], "Ada", "1"),
        (["item-1", "item-3"], "Ada", entry.made_at),
        (["nobody"], "Ada", entry.made_at),
    ):
        with pytest.raises(StoreError, match="found nothing"):
            store.withdraw("monday", items, author, time)
    assert store.changed("monday") == before
    assert len(store.reviewed(Asked())) == 2
    assert store.withdraw("monday", [], "Ada", entry.made_at) == 0
    assert store.withdraw("monday", ["item-1", "item-2"], "Ada", entry.made_at) == 2
    assert store.reviewed(Asked()) == []


def test_every_word_is_told_with_what_it_was_said_of(store: Store) -> None:
    store.add_items([record(4, label="dent", verdict=Verdict.REVIEW), record(5, strangeness=None)])
    store.review("monday", "item-5", ReviewEntry("defect", "Bea", "scratch", "rim", made_at="2"))
    store.review("monday", "item-4", ReviewEntry("good", "Ada", made_at="1"))
    ada, bea = store.said(Asked(run_id="monday"))
    assert ada == Said(
        *("monday", "item-4", "part-2", f"{4:064x}", "dent", "flange", Verdict.REVIEW, 0.4),
        ReviewEntry("good", "Ada", made_at="1"),
    )
    assert (bea.item_id, bea.strangeness, bea.entry.note) == ("item-5", None, "rim")
    assert store.said(Asked(run_id="monday", verdicts=(Verdict.REVIEW,))) == [ada]
    assert store.said(Asked(run_id="tuesday")) == []


def test_a_run_is_finished_once(store: Store) -> None:
    assert store.run("monday").finished_at is None
    store.finish_run("monday")
    finished = store.run("monday").finished_at
    assert finished is not None
    store.finish_run("monday")
    assert store.run("monday").finished_at == finished
    for name in ("nobody", "'; DROP TABLE runs; --"):
        for ask in (store.finish_run, store.run):
            with pytest.raises(StoreError, match="none of that name"):
                ask(name)


@pytest.mark.parametrize(
    "other", [{"t_review": 1.5}, {"threshold_revision": 4}, {"calibration_id": "c2"}, {"product": "valve"}]
)
def test_a_run_of_another_kind_is_not_resumed(store: Store, other: dict[str, Any]) -> None:
    store.add_model(ModelEntry("m2", "valve"))
    store.add_calibration(CalibrationEntry(MODEL, "c2", 120))
    # What does not judge may differ: the folder was moved.
    store.begin_run(replace(run(), folder="elsewhere", started_at=""))
    with pytest.raises(StoreError, match=f"another: {next(iter(other))} "):
        store.begin_run(replace(run(), **other))
    assert store.runs() == [run()]


def test_runs_are_the_latest_first(store: Store) -> None:
    store.add_model(ModelEntry("m2", "valve"))
    store.add_calibration(CalibrationEntry("m2", "c", 50))
    entries = [
        RunEntry(f"r{i}", "valve", "m2", "c", 1.0, 2.0, started_at=f"2026-11-2{i}T06:00:00.000+00:00")
        for i in range(5)
    ]
    for entry in entries:
        store.begin_run(entry)
    assert store.runs("valve") == entries[::-1]
    assert store.runs("valve", limit=2) == [entries[4], entries[3]]
    assert {r.run_id for r in store.runs()} == {"monday", *(f"r{i}" for i in range(5))}


def test_writers_take_turns(place: str) -> None:
    """Eight writers of forty items each, every one kept once; readers meanwhile find whole batches."""
    first = known(Store.open(place))
    failures: list[BaseException] = []
    seen: list[int] = []

    def write(writer: int) -> None:
        own = Store.open(place)
        try:
            for start in range(0, 40, 8):
                own.add_items([record(1000 * writer + start + i) for i in range(8)])
        except BaseException as error:
            failures.append(error)
        finally:
            own.close()

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen.append(len(first.items(Asked(run_id="monday"))))
    for writer in writers:
        writer.join()
    assert failures == []
    assert all(count % 8 == 0 for count in seen)
    assert seen == sorted(seen)
    names = Counter(r.item_id for r in first.items(Asked()))
    assert len(names) == 320
    assert set(names.values()) == {1}
    first.close()


def test_a_value_never_becomes_a_statement(store: Store) -> None:
    payload = "'; DROP TABLE items; -- \x00".replace("\x00", "")
    odd = replace(record(1), path=payload, label=payload, reasons=(payload,), part_id=payload)
    store.add_items([odd])
    assert store.items(Asked(label=payload, part_id=payload)) == [odd]
    assert asdict(store.items(Asked())[0]) == asdict(odd)
