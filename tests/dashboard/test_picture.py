"""The page of one picture: what it shows at once, what it explains when asked, what it says is missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import streamlit as st
from numpy.typing import NDArray
from streamlit.testing.v1 import AppTest
from trust.bundles import make_bundle

from differnet.detection import Detector, examining
from differnet.detection.bundle import load_bundle
from differnet.images.reading import read_image, write_png
from differnet.images.synthetic import render_part
from differnet.records import Record, Verdict
from differnet.reporting import run_facts
from differnet.reporting.run import RunFacts
from differnet.reporting.run_folder import RunFolder
from differnet.store import ReviewEntry, Store
from differnet.strict_json import to_json

OpenDashboard = Callable[..., AppTest]

SIDE = 64
KINDS = ("good", "good", "dent", "missing_piece")


class Inspected(NamedTuple):
    """A run on disk with the model and the pictures that it came from."""

    folder: Path
    model: Path
    product: Path
    records: tuple[Record, ...]


@pytest.fixture(scope="module")
def sound_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of a network of a third of a megabyte."""
    return make_bundle(tmp_path_factory.mktemp("made"), 0)


@pytest.fixture
def inspected(sound_model: Path, tmp_path: Path, record_place: Path) -> Inspected:
    """Four parts, inspected into a run, with masks where there are defects."""
    model = Path(shutil.copytree(sound_model, tmp_path / "models" / "flange"))
    product = tmp_path / "product"
    detector = Detector.load(model, "cpu")
    facts = run_facts(detector.facts(), str(product))
    with RunFolder.create(tmp_path / "run", facts) as run:
        for number, kind in enumerate(KINDS):
            part = render_part(700 + number, defect=None if kind == "good" else kind, size=SIDE)
            path = product / "test" / kind / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path, part.pixels)
            if kind != "good":
                mask = product / "ground_truth" / kind / f"{number:03}_mask.png"
                mask.parent.mkdir(parents=True, exist_ok=True)
                write_png(mask, part.mask)
            inspection = detector.inspect(path)
            record = replace(inspection.record, label=kind, part_id=f"part {number}")
            run.append(replace(inspection, record=record), part.pixels)
    return Inspected(run.path, model, product, RunFolder.open(run.path).records)


@pytest.fixture
def open_picture(
    inspected: Inspected, open_dashboard: OpenDashboard, record_place: Path
) -> Callable[..., AppTest]:
    """Open the page on one of the four parts; the record knows where the model lies."""
    st.cache_data.clear()

    def opened(number: int, *, placed: bool = True) -> AppTest:
        # Opening the dashboard once keeps the run, and with it makes the model known.
        open_dashboard()
        if placed:
            store = Store.open(record_place)
            store.place_model(inspected.records[0].model_id, inspected.model)
            store.close()
        return open_dashboard("picture", item=inspected.records[number].item_id)

    return opened


def mounted(app: AppTest) -> dict[str, dict[str, Any]]:
    """What the server hands to each component, by its key."""
    return {str(one.key): json.loads(one.proto.json) for one in app.get("bidi_component")}


def viewer(app: AppTest) -> dict[str, Any]:
    return mounted(app)["picture_viewer"]


def explain(app: AppTest) -> AppTest:
    app.toggle(key="explain").set_value(True).run()
    assert not app.exception
    return app


def subheaders(app: AppTest) -> list[str]:
    return [item.value for item in app.subheader]


EXPLAINED = ["Evidence by density and scale", "What would have to change"]
ALWAYS = ["Evidence", "Regions", "What people said"]


def test_the_page_answers_without_the_model(
    open_picture: Callable[..., AppTest], inspected: Inspected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{examining.__name__}.load_bundle", lambda *_: pytest.fail("loaded"))
    app = open_picture(2)
    assert not app.exception
    assert not app.error
    assert subheaders(app) == ALWAYS
    shown = viewer(app)
    record = inspected.records[2]
    assert shown["item"] == record.item_id
    assert [layer["name"] for layer in shown["layers"]] == ["Heat map"]
    assert shown["good"] is None
    assert f"{record.verdict.value}] {record.strangeness:.2f}" in app.title[0].value
    assert any(record.part_id in item.value for item in app.markdown)
    assert f"Strangeness {record.strangeness:.2f}" in mounted(app)["ruler"]["svg"]


def test_asked_to_explain_it_shows_all_evidence_of_the_very_judgement(
    open_picture: Callable[..., AppTest], inspected: Inspected
) -> None:
    app = explain(open_picture(2))
    assert not app.error
    assert subheaders(app) == [*EXPLAINED, *ALWAYS]
    record = inspected.records[2]
    table = next(frame.value for frame in app.dataframe if "statistic" in frame.value.columns)
    assert table["strangeness"].iloc[0] == pytest.approx(record.strangeness, abs=0.006)
    assert table["p-value"].iloc[0] == record.p_value
    assert any("The way back is sound here" in item.value for item in app.markdown)
    shown = viewer(app)
    assert [layer["name"] for layer in shown["layers"]] == [
        "Heat map",
        "Patches, fine: 8 \u00d7 8 places",
        "Whole part",
        "What would have to change",
    ]
    run, fine, whole, change = (layer["scales"]["run"] for layer in shown["layers"])
    assert run["high"] == fine["high"] == whole["high"], "evidence is compared on one scale"
    assert (change["low"], change["high"]) == (0.0, 1.0)
    assert shown["good"]["uri"].startswith("data:image/jpeg;base64,")
    assert "standard deviations away" in shown["good"]["title"]


def test_the_next_picture_is_explained_too_and_the_model_is_loaded_once(
    open_picture: Callable[..., AppTest], inspected: Inspected, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []

    def counted(folder: Path, *further: Any) -> Detector:
        loaded.append(folder)
        return load_bundle(folder, *further)

    monkeypatch.setattr(f"{examining.__name__}.load_bundle", counted)
    app = explain(open_picture(3))
    seen = [viewer(app)]
    for name in ("Next", "Previous"):
        button = next(button for button in app.button if button.label == name)
        if not button.disabled:
            button.click().run()
            assert not app.exception
            assert subheaders(app)[:2] == EXPLAINED
            seen.append(viewer(app))
    assert len(seen) >= 2
    assert seen[0]["layers"][1]["values"] != seen[1]["layers"][1]["values"]
    assert loaded == [inspected.model]
    # Another bundle in its place is another model, whatever its folder is called.
    Detector.load(inspected.model, "cpu").with_alphas(0.3, 0.2).save(inspected.model)
    app.run()
    assert not app.exception
    assert loaded == [inspected.model] * 2
    assert any("was calibrated anew" in item.value for item in app.warning)


def test_without_the_model_it_says_so_and_shows_everything_else(
    open_picture: Callable[..., AppTest], inspected: Inspected
) -> None:
    app = explain(open_picture(2, placed=False))
    assert "none that the record knows" in app.error[0].value
    assert subheaders(app) == ALWAYS
    assert viewer(app)["layers"]
    app = explain(open_picture(2))
    assert not app.error
    shutil.rmtree(inspected.model)
    app.run()
    assert not app.exception
    assert "no model at" in app.error[0].value.replace("\\", "")
    assert subheaders(app) == ALWAYS


def test_another_or_a_damaged_model_in_its_place_is_refused(
    open_picture: Callable[..., AppTest], inspected: Inspected, tmp_path: Path
) -> None:
    shutil.rmtree(inspected.model)
    shutil.move(make_bundle(tmp_path / "other", 1), inspected.model)
    app = explain(open_picture(2))
    assert "in its place" in app.error[0].value.replace("\\", "")
    assert subheaders(app) == ALWAYS
    (inspected.model / "densities.safetensors").write_bytes(b"damaged")
    # One that is in memory is as its manifest says.
    app.run()
    assert "in its place" in app.error[0].value.replace("\\", "")
    st.cache_resource.clear()
    app.run()
    assert not app.exception
    assert "densities" in app.error[0].value
    assert subheaders(app) == ALWAYS


def test_a_picture_that_is_gone_or_changed_is_said(
    open_picture: Callable[..., AppTest], inspected: Inspected
) -> None:
    path = Path(inspected.records[2].path)
    content = path.read_bytes()
    pixels = read_image(path).pixels.copy()
    pixels[10:14, 10:14] ^= 1
    write_png(path, pixels)
    app = explain(open_picture(2))
    assert "another picture" in app.error[0].value
    assert subheaders(app) == ALWAYS
    path.unlink()
    app.run()
    assert "nothing there" in app.error[0].value
    path.write_bytes(content)
    app.run()
    assert not app.error
    assert subheaders(app)[:2] == EXPLAINED


def test_ground_truth_is_outlined_where_the_pictures_folder_has_it(
    open_picture: Callable[..., AppTest], inspected: Inspected
) -> None:
    truth = viewer(open_picture(3))["truth"]
    mask = render_part(703, defect="missing_piece", size=SIDE).mask
    rows, columns = np.nonzero(mask)
    points = np.concatenate([np.reshape(shape, (-1, 2)) for shape in truth])
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    found = [*points.min(axis=0), *points.max(axis=0)]
    assert [share * SIDE for share in found] == pytest.approx(expected, abs=1.0)
    assert viewer(open_picture(0))["truth"] is None
    # A mask beside a picture that is not the one that was judged tells nothing of it.
    st.cache_data.clear()
    Path(inspected.records[3].path).write_bytes(b"changed")
    assert viewer(open_picture(3))["truth"] is None


def test_a_mask_that_does_not_fit_is_said(open_picture: Callable[..., AppTest], inspected: Inspected) -> None:
    mask = inspected.product / "ground_truth" / "missing_piece" / "003_mask.png"
    write_png(mask, np.zeros((9, 9), np.uint8))
    app = open_picture(3)
    assert not app.exception
    assert any("ground truth cannot be shown" in item.value for item in app.markdown)
    assert viewer(app)["truth"] is None


def test_pictures_that_differ_in_a_few_pixels_are_explained_each_for_itself(
    open_picture: Callable[..., AppTest], inspected: Inspected, tmp_path: Path, sound_model: Path
) -> None:
    """What is cached goes by the hash of the whole file, never by a sample of its pixels."""
    detector = Detector.load(sound_model, "cpu")
    pixels: NDArray[np.uint8] = render_part(720, size=SIDE).pixels
    rng, names = np.random.default_rng(0), []
    with RunFolder.create(tmp_path / "alike", run_facts(detector.facts(), "x")) as run:
        for number in range(6):
            other = pixels.copy()
            row, column = rng.integers(0, SIDE - 4, 2)
            other[row : row + 4, column : column + 4] ^= 255
            path = tmp_path / f"alike {number}.png"
            write_png(path, other)
            run.append(detector.inspect(path), other)
            names.append(run.records[-1].item_id)
    app = explain(open_picture(0))
    app.selectbox(key="run").set_value("alike").run()
    seen = set()
    for name in names:
        app.selectbox(key="item").set_value(name).run()
        assert not app.exception
        seen.add(json.dumps([layer["values"] for layer in viewer(app)["layers"][1:3]]))
    assert len(seen) == 6


def test_what_people_said_is_shown_in_its_order(
    open_picture: Callable[..., AppTest], inspected: Inspected, record_place: Path
) -> None:
    app = open_picture(2)
    assert any("Nobody has judged this part yet" in item.value for item in app.markdown)
    store = Store.open(record_place)
    item_id = inspected.records[2].item_id
    store.review("run", item_id, ReviewEntry("unsure", "ada", note="![x](http://a)"))
    store.review("run", item_id, ReviewEntry("defect", "bo", "dent"))
    store.close()
    app.run()
    assert not app.exception
    said = next(frame.value for frame in app.dataframe if "judgement" in frame.value.columns)
    assert said["who"].tolist() == ["ada", "bo"]
    assert said["judgement"].tolist() == ["unsure", "defect"]
    assert said["note"].tolist() == ["![x](http://a)", ""]


def test_other_inspections_of_the_part_lead_there(
    open_picture: Callable[..., AppTest], inspected: Inspected, tmp_path: Path, sound_model: Path
) -> None:
    detector = Detector.load(sound_model, "cpu")
    again = detector.inspect(inspected.records[2].path)
    with RunFolder.create(tmp_path / "again", run_facts(detector.facts(), "x")) as run:
        pixels = read_image(inspected.records[2].path).pixels
        run.append(replace(again, record=replace(again.record, part_id="part 2")), pixels)
    app = open_picture(2)
    app.selectbox(key="run").set_value("run").run()
    app.selectbox(key="item").set_value(inspected.records[2].item_id).run()
    assert "Other inspections of this part" in subheaders(app)
    assert any("the same picture" in item.value for item in app.text)
    next(button for button in app.button if button.label == "Open").click().run()
    assert not app.exception
    assert app.selectbox(key="run").value == "again"
    assert viewer(app)["name"] == "part 2"


def test_a_walk_goes_on_where_the_list_ends(
    open_dashboard: OpenDashboard, make_record: Callable[..., Record], tmp_path: Path
) -> None:
    """The list holds the 2,000 strangest; Next and Previous lead through all."""
    run = RunFolder.create(tmp_path / "large", RunFacts(model_id="m", t_review=1.3, t_defect=2.0))
    number = 2_400
    records = [
        make_record(i, Verdict.PASS, strangeness=1.2 * (number - i) / number, run_id="large")
        for i in range(number)
    ]
    (run.path / "records.jsonl").write_text("\n".join(map(to_json, records)) + "\n")
    app = open_dashboard("picture", item=records[2_200].item_id)
    assert not app.exception
    assert app.selectbox(key="item").value == records[2_200].item_id
    assert len(app.selectbox(key="item").options) == 2_003
    for name, place in (("Next", 2_201), ("Next", 2_202), ("Previous", 2_201)):
        next(button for button in app.button if button.label == name).click().run()
        assert app.selectbox(key="item").value == records[place].item_id
