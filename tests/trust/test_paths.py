"""A short version of S4; ``benchmarks/trust_report.py`` runs it in full."""

from __future__ import annotations

from trust.path_checks import hostile_names, traversal


def test_no_name_leads_outside() -> None:
    found = traversal(24, 0)
    assert found.passed, found.figures
    assert found.figures["places"] == 15


def test_names_are_many_and_differ() -> None:
    names = hostile_names(200, 0)
    assert len(set(names)) == 200
    assert sum(".." in name for name in names) > 60
    assert any("\0" in name for name in names)
    assert any(len(name) > 5_000 for name in names)
