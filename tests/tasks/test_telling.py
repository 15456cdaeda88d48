"""What is said of a task is what its record says, in words that a person understands."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from differnet.store.tasks import TaskEntry
from differnet.tasks.telling import (
    error_of,
    few_parts,
    last_lines,
    latest_losses,
    losses_table,
    progress_words,
    promises_table,
    scan_table,
    share_done,
    state_words,
    took,
)

LOSSES = {
    "losses": [
        {
            "member": "without fold 1 of 2",
            "density": "whole part",
            "trial": True,
            "steps": 50,
            "points": [[25, 9.0, None], [50, 8.0, 8.5]],
        },
        {
            "member": "all parts",
            "density": "fine patches",
            "trial": False,
            "steps": 100,
            "points": [[10, 50.0, 44.0], [20, 40.0, None]],
        },
    ]
}


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def task(state: str = "running", **changes: Any) -> TaskEntry:
    fixed: dict[str, Any] = {
        "made_at": "2026-11-23T06:00:00.000+00:00",
        "seen_at": ago(0),
        "started_at": ago(75),
        "progress": {"stage": "densities", "done": 30, "total": 120, "left": 90.0},
    }
    return TaskEntry("t", "train", "Train", {}, "ada", state, **(fixed | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "changes", "words"),
    [
        ("waiting", {"progress": {}}, "waits for its turn"),
        ("waiting", {"progress": {"starts": 1}}, "starts"),
        ("running", {}, "at work"),
        ("running", {"stop_asked": True}, "stops at its next step"),
        ("done", {}, "done"),
        ("failed", {}, "failed"),
        ("stopped", {}, "stopped"),
        ("lost", {}, "ended unexpectedly"),
    ],
)
def test_states_have_words(state: str, changes: dict[str, Any], words: str) -> None:
    assert state_words(task(state, **changes)) == words


def test_what_is_left_runs_down_between_two_words_of_the_process() -> None:
    assert progress_words(task()) == "densities: 30 of 120, about 1 min 30 s left"
    assert progress_words(task(seen_at=ago(31))) == "densities: 30 of 120, about 59 s left"
    assert progress_words(task(seen_at=ago(200))) == "densities: 30 of 120, about 0.0 s left"
    assert progress_words(task("stopped")) == "densities: 30 of 120"
    one = {"stage": "saving the model", "done": 0, "total": 1, "left": None}
    assert progress_words(task(progress=one)) == "saving the model"
    assert progress_words(task("waiting", progress={"starts": 1})) == "starts"


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        ({"done": 30, "total": 120}, 0.25),
        ({"done": 130, "total": 120}, 1.0),
        ({"done": 0, "total": 0}, None),
        ({}, None),
        ({"done": "3", "total": 9}, None),
    ],
)
def test_the_share_that_is_done(progress: dict[str, Any], share: float | None) -> None:
    assert share_done(task(progress=progress)) == share


def test_how_long_it_took() -> None:
    assert took(task()) == "1 min 15 s"
    ended = task("done", started_at=ago(400), finished_at=ago(340))
    assert took(ended) == "1 min 0 s"
    assert took(task("lost", started_at=ago(400), seen_at=ago(390))) == "10 s"
    assert took(task("waiting", started_at=None)) == ""


def test_what_made_a_task_fail_is_told_again_as_an_error() -> None:
    told = {"kind": "LayoutError", "expected": "pictures", "found": "none", "remedy": "Name others."}
    error = error_of(task("failed", outcome={"error": told}))
    assert error is not None
    assert (error.expected, error.found, error.remedy) == ("pictures", "none", "Name others.")
    assert error_of(task("done")) is None
    lost = error_of(task("lost", seen_at="2026-11-23T06:00:00.000+00:00"))
    assert lost is not None
    assert "2026-11-23 06:00:00 UTC" in lost.found
    bare = error_of(task("failed", outcome={}, reason="3 processes were started for it"))
    assert bare is not None
    assert bare.found == "3 processes were started for it"


def test_losses_are_laid_out_as_they_were_told() -> None:
    table = losses_table(LOSSES)
    assert table.to_numpy().tolist() == [
        ["whole part, trial", "without fold 1 of 2", 25, 9.0, "training"],
        ["whole part, trial", "without fold 1 of 2", 50, 8.0, "training"],
        ["whole part, trial", "without fold 1 of 2", 50, 8.5, "held-out parts"],
        ["fine patches", "all parts", 10, 50.0, "training"],
        ["fine patches", "all parts", 10, 44.0, "held-out parts"],
        ["fine patches", "all parts", 20, 40.0, "training"],
    ]
    latest = latest_losses(LOSSES)
    assert latest.iloc[1].tolist() == ["fine patches", "all parts", 20, 100, 50.0, 40.0, 44.0]
    assert losses_table({}).empty
    assert latest_losses({"losses": []}).empty
    unseen = {"losses": [LOSSES["losses"][0] | {"points": [[25, 9.0, None]]}]}
    assert math.isnan(latest_losses(unseen)["held-out nll"][0])


def facts(**calibration: Any) -> dict[str, Any]:
    fixed = {
        "parts": 40,
        "alpha_review": 0.05,
        "alpha_defect": 1 / 41,
        "smallest_alpha": 1 / 41,
        "interval_review": [0.01, 0.11],
        "interval_defect": [0.0013, 0.07],
        "scheme": "cross-fitted",
        "promised": True,
    }
    return {
        "product": "flange",
        "model_id": "m",
        "calibration_id": "c",
        "t_review": 1.304,
        "t_defect": 1.61,
        "threshold_revision": 0,
        "versions": {},
        "seed": 0,
        "image_size": 256,
        "training_parts": 40,
        "trained_at": "2026-11-23T06:00:00",
        "training_fingerprint": "f",
        "backbone": {"name": "b", "origin": "o", "sha256": "s", "licence": "l"},
        "calibration": fixed | calibration,
    }


def test_promises_are_those_of_the_report() -> None:
    table = promises_table(facts())
    assert table["threshold"].tolist() == ["T1", "T2"]
    assert table["strangeness"].tolist() == ["1.30", "1.61"]
    assert table.iloc[:, 3].tolist() == ["at most 5.0 % of good parts", "at most 2.4 % of good parts"]
    assert table.iloc[:, 4].tolist() == ["1.0 % to 11.0 %", "0.1 % to 7.0 %"]


def test_too_few_parts_for_what_was_asked_is_said_with_how_many_it_takes() -> None:
    (sentence,) = few_parts(0.05, 0.01, facts())
    assert sentence == (
        "40 good parts cannot promise that at most 1.0 % of good parts are rejected, only 2.4 %; that takes "
        "99 good parts."
    )
    assert few_parts(0.05, 0.05, facts()) == []
    (nothing,) = few_parts(0.05, 0.01, facts(parts=2, promised=False))
    assert nothing.startswith("No error rate can be promised from 2 parts")


def test_a_look_at_a_folder_is_laid_out() -> None:
    table = scan_table({"counts": {"train": {"good": 6}, "test": {"good": 2, "dent": 1}}})
    assert table.to_numpy().tolist() == [["train", "good", 6], ["test", "good", 2], ["test", "dent", 1]]
    assert scan_table({}).empty


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "task.log"
    assert last_lines(log) == ""
    log.write_bytes(b"\n".join(b"line %d" % n for n in range(50_000)) + b"\n\xff\xfe")
    lines = last_lines(log, 3).splitlines()
    assert lines[:2] == ["line 49998", "line 49999"]
    assert len(last_lines(log, 10**6)) <= 64 * 2**10


def test_a_task_of_today_has_not_taken_less_than_nothing() -> None:
    ahead = (datetime.now(UTC) + timedelta(seconds=30)).isoformat(timespec="milliseconds")
    assert took(replace(task(), started_at=ahead)) == "0.0 s"
