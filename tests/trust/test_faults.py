"""A short version of B2; `make soak` runs it in full. What is written elsewhere is refused step by step here."""

from __future__ import annotations

from trust.fault_checks import failing_steps


def test_a_batch_job_says_what_was_refused_and_goes_on_the_next_time() -> None:
    found = failing_steps(items=3, injections=6, limits=1)
    assert found.passed, found
    assert found.figures["steps refused"] == 6
