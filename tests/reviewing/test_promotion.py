"""There is always the old model or the new one, whatever fails and wherever the process ends."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from differnet.evaluation import AurocDifference, Rate
from differnet.reviewing import Comparison, PromotionError, compare, objections, promote, put_back, recover
from differnet.reviewing import promotion as room
from reviewing.test_comparing import Told, detectors, parts

__all__ = ["parts"]

ENDINGS = ("backbone.safetensors", "densities.safetensors", "manifest.json")


class Ended(BaseException):
    """The process is no more."""


def make(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    for ending in ENDINGS:
        (folder / ending).write_text(f"{name} {ending}")
    return folder


def model_at(folder: Path) -> str | None:
    """Which model lies in a folder; a mixture or a part of one fails the test, nothing is ``None``."""
    if not folder.exists():
        return None
    told = {path.name: path.read_text() for path in folder.iterdir()}
    assert sorted(told) == sorted(ENDINGS)
    (name,) = {text.split()[0] for text in told.values()}
    return name


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync nothing: a process that ends loses no write, and thousands of syncs take long."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(params=[True, False], ids=["exchanged", "renamed"])
def exchanges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bool:
    """Whether the system exchanges two folders in one step, or they are renamed one after the other."""
    if request.param:
        for name in ("a", "b"):
            (tmp_path / "tried" / name).mkdir(parents=True)
        if not room._exchange(tmp_path / "tried" / "a", tmp_path / "tried" / "b"):
            pytest.skip("this file system cannot exchange folders")
    else:
        monkeypatch.setattr(room, "_exchange", lambda *_: False)
    return bool(request.param)


# Everything by which a promotion changes the disk.
_STEPS = (
    (os, "fsync"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "mkdir"),
    (Path, "chmod"),
    (Path, "unlink"),
    (shutil, "copyfile"),
    (shutil, "rmtree"),
    (room, "_exchange"),
)


@contextmanager
def stopping(step: int, error: BaseException, *, for_good: bool) -> Iterator[list[int]]:
    """Let the ``step``-th change of the disk fail, and every later one too if it is ``for_good``.

    After a process has ended nothing tidies up after it: that is what ``for_good`` is for.
    """
    counted: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in _STEPS:
            true = getattr(owner, name)

            def asked(*given: Any, true: Callable[..., Any] = true, **named: Any) -> Any:
                counted.append(1)
                if len(counted) == step + 1 or (for_good and len(counted) > step):
                    raise error
                return true(*given, **named)

            patch.setattr(owner, name, asked)
        yield counted


def scene(place: Path, *, with_previous: bool) -> tuple[Path, Path]:
    model, new = make(place / "model", "old"), make(place / "elsewhere" / "new", "new")
    if with_previous:
        make(place / "model.previous", "older")
    return model, new


@pytest.mark.parametrize("with_previous", [False, True])
def test_the_new_model_takes_the_place_and_the_old_one_is_kept(
    tmp_path: Path, exchanges: bool, with_previous: bool
) -> None:
    place = tmp_path / "place"
    model, new = scene(place, with_previous=with_previous)
    assert promote(new, model) == exchanges
    assert (model_at(model), model_at(place / "model.previous"), model_at(new)) == ("new", "old", "new")
    assert names(place) == ["elsewhere", "model", "model.previous"]
    assert not recover(model)
    for expected in (("old", "new"), ("new", "old")):
        assert put_back(model) == exchanges
        assert (model_at(model), model_at(place / "model.previous")) == expected
    assert names(place) == ["elsewhere", "model", "model.previous"]


@pytest.mark.parametrize("with_previous", [False, True])
@pytest.mark.parametrize("for_good", [False, True], ids=["refused", "killed"])
@pytest.mark.parametrize("again", [False, True], ids=["recovered", "promoted again"])
def test_a_promotion_that_stops_at_any_step_leaves_one_whole_model(
    tmp_path: Path, exchanges: bool, for_good: bool, with_previous: bool, again: bool
) -> None:
    seen = set()
    for step in range(60):
        place = tmp_path / f"place-{step}"
        model, new = scene(place, with_previous=with_previous)
        error: BaseException = Ended() if for_good else OSError(28, os.strerror(28))
        ended = False
        with stopping(step, error, for_good=for_good) as counted:
            try:
                promote(new, model)
            except (Ended, OSError):
                ended = True
        there = model_at(model)
        seen.add(there)
        assert there in ("old", "new") or (there is None and for_good and not exchanges)
        assert model_at(new) == "new"
        # Whoever promotes next finds it finished or undone, with nothing lost.
        if again:
            with suppress(PromotionError):
                promote(new, model)
        else:
            recover(model)
        after, before = model_at(model), model_at(place / "model.previous")
        older = "older" if with_previous else None
        assert (after, before) in ((("old", older), ("new", "old")) if not again else (("new", "old"),)), step
        assert {"elsewhere", "model"} <= set(names(place)) <= {"elsewhere", "model", "model.previous"}
        if after == "old":
            promote(new, model)
        assert (model_at(model), model_at(place / "model.previous")) == ("new", "old")
        if not ended and len(counted) <= step:
            assert step > 10
            break
    else:
        pytest.fail("every step failed")
    assert {"old", "new"} <= seen


def test_an_interrupt_after_the_step_that_counts_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = room._exchange
    place = tmp_path / "place"
    model, new = scene(place, with_previous=True)

    def interrupted(first: Path, second: Path) -> bool:
        if not true(first, second):
            pytest.skip("this file system cannot exchange folders")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(room, "_exchange", interrupted)
        with pytest.raises(KeyboardInterrupt):
            promote(new, model)
    assert model_at(model) == "new"
    assert recover(model)
    assert (model_at(model), model_at(place / "model.previous")) == ("new", "old")
    assert names(place) == ["elsewhere", "model", "model.previous"]


@pytest.mark.parametrize("for_good", [False, True], ids=["refused", "killed"])
def test_a_return_that_stops_at_any_step_leaves_one_whole_model(
    tmp_path: Path, exchanges: bool, for_good: bool
) -> None:
    for step in range(20):
        place = tmp_path / f"place-{step}"
        model, _ = scene(place, with_previous=True)
        error: BaseException = Ended() if for_good else OSError(5, os.strerror(5))
        with stopping(step, error, for_good=for_good) as counted:
            try:
                put_back(model)
            except (Ended, OSError):
                assert len(counted) > step
        there = model_at(model)
        assert there in ("old", "older") or (there is None and for_good and not exchanges)
        recover(model)
        pair = model_at(model), model_at(place / "model.previous")
        assert pair in (("old", "older"), ("older", "old"))
        assert names(place) == ["elsewhere", "model", "model.previous"]
        if len(counted) <= step:
            assert pair == ("older", "old")
            break
    else:
        pytest.fail("every step failed")


def test_a_model_that_changed_since_a_crash_keeps_its_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        raise Ended

    place = tmp_path / "place"
    model, new = scene(place, with_previous=False)
    with monkeypatch.context() as patch:
        patch.setattr(room, "_retire", ended)
        with pytest.raises(Ended):
            promote(new, model)
    (model / "manifest.json").write_text("new calibrated again")
    assert recover(model)
    assert model_at(place / "model.previous") == "old"
    assert (model / "manifest.json").read_text() == "new calibrated again"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no locks of folders")
def test_of_two_promotions_at_once_one_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, first, second = (make(tmp_path / name, name) for name in ("old", "first", "second"))
    copying, true = threading.Event(), room._copy

    def slowly(new: Path, coming: Path) -> None:
        copying.set()
        # Long enough for another one to take what it has begun for a leftover.
        time.sleep(0.3)
        true(new, coming)

    with monkeypatch.context() as patch:
        patch.setattr(room, "_copy", slowly)
        before = threading.Thread(target=promote, args=(first, old))
        before.start()
        copying.wait(30)
        promote(second, old)
        before.join()
    assert (model_at(old), model_at(tmp_path / "old.previous")) == ("second", "first")
    assert names(tmp_path) == ["first", "old", "old.previous", "second"]


def test_the_same_model_is_not_promoted(tmp_path: Path) -> None:
    model = make(tmp_path / "model", "old")
    with pytest.raises(PromotionError, match="already"):
        promote(make(tmp_path / "same", "old"), model)
    assert names(tmp_path) == ["model", "same"]


def test_what_is_no_model_is_not_discarded(tmp_path: Path) -> None:
    model, new = make(tmp_path / "model", "old"), make(tmp_path / "new", "new")
    (tmp_path / "model.previous").mkdir()
    (tmp_path / "model.previous" / "thesis.txt").write_text("mine")
    with pytest.raises(PromotionError, match=r"thesis\.txt"):
        promote(new, model)
    assert model_at(model) == "old"
    assert names(tmp_path) == ["model", "model.previous", "new"]


def test_there_is_nothing_to_go_back_to_before_a_promotion(tmp_path: Path) -> None:
    with pytest.raises(PromotionError, match=r"model\.previous"):
        put_back(make(tmp_path / "model", "old"))


def test_a_copy_that_differs_is_not_promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, new = make(tmp_path / "model", "old"), make(tmp_path / "new", "new")
    true = shutil.copyfile

    def torn(source: Path, target: Path) -> None:
        true(source, target)
        with Path(target).open("ab") as stream:
            stream.write(b"\0")

    monkeypatch.setattr(shutil, "copyfile", torn)
    with pytest.raises(PromotionError, match="another content"):
        promote(new, model)
    assert model_at(model) == "old"
    assert names(tmp_path) == ["model", "new"]


def test_of_a_link_the_folder_is_replaced(tmp_path: Path) -> None:
    model, new = make(tmp_path / "store" / "model", "old"), make(tmp_path / "new", "new")
    (tmp_path / "link").symlink_to(model)
    promote(new, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert model_at(tmp_path / "link") == "new"
    assert model_at(tmp_path / "store" / "model.previous") == "old"


def rated(found: Comparison, **events: tuple[int, int]) -> Comparison:
    """Change how often something happened to the old and the new model, of 100."""
    sides = [found.old, found.new]
    for name, pair in events.items():
        for i in (0, 1):
            changed: dict[str, Any] = {name: Rate(pair[i], 100, pair[i] / 100, 0, 1)}
            sides[i] = replace(sides[i], **changed)
    return replace(found, old=sides[0], new=sides[1])


def test_only_what_speaks_against_it_is_told(parts: list[Any]) -> None:
    old, new = detectors()
    found = rated(compare(old, new, parts, "parts"), overkill=(3, 3), escape=(2, 2))
    fair = replace(found, difference=AurocDifference(-0.01, -0.03, 0.01, 0.01, 0.95))
    assert objections(fair, old, new) == ()
    for changed, told in (
        (None, "no comparison"),
        (replace(fair, difference=AurocDifference(-0.02, -0.03, -0.01, 0.01, 0.95)), "worse"),
        (rated(fair, escape=(2, 3)), "more defects pass: 3 of 100"),
        (rated(fair, overkill=(2, 3)), "more good parts are rejected: 3 of 100"),
        (replace(fair, pictures=()), "no picture"),
        (replace(fair, new=replace(fair.new, model_id="x")), "new model x"),
        (replace(fair, old=replace(fair.old, model_id="x")), "present model x"),
        (replace(fair, old=fair.new, new=fair.old), "present model new"),
        (replace(fair, new=replace(fair.new, calibration_id="x")), "calibrated again"),
        (replace(fair, old=replace(fair.old, t_defect=9.0)), "thresholds were changed"),
    ):
        against = objections(changed, old, new)
        assert any(told in sentence for sentence in against), (told, against)
    cast(Told, new).settings.product = "nut"
    assert any("'nut'" in sentence for sentence in objections(fair, old, new))
