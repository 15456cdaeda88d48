from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import Result

from differnet.records import Inspection, Record, Verdict
from differnet.reporting import RunFacts, RunFolder

Invoke = Callable[..., Result]

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


def test_a_dashboard_without_runs_says_how_to_make_one(invoke: Invoke, tmp_path: Path) -> None:
    shown = invoke("dashboard", tmp_path)
    assert shown.exit_code == 1
    assert "differnet demo" in shown.stderr


def test_the_dashboard_starts_with_the_safe_command(
    invoke: Invoke, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def start(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", start)
    shown = invoke("dashboard", run.parent)
    assert shown.exit_code == 0
    (command,) = started
    assert "--server.address=127.0.0.1" in command
    assert command[-1] == str(run.parent)
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
