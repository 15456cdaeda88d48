"""The report on hostile files: rows, verdicts, and where figures come from."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def trust_report(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("trust_report")


def measured(check: Any, passed: bool) -> dict[str, Any]:
    return {
        "size": check.size,
        "figures": {"refused": 12_345, "longest, s": 0.5, "troubles": "a|b\nc"},
        "passed": passed,
        "seconds": 3.2,
        "source": {
            "commit": "abc",
            "measured_at": "2026-01-02T03:04:05+00:00",
            "machine": "a machine",
            "seed": 0,
            "versions": {"torch": "2"},
        },
    }


def test_every_row_names_a_check_that_takes_a_size_and_a_seed(trust_report: ModuleType) -> None:
    ids = [check.id for check in trust_report.CHECKS]
    assert len(set(ids)) == len(ids) >= 7
    for check in trust_report.CHECKS:
        function = getattr(importlib.import_module(check.module), check.function)
        assert list(inspect.signature(function).parameters)[:2] == ["size", "seed"]
        assert 0 < check.short <= check.size


def test_the_table_says_what_was_met_and_what_was_missed(trust_report: ModuleType) -> None:
    first, second, *others = trust_report.CHECKS
    text = trust_report.report({first.id: measured(first, True), second.id: measured(second, False)})
    rows = [line for line in text.splitlines() if line.startswith(f"| {first.id} | ")]
    assert len(rows) == 1
    assert "refused: 12,345" in rows[0]
    assert "| met |" in rows[0]
    assert f"--only {first.id}`" in rows[0]
    assert text.count("**MISSED**") == 1
    assert f"Not measured yet: {', '.join(check.id for check in others)}." in text
    assert "commit abc, 2026-01-02" in text
    assert "a\\|b c" in text


def test_a_short_run_writes_nothing(
    trust_report: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["trust_report.py", "--only", "S2", "--short"])
    monkeypatch.setattr(trust_report.Path, "write_text", lambda *_, **__: pytest.fail("written"))
    trust_report.main()
    assert "met in" in capsys.readouterr().err


def test_unknown_checks_are_named(
    trust_report: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["trust_report.py", "--only", "Z9"])
    with pytest.raises(SystemExit):
        trust_report.main()
    assert "no check is called Z9" in capsys.readouterr().err


def test_a_missed_bar_ends_with_status_1(trust_report: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trust_report.py", "--short"])
    monkeypatch.setattr(trust_report, "measure", lambda check, *_: check.id != "S3")
    with pytest.raises(SystemExit, match="missed: S3"):
        trust_report.main()


def test_the_report_is_made_from_the_figures_beside_it(trust_report: ModuleType) -> None:
    figures = trust_report.read_figures()
    assert trust_report.report(figures) == trust_report.REPORT.read_text(encoding="utf-8")
    # What is missed is said in the table; a promise of safety never is.
    missed = {check.id for check in trust_report.CHECKS if not figures[check.id]["passed"]}
    assert missed <= {"throughput"}
