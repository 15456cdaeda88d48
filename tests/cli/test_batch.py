"""`differnet batch`: begin, stop, come back, try again, bring together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Invoke
from differnet.cli.exits import exit_code_of
from differnet.store import Asked, Store, StoreBusyError
from differnet.store.queue import Queue


@pytest.fixture
def pictures(product: Path, tmp_path: Path) -> Path:
    """Test parts of the sample product, one of them cut short."""
    folder = tmp_path / "today"
    folder.mkdir()
    for path in (product / "test").rglob("*.png"):
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    (folder / "zzz.png").write_bytes((folder / "good-000.png").read_bytes()[:2000])
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "record.db"


def status(invoke: Invoke, place: Path, *words: object) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(invoke("batch", "status", *words, "--json", "--db", place).stdout)
    return told


def test_a_run_is_kept_shown_and_tried_again(
    invoke: Invoke, model: Path, product: Path, pictures: Path, place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "monday"
    words = ("batch", "run", model, pictures, "--name", "monday", "--out", out, "--db", place)
    ended = invoke(*words)
    assert ended.exit_code == 4, ended.stderr
    assert ended.stdout == "monday\n"
    assert "put aside: " in ended.stderr
    assert "differnet report monday --db" in ended.stderr
    count = sum(path.is_file() for path in pictures.rglob("*"))
    told = status(invoke, place, "monday")
    (run,) = told["runs"]
    assert (run["state"], run["pictures"], run["judged"], run["left"]) == ("finished", count, count - 1, 0)
    assert [q["path"] for q in told["quarantined"]] == [str(pictures / "zzz.png")]
    assert len(list((out / "heat_maps").iterdir())) == count - 1
    shown = invoke("batch", "status", "monday", "--db", place).stdout
    columns = ["run", "state", "pictures", "left", "PASS", "REVIEW", "DEFECT", "OOD", "INVALID"]
    assert shown.splitlines()[0].split() == columns
    assert sum(map(int, shown.splitlines()[1].split()[4:])) == count
    assert "zzz.png: expected" in shown

    # The same once more adds nothing; a new picture is added and judged.
    before = invoke("db", "items", "--json", "--db", place).stdout
    assert invoke(*words).exit_code == 4
    assert invoke("db", "items", "--json", "--db", place).stdout == before
    shutil.copy(pictures / "good-000.png", pictures / "zzzz.png")
    assert invoke(*words).exit_code == 4
    found = Store.open(place).items(Asked(run_id="monday"))
    assert len(found) == count + 1
    assert found[-1].quality_flags == ("repeated",)

    # What was cut short has arrived by now.
    shutil.copy(product / "train" / "good" / "001.png", pictures / "zzz.png")
    again = invoke("batch", "retry", "monday", "--db", place)
    assert again.exit_code == 0, again.stderr
    assert "1 pictures are tried once more." in again.stderr
    assert status(invoke, place)["runs"][0]["put_aside"] == 0
    # Nothing is left to try.
    assert invoke("batch", "retry", "monday", "--db", place).exit_code == 0


def test_labels_and_verdicts_are_told_as_json_and_by_exit_code(
    invoke: Invoke, model: Path, product: Path, place: Path, tmp_path: Path
) -> None:
    words = ("--name", "monday", "--out", tmp_path / "out", "--db", place, "--json", "--fail-on", "defect")
    ended = invoke("batch", "run", model, product, *words)
    told = json.loads(ended.stdout)
    assert ended.exit_code == (3 if told["verdicts"]["DEFECT"] else 0)
    assert sum(told["verdicts"].values()) == told["pictures"] == told["judged"]
    labels = Store.open(place).counts_by_label(Asked(run_id="monday"))
    kinds = {path.name for path in (product / "test").iterdir()}
    assert kinds <= {str(label) for label in labels}
    assert labels["good"].total() == 3


def test_a_run_stays_under_the_thresholds_of_its_beginning(
    invoke: Invoke, model: Path, pictures: Path, place: Path, tmp_path: Path
) -> None:
    own = tmp_path / "model"
    shutil.copytree(model, own)
    limits = ("--author", "ada", "--review", "0.5")
    assert invoke("threshold", "set", own, *limits, "--defect", "4", "--reason", "a try").exit_code == 0
    words = ("batch", "run", own, pictures, "--name", "monday", "--out", tmp_path / "out", "--db", place)
    assert invoke(*words).exit_code == 4
    assert invoke("threshold", "set", own, *limits, "--defect", "5", "--reason", "another").exit_code == 0
    (pictures / "more.png").write_bytes((pictures / "good-000.png").read_bytes() + b"1")
    assert invoke(*words).exit_code == 4
    store = Store.open(place)
    found = store.items(Asked(run_id="monday"))
    assert {(r.threshold_revision, r.t_review, r.t_defect) for r in found} == {(1, 0.5, 4.0)}
    assert found[-1].path.endswith("more.png")
    kept = store.revision(found[0].model_id, found[0].calibration_id, 1)
    assert kept is not None
    assert (kept.author, kept.reason, kept.t_defect) == ("ada", "a try", 4.0)
    # What was inspected under which thresholds is a question to the record.
    shown = invoke("db", "items", "--revision", "1", "--since", "2026-01-01", "--json", "--db", place)
    assert len(shown.stdout.splitlines()) == len(found)
    assert invoke("db", "items", "--revision", "2", "--json", "--db", place).stdout == ""
    # The report of the run says who set them.
    page = invoke("report", "monday", "--db", place, "--out", tmp_path / "page.html")
    assert page.exit_code == 0, page.stderr
    assert "a try" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_says_how_to_go_on(
    invoke: Invoke, model: Path, product: Path, place: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    sources = sorted((product / "test").rglob("*.png"))
    for number in range(120):
        # Nothing follows a picture's end that a reader minds; the copies differ.
        source = sources[number % len(sources)]
        (many / f"{number:03d}.png").write_bytes(source.read_bytes() + str(number).encode())
    program = [sys.executable, "-c", "from differnet.cli import main; main()"]
    words = ["batch", "run", str(model), str(many), "--name", "monday", "--out", str(tmp_path / "out")]
    child = subprocess.Popen(
        [*program, *words, "--db", str(place)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not _done(place):
        time.sleep(0.02)
    child.send_signal(kind)
    stdout, stderr = child.communicate(timeout=120)
    assert child.returncode == 130, stderr
    assert stdout == "monday\n"
    assert f"Go on with: differnet batch resume monday --db {place}" in stderr
    assert "Traceback" not in stderr
    (run,) = status(invoke, place)["runs"]
    assert run["state"] == "stopped"
    assert 0 < run["judged"] < 120
    before = Store.open(place).items(Asked(run_id="monday"))
    assert len(before) == run["judged"]
    ended = invoke("batch", "resume", "monday", "--db", place)
    assert ended.exit_code == 0, ended.stderr
    after = Store.open(place).items(Asked(run_id="monday"))
    assert after[: len(before)] == before
    assert len({record.path for record in after}) == len(after) == 120


def _done(place: Path) -> bool:
    if not place.exists():
        return False
    store = Store.open(place)
    try:
        return bool(store.runs()) and Queue(store, "monday").progress().done > 0
    finally:
        store.close()


def test_records_of_two_machines_are_brought_together(
    invoke: Invoke, model: Path, product: Path, tmp_path: Path
) -> None:
    for line in ("left", "right"):
        words = ("--name", line, "--out", tmp_path / line, "--db", tmp_path / f"{line}.db")
        assert invoke("batch", "run", model, product / "test" / "good", *words).exit_code == 0
    both = ("--db", tmp_path / "plant.db")
    merged = invoke("batch", "merge", tmp_path / "left.db", tmp_path / "right.db", *both)
    assert merged.exit_code == 0, merged.stderr
    assert [line.split(": ")[1] for line in merged.stdout.splitlines()] == [
        "3 pictures of 1 runs and 0 reviews were new; 0 had moved on.",
        "3 pictures of 1 runs and 0 reviews were new; 0 had moved on.",
    ]
    again = json.loads(invoke("batch", "merge", tmp_path / "left.db", *both, "--json").stdout)
    assert [(m["runs"], m["items"]) for m in again["merged"]] == [(0, 0)]
    assert {run["run"] for run in status(invoke, tmp_path / "plant.db")["runs"]} == {"left", "right"}


def test_bad_requests_are_told(
    invoke: Invoke, model: Path, product: Path, place: Path, tmp_path: Path
) -> None:
    good = product / "test" / "good"
    nothing = invoke("batch", "resume", "monday", "--db", place)
    assert nothing.exit_code == 1
    assert "no such file" in nothing.stderr
    full = tmp_path / "full"
    full.mkdir()
    (full / "other.txt").write_text("mine")
    taken = invoke("batch", "run", model, good, "--name", "monday", "--out", full, "--db", place)
    assert taken.exit_code == 1
    assert "files in it" in taken.stderr
    assert invoke("batch", "run", model, good, "--out", tmp_path / "a", "--db", place).exit_code == 0
    unknown = invoke("batch", "resume", "monday", "--db", place)
    assert unknown.exit_code == 1
    assert "none of that name" in unknown.stderr
    elsewhere = ("--name", "tuesday", "--db", place)
    assert invoke("batch", "run", model, good, "--out", tmp_path / "b", *elsewhere).exit_code == 0
    moved = invoke("batch", "run", model, good, "--out", tmp_path / "c", *elsewhere)
    assert moved.exit_code == 1
    assert "Leave --out away" in moved.stderr
    # A run that was inspected in one go is no job.
    invoke("inspect", model, good, "--out", tmp_path / "friday")
    invoke("db", "add", tmp_path / "friday", "--db", place)
    no_job = invoke("batch", "resume", "friday", "--db", place)
    assert no_job.exit_code == 1
    assert "to be a batch job" in no_job.stderr


def test_a_busy_record_asks_to_try_again() -> None:
    busy = StoreBusyError(expected="an answer", found="database is locked", remedy="Try again.")
    assert exit_code_of(busy) == 75
