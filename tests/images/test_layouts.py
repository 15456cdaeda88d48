from __future__ import annotations

import re
from pathlib import Path

import pytest

from differnet.images.layouts import (
    LAYOUTS,
    Dataset,
    LayoutError,
    list_pictures,
    masks_near,
    parts_to_inspect,
    read_layout,
    wrong_inputs,
)
from images.trees import BLANK, MARKED, masks, named, numbered, of_kind, plant

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real images are not here")


# Plain folders.


@pytest.mark.parametrize("good", ["good", "OK", "normal"])
def test_good_beside_kinds_of_defect(tmp_path: Path, good: str) -> None:
    plant(tmp_path, [*numbered(good, 8), *numbered("scratch", 3), *numbered("dent", 2)])
    dataset = read_layout(tmp_path)
    assert dataset.layout == "folder"
    assert dataset.counts == {"train": {"good": 6}, "test": {"good": 2, "dent": 2, "scratch": 3}}
    assert dataset.kinds == ("dent", "scratch")
    assert named(dataset.train_good) == [f"{k:03d}.png" for k in (0, 1, 2, 4, 5, 6)]
    assert named(part for part in dataset.test if part.label == "good") == ["003.png", "007.png"]


def test_names_are_sorted_as_strings(tmp_path: Path) -> None:
    plant(tmp_path, [f"good/{k}.png" for k in (1, 2, 10, 9, 11)])
    dataset = read_layout(tmp_path)
    # As strings 1, 10, 11, 2, 9: the fourth is 2. As numbers it would be 10.
    assert named(part for part in dataset.test) == ["2.png"]
    assert named(dataset.train_good) == ["1.png", "10.png", "11.png", "9.png"]


def test_the_split_spans_subfolders_and_suffixes(tmp_path: Path) -> None:
    plant(tmp_path, ["good/lot b/a.png", "good/lot a/b.jpg", "good/c.TIF", "good/lot a/d.bmp", "good/e.pgm"])
    assert named(read_layout(tmp_path).test) == ["d.bmp"]


def test_train_good_beside_defects_is_read_as_it_stands(tmp_path: Path) -> None:
    plant(tmp_path, [*numbered("train/good", 8), *numbered("bad", 3), *numbered("good", 2)])
    dataset = read_layout(tmp_path, "folder")
    assert dataset.counts == {"train": {"good": 8}, "test": {"good": 2, "bad": 3}}


def test_a_flat_folder_is_all_good_and_unsplit(tmp_path: Path) -> None:
    plant(tmp_path, [f"{k}.jpg" for k in range(5)])
    plant(tmp_path, ["notes.txt", ".hidden.png"], b"no picture")
    dataset = read_layout(tmp_path)
    assert dataset.layout == "folder"
    assert dataset.counts == {"unsplit": {"good": 5}}
    assert len(dataset.train_good) == 5
    assert dataset.test == ()
    assert dataset.notes


def test_masks_are_no_class(tmp_path: Path) -> None:
    plant(tmp_path, [*numbered("good", 4), *numbered("dent", 3)])
    plant(tmp_path, ["ground_truth/dent/000_mask.png", "masks/001.png", "dent/002_mask.png"], MARKED)
    dataset = read_layout(tmp_path)
    assert dataset.kinds == ("dent",)
    assert masks(tmp_path, of_kind(dataset.parts, "dent")) == [
        ["ground_truth/dent/000_mask.png"],
        ["masks/001.png"],
        ["dent/002_mask.png"],
    ]
    assert not any(part.mask_paths for part in dataset.good)


def test_a_folder_of_masks_belongs_to_a_picture_and_never_a_kinds_folder(tmp_path: Path) -> None:
    plant(tmp_path, [*numbered("good", 4), "dent/a.png", "dent/scratch.png"])
    plant(tmp_path, ["gt/dent/a/0.png", "gt/dent/a/1.png", "gt/scratch/b.png"], MARKED)
    dents = of_kind(read_layout(tmp_path).parts, "dent")
    assert masks(tmp_path, dents) == [["gt/dent/a/0.png", "gt/dent/a/1.png"], []]


@pytest.mark.parametrize("ending", ["_mask", "_label", "_GT"])
def test_a_mask_beside_its_picture_is_no_picture(tmp_path: Path, ending: str) -> None:
    plant(tmp_path, [*numbered("good", 4), "dent/a.jpg", f"dent/b{ending}.png"])
    plant(tmp_path, [f"dent/a{ending}.png"], MARKED)
    dents = of_kind(read_layout(tmp_path).parts, "dent")
    # Without a picture of its stem, a file is a picture whatever its name.
    assert named(dents) == ["a.jpg", f"b{ending}.png"]
    assert masks(tmp_path, dents) == [[f"dent/a{ending}.png"], []]


def test_two_pictures_of_one_stem_are_two_parts(tmp_path: Path) -> None:
    plant(tmp_path, [*numbered("good", 4), "dent/a.png", "dent/a.jpg"])
    dents = of_kind(read_layout(tmp_path).parts, "dent")
    assert len(dents) == 2
    assert not any(part.mask_paths for part in dents)


def test_loose_pictures_beside_classes_are_named_in_a_note(tmp_path: Path) -> None:
    plant(tmp_path, [*numbered("good", 4), "stray.png"])
    dataset = read_layout(tmp_path)
    assert len(dataset.parts) == 4
    assert "1 pictures directly" in dataset.notes[0]


def test_a_folder_of_plain_products(tmp_path: Path) -> None:
    for product in ("nut", "bolt"):
        plant(tmp_path / product, [*numbered("ok", 8), *numbered("nok", 2)])
    plant(tmp_path, ["leftovers/x.png"])
    dataset = read_layout(tmp_path)
    assert dataset.products == ("bolt", "nut")
    assert dataset.counts == {"train": {"good": 12}, "test": {"good": 4, "nok": 4}}
    assert "leftovers" in dataset.notes[0]
    assert len(dataset.of_product("nut").parts) == 10
    with pytest.raises(LayoutError, match="screw"):
        dataset.of_product("screw")


# MTD.


def plant_mtd(root: Path) -> None:
    plant(root, numbered("MT_Free/Imgs", 8, ".jpg"))
    plant(root, numbered("MT_Free/Imgs", 8, ".png"))
    plant(root, numbered("MT_Crack/Imgs", 2, ".jpg"))
    plant(root, ["MT_Crack/Imgs/000.png"], MARKED)
    plant(root, ["MT_Crack/Imgs/001.png"], BLANK)


def test_mtd_with_its_list_of_names(tmp_path: Path) -> None:
    plant_mtd(tmp_path)
    (tmp_path / "train_filenames.txt").write_text("000.jpg\n005.jpg\n../../etc/passwd\n")
    dataset = read_layout(tmp_path)
    assert dataset.layout == "mtd"
    assert named(dataset.train_good) == ["000.jpg", "005.jpg"]
    assert dataset.counts == {"train": {"good": 2}, "test": {"good": 6, "Crack": 2}}
    assert "1 of 3 names" in dataset.notes[0]


def test_mtd_without_a_list_uses_the_rule(tmp_path: Path) -> None:
    plant_mtd(tmp_path)
    good_test = [part for part in read_layout(tmp_path).test if part.label == "good"]
    assert named(good_test) == ["003.jpg", "007.jpg"]


def test_a_blank_mask_is_no_mask_and_a_broken_one_is_kept(tmp_path: Path) -> None:
    plant_mtd(tmp_path)
    plant(tmp_path, ["MT_Crack/Imgs/002.jpg"])
    plant(tmp_path, ["MT_Crack/Imgs/002.png"], b"broken")
    cracks = of_kind(read_layout(tmp_path).parts, "Crack")
    assert masks(tmp_path, cracks) == [["MT_Crack/Imgs/000.png"], [], ["MT_Crack/Imgs/002.png"]]


# Errors, order, real data.


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    plant(tmp_path, [*numbered("broken", 3), *numbered("odd", 2)])
    with pytest.raises(LayoutError) as caught:
        read_layout(tmp_path)
    message = str(caught.value)
    assert "broken, odd" in message
    assert "MT_Free" in message
    assert "good" in caught.value.remedy


def test_no_good_part_is_refused_and_one_is_enough(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    plant(tmp_path, numbered("bad", 3))
    with pytest.raises(LayoutError, match="0 good and 3 other parts"):
        read_layout(tmp_path)
    plant(tmp_path, numbered("good", 1))
    assert [p.path.name for p in read_layout(tmp_path).train_good] == ["000.png"]


@pytest.mark.parametrize("layout", ["auto", *LAYOUTS])
def test_no_folder_and_an_empty_one(tmp_path: Path, layout: str) -> None:
    (tmp_path / "file.png").write_bytes(BLANK)
    for place in (tmp_path / "absent", tmp_path / "file.png"):
        with pytest.raises(LayoutError, match="folder"):
            read_layout(place, layout)
        with pytest.raises(LayoutError):
            list_pictures(place)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LayoutError):
        read_layout(tmp_path / "empty", layout)


def test_an_unknown_layout_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=f"auto, {', '.join(LAYOUTS)}"):
        read_layout(tmp_path, "coco")


def test_a_layout_that_does_not_fit_is_not_replaced_by_another(tmp_path: Path) -> None:
    plant(tmp_path, numbered("good", 4))
    with pytest.raises(LayoutError, match="MT_Free"):
        read_layout(tmp_path, "mtd")


def test_the_order_depends_on_names_only(tmp_path: Path) -> None:
    names = [*numbered("good", 9), *numbered("bad", 4)]
    plant(tmp_path / "a", names)
    plant(tmp_path / "b", reversed(names))

    def shape(root: Path) -> list[tuple[str, str | None, str | None]]:
        return [
            (part.path.relative_to(root).as_posix(), part.label, part.split)
            for part in read_layout(root).parts
        ]

    assert shape(tmp_path / "a") == shape(tmp_path / "b")


def test_list_pictures(tmp_path: Path) -> None:
    plant(tmp_path, ["b/2.png", "a/10.png", "1.jpg", "ground_truth/x.png", ".cache/y.png"])
    plant(tmp_path, ["notes.md"], b"")
    assert [file.name for file in list_pictures(tmp_path)] == ["1.jpg", "10.png", "2.png"]


def test_the_documentation_lists_every_layout_and_a_manifest_that_is_read(tmp_path: Path) -> None:
    words = (Path(__file__).resolve().parents[2] / "docs" / "layouts.md").read_text(encoding="utf-8")
    table = words.split("| name |", 1)[1].split("\n\n", 1)[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == list(LAYOUTS)
    plant(tmp_path, re.findall(r"(?:shots|truth)/\w+\.png", words))
    table, lines = words.split("```\n")[1:4:2]
    (tmp_path / "a.csv").write_text(table, encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(lines, encoding="utf-8")
    shown = read_layout(tmp_path / "a.csv")
    assert shown.counts == {"train": {"good": 1}, "test": {"good": 1, "dent": 1}}
    assert masks(tmp_path, of_kind(shown.parts, "dent")) == [["truth/0003a.png", "truth/0003b.png"]]
    assert read_layout(tmp_path / "b.jsonl").parts == shown.parts


@needs_shared
def test_the_real_magnetic_tiles() -> None:
    dataset = read_layout(SHARED / "mtd")
    assert dataset.counts == {
        "train": {"good": 761},
        "test": {"good": 191, "Blowhole": 115, "Break": 85, "Crack": 57, "Fray": 32, "Uneven": 103},
    }
    # Four of the uneven tiles come with a blank mask.
    assert sum(len(part.mask_paths) for part in dataset.parts) == 388
    assert dataset.notes == ()


@needs_shared
def test_the_real_aliens() -> None:
    dataset: Dataset = read_layout(SHARED / "aliens")
    assert dataset.layout == "folder"
    assert dataset.counts == {"train": {"good": 44}, "test": {"good": 14, "anomaly": 60}}


# What is inspected.


def test_parts_that_training_takes_are_not_inspected(tmp_path: Path) -> None:
    plant(tmp_path, [*numbered("good", 8), *numbered("scratch", 3)])
    found = parts_to_inspect(tmp_path)
    assert (found.layout, found.left_out) == ("folder", 6)
    assert named(of_kind(found.parts, "good")) == ["003.png", "007.png"]
    assert named(of_kind(found.parts, "scratch")) == ["000.png", "001.png", "002.png"]


def test_nothing_but_pictures_is_inspected_whole_and_without_a_label(tmp_path: Path) -> None:
    plant(tmp_path, numbered("shift", 5))
    found = parts_to_inspect(tmp_path / "shift")
    assert (found.layout, found.left_out, len(found.parts)) == (None, 0, 5)
    assert {part.label for part in found.parts} == {None}
    # The folder above it is no layout, and its pictures are inspected all the same.
    assert named(parts_to_inspect(tmp_path).parts) == named(found.parts)


def test_a_folder_without_pictures_or_of_another_layout_is_refused(tmp_path: Path) -> None:
    plant(tmp_path / "texts", ["notes.txt"], b"no picture")
    with pytest.raises(LayoutError, match="pictures in"):
        parts_to_inspect(tmp_path / "texts")
    plant(tmp_path / "plates", numbered("good", 3))
    with pytest.raises(LayoutError):
        parts_to_inspect(tmp_path / "plates", "mtd")


def test_one_product_is_chosen_by_name_where_there_are_several(tmp_path: Path) -> None:
    for product in ("bolt", "nut"):
        plant(tmp_path / product, [*numbered("train/good", 4), *numbered("test/good", 1)])
        plant(tmp_path / product, numbered("test/dent", 1))
        plant(tmp_path / product, ["ground_truth/dent/000_mask.png"], MARKED)
    dataset = read_layout(tmp_path)
    assert dataset.products == ("bolt", "nut")
    assert len(dataset.of_one_product("nut").train_good) == 4
    for name in ("", "screw"):
        with pytest.raises(LayoutError, match=r"one product.*bolt, nut"):
            dataset.of_one_product(name)
    alone = read_layout(tmp_path / "nut")
    assert alone.of_one_product() is alone
    assert alone.product_name == "nut"


def test_the_masks_of_one_picture_are_found_from_its_path_alone(tmp_path: Path) -> None:
    plant_mtd(tmp_path / "mtd")
    plant(tmp_path / "plain", [*numbered("good", 4), *numbered("dent", 2), "deep/dent/lot a/x.png"])
    plant(tmp_path / "plain", ["masks/dent/000_mask.png", "masks/001.png", "masks/good/000.png"], MARKED)
    for root in (tmp_path / "mtd", tmp_path / "plain"):
        parts = read_layout(root).parts
        assert any(part.mask_paths for part in parts)
        assert {part.path: masks_near(part.path) for part in parts} == {p.path: p.mask_paths for p in parts}
    assert masks_near(tmp_path / "nowhere" / "at" / "all.png") == ()
    assert masks_near(Path("all.png")) == ()


@needs_shared
def test_the_masks_of_the_real_tiles_are_found_from_their_paths_alone() -> None:
    parts = read_layout(SHARED / "mtd").test
    assert [masks_near(part.path) for part in parts] == [part.mask_paths for part in parts]


def test_wrong_inputs_beside_parts_are_named_by_their_kind(tmp_path: Path) -> None:
    plant(tmp_path, [*numbered("train/good", 2), *numbered("test/good", 1), *numbered("test/dent", 1)])
    plant(tmp_path, ["wrong_inputs/blank/1.png", "wrong_inputs/blank/0.png", "wrong_inputs/angle/0.png"])
    found = wrong_inputs(tmp_path)
    assert [part.label for part in found] == ["wrong_inputs/angle", *["wrong_inputs/blank"] * 2]
    assert named(found) == ["0.png", "0.png", "1.png"]
    assert wrong_inputs(tmp_path / "train") == []
    # They are no parts, and of no layout's splits.
    assert not any("wrong_inputs" in part.path.parts for part in parts_to_inspect(tmp_path).parts)
