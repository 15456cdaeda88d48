"""Thresholds that a person sets, recalibration and drift, from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from differnet.cli.threshold import flips
from differnet.images.reading import read_image, write_png
from differnet.images.synthetic import render_part
from differnet.records import Record, Verdict
from differnet.reporting import RunFolder

Invoke = Callable[..., Result]


@pytest.fixture
def own(model: Path, tmp_path: Path) -> Path:
    """A copy of the model that may be changed."""
    return Path(shutil.copytree(model, tmp_path / "own"))


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 further good parts."""
    folder = tmp_path_factory.mktemp("further")
    for seed in range(30):
        write_png(folder / f"{seed}.png", render_part(seed + 9000, size=128).pixels)
    return folder


def told(shown: Result) -> Any:
    return json.loads(shown.stdout, parse_constant=pytest.fail)


def test_thresholds_that_are_set_are_what_parts_are_judged_by(
    invoke: Invoke, own: Path, product: Path, tmp_path: Path
) -> None:
    good = product / "test" / "good" / "000.png"
    limits = ["--review", 0, "--defect", 0]
    shown = invoke("threshold", "set", own, *limits, "--reason", "all out", "--author", "ada")
    assert shown.exit_code == 0, shown.stderr
    assert own.with_name("own.thresholds.jsonl").is_file()
    shown = invoke("inspect", own, good, "--out", tmp_path / "run")
    assert "revision 1, set by ada: all out" in shown.stderr
    run = RunFolder.open(tmp_path / "run")
    (record,) = run.records
    assert record.verdict in (Verdict.DEFECT, Verdict.OOD)
    assert (record.t_review, record.t_defect, record.threshold_revision) == (0, 0, 1)
    assert run.facts.threshold_revision == 1
    # Every good part is beyond them, and the run must not claim the calibration's rates of them.
    assert run.facts.calibration is not None
    assert run.facts.calibration.alpha_defect == 1


def test_history_and_rollback_keep_everything(invoke: Invoke, own: Path) -> None:
    for review, reason in ((1, "first"), (2, "second")):
        words = ["--review", review, "--defect", 3, "--reason", reason, "--author", "ada"]
        assert invoke("threshold", "set", own, *words).exit_code == 0
    shown = invoke("threshold", "rollback", own, 1, "--reason", "drowned", "--author", "bob")
    assert shown.exit_code == 0, shown.stderr
    kept = told(invoke("threshold", "history", own, "--json"))
    assert [(r["number"], r["review"], r["rolled_back_to"]) for r in kept] == [
        (1, 1, None),
        (2, 2, None),
        (3, 1, 1),
    ]
    now = told(invoke("threshold", "show", own, "--json"))
    assert (now["t_review"], now["threshold_revision"], now["revision"]["author"]) == (1, 3, "bob")
    assert invoke("threshold", "rollback", own, 9, "--reason", "x", "--author", "bob").exit_code == 1
    assert invoke("threshold", "set", own, "--review", 2, "--defect", 1, "--reason", "x").exit_code == 1


def test_a_run_and_its_report_say_who_set_the_thresholds(
    invoke: Invoke, own: Path, product: Path, tmp_path: Path
) -> None:
    part = product / "test" / "good" / "000.png"
    assert invoke("inspect", own, part, "--out", tmp_path / "before").exit_code in (0, 4)
    assert RunFolder.open(tmp_path / "before").facts.thresholds_set is None
    words = ["--review", 1, "--defect", 3, "--reason", "Monday's light", "--author", "ada"]
    assert invoke("threshold", "set", own, *words).exit_code == 0
    assert invoke("inspect", own, part, "--out", tmp_path / "run").exit_code in (0, 4)
    said = RunFolder.open(tmp_path / "run").facts.thresholds_set
    assert said is not None
    assert (said.number, said.author, said.reason) == (1, "ada", "Monday's light")
    kept = json.loads(own.with_name("own.thresholds.jsonl").read_text())
    assert (said.sha256, said.time, said.rule) == (kept["sha256"], kept["time"], kept["rule"])
    assert invoke("report", tmp_path / "run").exit_code == 0
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Revision 1 of the thresholds was set by ada at" in page
    assert kept["sha256"] in page


def test_a_damaged_history_is_not_trusted(invoke: Invoke, own: Path, product: Path) -> None:
    words = ["--review", 1, "--defect", 3, "--reason", "first", "--author", "ada"]
    assert invoke("threshold", "set", own, *words).exit_code == 0
    kept = own.with_name("own.thresholds.jsonl")
    kept.write_bytes(kept.read_bytes().replace(b'"review": 1.0', b'"review": 9.0'))
    shown = invoke("inspect", own, product / "test" / "good" / "000.png")
    assert shown.exit_code == 1
    assert "unbroken chain" in shown.stderr
    assert shown.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--fdr", "0.1"],
        ["--max-escape", "0.1"],
        ["--max-overkill", "0.1", "--no-defects"],
        ["--max-overkill", "0.1", "--confidence", "0.9"],
        ["--cost-overkill", "1", "--run", "r"],
        ["--no-defects", "--apply"],
        ["--no-defects", "--reason", "why"],
    ],
)
def test_one_wish_at_a_time(invoke: Invoke, words: list[str]) -> None:
    assert invoke("threshold", "suggest", "no-model", *words).exit_code == 2


def test_suggestions_say_what_flips_and_change_nothing_unasked(
    invoke: Invoke, own: Path, product: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert invoke("inspect", own, product, "--out", run).exit_code == 0
    before = told(invoke("threshold", "show", own, "--json"))
    defects = sum(r.label != "good" for r in RunFolder.open(run).records)
    for words in (
        ["--max-overkill", "0.2", "--max-review", "0.5"],
        ["--max-escape", "0.5", "--confidence", "0.9"],
        ["--cost-overkill", "1", "--cost-escape", "20", "--defect-share", "0.1"],
        ["--review-budget", "0.2"],
        ["--fdr", "0.5"],
        ["--no-defects"],
    ):
        found = told(invoke("threshold", "suggest", own, *words, "--run", run, "--json"))
        assert found["review"] <= found["defect"]
        assert found["promises"]
        assert found["cannot"]
        assert found["revision"] is None
        assert found["current"]["review"] == before["t_review"]
    assert told(invoke("threshold", "show", own, "--json")) == before
    shown = invoke("threshold", "suggest", own, "--max-escape", "0.001", "--run", run)
    assert shown.exit_code == 1
    assert f"{defects}" in shown.stderr
    words = ["--max-overkill", "0.2", "--max-review", "0.5", "--apply", "--reason", "r", "--author", "ada"]
    found = told(invoke("threshold", "suggest", own, *words, "--json"))
    now = told(invoke("threshold", "show", own, "--json"))
    assert (found["revision"], now["threshold_revision"]) == (1, 1)
    assert (now["t_review"], now["t_defect"]) == (found["review"], found["defect"])
    # The rates that are said follow from the thresholds in force.
    assert now["calibration"]["alpha_review"] == pytest.approx(12 / 25)


def test_flips_count_what_changes_and_leave_the_rest() -> None:
    def record(verdict: Verdict, strangeness: float | None) -> Record:
        return Record("", "0", "p", "", "p.png", "", verdict, (), strangeness=strangeness)

    records = [
        record(Verdict.PASS, 0.5),
        record(Verdict.PASS, 0.9),
        record(Verdict.REVIEW, 1.5),
        record(Verdict.OOD, 9.0),
        record(Verdict.INVALID, None),
    ]
    assert flips(records, (1.0, 2.0), (0.8, 1.2)) == {("PASS", "REVIEW"): 1, ("REVIEW", "DEFECT"): 1}
    assert not flips(records, (1.0, 2.0), (1.0, 2.0))


def test_recalibration_refuses_training_parts_of_a_loaded_model(
    invoke: Invoke, own: Path, product: Path
) -> None:
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    shown = invoke("calibrate", own, product / "train" / "good" / "000.png")
    assert shown.exit_code == 1
    assert "1 of 1 pictures that were" in shown.stderr
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before


def test_recalibration_takes_fresh_parts_and_ends_older_thresholds(
    invoke: Invoke, own: Path, product: Path, further: Path, tmp_path: Path
) -> None:
    words = ["--review", 1, "--defect", 3, "--reason", "first", "--author", "ada"]
    assert invoke("threshold", "set", own, *words).exit_code == 0
    # Of the product's folder three good parts are left for it; a copy counts once.
    copy = shutil.copy(further / "0.png", tmp_path / "copy.png")
    shown = invoke("calibrate", own, further, product, copy, "--json")
    assert shown.exit_code == 0, shown.stderr
    facts = told(shown)
    assert "1 copies" in shown.stderr
    assert "no longer holds" in shown.stderr
    assert facts["before"]["threshold_revision"] == 1
    after = facts["after"]
    assert (after["calibration"]["parts"], after["calibration"]["scheme"]) == (33, "split")
    assert after["model_id"] == facts["before"]["model_id"]
    assert after["threshold_revision"] == 0
    shown = invoke("threshold", "show", own, "--json")
    assert "is ignored" in shown.stderr
    assert told(shown)["t_review"] == after["t_review"]
    shown = invoke("threshold", "rollback", own, 1, "--reason", "x", "--author", "ada")
    assert shown.exit_code == 1
    assert "another calibration" in shown.stderr


def test_darker_pictures_are_drift_in_words(invoke: Invoke, own: Path, further: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibrated"
    paths = sorted(further.iterdir())
    assert invoke("calibrate", own, *paths[:18], "--out", out).exit_code == 0
    shown = invoke("drift", "check", out, *paths[18:], "--json")
    assert shown.exit_code == 0, shown.stderr
    assert told(shown)["words"] == []
    dark = tmp_path / "dark"
    dark.mkdir()
    for path in paths[18:]:
        write_png(dark / path.name, (read_image(path).pixels * 0.7).astype(np.uint8))
    shown = invoke("drift", "check", out, dark, "--json")
    assert shown.exit_code == 3, shown.stderr
    found = told(shown)
    assert (found["drifted"], found["parts"], found["calibration_parts"]) == (True, 12, 18)
    assert any(words.startswith("the pictures are darker") for words in found["words"])
    (dark / "cut.png").write_bytes(b"no picture")
    assert invoke("drift", "check", out, dark / "cut.png", *paths[18:]).exit_code == 4


def test_a_run_of_the_record_is_asked_for_drift(
    invoke: Invoke, own: Path, further: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, shots = tmp_path / "calibrated", tmp_path / "shots"
    paths = sorted(further.iterdir())
    assert invoke("calibrate", own, *paths[:18], "--out", out).exit_code == 0
    shots.mkdir()
    for path in paths[18:]:
        write_png(shots / path.name, (read_image(path).pixels * 0.7).astype(np.uint8))
    assert invoke("inspect", out, "shots", "--out", "runs/dark").exit_code == 0
    assert invoke("db", "add", "runs/dark").exit_code == 0
    shown = invoke("drift", "check", out, "--run", "dark", "--json")
    assert shown.exit_code == 3, shown.stderr
    by_record, by_folder = told(shown), told(invoke("drift", "check", out, shots, "--json"))
    assert by_record == by_folder
    assert by_record["parts"] == 12
    # What a person calls a defect is left out, and so is a picture that is another one now.
    items = [json.loads(line) for line in invoke("db", "items", "--json").stdout.splitlines()]
    said = invoke("review", "add", "dark", items[0]["item_id"], "--as", "defect", "--by", "ada")
    assert said.exit_code == 0, said.stderr
    Path(items[1]["path"]).write_bytes(b"another")
    shown = invoke("drift", "check", out, "--run", "dark", "--json")
    assert (told(shown)["parts"], told(shown)["skipped"]) == (10, 1)
    assert "1 parts known as defects" in shown.stderr
    assert "another picture" in " ".join(shown.stderr.split())
    few = told(invoke("drift", "check", out, "--run", "dark", "--latest", 5, "--json"))
    assert (few["parts"], few["skipped"]) == (4, 1)
    assert invoke("drift", "check", out, "--run", "nobody").exit_code == 1
    for wrong in ((), ("shots", "--run", "dark"), ("shots", "--latest", 3)):
        assert invoke("drift", "check", out, *wrong).exit_code == 2
