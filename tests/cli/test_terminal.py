from __future__ import annotations

import json
import math

import numpy as np
import pytest
from rich.console import Console

from differnet.cli.exits import ExitCode, VerificationError, exit_code_of, explained
from differnet.cli.terminal import Steps, Terminal, plain_table, strict
from differnet.records import DiffernetError, Verdict


def test_strict_leaves_nothing_that_json_lacks() -> None:
    tree = {
        "nan": math.nan,
        "deep": [{"inf": math.inf, "numpy": np.float32(0.5), "array": np.array([1.0, math.nan])}],
        "verdict": Verdict.PASS,
        "truth": np.bool_(True),
        1: None,
    }
    plain = strict(tree)
    assert json.loads(json.dumps(plain, allow_nan=False)) == {
        "nan": None,
        "deep": [{"inf": None, "numpy": 0.5, "array": [1.0, None]}],
        "verdict": "PASS",
        "truth": True,
        "1": None,
    }


def test_json_on_stdout_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().write_json({"auroc": math.nan})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"auroc": None}


def test_what_a_name_holds_is_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Terminal()
    shown.note("part\x1b[31m.png [bold]x[/bold]")
    shown.warn("\x07")
    shown.fail([("found", "a\x1b]0;title\x07b")])
    shown.tell("one\x1b[2J\ntwo")
    captured = capsys.readouterr()
    assert "\x1b" not in captured.err + captured.out
    assert "\x07" not in captured.err
    assert "[bold]x[/bold]" in captured.err
    assert "\ntwo" in captured.out


def test_quiet_keeps_errors_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Terminal(quiet=True)
    shown.note("not this")
    shown.show(plain_table(("nor",), [("this",)]))
    with shown.steps() as steps:
        steps("nor this", 1, 2)
    shown.warn("this")
    shown.fail([("found", "that")])
    assert capsys.readouterr().err == "warning: this\nfound:    that\n"


@pytest.mark.parametrize("how", ["variable", "switch"])
def test_no_color_means_no_escapes_even_on_a_terminal(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not Terminal().plain
    if how == "variable":
        monkeypatch.setenv("NO_COLOR", "1")
    shown = Terminal(plain=how == "switch")
    assert shown.plain
    with shown.log.capture() as capture:
        shown.note("words", style="bold red")
        shown.show(plain_table(("label", "PASS"), [("good", "3")], numbers=1))
        with shown.steps() as steps:
            steps("stage", 1, 2)
    assert "\x1b" not in capture.get()
    assert "words" in capture.get()


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_progress_says_few_lines_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Steps(Terminal(plain=True), clock=clock) as steps:
        for done in range(41):
            steps("reading", done, 40)
            clock.now += 1.0
        steps("reading", 40, 40)
        steps("quick", 0, 3)
        steps("quick", 3, 3)
    assert capsys.readouterr().err.splitlines() == [
        "reading: 10 of 40, about 30 s left",
        "reading: 20 of 40, about 20 s left",
        "reading: 30 of 40, about 10 s left",
        "reading: 40 of 40, took 40 s",
    ]


def test_bars_show_on_a_terminal() -> None:
    shown = Terminal()
    shown.log = Console(force_terminal=True, width=100, stderr=True)
    shown.plain = False
    with shown.log.capture() as capture, shown.steps() as steps:
        steps("training", 1, 4)
        steps("training", 4, 4)
        steps("calibrating", 0, 0)
    assert "training" in capture.get()
    assert "4 of 4" in capture.get()


def test_bars_of_a_finished_job_can_be_taken_away() -> None:
    shown = Terminal()
    shown.log = Console(force_terminal=True, width=100, stderr=True)
    shown.plain = False
    with shown.log.capture() as capture, shown.steps() as steps:
        steps("first: training", 4, 4)
        steps.clear()
        steps("second: training", 1, 4)
        steps("second: training", 4, 4)
    said = capture.get()
    assert "first" in said
    assert "first" not in said[said.index("second") :]


def test_tables_escape_their_cells(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().write_table(plain_table(("", ""), [("a\x1b[31m", "[red]b")]))
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "[red]b" in said


def test_a_broken_model_has_an_exit_code_of_its_own() -> None:
    cause = DiffernetError(expected="a", found="b", remedy="c")
    assert exit_code_of(cause) is ExitCode.ERROR
    assert exit_code_of(VerificationError(cause)) is ExitCode.VERIFICATION
    assert explained(VerificationError(cause)) == (("expected", "a"), ("found", "b"), ("do this", "c"))


@pytest.mark.parametrize(
    "error", [OSError("odd"), FileNotFoundError(2, "No such file", "x"), MemoryError(), RuntimeError("")]
)
def test_every_error_has_three_lines(error: Exception) -> None:
    lines = explained(error)
    assert [heading for heading, _ in lines] == ["expected", "found", "do this"]
    assert all(words for _, words in lines)
