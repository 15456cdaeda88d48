from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from differnet.cli.exits import ExitCode
from differnet.cli.inspect import FailOn, Wanted, exit_code, expand, verdict_table
from differnet.cli.terminal import Terminal
from differnet.images.layouts import LayoutError
from differnet.records import Record, Verdict


def record(verdict: Verdict, label: str | None = None) -> Record:
    return Record("", "0", "p", "", "p.png", "", verdict, (), label=label)


@pytest.mark.parametrize(
    ("verdict", "condition", "code"),
    [
        (Verdict.PASS, FailOn.DEFECT, ExitCode.OK),
        (Verdict.REVIEW, FailOn.DEFECT, ExitCode.OK),
        (Verdict.REVIEW, FailOn.REVIEW, ExitCode.FAIL_ON),
        (Verdict.DEFECT, FailOn.REVIEW, ExitCode.FAIL_ON),
        (Verdict.DEFECT, FailOn.DEFECT, ExitCode.FAIL_ON),
        (Verdict.OOD, FailOn.DEFECT, ExitCode.OK),
        (Verdict.OOD, FailOn.OOD, ExitCode.FAIL_ON),
        (Verdict.INVALID, FailOn.OOD, ExitCode.QUARANTINED),
        (Verdict.INVALID, FailOn.INVALID, ExitCode.FAIL_ON),
    ],
)
def test_exit_codes(verdict: Verdict, condition: FailOn, code: ExitCode) -> None:
    assert exit_code([record(Verdict.PASS), record(verdict)], [condition]) is code


def test_parts_that_training_takes_are_not_inspected(tree: Path) -> None:
    """Every fourth good part of a plain folder is a test part; the others teach the model."""
    wanted = expand(Terminal(quiet=True), [tree])
    assert [item.label for item in wanted] == ["good"] * 2 + ["scratch"] * 3
    assert [item.path.stem for item in wanted[:2]] == ["3", "7"]


def test_pictures_without_a_layout_have_no_label(tree: Path) -> None:
    wanted = expand(Terminal(quiet=True), [tree / "good", tree / "scratch" / "0.png", Path("absent.png")])
    assert len(wanted) == 10
    assert {item.label for item in wanted} == {None}
    assert wanted[-1] == Wanted(Path("absent.png"))


def test_a_folder_without_pictures_is_explained(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="pictures in"):
        expand(Terminal(quiet=True), [tmp_path])


def test_a_layout_that_was_asked_for_must_be_there(tree: Path) -> None:
    with pytest.raises(LayoutError):
        expand(Terminal(quiet=True), [tree], "mtd")


def test_the_table_counts_and_orders_labels() -> None:
    records = [
        record(Verdict.OOD, "wrong_inputs/blank"),
        record(Verdict.PASS, "good"),
        record(Verdict.DEFECT, "crack"),
        record(Verdict.PASS, "crack"),
        record(Verdict.PASS),
    ]
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(verdict_table(records))
    rows = [line.split() for line in console.export_text().splitlines()]
    assert rows == [
        ["label", "PASS", "REVIEW", "DEFECT", "OOD", "INVALID"],
        ["good", "1", ".", ".", ".", "."],
        ["crack", "1", ".", "1", ".", "."],
        ["unlabelled", "1", ".", ".", ".", "."],
        ["wrong_inputs/blank", ".", ".", ".", "1", "."],
        ["all", "3", ".", "1", "1", "."],
    ]
