"""The tests of the record's queue and merging are shown to fail where a line of them is wrong."""

from __future__ import annotations

from functools import partial

import pytest
from mutants.planting import Fault, fails, plant

from differnet.store import Store, merging, queue, store
from differnet.store.queue import Queue
from store import test_merging as merges
from store import test_queue as queues
from store import test_store as stores
from store.test_merging import other
from store.test_queue import lapse

__all__ = ["lapse", "other"]

backwards = partial(queues.test_repeats_are_told_whatever_the_order, order=(3, 2, 1, 0))

FAULTS = [
    Fault(
        Queue,
        "settle",
        "columns.owner == owner",
        "columns.owner != ''",
        queues.test_what_is_settled_is_kept_and_what_is_not_ones_own_is_not,
    ),
    Fault(
        queue,
        "_lapsed",
        "leased_until < now()",
        "leased_until > now()",
        queues.test_what_is_settled_is_kept_and_what_is_not_ones_own_is_not,
    ),
    Fault(Queue, "renew", "self._later()", "now()", queues.test_a_claim_holds_while_it_is_renewed),
    Fault(Queue, "release", "claims - 1", "claims", queues.test_what_is_given_back_was_no_failure),
    Fault(
        Queue,
        "claim",
        "claims=columns.claims + 1",
        "claims=columns.claims",
        queues.test_what_may_kill_is_judged_alone_and_then_put_aside,
    ),
    Fault(
        Queue,
        "claim",
        "held and most > CAREFUL_CLAIMS",
        "False",
        queues.test_nothing_is_claimed_beside_what_may_kill,
    ),
    Fault(
        Queue,
        "claim",
        "if rows or held else 1",
        "if rows else 1",
        queues.test_a_careful_claim_waits_until_its_owner_holds_nothing,
    ),
    Fault(queue, "tell_repeats", "rows[1:]", "rows[:-1]", backwards),
    Fault(queue, "tell_repeats", "order_by(columns.number)", "order_by(columns.id)", backwards),
    Fault(
        Queue,
        "finish",
        '("waiting", "leased")',
        '("waiting",)',
        queues.test_what_a_dead_process_holds_is_said_to_wait,
    ),
    Fault(
        Queue,
        "begin",
        "values(finished_at=None)",
        "values(source=schema.runs.c.source)",
        queues.test_beginning_again_adds_what_is_new_and_opens_the_run,
    ),
    Fault(
        Queue,
        "_keep",
        '["verdict"] == Verdict.INVALID.value',
        '["verdict"] == Verdict.PASS.value',
        queues.test_what_was_put_aside_is_tried_again_and_replaced,
    ),
    Fault(
        merging,
        "merge",
        "replace(run_of(run), finished_at=None)",
        "run_of(run)",
        merges.test_a_run_that_is_merged_in_part_is_not_finished,
    ),
    Fault(
        merging,
        "_knows_better",
        'found["verdict"] == invalid != row["verdict"]',
        "False",
        merges.test_what_moved_on_since_the_last_merge_moves_on_here,
    ),
    Fault(
        merging,
        "_merge_queue",
        'state == "done" != found["state"]',
        "False",
        merges.test_what_moved_on_since_the_last_merge_moves_on_here,
    ),
    Fault(
        merging,
        "_insert_once",
        "is not None",
        "is not None and False",
        merges.test_everything_comes_over_and_only_once,
    ),
    Fault(
        store,
        "_contradicted",
        "later.c.made_at > columns.made_at",
        "later.c.id > columns.id",
        merges.test_what_was_said_later_is_the_last_word_wherever_it_came_from,
    ),
    Fault(
        store,
        "_contradicted",
        ", after, stands(later))",
        ", after)",
        stores.test_a_word_that_is_taken_back_is_kept_and_no_longer_counts,
    ),
    Fault(
        Store,
        "withdraw",
        "reviews.author == author, ",
        "",
        stores.test_only_ones_own_words_are_taken_back_and_all_or_none,
    ),
    Fault(
        merging,
        "_merge_items",
        "if taken_back:",
        "if False:",
        merges.test_what_was_taken_back_in_one_record_is_taken_back_in_the_other,
    ),
]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_caught(
    fault: Fault, place: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Begun before the fault is there, as what a test rests on would be.
    request.getfixturevalue("store")
    request.getfixturevalue("other")
    plant(fault, monkeypatch)
    assert fails(fault, request), f"{fault} was not noticed"
