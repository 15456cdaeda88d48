from __future__ import annotations

import json
import re
import shutil
import socket
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import Result

from differnet.records import Inspection, Record, Verdict
from differnet.reporting import RunFacts, RunFolder
from differnet.store import Store

Invoke = Callable[..., Result]
Started = list[tuple[list[str], dict[str, str]]]

PART = Record(
    run_id="", item_id="0", part_id="p", view_id="", path="p.png", sha256="", verdict=Verdict.PASS, reasons=()
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two pictures, one of them unreadable."""
    place = tmp_path / "runs" / "first"
    with RunFolder.create(place, RunFacts(product="plate")) as opened:
        heat = np.ones((4, 4), np.float32)
        opened.append(Inspection(replace(PART, strangeness=0.5), heat), np.zeros((8, 8, 3), np.uint8))
        opened.append(Inspection(replace(PART, item_id="1", verdict=Verdict.INVALID)), None)
    return place


def test_a_report_is_written_into_the_run(invoke: Invoke, run: Path) -> None:
    shown = invoke("report", run)
    assert (shown.exit_code, shown.stdout) == (0, f"{run / 'report.html'}\n")
    assert "plate" in (run / "report.html").read_text("utf-8")


def test_every_format_at_once(invoke: Invoke, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = invoke("report", run, "--out", out, "--format", "html,csv,parquet,json")
    assert shown.exit_code == 0
    assert [Path(line).name for line in shown.stdout.splitlines()] == [
        "report.html",
        "records.csv",
        "records.parquet",
        "records.jsonl",
    ]
    assert len(pd.read_parquet(out / "records.parquet")) == 2
    lines = (out / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["verdict"] for line in lines] == ["PASS", "INVALID"]


def test_a_format_that_is_not_known_is_wrong_usage(invoke: Invoke, run: Path) -> None:
    shown = invoke("report", run, "--format", "xlsx")
    assert shown.exit_code == 2
    assert "html, csv, parquet, json, pdf" in " ".join(shown.stderr.split())


def test_tables_want_a_folder(invoke: Invoke, run: Path, tmp_path: Path) -> None:
    shown = invoke("report", run, "--format", "html,csv", "--out", tmp_path / "page.html")
    assert shown.exit_code == 1
    assert not (tmp_path / "page.html").exists()


def test_no_run_is_explained(invoke: Invoke, tmp_path: Path) -> None:
    shown = invoke("report", tmp_path)
    assert shown.exit_code == 1
    assert "do this:" in shown.stderr


def test_an_unfinished_run_is_shown_with_a_warning(invoke: Invoke, tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "open", RunFacts()).append(Inspection(PART), None)
    shown = invoke("report", tmp_path / "open")
    assert shown.exit_code == 0
    assert "not finished" in shown.stderr


@pytest.fixture
def judged(run: Path) -> Path:
    """The same run with what it takes to be kept in a record."""
    known = RunFacts(product="plate", model_id="m", calibration_id="c", t_review=1.0, t_defect=2.0)
    place = run.with_name("second")
    with RunFolder.create(place, known) as opened:
        opened.append(Inspection(replace(PART, strangeness=0.5, model_id="m", calibration_id="c")), None)
    return place


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Commands that would have been started, each with its environment."""
    found: Started = []

    def start(command: list[str], **given: Any) -> subprocess.CompletedProcess[str]:
        found.append((command, given["env"]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", start)
    return found


def test_a_dashboard_over_a_folder_that_is_not_there_says_so(invoke: Invoke, tmp_path: Path) -> None:
    shown = invoke("dashboard", tmp_path / "absent")
    assert shown.exit_code == 1
    assert "differnet demo" in shown.stderr


def test_a_dashboard_begins_with_an_empty_record(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: Started
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("dashboard").exit_code == 0
    ((_, environment),) = started
    assert environment["DIFFERNET_DB"] == "record.db"
    assert environment["DIFFERNET_WORKSPACE"] == str(tmp_path)
    store = Store.open(tmp_path / "record.db")
    assert store.runs() == []
    store.close()


def test_runs_are_kept_in_the_record_beside_them_once(invoke: Invoke, judged: Path, started: Started) -> None:
    for _ in range(2):
        shown = invoke("dashboard", judged.parent)
        assert shown.exit_code == 0
        # The other run does not say what judged it.
        assert "first is not shown" in " ".join(shown.stderr.split())
    place = started[0][1]["DIFFERNET_DB"]
    assert Path(place) == judged.parent.parent / "record.db"
    store = Store.open(place)
    (entry,) = store.runs()
    assert Path(entry.folder) == judged.resolve()
    assert len(store.table(entry.run_id)) == 1
    assert len(store.audit()) == 1
    store.close()


def test_models_beside_the_record_are_found(invoke: Invoke, judged: Path, started: Started) -> None:
    home = judged.parent.parent
    for name, content in (("other", "no JSON"), ("model", json.dumps({"model_id": "m"}))):
        (home / name).mkdir()
        (home / name / "manifest.json").write_text(content)
    assert invoke("dashboard", judged).exit_code == 0
    store = Store.open(home / "record.db")
    assert [model.folder for model in store.models()] == [str((home / "model").resolve())]
    store.close()


def test_a_dashboard_to_read_only_makes_no_record(invoke: Invoke, tmp_path: Path, started: Started) -> None:
    place = tmp_path / "record.db"
    assert invoke("dashboard", "--db", place, "--read-only").exit_code == 1
    assert not place.exists()
    Store.open(place).close()
    assert invoke("dashboard", "--db", place, "--read-only").exit_code == 0
    assert started[0][1]["DIFFERNET_READ_ONLY"]


def test_the_dashboard_is_told_who_said_what(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: Started
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "lines.db"
    assert invoke("dashboard").exit_code == 0
    assert invoke("dashboard", "--db", place, "--workspace", tmp_path).exit_code == 0
    assert invoke("dashboard", "--read-only", env={"DIFFERNET_DB": str(place)}).exit_code == 0
    told = [json.loads(environment["DIFFERNET_ORIGINS"]) for _, environment in started]
    assert [each["record"] for each in told] == [
        "default: record.db, here or beside the runs",
        "option --db",
        "environment variable DIFFERNET_DB",
    ]
    assert told[1]["workspace"] == "option --workspace"
    assert [each["read_only"] for each in told] == ["default", "default", "option --read-only"]


def test_the_dashboard_starts_with_the_safe_command(invoke: Invoke, run: Path, started: Started) -> None:
    shown = invoke("dashboard", run.parent)
    assert shown.exit_code == 0
    ((command, _),) = started
    assert "--server.address=127.0.0.1" in command
    port = next(word.partition("=")[2] for word in command if word.startswith("--server.port="))
    assert f"http://127.0.0.1:{port}" in shown.stderr


def test_ending_the_dashboard_by_hand_is_no_failure(
    invoke: Invoke, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.run", interrupt)
    assert invoke("dashboard", run).exit_code == 0


def test_a_taken_port_is_explained(invoke: Invoke, run: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        shown = invoke("dashboard", run, "--port", other.getsockname()[1])
    assert shown.exit_code == 1
    assert "--port" in shown.stderr


@pytest.fixture
def kept(invoke: Invoke, run: Path, tmp_path: Path) -> Path:
    """A record that keeps a run like the first, judged by a model."""
    place = run.parent / "second"
    facts = RunFacts(product="cap", model_id="m1", calibration_id="c1", t_review=1.0, t_defect=2.0)
    with RunFolder.create(place, facts) as opened:
        for number, verdict in enumerate([Verdict.PASS] * 4 + [Verdict.DEFECT] * 3 + [Verdict.OOD] * 2):
            heat = np.full((4, 4), number, np.float32)
            part = replace(PART, item_id=f"i{number}", sha256=f"{number}", verdict=verdict, model_id="m1")
            opened.append(Inspection(replace(part, calibration_id="c1"), heat), np.zeros((8, 8, 3), np.uint8))
    record = tmp_path / "record.db"
    assert invoke("db", "add", place, "--db", record).exit_code == 0
    return record


COUNTS = {"PASS": 4, "DEFECT": 3, "OOD": 2}


def test_all_formats_of_a_kept_run_show_the_same_numbers(invoke: Invoke, kept: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = "html,csv,parquet,json"
    shown = invoke("report", "second", "--db", kept, "--out", out, "--format", names)
    assert shown.exit_code == 0, shown.stderr
    with sqlite3.connect(kept) as raw:
        # What is asked for after the files were written differs: they show one answer to one question.
        raw.execute("UPDATE items SET verdict = 'PASS'")
    raw.close()
    csv, parquet = pd.read_csv(out / "records.csv"), pd.read_parquet(out / "records.parquet")
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert Counter(csv["verdict"]) == Counter(parquet["verdict"]) == COUNTS
    assert Counter(line["verdict"] for line in lines) == COUNTS
    page = (out / "report.html").read_text("utf-8")
    tiles = dict(re.findall(r"</svg>([A-Z]+)</span>\s*<span class=\"number\">([\d,]+)<", page))
    assert {name: int(number) for name, number in tiles.items() if number != "0"} == COUNTS


def test_the_pdf_of_a_kept_run_shows_them_too(invoke: Invoke, kept: Path, tmp_path: Path) -> None:
    shown = invoke("report", "second", "--db", kept, "--out", tmp_path / "a.pdf", "--format", "pdf")
    if "differnet[pdf]" in shown.stderr or "libpango" in shown.stderr:
        assert shown.exit_code == 1
        pytest.skip("WeasyPrint or Pango is not installed: pip install 'differnet[pdf]'")
    assert (shown.exit_code, shown.stdout) == (0, f"{tmp_path / 'a.pdf'}\n"), shown.stderr
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext to read PDF with: Debian has it, apt-get install poppler-utils")
    read = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "a.pdf", "-"], check=True, capture_output=True, text=True
    ).stdout
    words = re.search(r"PASS\s+REVIEW\s+DEFECT\s+OOD\s+INVALID\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", read)
    assert words is not None
    assert [int(number) for number in words.groups()] == [4, 0, 3, 2, 0]


def test_a_kept_run_is_found_by_name_and_by_folder(
    invoke: Invoke, kept: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run.parent / "second"
    named = invoke("report", "second", "--db", kept)
    assert (named.exit_code, named.stdout) == (0, f"{folder / 'report.html'}\n"), named.stderr
    page = (folder / "report.html").read_text("utf-8")
    assert page.count("<article>") == 3
    # Jobs keep their records in the record alone: their folder holds pictures.
    for name in ("run.json", "records.jsonl", "report.html"):
        (folder / name).unlink()
    by_folder = invoke("report", folder, env={"DIFFERNET_DB": str(kept)})
    assert by_folder.stdout == named.stdout
    assert (folder / "report.html").read_text("utf-8") == page
    # Without its folder the report comes here, without pictures.
    shutil.rmtree(folder)
    monkeypatch.chdir(tmp_path)
    here = invoke("report", "second", "--db", kept)
    assert (here.exit_code, here.stdout) == (0, "report.html\n"), here.stderr
    assert "There is no picture of it" in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "no record at record.db"),
        (["nothing", "--db", "KEPT"], "no run of that name in"),
        (["second", "--db", "KEPT", "--out", "a.pdf"], "--format pdf"),
        (["second", "--db", "KEPT", "--out", "a.html", "--format", "html,pdf"], "several formats"),
    ],
)
def test_what_is_no_run_or_no_fitting_name_is_explained(
    invoke: Invoke, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shown = invoke("report", *[str(kept) if word == "KEPT" else word for word in words])
    assert shown.exit_code == 1
    assert told in " ".join(shown.stderr.split())
    assert list((tmp_path / "elsewhere").iterdir()) == []
