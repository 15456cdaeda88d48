from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from differnet.cli.demo import _program, _wrong_input_words, pictures_to_inspect
from differnet.images.synthetic import DEFECT_KINDS, WRONG_INPUT_KINDS, make_sample_product
from differnet.records import Record, Verdict
from differnet.reporting import RunFolder, list_runs

Invoke = Callable[..., Result]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, quick_training: None) -> None:
    """Let the demonstration make few parts and train briefly."""
    few = functools.partial(make_sample_product, good_test=2, per_defect=1, per_wrong=1)
    monkeypatch.setattr("differnet.images.synthetic.make_sample_product", few)


def wrong(verdict: Verdict) -> Record:
    return Record("", "0", "p", "", "blank.png", "", verdict, (), label="wrong_inputs/blank")


@pytest.mark.usefixtures("small")
def test_the_whole_job_and_then_again(invoke: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    words = ["demo", "--out", out, "--train", 24]
    first = invoke(*words)
    assert first.exit_code == 0, first.stderr
    page = (out / "report.html").read_text("utf-8")
    assert "<html" in page
    assert "wrong_inputs" in page
    for told in (
        "24 good parts learned",
        "Overkill",
        "Escapes",
        "dashboard",
        "train PICTURES",
    ):
        assert told in first.stdout
    # A long path goes over several lines.
    assert str(out / "report.html") in "".join(first.stdout.split())
    run = RunFolder.open(out / "runs" / "sample")
    labels = {record.label for record in run.records}
    wanted = {f"wrong_inputs/{kind}" for kind in (*WRONG_INPUT_KINDS, "unreadable")}
    assert labels == {"good", *DEFECT_KINDS, *wanted}
    made_at = (out / "model" / "manifest.json").stat().st_mtime_ns

    again = invoke(*words)
    assert again.exit_code == 0
    assert "is used again" in again.stderr
    assert (out / "model" / "manifest.json").stat().st_mtime_ns == made_at
    assert len(list_runs(out / "runs")) == 1

    # A run that was cut off is taken up where it stopped.
    records = out / "runs" / "sample" / "records.jsonl"
    lines = records.read_text().splitlines(keepends=True)
    records.write_text("".join(lines[:5]))
    facts = json.loads((out / "runs" / "sample" / "run.json").read_text())
    (out / "runs" / "sample" / "run.json").write_text(json.dumps(facts | {"finished_at": None}))
    resumed = invoke(*words)
    assert f"Going on with {len(lines) - 5}" in resumed.stderr
    assert len(RunFolder.open(out / "runs" / "sample").records) == len(lines)

    # A damaged model is trained again, and its verdicts go into a run of their own if it differs.
    (out / "model" / "manifest.json").write_text("{}")
    mended = invoke(*words)
    assert mended.exit_code == 0
    assert "not as it was saved" in mended.stderr


@pytest.mark.usefixtures("small")
def test_somebodys_files_are_not_touched(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("keep")
    shown = invoke("demo", "--out", tmp_path, "--train", 24)
    assert shown.exit_code == 1
    assert (tmp_path / "model" / "mine.txt").read_text() == "keep"


def test_every_wrong_input_is_inspected_once(product: Path) -> None:
    wanted = pictures_to_inspect(product)
    paths = [item.path for item in wanted]
    assert len(paths) == len(set(paths)) == 3 + len(DEFECT_KINDS) + len(WRONG_INPUT_KINDS) + 1
    assert (
        sum((item.label or "").startswith("wrong_inputs/") for item in wanted) == len(WRONG_INPUT_KINDS) + 1
    )


def test_a_wrong_input_that_passed_is_said_clearly() -> None:
    words = _wrong_input_words([wrong(Verdict.OOD), wrong(Verdict.PASS)]).plain
    assert "1 of 2 wrong inputs PASSED" in words
    assert "blank.png" in words
    assert "No wrong input passed, but 1 of 1" in _wrong_input_words([wrong(Verdict.DEFECT)]).plain
    assert "none passed" in _wrong_input_words([wrong(Verdict.OOD), wrong(Verdict.INVALID)]).plain


def test_the_program_is_named_so_that_it_can_be_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    local = tmp_path / ".venv" / "bin" / "differnet"
    monkeypatch.setattr(sys, "argv", [str(local)])
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert _program() == str(Path(".venv") / "bin" / "differnet")
    monkeypatch.setattr(sys, "argv", ["/anywhere/pytest"])
    assert _program() == "differnet"
