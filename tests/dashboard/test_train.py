"""Train asks for what is set, shows the loss that is made small, and says what the model promises."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from tasks.conftest import Shop

from dashboard.asked import asked_last, disabled, press, said
from differnet.detection.densities import TrainingLoss
from differnet.images.reading import encode_png
from differnet.tasks import TrainWish, machine
from differnet.tasks.course import Course
from differnet.tasks.kinds import read_wish, wish_tree
from differnet.tasks.working import work_on

OpenDashboard = Callable[..., AppTest]


def trained_here(shop: Shop, data: Path, **changes: object) -> str:
    """Train a small model now, as a page's task."""
    wish = shop.training(data=str(data), **changes)
    made = shop.tasks.add("train", wish.title, wish_tree(wish), "ada", machine())
    assert work_on(shop.store, made.task_id) == "done"
    return made.task_id


def test_an_empty_record_offers_a_new_model(open_dashboard: OpenDashboard) -> None:
    app = open_dashboard("train")
    assert not app.exception
    assert app.title[0].value == "Train"
    assert disabled(app, "ask-train")


def test_what_is_set_is_what_is_asked_for(open_shop: OpenDashboard, shop: Shop, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    mask.write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    app = open_shop("train")
    app.text_input(key="train_folder").set_value(str(shop.good)).run()
    assert "34 good parts to learn from" in said(app)
    app.text_input(key="train-name-plate-2").set_value("night-shift")
    app.selectbox(key="train_quality").set_value("best")
    app.number_input(key="train_size").set_value(320)
    app.number_input(key="train_seed").set_value(7)
    app.number_input(key="train_review").set_value(8.0)
    app.number_input(key="train_defect").set_value(2.5)
    app.text_input(key="train_mask").set_value(str(mask))
    app.checkbox(key="train_keep").set_value(True).run()
    press(app, "ask-train")
    assert not app.exception
    task = asked_last(shop)
    assert task.author == app.text_input(key="person").value
    wish = read_wish(task.kind, task.wish)
    assert isinstance(wish, TrainWish)
    assert [wish.alpha_review, wish.alpha_defect] == pytest.approx([0.08, 0.025])
    told = {name: value for name, value in vars(wish).items() if not name.startswith("alpha")}
    assert told == {
        **{name: value for name, value in vars(shop.training()).items() if not name.startswith("alpha")},
        "name": "night-shift",
        "quality": "best",
        "image_size": 320,
        "seed": 7,
        "ignore": str(mask),
        "keep_suspects": True,
        "folds": 4,
        "steps": 700,
        "device": "auto",
    }


@pytest.mark.parametrize(
    ("widget", "value", "words"),
    [
        ("train-name-plate-2", "../../etc", "a name of letters"),
        ("train-name-plate-2", "", "a name of letters"),
        ("train_mask", "/no/such/mask.png", "a mask of what is ignored"),
        ("train_mask", "/", "a mask of what is ignored"),
    ],
)
def test_what_cannot_be_done_is_explained_in_place(
    open_shop: OpenDashboard, shop: Shop, widget: str, value: str, words: str
) -> None:
    app = open_shop("train")
    app.text_input(key="train_folder").set_value(str(shop.good)).run()
    app.text_input(key=widget).set_value(value).run()
    press(app, "ask-train")
    assert not app.exception
    assert words in said(app)
    assert shop.tasks.latest() == []


def test_one_of_several_products_is_chosen(open_shop: OpenDashboard, shop: Shop, tmp_path: Path) -> None:
    pictures = sorted(shop.pictures.iterdir())
    for start, product in ((0, "bolt"), (8, "nut")):
        for number in range(8):
            place = tmp_path / "parts" / product / ("train/good" if number < 5 else "test/good")
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(pictures[start + number], place)
        (tmp_path / "parts" / product / "test" / "dent").mkdir()
        shutil.copy(pictures[start], tmp_path / "parts" / product / "test" / "dent")
    app = open_shop("train")
    app.text_input(key="train_folder").set_value(str(tmp_path / "parts")).run()
    app.selectbox(key="train_product").set_value("nut").run()
    press(app, "ask-train")
    task = asked_last(shop)
    assert (task.wish["product"], task.wish["name"]) == ("nut", "nut")


def test_the_loss_is_shown_while_it_learns(open_shop: OpenDashboard, shop: Shop) -> None:
    wish = shop.training()
    made = shop.tasks.add("train", wish.title, wish_tree(wish), "bo", machine())
    owner, member = f"{machine()}:1", "without fold 1 of 4"
    assert shop.tasks.take(made.task_id, owner) is not None
    with Course(shop.tasks, made.task_id, owner) as course:
        course("densities", 300, 1000)
        for step in (20, 40):
            course.loss(TrainingLoss("fine patches", member, False, step, 1000, 60.0 - step, 41.5))
        course.loss(TrainingLoss("coarse patches", member, False, 20, 1000, 150.0))
    (shop.place / "logs").mkdir()
    (shop.place / "logs" / f"{made.task_id}.log").write_text("asked for by bo\n\x1b[31m<b>\n")
    app = open_shop("train")
    assert not app.exception
    words = said(app)
    assert "asked for by bo" in words
    assert app.progress[0].value == 30
    assert app.progress[0].text.replace("\\", "") == "densities: 300 of 1,000"
    charts = [json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart")]
    assert [chart["title"]["text"] for chart in charts] == ["fine patches", "coarse patches"]
    table = next(frame.value for frame in app.dataframe if "last nll" in frame.value)
    assert table["last nll"].tolist() == [20.0, 150.0]
    assert table["held-out nll"].tolist()[0] == 41.5
    # Nothing of a log is obeyed.
    assert app.code[0].value == "asked for by bo\n\\x1b[31m<b>"
    press(app, f"task-stop-{made.task_id}")
    assert shop.tasks.get(made.task_id).stop_asked
    assert "stops at its next step" in said(app)


def test_what_a_model_promises_and_left_out_is_shown(
    open_shop: OpenDashboard, shop: Shop, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    shutil.copytree(shop.good, parts)
    noise = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    name = "![x](y.png)"
    (parts / "train" / "good" / f"{name}.png").write_bytes(encode_png(noise))
    (parts / "train" / "good" / "torn.png").write_bytes(encode_png(noise)[:-30])
    task_id = trained_here(shop, parts)
    app = open_shop("train")
    assert not app.exception
    assert app.selectbox(key="train_ended").value == task_id
    words = said(app)
    assert app.table[0].value["threshold"].tolist() == ["T1", "T2"]
    assert "1 suspects" in words
    assert "Calibrated on 34 good parts" in words
    # 34 parts promise no less than one in 35.
    assert "that takes 99 good parts" in words
    assert len(app.image) == 1
    assert "torn.png: expected" in words
    for element in (*app.markdown, *app.caption, *app.warning):
        assert "](y" not in element.value


def test_of_a_record_to_read_no_training_is_asked(open_shop: OpenDashboard, shop: Shop) -> None:
    app = open_shop("train", read_only=True)
    app.text_input(key="train_folder").set_value(str(shop.good)).run()
    assert not app.exception
    assert disabled(app, "ask-train")
