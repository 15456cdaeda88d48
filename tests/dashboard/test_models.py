"""Models on a page: where they lie, what they promise, which of two is better, which takes whose place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.conftest import TrainedLine
from differnet.reporting.keeping import model_in
from differnet.reporting.run_folder import RunFolder
from differnet.reviewing import kept_comparison
from differnet.store import ModelEntry, ReviewEntry, RevisionEntry, Store
from differnet.store.tasks import Tasks
from differnet.tasks.working import work_on

MakeRun = Callable[..., RunFolder]
OpenDashboard = Callable[..., AppTest]
InspectLine = Callable[..., Path]


def words(app: AppTest) -> str:
    shown = (*app.markdown, *app.caption, *app.info, *app.error, *app.warning, *app.success, *app.text)
    return " ".join(str(item.value) for item in shown).replace("\\", "").replace("\u00a0", " ")


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


@pytest.mark.parametrize("labels", [["good"] * 3, ["unreadable"], [None] * 3])
def test_every_kind_of_record_is_shown(
    open_dashboard: OpenDashboard, make_run: MakeRun, labels: list[str | None]
) -> None:
    make_run(labels)
    app = open_dashboard("models")
    assert not app.exception
    assert not app.error
    assert "At most 5.0 % of good parts go beyond T1" in words(app)
    assert "This model is lost: the record does not know where it lies." in words(app)
    assert list(app.dataframe[0].value["model"]) == ["9f2c41d07ab3e6588c1d"]


def test_an_empty_record_says_so(open_dashboard: OpenDashboard) -> None:
    app = open_dashboard("models")
    assert not app.exception
    assert "The record knows no model yet" in words(app)


def test_who_set_which_thresholds_is_shown(
    open_dashboard: OpenDashboard, make_run: MakeRun, record_place: Path
) -> None:
    make_run(["good"])
    open_dashboard()
    store = Store.open(record_place)
    (model,) = store.models()
    calibration = store.calibrations(model.model_id)[0].calibration_id
    entry = RevisionEntry(
        model.model_id, calibration, 1, 1.1, 2.2, "ada", "<b>why</b>", "by hand", "2026-11-20"
    )
    store.add_revision(entry)
    store.close()
    app = open_dashboard("models")
    table = next(t.value for t in app.dataframe if "reason" in t.value)
    assert table[["T1", "by", "reason"]].values.tolist() == [[1.1, "ada", "<b>why</b>"]]


def test_a_lost_model_is_put_where_it_is_and_nowhere_else(
    open_dashboard: OpenDashboard, inspect_line: InspectLine, trained_line: TrainedLine
) -> None:
    inspect_line(good=2)
    app = open_dashboard("models")
    app.text_input(key="place_folder").set_value(str(trained_line.other))
    press(app, "It lies here")
    assert not app.exception
    assert f"model {model_in(trained_line.other)}" in words(app)
    app.text_input(key="place_folder").set_value("/nowhere/\0x")
    press(app, "It lies here")
    assert not app.exception
    assert "no model whose manifest can be read" in words(app)
    app.text_input(key="place_folder").set_value(str(trained_line.model))
    press(app, "It lies here")
    assert not app.exception
    assert not app.warning
    assert str(trained_line.model) in words(app)


@pytest.fixture
def two_models(
    open_dashboard: OpenDashboard,
    inspect_line: InspectLine,
    trained_line: TrainedLine,
    record_place: Path,
    tmp_path: Path,
) -> tuple[Path, Path]:
    """A line with a model in use and a new one, both where the record says, and labelled parts."""
    inspect_line("first", good=16, defects=8)
    inspect_line("trial", good=2, model=trained_line.other)
    open_dashboard()
    places = []
    store = Store.open(record_place)
    for source, name in ((trained_line.model, "in-use"), (trained_line.other, "newer")):
        places.append(Path(shutil.copytree(source, tmp_path / "models" / name)))
        store.place_model(model_in(source), places[-1])
    defect = next(r for r in store.items(_of("first")) if r.label != "good")
    store.review("first", defect.item_id, ReviewEntry("defect", "ada", "dent"))
    store.close()
    return places[0], places[1]


def _of(run_id: str) -> Any:
    from differnet.store import Asked

    return Asked(run_id=run_id)


def compare_now(app: AppTest, record_place: Path) -> str:
    """Ask for a comparison, do it as its process would, and run the page."""
    press(app, "Compare the two on known parts")
    assert not app.exception
    store = Store.open(record_place)
    (task, *_) = Tasks(store).latest(1, kinds=("compare",))
    assert f"Compare model {task.wish['model']} with {task.wish['new']}" in words(app)
    state = work_on(store, task.task_id)
    store.close()
    app.run()
    assert not app.exception
    return str(state)


@pytest.fixture(autouse=True)
def _no_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page asks for the test does itself."""
    monkeypatch.setattr(
        "differnet.tasks.starting.start", lambda store, entry: Tasks(store).begin(entry.task_id)
    )


def test_two_models_are_compared_on_the_same_known_parts_and_one_is_promoted(
    open_dashboard: OpenDashboard, two_models: tuple[Path, Path], record_place: Path
) -> None:
    model, new = two_models
    old_id, new_id = model_in(model), model_in(new)
    app = open_dashboard("models", run="first")
    assert app.selectbox(key="model_id").value == old_id
    assert app.selectbox(key="new_model").value == new_id
    compare_now(app, record_place)
    assert not app.error
    compared = kept_comparison(new)
    assert compared is not None
    assert (compared.old.model_id, compared.new.model_id) == (old_id, new_id)
    assert (compared.good, compared.defects, compared.reviewed) == (16, 8, 1)
    assert "Compared on 16 good parts and 8 defects that neither model has learned" in words(app)
    table = next(t.value for t in app.table if "figure, 95 % interval" in t.value)
    assert table["figure, 95 % interval"][0] == "AUROC, part"
    # Without a reason, nothing happens.
    press(app, "Promote it")
    assert "wants to know why" in words(app)
    assert model_in(model) == old_id
    app.text_input(key="promote_reason").set_value("it sees more")
    app.checkbox[0].set_value(True)
    press(app, "Promote it")
    assert not app.exception
    assert not app.error
    assert f"Model {new_id[:8]} is in place" in words(app)
    assert model_in(model) == new_id
    assert model_in(model.with_name("in-use.previous")) == old_id
    store = Store.open(record_place)
    assert store.audit()[0]["facts"]["reason"] == "it sees more"
    places = {entry.model_id: entry.folder for entry in store.models()}
    assert places == {new_id: str(model), old_id: str(model.with_name("in-use.previous"))}
    # And back, from the page of the one that is in place now.
    app.selectbox(key="model_id").set_value(new_id).run()
    app.text_input(key="return_reason").set_value("too much overkill")
    press(app, "Return to it")
    assert not app.exception
    assert model_in(model) == old_id
    assert store.audit()[0]["action"] == "return to previous model"
    store.close()
    history = next(t.value for t in app.dataframe if "why" in t.value)
    assert list(history["why"]) == ["too much overkill", "it sees more"]


def test_what_speaks_against_a_model_is_said_and_nothing_is_changed(
    open_dashboard: OpenDashboard, two_models: tuple[Path, Path]
) -> None:
    model, _ = two_models
    before = model_in(model)
    app = open_dashboard("models", run="first")
    app.text_input(key="promote_reason").set_value("because")
    press(app, "Promote it")
    assert not app.exception
    assert "no comparison is kept beside the new model" in words(app)
    assert model_in(model) == before


def test_a_damaged_model_is_no_candidate(
    open_dashboard: OpenDashboard, two_models: tuple[Path, Path], record_place: Path
) -> None:
    _, new = two_models
    path = new / "densities.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    app = open_dashboard("models", run="first")
    assert compare_now(app, record_place) == "failed"
    assert "The model is damaged or was changed" in words(app)
    app.selectbox(key="model_id").set_value(model_in(new)).run()
    press(app, "Let the model test itself")
    assert not app.exception
    assert "The model must not be used." in words(app)


def test_where_nothing_is_there_nothing_is_compared(
    open_dashboard: OpenDashboard, two_models: tuple[Path, Path], tmp_path: Path, record_place: Path
) -> None:
    shutil.rmtree(tmp_path / "shots")
    app = open_dashboard("models", run="first")
    assert compare_now(app, record_place) == "failed"
    assert "16 good parts and 8 defects are known, 24 pictures are lost" in words(app)
    assert kept_comparison(two_models[1]) is None


def test_to_read_only_nothing_can_be_changed(
    open_dashboard: OpenDashboard, two_models: tuple[Path, Path]
) -> None:
    open_dashboard()
    app = open_dashboard("models", read_only=True, run="first")
    assert not app.exception
    labels = {button.label for button in app.button}
    assert not labels & {"Promote it", "Return to it", "It lies here", "Compare the two on known parts"}


def test_names_are_never_read_as_markdown(open_dashboard: OpenDashboard, record_place: Path) -> None:
    name = "![x](http://example.invalid/a.png)<b>"
    store = Store.open(record_place)
    store.add_model(ModelEntry(name, name, name, {"details": {name: name}}))
    store.note(name, "promote", name, {"reason": name, "to": name})
    store.close()
    app = open_dashboard("models")
    assert not app.exception
    for element in (*app.markdown, *app.caption, *app.title, *app.info, *app.error, *app.warning):
        assert "](http" not in element.value
    for table in app.table:
        assert "](http" not in table.value.to_csv()
