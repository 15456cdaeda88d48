"""The record on the command line: runs go in once, and every question has its answer."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from differnet.records import Inspection, Record, Verdict
from differnet.reporting import CalibrationFacts, RunFacts, RunFolder
from differnet.store import Asked, ReviewEntry, Store, newest

Invoke = Callable[..., Result]


def write_run(
    folder: Path, day: int, revision: int = 3, *, count: int = 12, finish: bool = True
) -> RunFolder:
    """Write a run of parts whose strangeness grows from 0 by 0.25, judged at T1 1 and T2 2."""
    facts = RunFacts(
        product="flange",
        source=f"line 3, day {day}",
        model_id="m1",
        calibration_id="c1",
        calibration=CalibrationFacts(99, 0.05, 0.01, 0.01, scheme="cross-fitted"),
        t_review=1.0,
        t_defect=2.0,
        threshold_revision=revision,
        started_at=f"2026-11-{day}T06:00:00.000+00:00",
    )
    run = RunFolder.create(folder / f"day-{day}", facts)
    for number in range(count):
        strangeness = number / 4
        verdict = Verdict.PASS if strangeness < 1 else Verdict.REVIEW if strangeness < 2 else Verdict.DEFECT
        record = Record(
            run_id="",
            item_id=f"{day}-{number}",
            part_id=f"part-{number}",
            view_id="",
            path=f"day-{day}/part-{number}.png",
            sha256=f"{100 * day + number:064x}",
            verdict=Verdict.INVALID if number == 7 else verdict,
            reasons=("=HYPERLINK()",),
            label="good" if number < 4 else "scratch",
            product="flange",
            processed_at=f"2026-11-{day}T06:{number:02d}:00.000+00:00",
            strangeness=None if number == 7 else strangeness,
            t_review=1.0,
            t_defect=2.0,
            threshold_revision=revision,
            model_id="m1",
            calibration_id="c1",
        )
        run.append(Inspection(record), None)
    if finish:
        run.close()
    return run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "record.db"


@pytest.fixture
def kept(invoke: Invoke, tmp_path: Path, place: Path) -> Path:
    """A record of two days, the second under another revision."""
    runs = [write_run(tmp_path, 23).path, write_run(tmp_path, 24, revision=4).path]
    shown = invoke("db", "add", *runs, "--db", place)
    assert shown.exit_code == 0, shown.stderr
    return place


def told(shown: Result) -> Any:
    assert shown.exit_code == 0, shown.stderr
    return json.loads(shown.stdout, parse_constant=pytest.fail)


def lines(shown: Result) -> list[dict[str, Any]]:
    assert shown.exit_code == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


def test_runs_go_in_once(invoke: Invoke, tmp_path: Path, place: Path) -> None:
    half = write_run(tmp_path, 23, count=5, finish=False)
    first = told(invoke("db", "add", half.path, "--db", place, "--json"))
    assert first["runs"] == [{"run": "day-23", "pictures": 5, "added": 5}]
    (run,) = told(invoke("db", "runs", "--db", place, "--json"))
    assert run["finished_at"] is None
    assert run["counts"] == {"PASS": 4, "REVIEW": 1, "DEFECT": 0, "OOD": 0, "INVALID": 0}
    # The run goes on, and is added again.
    other = write_run(tmp_path / "again", 23)
    second = invoke("db", "add", other.path, "--db", place)
    assert "day-23: 7 of 12 pictures were new." in second.stdout + second.stderr
    (run,) = told(invoke("db", "runs", "--db", place, "--json"))
    assert run["finished_at"] is not None
    assert sum(run["counts"].values()) == 12
    store = Store.open(place)
    assert [entry["subject"] for entry in store.audit()] == ["day-23", "day-23"]
    assert [r.part_id for r in store.items(Asked())] == [f"part-{i}" for i in range(12)]
    store.close()


def test_everything_since_a_day_under_a_revision(invoke: Invoke, kept: Path) -> None:
    def parts(*asked: object) -> list[tuple[str, str]]:
        return [
            (r["run_id"], r["part_id"]) for r in lines(invoke("db", "items", *asked, "--json", "--db", kept))
        ]

    assert parts("--since", "2026-11-24", "--revision", 3) == []
    assert len(parts("--since", "2026-11-24", "--revision", 4)) == 12
    assert len(parts("--until", "2026-11-24")) == 12
    # A time of another zone is that moment: 8 o'clock there is 7 here.
    assert parts("--since", "2026-11-24T07:10+01:00")[-1] == ("day-24", "part-10")
    assert parts("--verdict", "defect", "--verdict", "invalid", "--run", "day-23") == [
        ("day-23", f"part-{i}") for i in (11, 10, 9, 8, 7)
    ]
    assert parts("--part", "part-3", "--label", "good") == [("day-24", "part-3"), ("day-23", "part-3")]
    assert len(parts("--limit", 5)) == 5


def test_items_as_a_table_say_how_many_there_are(invoke: Invoke, kept: Path) -> None:
    shown = invoke("db", "items", "--limit", 3, "--db", kept)
    assert shown.exit_code == 0
    assert "24 pictures: 8 PASS, 6 REVIEW, 8 DEFECT, 2 INVALID." in shown.stderr
    assert "The latest 3 are shown" in shown.stderr
    assert shown.stdout.count("day-24") == 3
    nothing = invoke("db", "items", "--run", "nobody", "--db", kept)
    assert "0 pictures." in nothing.stderr


def test_a_spreadsheet_takes_nothing_for_a_formula(invoke: Invoke, kept: Path) -> None:
    shown = invoke("db", "items", "--csv", "--run", "day-23", "--db", kept)
    rows = list(csv.DictReader(io.StringIO(shown.stdout)))
    assert len(rows) == 12
    assert {row["reasons"] for row in rows} == {"'=HYPERLINK()"}


def test_which_parts_flip_if_the_threshold_moves(invoke: Invoke, kept: Path) -> None:
    moved = ["--review", 1.5, "--defect", 2.5, "--run", "day-23", "--db", kept]
    found = told(invoke("db", "flips", *moved, "--json"))
    assert [(f["item"], f["from"], f["to"]) for f in found] == [
        ("23-9", "DEFECT", "REVIEW"),
        ("23-8", "DEFECT", "REVIEW"),
        ("23-5", "REVIEW", "PASS"),
        ("23-4", "REVIEW", "PASS"),
    ]
    shown = invoke("db", "flips", *moved)
    assert "DEFECT -> REVIEW" in shown.stdout
    assert "4 pictures flip." in shown.stderr
    assert told(invoke("db", "flips", "--review", 1, "--defect", 2, "--db", kept, "--json")) == []


def test_a_sound_record_is_said_to_be_and_copied(invoke: Invoke, kept: Path, tmp_path: Path) -> None:
    assert told(invoke("db", "check", "--db", kept, "--json")) == {
        "db": str(kept),
        "sound": True,
        "wrong": [],
    }
    copy = tmp_path / "copy.db"
    shown = invoke("db", "backup", copy, "--db", kept)
    assert shown.stdout.strip() == str(copy)
    assert lines(invoke("db", "items", "--json", "--db", copy)) == lines(
        invoke("db", "items", "--json", "--db", kept)
    )
    assert invoke("db", "upgrade", "--db", copy).stdout.strip() == newest()


def test_an_unsound_record_is_exit_code_5(invoke: Invoke, kept: Path) -> None:
    raw = sqlite3.connect(kept)
    raw.execute("DELETE FROM runs")
    raw.commit()
    raw.close()
    shown = invoke("db", "check", "--db", kept)
    assert shown.exit_code == 5
    assert "refers to nothing in runs" in shown.stderr
    found = invoke("db", "check", "--db", kept, "--json")
    assert found.exit_code == 5
    assert json.loads(found.stdout)["sound"] is False


def test_reviews_stay_when_a_run_is_added_again(invoke: Invoke, kept: Path, tmp_path: Path) -> None:
    store = Store.open(kept)
    review = ReviewEntry("good", "Ada", made_at="2026-11-24T09:00:00.000+00:00")
    store.review("day-23", "23-9", review)
    assert invoke("db", "add", tmp_path / "day-23", "--db", kept).exit_code == 0
    assert store.reviews("day-23", "23-9") == [review]
    store.close()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["items"], "no such file"),
        (["runs"], "no such file"),
        (["check"], "no such file"),
        (["flips", "--review", "2", "--defect", "1"], "T1 2, T2 1"),
        (["items", "--since", "yesterday"], "a time such as"),
        (["items", "--verdict", "fine"], "one of pass"),
        (["add", "nowhere"], "a run with run.json"),
        (["upgrade", "--db", "mysql://a:secret@b/c"], "mysql://a:***@b/c"),
    ],
)
def test_what_cannot_be_done_is_explained(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = invoke("db", *words)
    assert shown.exit_code == 1
    assert told in " ".join(shown.stderr.split())
    assert "secret" not in shown.stderr
    # Nothing was made only to be asked.
    assert list(tmp_path.iterdir()) == [] or words[0] == "add"


def test_a_run_of_another_model_under_an_old_name_is_refused(
    invoke: Invoke, kept: Path, tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", 23, revision=9)
    shown = invoke("db", "add", other.path, "--db", kept)
    assert shown.exit_code == 1
    assert "threshold_revision 3, not 9" in " ".join(shown.stderr.split())


def test_the_place_may_come_from_the_environment(invoke: Invoke, kept: Path) -> None:
    shown = invoke("db", "runs", "--json", env={"DIFFERNET_DB": str(kept)})
    assert {run["run_id"] for run in told(shown)} == {"day-23", "day-24"}
