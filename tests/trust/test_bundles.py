"""Short versions of S1, S2 and S3; ``benchmarks/trust_report.py`` runs them in full."""

from __future__ import annotations

from trust.bundle_checks import bit_flips, hostile_bundles, mutated_bundles
from trust.bundles import HOSTILE


def test_every_hostile_bundle_is_refused_and_runs_nothing() -> None:
    found = hostile_bundles(40, 0, apart_=False)
    assert (found.figures["refused"], found.figures["ran code"]) == (40, 0), found.figures
    assert len(HOSTILE) == 40


def test_hostile_bundles_in_a_process_of_their_own() -> None:
    found = hostile_bundles(5, 0)
    assert (found.figures["refused"], found.figures["ran code"]) == (5, 0), found.figures
    assert float(found.figures["most extra memory, MiB"]) >= 0


def test_every_flipped_bit_is_noticed() -> None:
    found = bit_flips(120, 1)
    assert found.figures["detected"] == 120, found.figures


def test_mutations_end_in_a_bundle_error_and_nothing_else() -> None:
    found = mutated_bundles(400, 1)
    assert found.figures["other than BundleError"] == 0, found.figures
