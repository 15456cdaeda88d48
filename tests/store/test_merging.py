"""Records of several machines become one, without loss and without anything twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from differnet.store import Asked, ReviewEntry, RevisionEntry, Store, StoreError
from differnet.store.merging import Merged, merge
from differnet.store.queue import Progress, Queue, Wanted
from store.conftest import known, record, run


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


def test_a_person_who_says_the_same_twice_said_it_twice(store: Store, other: Store) -> None:
    other.review("monday", "item-3", ReviewEntry("good", "bob", made_at="2026-11-23T09:00"))
    assert merge(store, other).reviews == 2
    assert [r.author for r in store.reviews("monday", "item-3")] == ["ada", "bob"]
    other.review("monday", "item-3", ReviewEntry("good", "bob", made_at="2026-11-23T10:00"))
    assert merge(store, other).reviews == 1
