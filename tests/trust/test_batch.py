"""Short versions of B1 and B3; `make soak` runs them in full."""

from __future__ import annotations

from trust.batch_checks import killed_batch, shared_queue


def test_a_job_that_is_killed_again_and_again_leaves_what_an_undisturbed_one_does() -> None:
    found = killed_batch(120, seed=0, kills=4, lease=3)
    assert found.passed, found
    assert found.figures["kills while it worked"] != 0


def test_processes_that_share_a_queue_keep_everything_once() -> None:
    found = shared_queue(1500, seed=0, workers=3, kills=2, lease=3)
    assert found.passed, found
    assert int(found.figures["processes that settled something"]) >= 2
