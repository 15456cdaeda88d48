"""What each kind of task does, in this process; how one ends is told whatever happens."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust.batch_checks import make_model

from differnet.detection import Detector
from differnet.images.reading import encode_png
from differnet.records import Verdict
from differnet.reviewing import kept_comparison
from differnet.runtime import exports_in, installed_runtimes
from differnet.store import Asked, ReviewEntry
from differnet.store.queue import Queue
from differnet.store.tasks import TaskEntry
from differnet.tasks import CompareWish, ReportWish, RetrainWish, SampleWish, ScanWish, kinds, learning
from differnet.tasks.course import Course
from differnet.tasks.kinds import Kind, name_of, wish_tree
from differnet.tasks.starting import machine
from differnet.tasks.wishes import Wish
from differnet.tasks.working import work_on
from tasks.conftest import SHIFT, Shop


def done(shop: Shop, wish: Wish) -> TaskEntry:
    """Do what is wished for here and now."""
    made = shop.tasks.add(name_of(wish), wish.title, wish_tree(wish), "ada", machine())
    state = work_on(shop.store, made.task_id)
    ended = shop.tasks.get(made.task_id)
    assert ended.state == state
    return ended


def test_a_model_is_trained_kept_and_made_known(shop: Shop) -> None:
    ended = done(shop, shop.training(product="plate", seed=3))
    assert (ended.state, ended.reason) == ("done", "")
    folder = shop.place / "models" / "fresh"
    assert ended.outcome["folder"] == str(folder)
    detector = Detector.load(folder, device="cpu")
    assert ended.outcome["model_id"] == detector.model_id
    assert json.loads(json.dumps(detector.facts())) == ended.outcome["facts"]
    assert (detector.settings.seed, detector.settings.product) == (3, "plate")
    known = shop.store.model(detector.model_id)
    assert known is not None
    assert (known.product, known.folder) == ("plate", str(folder))
    assert sorted(exports_in(folder)) == sorted(installed_runtimes())
    assert len(ended.outcome["exports"]) >= len(installed_runtimes())
    calibration = shop.store.calibrations(detector.model_id)[0]
    assert calibration.calibration_id == ended.outcome["calibration_id"]
    assert calibration.facts["alpha_review"] == detector.facts()["calibration"]["alpha_review"]
    # Making it known begins no run.
    assert shop.store.runs() == []
    stages = [each["stage"] for each in ended.progress["passed"]]
    assert stages[:4] == ["reading the folder", "features", "densities", "boundary"]
    members = {curve["member"] for curve in ended.progress["losses"]}
    assert members == {"without fold 1 of 2", "without fold 2 of 2", "all parts"}


def test_an_export_that_fails_leaves_the_model(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **chosen: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("differnet.runtime.engines.installed_runtimes", lambda: ["openvino"])
    monkeypatch.setattr("differnet.runtime.export.export", full)
    ended = done(shop, shop.training())
    assert ended.state == "done"
    assert "No space left" in ended.outcome["exports"][0]
    assert shop.store.model(ended.outcome["model_id"]) is not None


def test_suspects_and_unreadable_files_are_named(shop: Shop, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    shutil.copytree(shop.good, parts)
    noise = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    (parts / "train" / "good" / "noise.png").write_bytes(encode_png(noise))
    (parts / "train" / "good" / "torn.png").write_bytes(encode_png(noise)[:-30])
    outcome = done(shop, shop.training(data=str(parts))).outcome
    assert outcome["suspects"] == [str(parts / "train" / "good" / "noise.png")]
    assert outcome["suspects_count"] == 1
    ((path, reason),) = outcome["skipped"]
    assert path.endswith("torn.png")
    assert "ends inside" in reason
    assert outcome["facts"]["training_parts"] == 34


def test_a_model_is_not_put_in_the_place_of_another(shop: Shop) -> None:
    failed = done(shop, shop.training(name="plate"))
    assert failed.state == "failed"
    assert failed.outcome["error"]["kind"] == "WishError"
    assert "nothing is overwritten" in failed.reason
    assert Detector.load(shop.place / "models" / "plate", "cpu").model_id == shop.model_id


def test_pictures_are_inspected_with_the_labels_of_their_folders(shop: Shop, tmp_path: Path) -> None:
    for label, start in (("good", 0), ("scratch", 8)):
        (tmp_path / "mixed" / label).mkdir(parents=True)
        for number in range(8):
            picture = sorted(shop.pictures.iterdir())[start + number]
            (tmp_path / "mixed" / label / picture.name).write_bytes(picture.read_bytes())
    ended = done(shop, shop.inspection(pictures=(str(tmp_path / "mixed"),)))
    assert ended.state == "done"
    # Of eight good parts six are for training.
    assert (ended.outcome["done"], ended.outcome["left_out"], ended.outcome["left"]) == (10, 6, 0)
    records = shop.store.items(Asked(run_id="monday"))
    assert sorted(r.label or "" for r in records) == ["good"] * 2 + ["scratch"] * 8
    assert sum(ended.outcome["verdicts"].values()) == 10
    run = shop.store.run("monday")
    assert run.finished_at is not None
    assert Path(run.folder) == shop.place / "runs" / "monday"
    assert len(list((shop.place / "runs" / "monday" / "pictures").iterdir())) == 10
    assert ended.progress["run"] == "monday"


def test_a_run_takes_further_pictures_and_tries_again_what_was_put_aside(shop: Shop, tmp_path: Path) -> None:
    whole = sorted(shop.pictures.iterdir())[0].read_bytes()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "torn.png").write_bytes(whole[:-30])
    first = done(shop, shop.inspection(pictures=(str(tmp_path / "a"),)))
    assert (first.outcome["done"], first.outcome["quarantined"]) == (0, 1)
    single = sorted(shop.pictures.iterdir())[1]
    second = done(shop, shop.inspection(pictures=(str(single),)))
    assert (second.outcome["done"], second.outcome["quarantined"]) == (1, 1)
    (tmp_path / "a" / "torn.png").write_bytes(whole)
    again = shop.inspection(pictures=(), model="", retry=True)
    third = done(shop, again)
    assert (third.outcome["done"], third.outcome["quarantined"]) == (2, 0)
    assert shop.store.audit()[0]["action"] == "retried"


def test_an_inspection_without_run_and_model_says_what_it_needs(shop: Shop) -> None:
    for changes, found in (
        ({"pictures": ()}, "no such run, and no pictures"),
        ({"model": ""}, "no such run, and no model"),
        ({"model": "m9"}, "none of that id in the record"),
    ):
        failed = done(shop, shop.inspection(**changes))
        assert failed.state == "failed"
        assert found in failed.reason
    (shop.place / "models" / "plate").rename(shop.place / "models" / "moved")
    assert "no folder" in done(shop, shop.inspection()).reason
    assert shop.store.runs() == []


def test_another_model_in_the_place_of_one_is_refused(shop: Shop) -> None:
    shutil.rmtree(shop.place / "models" / "plate")
    make_model(shop.good / "train" / "good", shop.place / "models" / "plate", 1)
    failed = done(shop, shop.inspection())
    assert "another one there" in failed.reason
    assert shop.store.runs() == []


def test_reports_are_written_below_the_workspace(shop: Shop) -> None:
    done(shop, shop.inspection(pictures=(str(sorted(shop.pictures.iterdir())[0]),)))
    ended = done(shop, ReportWish(str(shop.place), "monday", ("html", "csv", "parquet", "json")))
    assert ended.state == "done"
    files = {name: Path(path) for name, path in ended.outcome["files"].items()}
    assert {path.parent for path in files.values()} == {shop.place / "reports" / "monday"}
    assert {name: path.name for name, path in files.items()} == {
        "html": "report.html",
        "csv": "records.csv",
        "parquet": "records.parquet",
        "json": "records.jsonl",
    }
    assert all(path.stat().st_size for path in files.values())
    assert ended.outcome["changed"] == shop.store.changed("monday")
    absent = done(shop, ReportWish(str(shop.place), "../../tuesday", ("csv",)))
    assert absent.outcome["error"]["kind"] == "NoRunError"
    assert not (shop.place / "reports" / "..").joinpath("..", "tuesday").exists()


def test_a_folder_is_looked_at(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    content = sorted(shop.pictures.iterdir())[0].read_bytes()
    for name in ("a.png", "b.png"):
        (tmp_path / "parts" / name).write_bytes(content)
    (tmp_path / "parts" / "c.png").write_bytes(content[:-30])
    outcome = done(shop, ScanWish(str(shop.place), str(tmp_path / "parts"))).outcome
    assert outcome["counts"] == {"unsplit": {"good": 3}}
    assert (outcome["readable"], outcome["unreadable_count"], outcome["duplicates_count"]) == (2, 1, 1)
    assert outcome["duplicates"] == [["a.png", "b.png"]]
    assert any("cannot be read" in sentence for sentence in outcome["warnings"])


def test_the_sample_product_is_made_once(shop: Shop) -> None:
    wish = SampleWish(str(shop.place), train=2, good_test=1, per_defect=1, per_wrong=0)
    first = done(shop, wish)
    assert first.outcome["folder"] == str(shop.place / "data" / "flange")
    manifest = shop.place / "data" / "flange" / "sample.json"
    before = manifest.stat().st_mtime_ns
    assert done(shop, wish).state == "done"
    assert manifest.stat().st_mtime_ns == before
    (shop.place / "data" / "mine").mkdir()
    (shop.place / "data" / "mine" / "part.png").touch()
    refused = done(shop, SampleWish(str(shop.place), name="mine", train=1))
    assert refused.outcome["error"]["kind"] == "SyntheticError"
    assert (shop.place / "data" / "mine" / "part.png").exists()


def test_a_model_is_trained_again_with_what_people_said(shop: Shop) -> None:
    pictures = sorted(shop.pictures.iterdir())[:12]
    done(shop, shop.inspection(pictures=tuple(map(str, pictures))))
    records = shop.store.items(Asked(run_id="monday"))
    ids = [r.item_id for r in records if r.verdict is not Verdict.INVALID]
    shop.store.review_all("monday", ids[:8], ReviewEntry("good", "ada"))
    shop.store.review_all("monday", ids[8:], ReviewEntry("defect", "ada", "dent"))
    wish = RetrainWish(str(shop.place), shop.model_id, str(shop.good), "again")
    ended = done(shop, wish)
    assert ended.state == "done", ended.reason
    outcome = ended.outcome
    assert (outcome["added"], outcome["aside"]) == (6, 2)
    assert outcome["facts"]["training_parts"] == 40
    assert Path(outcome["comparison_file"]).is_file()
    assert outcome["model_id"] != shop.model_id
    known = shop.store.model(outcome["model_id"])
    assert known is not None
    assert known.folder == str(shop.place / "models" / "again")


def test_two_models_are_compared_on_known_parts_of_the_record(shop: Shop) -> None:
    pictures = sorted(shop.pictures.iterdir())[:12]
    done(shop, shop.inspection(pictures=tuple(map(str, pictures))))
    records = shop.store.items(Asked(run_id="monday"))
    ids = [r.item_id for r in records if r.verdict is not Verdict.INVALID]
    second = done(shop, shop.training(seed=5)).outcome["model_id"]
    wish = CompareWish(str(shop.place), shop.model_id, second)
    nothing = done(shop, wish)
    assert nothing.state == "failed"
    assert nothing.outcome["error"]["kind"] == "WishError"
    assert "0 good parts and 0 defects are known" in nothing.reason
    shop.store.review_all("monday", ids[:6], ReviewEntry("good", "ada"))
    shop.store.review_all("monday", ids[6:], ReviewEntry("defect", "ada", "dent"))
    ended = done(shop, wish)
    assert ended.state == "done", ended.reason
    compared = kept_comparison(shop.place / "models" / "fresh")
    assert compared is not None
    assert (compared.old.model_id, compared.new.model_id) == (shop.model_id, second)
    assert (ended.outcome["good"], ended.outcome["defects"]) == (compared.good, compared.defects)
    assert compared.good + compared.defects == len(ids)
    assert ended.outcome["flips"] == len(compared.flips)
    assert ended.outcome["lost_count"] == 0


def test_a_task_of_an_unknown_kind_fails_and_nothing_is_imported(shop: Shop) -> None:
    made = shop.tasks.add("antigravity", "Fly", {"workspace": str(shop.place)}, "eve", machine())
    assert work_on(shop.store, made.task_id) == "failed"
    failed = shop.tasks.get(made.task_id)
    assert failed.outcome["error"]["kind"] == "TaskError"
    assert "another version of differnet" in failed.reason
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("error", "found", "remedy"),
    [
        (MemoryError(), "none left", "smaller picture size"),
        (
            OSError(28, "No space left on device", "/models/x"),
            "No space left on device (/models/x)",
            "free space",
        ),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero", "This is a bug"),
    ],
)
def test_whatever_goes_wrong_is_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, error: Exception, found: str, remedy: str
) -> None:
    def fail(*given: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setitem(kinds.KINDS, "sample", Kind(SampleWish, fail))
    failed = done(shop, SampleWish(str(shop.place)))
    assert failed.state == "failed"
    assert found in failed.outcome["error"]["found"]
    assert remedy in failed.reason


def test_an_outcome_that_the_record_cannot_keep_is_a_failure(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kinds.KINDS, "sample", Kind(SampleWish, lambda *_: {"auroc": float("nan")}))
    failed = done(shop, SampleWish(str(shop.place)))
    assert failed.state == "failed"
    assert "not JSON compliant" in failed.reason


def test_a_process_that_is_asked_twice_ends_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setitem(kinds.KINDS, "sample", Kind(SampleWish, interrupted))
    ended = done(shop, SampleWish(str(shop.place)))
    assert (ended.state, ended.reason) == ("stopped", "its process was asked twice to end")


def test_a_stopped_training_leaves_no_model(shop: Shop) -> None:
    ended = threading.Event()

    def train(wish: Any, store: Any, course: Course) -> dict[str, Any]:
        ended.set()
        return learning.train(wish, store, course)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(kinds.KINDS, "train", Kind(type(shop.training()), train))
        wish = shop.training()
        made = shop.tasks.add("train", wish.title, wish_tree(wish), "ada", machine())
        assert work_on(shop.store, made.task_id, ended) == "stopped"
    assert sorted(path.name for path in (shop.place / "models").iterdir()) == ["plate"]
    assert len(shop.store.models()) == 1


def test_a_stopped_inspection_says_what_is_left(shop: Shop) -> None:
    ended = threading.Event()
    ended.set()
    wish = shop.inspection()
    made = shop.tasks.add("inspect", wish.title, wish_tree(wish), "ada", machine())
    assert work_on(shop.store, made.task_id, ended) == "stopped"
    said = shop.tasks.get(made.task_id).reason
    assert said == f"its process was asked to end; {SHIFT} of {SHIFT} pictures are left"
    assert Queue(shop.store, "monday").progress().waiting == SHIFT
