"""Records of several machines become one, without loss and without anything twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from differnet.records import Verdict
from differnet.store import Asked, ReviewEntry, RevisionEntry, Store, StoreError, merging
from differnet.store.merging import Merged, merge
from differnet.store.queue import Progress, Queue, Wanted
from store.conftest import known, record, run
from store.test_queue import judged


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    """Another machine's record: two runs, a review, thresholds, and a picture that is still to be judged."""
    store = known(Store.open(tmp_path / "other.db"))
    store.add_revision(
        RevisionEntry("m1", "c1", 3, 1.0, 2.0, "ada", "fewer rejects", "by hand", "2026-11-01")
    )
    store.add_items([record(n) for n in range(450)])
    store.review("monday", "item-3", ReviewEntry("defect", "ada", kind="dent", made_at="2026-11-23T08:00"))
    Queue.begin(store, run("tuesday"), [Wanted("a.png"), Wanted("b.png")])
    yield store
    store.close()


def test_everything_comes_over_and_only_once(store: Store, other: Store) -> None:
    told: list[tuple[int, int]] = []
    assert merge(store, other, lambda *done: told.append(done)) == Merged(runs=1, items=450, reviews=1)
    assert told[-1] == (450, 450)
    assert merge(store, other) == Merged()
    assert store.items(Asked(run_id="monday")) == other.items(Asked(run_id="monday"))
    assert store.reviews("monday", "item-3") == other.reviews("monday", "item-3")
    assert store.revision("m1", "c1", 3) == other.revision("m1", "c1", 3)
    assert {r.run_id for r in store.runs()} == {"monday", "tuesday"}
    assert Queue(store, "tuesday").progress() == Progress(waiting=2)


def test_a_run_that_both_hold_grows(store: Store, other: Store) -> None:
    store.add_items([record(n) for n in (449, 500, 501)])
    assert merge(store, other).items == 449
    found = store.items(Asked(run_id="monday"))
    assert sorted(r.path for r in found) == sorted(f"parts/{n}.png" for n in (*range(450), 500, 501))
    # What was here first stays first.
    assert [r.path for r in found[:3]] == ["parts/449.png", "parts/500.png", "parts/501.png"]


def test_other_pictures_of_the_same_place_are_refused(store: Store, other: Store) -> None:
    mine = replace(record(7), sha256="f" * 64)
    store.add_items([mine])
    with pytest.raises(StoreError, match="different names"):
        merge(store, other)
    assert store.items(Asked(sha256="f" * 64)) == [mine]


def test_a_run_by_other_thresholds_is_refused(store: Store, other: Store) -> None:
    other.begin_run(replace(run("friday"), t_defect=9.0))
    store.begin_run(run("friday"))
    with pytest.raises(StoreError, match="t_defect"):
        merge(store, other)


def test_what_moved_on_since_the_last_merge_moves_on_here(store: Store, other: Store) -> None:
    """A job that was merged while it worked, and once more when it had ended."""
    job = Queue.begin(other, run("friday"), [Wanted(f"{n}.png") for n in "abcd"])
    a, b, c, d = job.claim("me", 4)
    invalid = {
        "run_id": "friday",
        "verdict": Verdict.INVALID,
        "reasons": ("cut short",),
        "sha256": "",
        "regions": (),
    }
    same = {"run_id": "friday", "sha256": "e" * 64, "quality_flags": ()}
    job.settle("me", [judged(b, **invalid), judged(c, **same)])
    merge(store, other)
    here = Queue(store, "friday")
    assert here.progress() == Progress(waiting=2, done=1, quarantined=1)
    assert store.run("friday").finished_at is None
    # Since then: a is the same picture as c, b arrived whole, d was judged, and that was all.
    job.settle("me", [judged(a, **same), judged(d, run_id="friday")])
    job.retry()
    job.settle("me", [judged(job.claim("me", 1)[0], run_id="friday", verdict=Verdict.DEFECT)])
    assert job.finish()
    found = merge(store, other)
    assert (found.items, found.changed) == (2, 2)
    assert here.progress() == Progress(done=4)
    assert store.run("friday").finished_at == other.run("friday").finished_at
    theirs = {r.path: r for r in other.items(Asked(run_id="friday"))}
    ours = {r.path: r for r in store.items(Asked(run_id="friday"))}
    assert {path: r.verdict.value for path, r in ours.items()} == {
        **{"a.png": "PASS", "b.png": "DEFECT"},
        **{"c.png": "REVIEW", "d.png": "PASS"},
    }
    assert ours == theirs
    assert merge(store, other) == Merged()
    # What was changed, there and here, is in the audit trail.
    assert {e["action"] for e in store.audit()} >= {"retried", "moved on"}


def test_a_run_that_is_merged_in_part_is_not_finished(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Queue.begin(other, run("friday"), [Wanted("a.png")])
    job.settle("me", [judged(job.claim("me", 1)[0], run_id="friday")])
    assert job.finish()

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(merging, "_merge_queue", cut_off)
        with pytest.raises(KeyboardInterrupt):
            merge(store, other)
    assert store.run("friday").finished_at is None
    merge(store, other)
    assert store.run("friday").finished_at == other.run("friday").finished_at


def test_repeats_across_two_halves_of_a_run_are_told(store: Store, other: Store) -> None:
    for where, name in ((store, "x.png"), (other, "y.png")):
        half = Queue.begin(where, run("friday"), [Wanted(name)])
        (claim,) = half.claim("me", 1)
        half.settle("me", [judged(claim, run_id="friday", sha256="e" * 64, quality_flags=())])
    assert merge(store, other).changed == 1
    assert {r.path: r.verdict.value for r in store.items(Asked(run_id="friday"))} == {
        "x.png": "PASS",
        "y.png": "REVIEW",
    }


def test_what_was_said_later_is_the_last_word_wherever_it_came_from(store: Store, other: Store) -> None:
    store.add_items([record(3)])
    store.review("monday", "item-3", ReviewEntry("good", "lead", made_at="2026-11-23T15:00"))
    merge(store, other)
    ((_, last),) = store.reviewed(Asked(run_id="monday"))
    assert (last.author, last.judgement) == ("lead", "good")
    assert [r.author for r in store.reviews("monday", "item-3")] == ["ada", "lead"]


def test_a_person_who_says_the_same_twice_said_it_twice(store: Store, other: Store) -> None:
    other.review("monday", "item-3", ReviewEntry("good", "bob", made_at="2026-11-23T09:00"))
    assert merge(store, other).reviews == 2
    assert [r.author for r in store.reviews("monday", "item-3")] == ["ada", "bob"]
    other.review("monday", "item-3", ReviewEntry("good", "bob", made_at="2026-11-23T10:00"))
    assert merge(store, other).reviews == 1


def test_what_was_taken_back_in_one_record_is_taken_back_in_the_other(store: Store, other: Store) -> None:
    merge(store, other)
    assert len(store.reviewed(Asked(run_id="monday"))) == 1
    other.withdraw("monday", ["item-3"], "ada", "2026-11-23T08:00")
    again = merge(store, other), merge(store, other)
    assert [found.reviews for found in again] == [0, 0]
    assert store.reviewed(Asked(run_id="monday")) == []
    (kept,) = store.said(Asked(run_id="monday"), withdrawn=True)
    assert kept.withdrawn_at == other.said(Asked(run_id="monday"), withdrawn=True)[0].withdrawn_at
    # Said again here, it stays: the other record knows of another word.
    store.review("monday", "item-3", ReviewEntry("good", "ada", made_at="2026-11-23T16:00"))
    merge(store, other)
    assert len(store.reviewed(Asked(run_id="monday"))) == 1
