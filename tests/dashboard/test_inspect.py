"""Inspect judges what is dropped by its content, keeps it if that is wanted, and begins a job on a folder."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from tasks.conftest import Shop

from dashboard.asked import asked_last, disabled, done, press, said
from differnet.calibration import Suggestion
from differnet.detection import Detector, revisions_of
from differnet.images.reading import encode_png
from differnet.store import Asked
from differnet.tasks import InspectWish
from differnet.tasks.kinds import read_wish

OpenDashboard = Callable[..., AppTest]


def part(shop: Shop, number: int) -> bytes:
    return sorted(shop.pictures.iterdir())[number].read_bytes()


def drop(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    uploader = app.file_uploader(key="inspect_files")
    return uploader.set_value([(name, content, "image/png") for name, content in files]).run()


def figures(app: AppTest) -> list[str]:
    return [text.value for text in app.text if text.value.startswith("strangeness")]


def test_without_a_model_the_page_leads_to_start(open_dashboard: OpenDashboard) -> None:
    app = open_dashboard("inspection")
    assert not app.exception
    assert "There is no model yet" in said(app)


def test_what_is_dropped_is_judged_at_once(open_shop: OpenDashboard, shop: Shop) -> None:
    app = open_shop("inspection")
    content = part(shop, 3)
    drop(app, ("left.png", content), ("notes.txt", content), ("part.png", b"no picture"))
    assert not app.exception
    detector = Detector.load(shop.place / "models" / "plate", "cpu")
    wanted = detector.inspect(sorted(shop.pictures.iterdir())[3]).record
    assert wanted.strangeness is not None
    expected = (
        f"strangeness {wanted.strangeness:.2f}; review from {wanted.t_review:.2f}, "
        f"defect from {wanted.t_defect:.2f}"
    )
    # The ending of a name says nothing.
    assert figures(app) == [expected, expected]
    words = said(app)
    assert "INVALID" in words
    assert "bytes of no known picture format" in words
    for name in ("left.png", "notes.txt", "part.png"):
        assert name in words
    assert len(app.image) == 2


def test_four_hundred_pictures_that_differ_in_four_pixels_get_their_own_verdicts(
    open_shop: OpenDashboard, shop: Shop
) -> None:
    """U2: whatever is kept between two runs of the page is never another picture's."""
    app = open_shop("inspection")
    seen: set[tuple[float | None, float | None]] = set()
    for number in range(10):
        whole = np.asarray(Image.open(io.BytesIO(part(shop, number))))
        files = []
        for place in range(40):
            changed = whole.copy()
            row, column = 4 * (place // 10) + 8, 4 * (place % 10)
            changed[row : row + 4, column : column + 4] = 255 - changed[row : row + 4, column : column + 4]
            files.append(("part.png", encode_png(changed)))
        drop(app, *files)
        assert not app.exception
        records = [each.record for each in app.session_state["inspect_seen"].values()]
        assert len(records) == 40
        seen |= {(record.strangeness, record.nll_local) for record in records}
    assert len(seen) == 400


def test_thresholds_that_are_set_are_in_force_at_once(open_shop: OpenDashboard, shop: Shop) -> None:
    app = open_shop("inspection")
    drop(app, ("part.png", part(shop, 3)))
    before = figures(app)
    folder = shop.place / "models" / "plate"
    facts = Detector.load(folder, "cpu").facts()
    revisions_of(folder).append(
        Suggestion(0.01, 0.02, "by hand", (), ()),
        author="bo",
        reason="night shift",
        model_id=facts["model_id"],
        calibration_id=facts["calibration_id"],
    )
    app.run()
    assert not app.exception
    assert figures(app) != before
    assert figures(app)[0].endswith("review from 0.01, defect from 0.02")


def test_what_is_kept_is_a_run_of_the_record(open_shop: OpenDashboard, shop: Shop) -> None:
    app = open_shop("inspection")
    drop(app, ("../../left.png", part(shop, 0)), ("right.png", part(shop, 1)))
    app.text_input(key="inspect_run").set_value("night-7").run()
    press(app, "inspect-keep")
    assert not app.exception
    assert "Kept as night-7" in said(app)
    assert disabled(app, "inspect-keep")
    records = shop.store.items(Asked(run_id="night-7"))
    assert sorted(record.part_id for record in records) == ["left", "right"]
    assert {Path(record.path).parent for record in records} == {shop.place / "uploads"}
    run = shop.store.run("night-7")
    assert run.finished_at is not None
    # Other pictures are another run.
    drop(app, ("third.png", part(shop, 2)))
    assert not disabled(app, "inspect-keep")
    assert app.text_input(key="inspect_run").value != "night-7"


@pytest.mark.parametrize("name", ["", "../run", "night 7"])
def test_a_name_that_does_not_serve_is_explained(open_shop: OpenDashboard, shop: Shop, name: str) -> None:
    app = open_shop("inspection")
    drop(app, ("part.png", part(shop, 0)))
    app.text_input(key="inspect_run").set_value(name).run()
    press(app, "inspect-keep")
    assert not app.exception
    assert "a name of letters" in said(app)
    assert shop.store.runs() == []


def test_too_many_pictures_are_refused(open_shop: OpenDashboard, shop: Shop) -> None:
    app = open_shop("inspection")
    drop(app, *[(f"{number}.png", part(shop, number)) for number in range(41)])
    assert not app.exception
    assert "40 pictures at most" in said(app)


def test_a_folder_becomes_a_job_of_the_chosen_model(
    open_shop: OpenDashboard, shop: Shop, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for number in range(3):
        (few / f"{number}.png").write_bytes(part(shop, number))
    app = open_shop("inspection")
    app.text_input(key="inspect_folder").set_value(str(few)).run()
    assert "3 pictures to inspect, 0 of them with a label." in said(app)
    app.text_input(key="inspect_batch").set_value("monday").run()
    press(app, "ask-inspect")
    assert not app.exception
    task = asked_last(shop)
    wish = read_wish(task.kind, task.wish)
    assert isinstance(wish, InspectWish)
    assert (wish.run, wish.model, wish.pictures) == ("monday", shop.model_id, (str(few),))
    ended = done(shop, app)
    assert ended.state == "done"
    assert not app.exception
    assert len(shop.store.items(Asked(run_id="monday"))) == 3
    assert "The last one" in said(app)
    assert app.button(key="inspect-last-gallery").label == "Open in the gallery"


def test_a_damaged_model_says_what_is_wrong(open_shop: OpenDashboard, shop: Shop) -> None:
    manifest = shop.place / "models" / "plate" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"seed"', b'"sead"', 1))
    app = open_shop("inspection")
    drop(app, ("part.png", part(shop, 0)))
    assert not app.exception
    assert app.error
    assert figures(app) == []


def test_names_are_never_read_as_markdown(open_shop: OpenDashboard, shop: Shop) -> None:
    app = open_shop("inspection")
    drop(app, ("![x](http:example)<b>.png", part(shop, 0)))
    assert not app.exception
    for element in (*app.markdown, *app.caption, *app.success):
        assert "](http" not in element.value


def test_of_a_record_to_read_pictures_are_judged_and_not_kept(open_shop: OpenDashboard, shop: Shop) -> None:
    app = open_shop("inspection", read_only=True)
    drop(app, ("part.png", part(shop, 0)))
    assert not app.exception
    assert len(figures(app)) == 1
    assert disabled(app, "inspect-keep")
    assert disabled(app, "ask-inspect")
