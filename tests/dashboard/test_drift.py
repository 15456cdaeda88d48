"""Drift and health: what the record tells at once, what the model tells when asked, what nobody can."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.conftest import TrainedLine
from differnet.calibration import p_values
from differnet.images.reading import read_image, write_png
from differnet.records import Record, Verdict
from differnet.reporting.drifting import KINDS
from differnet.reporting.run import CalibrationFacts
from differnet.reporting.run_folder import RunFolder
from differnet.store import CalibrationEntry, ModelEntry, RunEntry, Store

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]
OpenDashboard = Callable[..., AppTest]
InspectLine = Callable[..., Path]

PARTS = 120


def words(app: AppTest) -> str:
    shown = (*app.markdown, *app.caption, *app.info, *app.error)
    return " ".join(str(item.value) for item in shown).replace("\\", "").replace("\u00a0", " ")


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


@pytest.fixture
def keep_line(record_place: Path, make_record: MakeRecord) -> Callable[..., None]:
    """Keep runs of parts with p-values, without a model that lies anywhere."""
    rng = np.random.default_rng(5)
    good = rng.normal(size=PARTS)

    def keep(run_id: str, number: int, shift: float = 0.0, day: int = 1, **facts: Any) -> None:
        store = Store.open(record_place)
        store.add_model(ModelEntry("m", "flange"))
        n = facts.get("parts", PARTS)
        told = asdict(CalibrationFacts(n, 0.05, 0.01, 1 / (n + 1), scheme="split")) | facts
        store.add_calibration(CalibrationEntry("m", "c", n, "split", told))
        started = f"2026-11-{day:02d}T06:00:00.000+00:00"
        store.begin_run(RunEntry(run_id, "flange", "m", "c", 1.3, 2.0, started_at=started))
        figures = rng.normal(shift, 1.0, number)
        p = p_values(good, figures)
        promised = facts.get("promised", True)
        store.add_items(
            [
                make_record(
                    i,
                    Verdict.PASS,
                    run_id=run_id,
                    model_id="m",
                    calibration_id="c",
                    path=f"{run_id}/{i}.png",
                    sha256=f"{run_id} {i}",
                    strangeness=float(figures[i]),
                    processed_at=f"2026-11-{day:02d}T07:{i // 60:02d}:{i % 60:02d}.000+00:00",
                    **(dict.fromkeys(KINDS.values(), float(p[i])) if promised else {}),
                )
                for i in range(number)
            ]
        )
        store.finish_run(run_id)
        store.close()

    return keep


def test_a_quiet_run_is_called_quiet(open_dashboard: OpenDashboard, keep_line: Callable[..., None]) -> None:
    keep_line("shift", 80)
    app = open_dashboard("drift")
    assert not app.exception
    assert "These 80 parts show no drift" in words(app)
    assert "That does not show that nothing changed" in words(app)
    assert "No alarm in 80 parts. The chance of a false one, ever, is 1.0 %." in words(app)
    assert "place parts among 120 calibration parts" in words(app)


def test_a_changed_run_is_told_with_what_and_since_when(
    open_dashboard: OpenDashboard, keep_line: Callable[..., None]
) -> None:
    keep_line("shift", 80, shift=1.0)
    app = open_dashboard("drift")
    assert not app.exception
    assert "These 80 parts have drifted" in words(app)
    assert "The parts are stranger (strangeness" in words(app)
    assert "parts are stranger, most probably since part" in words(app)
    # A rate that the same p-value does not reach is another answer.
    app.number_input(key="drift_parts").set_value(2).run()
    app.number_input(key="drift_alpha").set_value(0.1).run()
    assert not app.exception
    assert "false alarms 0.1 %" in words(app) or "Nothing can be claimed" in words(app)


def test_the_latest_parts_of_all_runs_are_asked_together(
    open_dashboard: OpenDashboard, keep_line: Callable[..., None]
) -> None:
    for day in (1, 2, 3):
        keep_line(f"day {day}", 40, day=day, shift=1.2 * (day == 3))
    app = open_dashboard("drift", run="day 1")
    assert "These 40 parts show no drift" in words(app)
    app.segmented_control(key="drift_scope").set_value("latest of all runs").run()
    assert not app.exception
    assert "These 120 parts have drifted" in words(app)
    assert "Alarm after part" in words(app)
    app.number_input(key="drift_parts").set_value(30).run()
    assert "These 30 parts have drifted" in words(app)
    assert "90 earlier ones" in words(app)


@pytest.mark.parametrize(
    ("parts", "facts", "reason"),
    [
        (1, {}, "found 0.0025"),
        (5, {"promised": False, "parts": 2}, "variations of 2"),
        (5, {"parts": 0}, "knows nothing"),
    ],
)
def test_where_nothing_can_be_claimed_the_page_says_so(
    open_dashboard: OpenDashboard,
    keep_line: Callable[..., None],
    parts: int,
    facts: dict[str, Any],
    reason: str,
) -> None:
    keep_line("shift", parts, **facts)
    app = open_dashboard("drift")
    assert not app.exception
    assert not app.error
    assert "Nothing can be claimed" in words(app)
    assert reason in words(app)
    assert "show no drift" not in words(app)


@pytest.mark.parametrize("labels", [["scratch"] * 4, ["unreadable"] * 2, ["good"], [None] * 6])
def test_every_kind_of_run_is_shown(
    open_dashboard: OpenDashboard, make_run: MakeRun, labels: list[str | None]
) -> None:
    make_run(labels)
    app = open_dashboard("drift")
    assert not app.exception
    assert not app.error
    assert "cannot be tested: the record does not know where it lies" in words(app)


def test_a_lost_model_is_said_to_be_lost(
    open_dashboard: OpenDashboard, keep_line: Callable[..., None]
) -> None:
    keep_line("shift", 30)
    app = press(open_dashboard("drift"), "Look at the pictures again")
    assert not app.exception
    assert "model m" in app.error[0].value.replace("\\", "")
    assert "Say on the page Models" in app.error[0].value.replace("\\", "")


def place_models_of(record_place: Path, trained_line: TrainedLine) -> None:
    from differnet.reporting.keeping import place_models

    store = Store.open(record_place)
    assert place_models(store, [trained_line.model.parent]) >= 1
    store.close()


def test_the_model_looks_at_the_pictures_again(
    open_dashboard: OpenDashboard,
    inspect_line: InspectLine,
    trained_line: TrainedLine,
    record_place: Path,
    tmp_path: Path,
) -> None:
    inspect_line(good=16, defects=2)
    open_dashboard()
    place_models_of(record_place, trained_line)
    (tmp_path / "shots" / "good-003.png").unlink()
    app = press(open_dashboard("drift"), "Look at the pictures again")
    assert not app.exception
    assert not app.error
    assert "These 15 pictures show no drift" in words(app)
    assert "left out:" in words(app)
    assert "good-003.png: nothing there that can be read" in words(app)
    figures = next(t.value for t in app.dataframe if "brightness" in t.value)
    assert len(figures) == 15
    # It stays when something else is chosen, and the other rate is asked of the same figures.
    app.number_input(key="drift_alpha").set_value(5.0).run()
    assert "These 15 pictures" in words(app)
    assert "false alarms 5.0 %" in words(app)


def test_darker_pictures_are_told_of(
    open_dashboard: OpenDashboard,
    trained_line: TrainedLine,
    record_place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inspect_line: InspectLine,
) -> None:
    dark = tmp_path / "dark"
    dark.mkdir()
    for path in trained_line.good:
        write_png(dark / path.name, (read_image(path).pixels * 0.6).astype(np.uint8))
    inspect_line(good=0, extra=tuple((path, None) for path in sorted(dark.iterdir())))
    open_dashboard()
    place_models_of(record_place, trained_line)
    app = press(open_dashboard("drift"), "Look at the pictures again")
    assert not app.exception
    assert "have drifted" in words(app)
    assert "The pictures are darker (brightness" in words(app)


def test_the_model_tests_itself_when_asked(
    open_dashboard: OpenDashboard,
    inspect_line: InspectLine,
    trained_line: TrainedLine,
    record_place: Path,
    tmp_path: Path,
) -> None:
    inspect_line(good=2)
    open_dashboard()
    store = Store.open(record_place)
    copy = Path(shutil.copytree(trained_line.model, tmp_path / "copy"))
    store.place_model(store.models()[0].model_id, copy)
    store.close()
    app = open_dashboard("drift")
    assert not any("check" in table.value for table in app.table)
    press(app, "Let the model test itself")
    assert not app.exception
    assert "The model is sound." in words(app)
    table = next(t.value for t in app.table if "check" in t.value)
    assert list(table["check"]) == ["manifest", "files", "densities", "golden pictures", "round trip"]
    path = copy / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"folds": 2', b'"folds": 3'))
    app.run()
    assert not app.exception
    assert "The model must not be used." in words(app)
    table = next(t.value for t in app.table if "check" in t.value)
    assert "failed" in table["state"][0]
    assert list(table["state"][1:]) == ["not reached"] * 4
