from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from differnet.images.reading import write_png
from differnet.images.synthetic import DEFECT_KINDS
from differnet.records import Record, Verdict
from differnet.reporting import RunFolder
from differnet.strict_json import from_json

Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def parts(product: Path) -> list[Path]:
    return [product / "test" / "good" / "000.png", product / "test" / "missing_piece" / "000.png"]


def test_records_are_json_lines_on_stdout(invoke: Invoke, model: Path, parts: list[Path]) -> None:
    shown = invoke("inspect", model, *parts)
    assert shown.exit_code == 0, shown.stderr
    records = [from_json(Record, line) for line in shown.stdout.splitlines()]
    assert [record.path for record in records] == [str(path) for path in parts]
    assert all(record.strangeness is not None for record in records)
    assert [record.label for record in records] == [None, None]
    assert records[1].verdict in (Verdict.DEFECT, Verdict.OOD)
    assert records[1].model_id == records[0].model_id != ""


def test_one_picture_tells_its_reasons(invoke: Invoke, model: Path, parts: list[Path]) -> None:
    shown = invoke("inspect", model, parts[1])
    (record,) = [from_json(Record, line) for line in shown.stdout.splitlines()]
    assert f"{parts[1]}: {record.verdict.value}" in shown.stderr
    assert record.reasons[0] in shown.stderr


def test_fail_on_is_3_and_outranks_quarantine(
    invoke: Invoke, model: Path, parts: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    verdicts = {
        Verdict(json.loads(line)["verdict"])
        for line in invoke("inspect", model, parts[1]).stdout.splitlines()
    }
    (verdict,) = verdicts
    assert invoke("inspect", model, *parts, "--fail-on", verdict.value.lower()).exit_code == 3
    assert invoke("inspect", model, broken, parts[1], "--fail-on", verdict.value.lower()).exit_code == 3
    assert invoke("inspect", model, broken, parts[0]).exit_code == 4
    assert invoke("inspect", model, broken, "--fail-on", "invalid").exit_code == 3
    assert invoke("inspect", model, parts[0], "--fail-on", "invalid").exit_code == 0


def test_a_file_that_is_not_there_stops_no_run(invoke: Invoke, model: Path, parts: list[Path]) -> None:
    shown = invoke("inspect", model, "absent.png", parts[0])
    assert shown.exit_code == 4
    records = [from_json(Record, line) for line in shown.stdout.splitlines()]
    assert [record.verdict is Verdict.INVALID for record in records] == [True, False]


def test_a_folder_gives_labels_and_keeps_training_parts_out(
    invoke: Invoke, model: Path, product: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shown = invoke("inspect", model, product, "--out", out)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout == f"{out}\n"
    assert "24 parts set aside for training are left out" in shown.stderr
    run = RunFolder.open(out)
    assert Counter(record.label for record in run.records) == {"good": 3} | dict.fromkeys(DEFECT_KINDS, 1)
    assert run.facts.product == "flange"
    assert run.facts.finished_at is not None
    assert run.facts.calibration is not None
    assert run.facts.calibration.parts == 24
    assert all(run.heat_map(record) is not None for record in run.records)
    assert all(run.preview(record) is not None for record in run.records)

    shown = invoke("report", out, "--format", "html,json", "--out", tmp_path / "report")
    assert shown.exit_code == 0
    assert "missing_piece" in (tmp_path / "report" / "report.html").read_text("utf-8")


def test_wrong_inputs_need_no_layout(invoke: Invoke, model: Path, product: Path, tmp_path: Path) -> None:
    shown = invoke("inspect", model, product / "wrong_inputs", "--out", tmp_path / "run", "--json")
    assert shown.exit_code == 4
    told = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert told["counts"]["INVALID"] == 1
    assert {record.label for record in RunFolder.open(tmp_path / "run").records} == {None}


def test_a_used_folder_is_refused_before_any_work(
    invoke: Invoke, model: Path, parts: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    for words in (
        ["inspect", model, parts[0], "--out", tmp_path],
        ["train", parts[0].parent, "--out", tmp_path],
    ):
        shown = invoke(*words)
        assert shown.exit_code == 1
        assert "nothing is overwritten" in shown.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_changed_model_is_5_and_an_absent_one_is_1(
    invoke: Invoke, model: Path, parts: list[Path], tmp_path: Path
) -> None:
    changed = tmp_path / "model"
    shutil.copytree(model, changed)
    victim = max(
        (path for path in changed.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    shown = invoke("inspect", changed, parts[0])
    assert shown.exit_code == 5
    assert "do this:" in shown.stderr
    assert shown.stdout == ""
    assert invoke("inspect", tmp_path / "absent", parts[0]).exit_code == 1


@pytest.mark.usefixtures("quick_training")
def test_training_says_what_it_promises(invoke: Invoke, product: Path, tmp_path: Path) -> None:
    lot = tmp_path / "lot"
    shutil.copytree(product / "train" / "good", lot / "good")
    (lot / "good" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ["train", lot, "--out", tmp_path / "model", "--image-size", "64", "--json"]
    shown = invoke(*words)
    # A file could not be used.
    assert shown.exit_code == 4, shown.stderr
    facts = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert facts["product"] == "lot"
    assert facts["skipped"] == 1
    assert "cut.png" in shown.stderr
    assert "cannot promise" in shown.stderr


@pytest.mark.usefixtures("quick_training")
def test_one_part_trains_a_model_that_promises_nothing(invoke: Invoke, product: Path, tmp_path: Path) -> None:
    lot, model, run = tmp_path / "lot", tmp_path / "model", tmp_path / "run"
    (lot / "good").mkdir(parents=True)
    shutil.copy(product / "train" / "good" / "000.png", lot / "good")
    shown = invoke("train", lot, "--out", model, "--image-size", "64")
    assert shown.exit_code == 0, shown.stderr
    told = " ".join(shown.stderr.split())
    assert "No error rate can be promised from 1 part; thresholds are provisional" in told
    assert "47 variations" in told
    assert "at most" not in told
    assert invoke("inspect", model, lot / "good" / "000.png", "--out", run).exit_code == 0
    assert invoke("report", run).exit_code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "o error rate can be promised from 1 part; thresholds are provisional" in page
    assert "of good parts</td>" not in page
    assert "1 good part in" not in page


@pytest.mark.usefixtures("quick_training")
def test_regions_are_ignored_by_training_and_its_model(invoke: Invoke, product: Path, tmp_path: Path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[:20, :10] = 1
    write_png(tmp_path / "label.png", mask)
    words = ["train", product, "--out", tmp_path / "model", "--image-size", "64", "--json", "--ignore"]
    shown = invoke(*words, tmp_path / "label.png")
    assert shown.exit_code == 0, shown.stderr
    assert json.loads(shown.stdout, parse_constant=pytest.fail)["ignored"] == 1 / 8
    assert "ignores 12.5 %" in shown.stderr
    words[words.index(tmp_path / "model")] = tmp_path / "other"
    write_png(tmp_path / "white.png", np.full((40, 40), 255, np.uint8))
    for name, told in (("white.png", "ignores everything"), ("absent.png", "a mask at")):
        shown = invoke(*words, tmp_path / name)
        assert shown.exit_code == 1
        assert told in shown.stderr
        assert not (tmp_path / "other").exists()


def test_several_products_want_a_name(invoke: Invoke, product: Path, tmp_path: Path) -> None:
    for name in ("left", "right"):
        shutil.copytree(product / "train", tmp_path / "both" / name / "train")
        shutil.copytree(product / "test", tmp_path / "both" / name / "test")
    shown = invoke("train", tmp_path / "both", "--out", tmp_path / "model")
    assert shown.exit_code == 1
    assert "--product" in shown.stderr
    assert "left, right" in shown.stderr


def test_weights_that_are_not_there_are_explained(invoke: Invoke, product: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent.safetensors"
    shown = invoke("train", product, "--out", tmp_path / "model", "--weights", absent)
    assert shown.exit_code == 1
    assert str(absent) in shown.stderr
    assert not (tmp_path / "model").exists()
