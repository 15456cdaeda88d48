"""Drift of recorded parts is told as the calibration parts would tell it, or nothing is claimed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from differnet.calibration import (
    CalibrationError,
    Monitor,
    batch_drift,
    detectable_shift,
    p_values,
)
from differnet.records import Record, Verdict
from differnet.reporting.drifting import (
    KINDS,
    DriftError,
    drift_words,
    figures_table,
    line_drift,
    line_of_model,
    line_of_run,
    movements_table,
    pictures_of_run,
    watch_line,
    watch_table,
    watch_words,
)
from differnet.store import CalibrationEntry, ModelEntry, ReviewEntry, RunEntry, Store

MakeRecord = Callable[..., Record]

PARTS = 150


@dataclass
class Plant:
    """A record of parts whose calibration is known here, and not there."""

    store: Store
    good: np.ndarray
    make: MakeRecord
    rng: np.random.Generator

    def run(self, run_id: str, figures: np.ndarray, day: int = 1, **changes: Any) -> list[Record]:
        """Inspect parts of ``(m, 4)`` figures."""
        started = f"2026-11-{day:02d}T06:00:00.000+00:00"
        self.store.begin_run(RunEntry(run_id, "flange", "m", "c", 1.3, 2.0, started_at=started))
        columns = [p_values(self.good[:, i], figures[:, i]) for i in range(4)]
        kept = [
            self.make(
                i,
                Verdict.PASS,
                run_id=run_id,
                product="flange",
                model_id="m",
                calibration_id="c",
                path=f"{run_id}/{i}.png",
                sha256=hashlib.sha256(f"{run_id}/{i}".encode()).hexdigest(),
                processed_at=f"2026-11-{day:02d}T06:{i // 60:02d}:{i % 60:02d}.000+00:00",
                strangeness=float(figures[i, 0]),
                **{name: float(columns[k][i]) for k, name in enumerate(KINDS.values())},
                **changes,
            )
            for i in range(len(figures))
        ]
        self.store.add_items(kept)
        return kept

    def draw(self, parts: int, shift: float = 0.0) -> np.ndarray:
        return self.rng.normal(size=(parts, 4)) + self.rng.normal(size=(parts, 1)) + shift


@pytest.fixture
def plant(tmp_path: Path, make_record: MakeRecord) -> Iterator[Plant]:
    store = Store.open(tmp_path / "record.db")
    store.add_model(ModelEntry("m", "flange"))
    store.add_calibration(CalibrationEntry("m", "c", PARTS, "split", {"promised": True}))
    rng = np.random.default_rng(2)
    plant = Plant(store, np.zeros(0), make_record, rng)
    plant.good = np.sort(plant.draw(PARTS), axis=0)
    yield plant
    store.close()


def test_a_run_is_watched_as_its_calibration_parts_would(plant: Plant) -> None:
    figures = np.concatenate([plant.draw(120), plant.draw(120, 1.5)])
    plant.run("shift", figures)
    line = line_of_run(plant.store, plant.store.table("shift"), "m", "c")
    assert (len(line), line.left_out, line.unjudged, line.earlier) == (240, 0, 0, 0)
    watch = watch_line(line)
    monitor = Monitor(plant.good[:, 0], 0.01)
    states = [monitor.update(figure) for figure in figures[:, 0]]
    assert watch.wealth_log10.tolist() == [state.wealth_log10 for state in states]
    assert watch.state == states[-1]
    assert watch.alarm_at == next(i for i, state in enumerate(states) if state.alarm)
    assert 120 <= watch.alarm_at < 200
    assert watch.level_log10 == pytest.approx(2.0)
    words = watch_words(line, watch)
    assert f"Alarm after part {watch.alarm_at + 1} of 240" in words
    assert "stranger" in words
    assert abs(int(words.partition("since part ")[2].partition(",")[0]) - 121) < 15


def test_a_quiet_line_is_called_quiet_and_what_that_does_not_show(plant: Plant) -> None:
    plant.run("shift", plant.draw(80))
    line = line_of_run(plant.store, plant.store.table("shift"), "m", "c")
    watch = watch_line(line, 0.001)
    assert watch.alarm_at is None
    assert watch_words(line, watch) == ("No alarm in 80 parts. The chance of a false one, ever, is 0.1 %.")
    found = line_drift(line)
    assert not found.alarm
    words = drift_words(found, len(line), line.parts)
    assert words[0].startswith("These 80 parts show no drift")
    assert f"less than {detectable_shift(PARTS, 80, 0.01, 4):.2g} standard deviations" in words[1]
    assert [each.name for each in found.statistics] == list(KINDS)


def test_a_changed_line_is_told_what_moved(plant: Plant) -> None:
    figures = plant.draw(100)
    figures[:, 3] += 1.5
    plant.run("shift", figures)
    found = line_drift(line_of_run(plant.store, plant.store.table("shift"), "m", "c"))
    assert found.alarm
    assert [each.name for each in found.moved] == ["strangeness of the median cell"]
    words = drift_words(found, 100, PARTS)
    assert words[0].startswith("These 100 parts have drifted (p = 0.00")
    assert words[1].startswith("Most of the picture is stranger (strangeness of the median cell")
    assert len(words) == 2
    table = movements_table(found)
    assert table["figure"].tolist() == list(KINDS)
    assert table["p"].tolist() == [each.p_value for each in found.statistics]
    # As the parts themselves tell it, but for the sharper share of a false alarm.
    wanted = batch_drift(plant.good, figures, 0.01)
    assert wanted.alarm == found.alarm


def test_parts_that_are_known_to_be_otherwise_are_left_out(plant: Plant) -> None:
    kept = plant.run("shift", plant.draw(60))
    more = plant.draw(6)
    for label, number in (("scratch", 0), ("wrong_inputs/blank", 1), ("good", 2), (None, 3)):
        plant.run(f"run {number}", more, day=2 + number, label=label)
    store = plant.store
    sizes = [len(line_of_run(store, store.table(f"run {n}"), "m", "c")) for n in range(4)]
    assert sizes == [0, 0, 6, 6]
    store.review("shift", kept[7].item_id, ReviewEntry("defect", "ada"))
    store.review("shift", kept[8].item_id, ReviewEntry("unsure", "ada"))
    store.review("run 0", store.table("run 0").item_id[2], ReviewEntry("good", "ada"))
    line = line_of_run(store, store.table("shift"), "m", "c")
    assert (len(line), line.left_out) == (59, 1)
    assert kept[7].item_id not in line.item_id
    assert len(line_of_run(store, store.table("run 0"), "m", "c")) == 1
    with pytest.raises(DriftError, match="6 are known to be otherwise"):
        line_drift(line_of_run(store, store.table("run 1"), "m", "c"))


def test_the_latest_parts_of_a_model_come_from_its_runs_in_their_order(plant: Plant) -> None:
    for day in (3, 1, 2):
        plant.run(f"day {day}", plant.draw(40), day=day)
    plant.store.add_calibration(CalibrationEntry("m", "other", PARTS))
    plant.store.begin_run(
        RunEntry("other", "flange", "m", "other", 1.3, 2.0, started_at="2026-11-30T00:00:00.000+00:00")
    )
    entry = plant.store.run("day 1")
    line = line_of_model(plant.store, entry, 100)
    assert len(line) == 100
    assert line.earlier == 20
    assert sorted(set(line.run_id)) == ["day 1", "day 2", "day 3"]
    assert line.processed_at.tolist() == sorted(line.processed_at)
    assert len(line_of_model(plant.store, entry, 30)) == 30
    assert set(line_of_model(plant.store, entry, 30).run_id) == {"day 3"}


def test_what_has_no_p_value_is_counted_and_left_out(plant: Plant, make_record: MakeRecord) -> None:
    plant.run("shift", plant.draw(30))
    told = {"run_id": "shift", "model_id": "m", "calibration_id": "c", "product": "flange"}
    plant.store.add_items([make_record(99, Verdict.INVALID, path="x.png", **told)])
    line = line_of_run(plant.store, plant.store.table("shift"), "m", "c")
    assert (len(line), line.unjudged) == (30, 1)


def test_where_nothing_is_promised_nothing_is_claimed(plant: Plant) -> None:
    few = CalibrationEntry("m", "few", 2, "variations", {"promised": False})
    plant.store.add_calibration(few)
    plant.run("shift", plant.draw(3))
    table = plant.store.table("shift")
    with pytest.raises(DriftError, match="variations of 2"):
        line_of_run(plant.store, table, "m", "few")
    with pytest.raises(DriftError, match="knows nothing"):
        line_of_run(plant.store, table, "m", "nobody")
    with pytest.raises(CalibrationError, match="smallest p-value"):
        line_drift(line_of_run(plant.store, table, "m", "c").latest(1), 0.01)


def test_a_table_to_draw_holds_the_ends_and_no_more_than_can_be_seen(plant: Plant) -> None:
    plant.run("shift", plant.draw(3000))
    line = line_of_run(plant.store, plant.store.table("shift"), "m", "c")
    watch = watch_line(line)
    table = watch_table(line, watch)
    assert 900 < len(table) < 1300
    assert table["part"].iloc[0] == 1
    assert table["part"].iloc[-1] == 3000
    assert table["wealth"].iloc[-1] == watch.wealth_log10[-1]
    places = table["part"] - 1
    assert table["p_value"].tolist() == line.p_values["strangeness"][places].tolist()


def test_pictures_are_found_where_they_were_and_as_they_were(
    plant: Plant, make_record: MakeRecord, tmp_path: Path
) -> None:
    plant.store.begin_run(RunEntry("shots", "flange", "m", "c", 1.3, 2.0))
    root = tmp_path / "line"
    (root / "shots").mkdir(parents=True)
    labels = ["good", None, "scratch", "good", "good"]
    for i, label in enumerate(labels):
        content = f"picture {i}".encode()
        (root / "shots" / f"{i}.png").write_bytes(content)
        told = {"run_id": "shots", "model_id": "m", "calibration_id": "c", "label": label}
        digest = hashlib.sha256(content).hexdigest()
        plant.store.add_items([make_record(i, Verdict.PASS, path=f"shots/{i}.png", sha256=digest, **told)])
    (root / "shots" / "3.png").write_bytes(b"another picture")
    (root / "shots" / "4.png").unlink()
    found = pictures_of_run(plant.store, "shots", [tmp_path, root])
    assert [path.name for path in found.paths] == ["0.png", "1.png"]
    assert found.left_out == 1
    assert len(found.lost) == 2
    assert "shots/3.png: another picture" in found.lost[0]
    assert [p.name for p in pictures_of_run(plant.store, "shots", [root], 3).paths] == ["1.png"]
    with pytest.raises(DriftError, match="1 parts are known to be otherwise, 4 pictures are lost"):
        pictures_of_run(plant.store, "shots", [tmp_path / "elsewhere"])


def test_figures_of_a_batch_stand_beside_what_is_usual() -> None:
    from differnet.detection.judging import DriftFigures

    rng = np.random.default_rng(2)
    good = rng.normal(0.5, 0.1, (400, 2))
    figures = DriftFigures(
        ("brightness", "contrast"), good, good[:5] + 1, tuple(f"a/{i}.png" for i in range(5))
    )
    table = figures_table(figures, "contrast")
    assert table["part"].tolist() == [1, 2, 3, 4, 5]
    assert table["picture"].tolist() == [f"{i}.png" for i in range(5)]
    assert table["value"].tolist() == (good[:5, 1] + 1).tolist()
    low, high = table["low"].iloc[0], table["high"].iloc[0]
    assert np.mean((good[:, 1] >= low) & (good[:, 1] <= high)) == pytest.approx(0.95, abs=0.01)
