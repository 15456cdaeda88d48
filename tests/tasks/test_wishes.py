"""A wish is read strictly: what it names is there, what it makes stays inside, nothing of it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trust.path_checks import hostile_names

from differnet.records import DiffernetError
from differnet.strict_json import RecordFormatError
from differnet.tasks import KINDS, TaskError, TrainWish, WishError
from differnet.tasks.kinds import name_of, read_wish, wish_tree
from differnet.tasks.wishes import (
    CompareWish,
    InspectWish,
    ReportWish,
    RetrainWish,
    SampleWish,
    ScanWish,
    Wish,
)


@pytest.fixture
def wishes(tmp_path: Path) -> list[Wish]:
    (tmp_path / "mask.png").touch()
    here, mask = str(tmp_path), str(tmp_path / "mask.png")
    return [
        SampleWish(here),
        ScanWish(here, here),
        TrainWish(here, here, "flange", ignore=mask, weights=mask),
        InspectWish(here, "monday", "m1", (here, mask), retry=True),
        ReportWish(here, "line 3/monday", ("html", "pdf", "csv", "parquet", "json")),
        RetrainWish(here, "m1", here, "flange-2", seed=None, root=here),
        CompareWish(here, "m1", "m2", parts=50, root=here),
    ]


def test_every_wish_is_kept_and_read_back(wishes: list[Wish]) -> None:
    assert {type(wish) for wish in wishes} == {kind.wish for kind in KINDS.values()}
    for wish in wishes:
        kind = name_of(wish)
        assert read_wish(kind, wish_tree(wish)) == wish
        assert wish.title


def test_an_unknown_kind_is_refused() -> None:
    for kind in ("os", "differnet.tasks", "eval", "", "Train"):
        with pytest.raises(TaskError, match="a task of kind sample, scan, train"):
            read_wish(kind, {"workspace": "/"})


def test_what_a_wish_does_not_know_is_refused(wishes: list[Wish]) -> None:
    for wish in wishes:
        tree = wish_tree(wish)
        with pytest.raises(RecordFormatError, match="only known fields"):
            read_wish(name_of(wish), tree | {"command": "rm -rf /"})
        with pytest.raises(RecordFormatError):
            read_wish(name_of(wish), tree | {"workspace": 3})
        with pytest.raises(RecordFormatError, match="required fields"):
            read_wish(name_of(wish), {name: value for name, value in tree.items() if name != "workspace"})


def test_no_hostile_name_is_taken_where_a_folder_is_made(wishes: list[Wish], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    refused = 0
    named = [(wish, "run" if isinstance(wish, InspectWish) else "name") for wish in wishes]
    making = [(wish, field) for wish, field in named if hasattr(wish, field)]
    assert len(making) == 4
    for name in hostile_names(200, 5):
        for wish, field in making:
            try:
                read_wish(name_of(wish), wish_tree(wish) | {field: name})
            except DiffernetError:
                refused += 1
            else:
                # A look-alike that is one plain step of a path.
                assert Path(name).name == name
                assert ".." not in name
    assert refused > 4 * 180
    assert sorted(tmp_path.rglob("*")) == before


def test_no_path_that_is_not_there_is_taken(wishes: list[Wish]) -> None:
    fields = ("workspace", "data", "ignore", "weights", "root")
    refused = asked = 0
    for name in hostile_names(200, 6):
        if not name.strip():
            continue
        for wish in wishes:
            tree = wish_tree(wish)
            for field in (field for field in fields if field in tree):
                asked += 1
                try:
                    read_wish(name_of(wish), tree | {field: name})
                except DiffernetError:
                    refused += 1
                else:
                    # A person may name any folder that they may read; it is there, and absolute.
                    assert Path(name).is_absolute()
                    assert Path(name).exists()
    assert refused > 0.9 * asked > 0


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"image_size": 63}, "image size from 64"),
        ({"image_size": 4096}, "image size from 64"),
        ({"seed": -1}, "seed from 0"),
        ({"folds": 1}, "folds from 2"),
        ({"steps": 0}, "steps from 1"),
        ({"quality": "perfect"}, "quality of standard, best"),
        ({"device": "tpu"}, "device of auto"),
        ({"alpha_review": 0.01, "alpha_defect": 0.05}, "shares of good parts"),
        ({"alpha_defect": 0.0}, "shares of good parts"),
        ({"alpha_review": 1.0}, "shares of good parts"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, changed: dict[str, Any], expected: str) -> None:
    fixed: dict[str, Any] = {"workspace": str(tmp_path), "data": str(tmp_path), "name": "flange"}
    with pytest.raises(WishError, match=expected):
        TrainWish(**(fixed | changed))


def test_formats_that_are_not_known_are_refused(tmp_path: Path) -> None:
    for formats in (("docx",), (), ("html", "../x")):
        with pytest.raises(WishError, match="format of html, pdf"):
            ReportWish(str(tmp_path), "monday", formats)


def test_a_mask_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(WishError, match="a mask of what is ignored; found a folder"):
        TrainWish(str(tmp_path), str(tmp_path), "flange", ignore=str(tmp_path))


def test_two_models_are_two_and_parts_are_few_enough(tmp_path: Path) -> None:
    with pytest.raises(WishError, match="two models"):
        CompareWish(str(tmp_path), "m1", "m1")
    with pytest.raises(WishError, match="parts from 2"):
        CompareWish(str(tmp_path), "m1", "m2", parts=1)
