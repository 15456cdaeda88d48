"""A picture is claimed by one process at a time, settled once, and never lost, whoever dies."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from differnet.records import Record, Verdict
from differnet.store import Asked, ReviewEntry, Store, StoreError, schema
from differnet.store import queue as queue_room
from differnet.store.queue import CAREFUL_CLAIMS, MOST_CLAIMS, Claim, Queue, Wanted, item_id_of
from store.conftest import record, run

Lapse = Callable[[Queue], None]


def wanted(numbers: Iterable[int]) -> list[Wanted]:
    return [Wanted(f"parts/{n}.png", "good" if n % 2 else None) for n in numbers]


def judged(claim: Claim, **changes: object) -> tuple[Claim, Record]:
    made = record(claim.number, path=claim.path, item_id=item_id_of(claim.path), label=claim.label)
    return claim, replace(made, **changes)  # type: ignore[arg-type]


def begun(store: Store, count: int) -> Queue:
    return Queue.begin(store, run(), wanted(range(count)))


@pytest.fixture
def lapse(monkeypatch: pytest.MonkeyPatch) -> Lapse:
    """End every claim of a queue as if its time were over."""

    def end(queue: Queue) -> None:
        with queue._write() as connection:
            connection.execute(
                schema.queue.update().where(schema.queue.c.state == "leased").values(leased_until="2000")
            )

    return end


def paths(claims: Sequence[Claim]) -> list[str]:
    return [claim.path for claim in claims]


def test_a_run_begins_with_all_of_its_pictures_or_not_at_all(store: Store) -> None:
    queue = begun(store, 5)
    assert queue.progress() == queue_room.Progress(waiting=5)
    with pytest.raises(StoreError, match="as it was begun"):
        Queue.begin(store, replace(run(), t_defect=9.0), wanted([7]))
    with pytest.raises(StoreError, match="belong together"):
        Queue.begin(store, replace(run("tuesday"), model_id="nobody's"), wanted([7]))
    assert [r.run_id for r in store.runs()] == ["monday"]
    assert queue.progress().total == 5


def test_beginning_again_adds_what_is_new_and_opens_the_run(store: Store) -> None:
    queue = begun(store, 3)
    queue.settle("me", [judged(claim) for claim in queue.claim("me", 3)])
    assert queue.finish()
    again = Queue.begin(store, run(), wanted([2, 1, 7, 7, 0]))
    assert store.run("monday").finished_at is None
    assert not again.finish()
    assert paths(again.claim("me", 9)) == ["parts/7.png"]
    assert Queue.begin(store, run(), wanted([7])).progress().total == 4


def test_claims_are_in_order_and_nobody_elses(store: Store) -> None:
    queue = begun(store, 5)
    mine, yours = queue.claim("me", 2), queue.claim("you", 9)
    assert paths(mine) == ["parts/0.png", "parts/1.png"]
    assert paths(yours) == ["parts/2.png", "parts/3.png", "parts/4.png"]
    assert [(c.number, c.label, c.claims) for c in mine] == [(0, None, 1), (1, "good", 1)]
    assert queue.claim("me", 9) == []
    assert queue.progress().leased == 5


def test_what_is_settled_is_kept_and_what_is_not_ones_own_is_not(store: Store, lapse: Lapse) -> None:
    queue = begun(store, 4)
    slow = queue.claim("slow", 2)
    lapse(queue)
    quick = queue.claim("quick", 4)
    assert {c.path for c in quick} == {f"parts/{n}.png" for n in range(4)}
    assert queue.settle("slow", [judged(c, strangeness=9.0) for c in slow]) == []
    assert store.items(Asked()) == []
    assert queue.settle("quick", [judged(c) for c in quick]) == quick
    assert queue.settle("quick", [judged(c, strangeness=9.0) for c in quick]) == []
    found = store.items(Asked(run_id="monday"))
    assert [r.path for r in found] == [f"parts/{n}.png" for n in range(4)]
    assert found == [judged(c)[1] for c in sorted(quick, key=lambda c: c.number)]
    assert queue.progress() == queue_room.Progress(done=4)
    assert queue.finish()
    assert store.run("monday").finished_at is not None


def test_a_claim_holds_while_it_is_renewed(store: Store) -> None:
    queue = begun(store, 2)
    Queue(store, "monday", timedelta(seconds=-1)).claim("me", 2)
    assert queue.renew("me") == 2
    assert queue.claim("you", 2) == []
    assert queue.renew("you") == 0


def test_what_is_given_back_was_no_failure(store: Store) -> None:
    queue = begun(store, 2)
    for _ in range(MOST_CLAIMS + 1):
        assert [c.claims for c in queue.claim("me", 2)] == [1, 1]
        assert queue.release("me") == 2
    assert queue.progress() == queue_room.Progress(waiting=2)


def test_what_may_kill_is_judged_alone_and_then_put_aside(store: Store, lapse: Lapse) -> None:
    queue = begun(store, 8)
    killer = "parts/3.png"
    claimed: Counter[str] = Counter()
    deaths = 0
    for _ in range(50):
        claims = queue.claim("me", 4)
        if not claims:
            break
        claimed.update(paths(claims))
        # Nothing is claimed beside what may kill.
        if claims[0].claims > CAREFUL_CLAIMS:
            assert len(claims) == 1
            assert queue.claim("me", 4) == []
        if killer in paths(claims):
            deaths += 1
            lapse(queue)
        else:
            queue.settle("me", [judged(claim) for claim in claims])
    assert deaths == MOST_CLAIMS
    assert queue.progress() == queue_room.Progress(done=7, quarantined=1)
    assert queue.quarantined() == [
        (killer, f"the process that judged it ended without a word {MOST_CLAIMS} times")
    ]
    (aside,) = store.items(Asked(verdicts=(Verdict.INVALID,)))
    assert (aside.path, aside.label, aside.t_defect, aside.model_id) == (killer, "good", 2.0, "m1")
    assert max(claimed.values()) == MOST_CLAIMS


def test_a_careful_claim_waits_until_its_owner_holds_nothing(store: Store, lapse: Lapse) -> None:
    queue = begun(store, 3)
    queue.claim("dead", 1)
    lapse(queue)
    with queue._write() as connection:
        dead = schema.queue.c.owner == "dead"
        connection.execute(schema.queue.update().where(dead).values(claims=CAREFUL_CLAIMS))
    others = queue.claim("me", 2)
    assert paths(others) == ["parts/1.png", "parts/2.png"]
    assert queue.claim("me", 2) == []
    queue.settle("me", [judged(claim) for claim in others])
    assert paths(queue.claim("me", 2)) == ["parts/0.png"]


def test_nothing_is_claimed_beside_what_may_kill(store: Store, lapse: Lapse) -> None:
    queue = begun(store, 1)
    for _ in range(CAREFUL_CLAIMS):
        queue.claim("dead", 1)
        lapse(queue)
    (careful,) = queue.claim("me", 4)
    begun(store, 5)
    assert queue.claim("me", 4) == []
    assert len(queue.claim("you", 1)) == 1
    queue.settle("me", [judged(careful)])
    assert len(queue.claim("me", 4)) == 3


def test_what_was_put_aside_is_tried_again_and_replaced(store: Store) -> None:
    queue = begun(store, 3)
    aside = {
        "verdict": Verdict.INVALID,
        "reasons": ("cut short",),
        "sha256": "",
        "regions": (),
        "strangeness": None,
    }
    claims = queue.claim("me", 3)
    queue.settle("me", [judged(claims[0]), judged(claims[1], **aside), judged(claims[2], **aside)])
    assert queue.quarantined() == [("parts/1.png", "cut short"), ("parts/2.png", "cut short")]
    assert queue.quarantined(limit=1) == [("parts/1.png", "cut short")]
    assert queue.finish()
    before = store.items(Asked())
    store.review("monday", before[1].item_id, ReviewEntry("unsure", "ada", note="is it there?"))
    assert queue.retry() == 2
    assert store.run("monday").finished_at is None
    assert store.items(Asked()) == before
    again = queue.claim("me", 3)
    assert [(c.path, c.claims) for c in again] == [("parts/1.png", 1), ("parts/2.png", 1)]
    queue.settle("me", [judged(again[0]), judged(again[1], **aside)])
    after = store.items(Asked(run_id="monday"))
    assert [r.verdict for r in after] == [Verdict.PASS, Verdict.PASS, Verdict.INVALID]
    assert after[1] == judged(again[0])[1]
    assert [r.note for r in store.reviews("monday", after[1].item_id)] == ["is it there?"]
    noted = [entry["facts"] for entry in store.audit() if entry["action"] == "retried"]
    assert [(n["was"], n["item"]) for n in noted] == [("INVALID", r.item_id) for r in after[:0:-1]]
    assert queue.retry() == 1


def test_what_was_put_aside_and_then_kills_is_put_aside_again(store: Store, lapse: Lapse) -> None:
    queue = begun(store, 1)
    queue.settle("me", [judged(queue.claim("me", 1)[0], verdict=Verdict.INVALID, reasons=("cut short",))])
    queue.retry()
    for _ in range(MOST_CLAIMS):
        assert len(queue.claim("me", 1)) == 1
        lapse(queue)
    assert queue.claim("me", 1) == []
    (aside,) = store.items(Asked())
    assert aside.reasons[0].startswith("the process that judged it ended")
    assert queue.quarantined() == [(aside.path, aside.reasons[0])]


def test_a_run_that_was_inspected_in_one_go_is_no_queue(store: Store) -> None:
    store.add_items([record(0)])
    with pytest.raises(StoreError, match="inspected in one go"):
        begun(store, 3)
    assert store.items(Asked()) == [record(0)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_repeats_are_told_whatever_the_order(store: Store, order: tuple[int, ...]) -> None:
    queue = begun(store, 4)
    claims = queue.claim("me", 4)
    # 0, 1 and 3 are one picture; 3 is a defect.
    for n in order:
        verdict = Verdict.DEFECT if n == 3 else Verdict.PASS
        sha256 = "b" if n == 2 else "a"
        queue.settle("me", [judged(claims[n], sha256=sha256, verdict=verdict, quality_flags=())])
    found = store.items(Asked(run_id="monday"))
    assert [r.verdict.value for r in found] == ["PASS", "REVIEW", "PASS", "DEFECT"]
    assert [r.quality_flags for r in found] == [(), ("repeated",), (), ("repeated",)]
    told = [r.reasons[0] for r in found if r.quality_flags]
    assert all("same picture as parts/0.png" in reason for reason in told)
    assert [len(r.reasons) for r in found] == [2, 3, 2, 3]


def test_what_a_dead_process_holds_is_said_to_wait(store: Store, lapse: Lapse) -> None:
    queue = begun(store, 3)
    queue.claim("dead", 2)
    assert queue.progress() == queue_room.Progress(waiting=1, leased=2)
    lapse(queue)
    assert queue.progress() == queue_room.Progress(waiting=3)
    queue.settle("me", [judged(claim) for claim in queue.claim("me", 1)])
    assert not queue.finish()
    queue.claim("me", 2)
    assert not queue.finish()


def test_those_who_add_at_once_all_find_their_pictures_in_the_run(store: Store) -> None:
    begun(store, 1)

    def add(number: int) -> None:
        Queue.begin(Store(store.engine), run(), wanted(range(100 * number, 100 * number + 40)))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Queue(store, "monday").progress().total == 1 + 4 * 40


def test_jobs_are_told_from_other_runs(store: Store) -> None:
    begun(store, 1)
    store.begin_run(run("inspected"))
    assert {r.run_id for r in store.runs()} == {"monday", "inspected"}
    assert [r.run_id for r in store.runs(jobs=True)] == ["monday"]


def test_a_record_of_another_run_settles_nothing(store: Store) -> None:
    queue = begun(store, 2)
    store.begin_run(run("tuesday"))
    claims = queue.claim("me", 2)
    with pytest.raises(StoreError, match="records of run monday"):
        queue.settle("me", [judged(claims[0]), judged(claims[1], run_id="tuesday")])
    assert store.items(Asked()) == []
    assert queue.progress().leased == 2


def test_a_run_that_nobody_began_is_told(store: Store) -> None:
    with pytest.raises(StoreError, match="none of that name"):
        Queue(store, "friday").progress()


def test_names_that_are_no_text_come_back_as_they_were(store: Store) -> None:
    odd = ["parts/\udcff.png", "bytes:%41.png", "\u00e4 \U0001f600.png", "bytes:\udc80"]
    queue = Queue.begin(store, run(), [Wanted(path, path) for path in odd])
    claims = queue.claim("me", 9)
    assert [(c.path, c.label) for c in claims] == [(path, path) for path in odd]
    queue.settle("me", [judged(claim, part_id=claim.path) for claim in claims])
    assert [(r.path, r.label, r.part_id) for r in store.items(Asked(run_id="monday"))] == [
        (path, path, path) for path in odd
    ]
    assert len(store.items(Asked(label="parts/\udcff.png"))) == 1


def test_many_threads_settle_everything_once(store: Store) -> None:
    begun(store, 120)
    count = 4
    settled: list[list[str]] = [[] for _ in range(count)]

    def settle_all(number: int) -> None:
        # Every other claim is dropped, as by a process that is cut off and comes back.
        own = Queue(Store(store.engine), "monday")
        while claims := own.claim(str(number), 7):
            settled[number] += paths(own.settle(str(number), [judged(c) for c in claims[::2]]))
            own.release(str(number))

    threads = [threading.Thread(target=settle_all, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [path for some in settled for path in some]
    assert sorted(every) == sorted(w.path for w in wanted(range(120)))
    with store.engine.connect() as connection:
        kept = connection.execute(select(schema.items.c.path)).scalars().all()
    assert sorted(kept) == sorted(every)
