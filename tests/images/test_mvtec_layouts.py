"""MVTec AD, MVTec LOCO AD, MVTec AD 2 and BTAD, each on a small tree of exactly its shape."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from differnet.images.layouts import LAYOUTS, LayoutError, masks_near, read_layout
from differnet.images.reading import ImageError, encode_png, read_masks
from differnet.images.scanning import scan
from images.trees import MARKED, masks, named, numbered, of_kind, plant

# MVTec AD.


def plant_mvtec(root: Path) -> None:
    plant(root, [*numbered("train/good", 5), *numbered("test/good", 2), *numbered("test/hole", 3)])
    plant(root, [f"ground_truth/hole/{k:03d}_mask.png" for k in range(2)], MARKED)


def test_an_mvtec_product(tmp_path: Path) -> None:
    plant_mvtec(tmp_path / "carpet")
    dataset = read_layout(tmp_path / "carpet")
    assert dataset.layout == "mvtec"
    assert dataset.products == ("carpet",)
    assert dataset.counts == {"train": {"good": 5}, "test": {"good": 2, "hole": 3}}
    assert masks(tmp_path / "carpet", of_kind(dataset.test, "hole")) == [
        ["ground_truth/hole/000_mask.png"],
        ["ground_truth/hole/001_mask.png"],
        [],
    ]
    assert dataset.notes == ("1 of 3 defective test parts have no mask: pixel figures leave them out.",)


def test_a_tree_without_any_masks_needs_no_note(tmp_path: Path) -> None:
    plant_mvtec(tmp_path)
    shutil.rmtree(tmp_path / "ground_truth")
    assert read_layout(tmp_path).notes == ()


def test_a_folder_of_mvtec_products(tmp_path: Path) -> None:
    for product in ("wood", "carpet"):
        plant_mvtec(tmp_path / product)
    plant(tmp_path, ["license.txt", "readme.txt"])
    dataset = read_layout(tmp_path)
    assert (dataset.layout, dataset.products) == ("mvtec", ("carpet", "wood"))
    assert len(dataset.parts) == 20
    assert [part.product for part in dataset.parts] == ["carpet"] * 10 + ["wood"] * 10


def test_validation_parts_are_for_training(tmp_path: Path) -> None:
    plant_mvtec(tmp_path)
    plant(tmp_path, numbered("validation/good", 3))
    assert read_layout(tmp_path).counts["train"] == {"good": 8}


def test_pictures_without_a_class_in_test_have_no_label(tmp_path: Path) -> None:
    plant(tmp_path, [*numbered("train", 4), *numbered("test", 2)])
    assert read_layout(tmp_path).counts == {"train": {"good": 4}, "test": {"unlabelled": 2}}
    assert "No test part has a label: nothing can be measured." in scan(tmp_path).warnings


# MVTec LOCO AD.


def grey(levels: list[list[int]]) -> bytes:
    return encode_png(np.array(levels, np.uint8))


@pytest.fixture
def loco(tmp_path: Path) -> Path:
    root = tmp_path / "loco"
    for product in ("breakfast_box", "pushpins"):
        place = root / product
        plant(place, [*numbered("train/good", 4), *numbered("validation/good", 2), *numbered("test/good", 2)])
        plant(place, [*numbered("test/logical_anomalies", 2), *numbered("test/structural_anomalies", 1)])
        truth = place / "ground_truth"
        # Masks are grey values from 255 downwards, one for each kind of anomaly.
        plant(truth, ["logical_anomalies/000/000.png"], grey([[255, 0, 0], [0, 0, 0]]))
        plant(truth, ["logical_anomalies/000/001.png"], grey([[0, 0, 0], [0, 0, 250]]))
        plant(truth, ["logical_anomalies/001/000.png", "structural_anomalies/000/000.png"], MARKED)
        plant(place, ["defects_config.json"], b"[]")
    plant(root, ["license.txt", "readme.txt"], b"")
    return root


def test_loco_is_found_with_its_products(loco: Path) -> None:
    dataset = read_layout(loco)
    assert (dataset.layout, dataset.products) == ("mvtec-loco", ("breakfast_box", "pushpins"))
    assert dataset.of_product("pushpins").counts == {
        "train": {"good": 6},
        "test": {"good": 2, "logical_anomalies": 2, "structural_anomalies": 1},
    }
    assert dataset.notes == ()
    assert read_layout(loco / "pushpins").parts == dataset.of_product("pushpins").parts


def test_every_mask_of_a_loco_picture_is_found(loco: Path) -> None:
    root = loco / "pushpins"
    parts = read_layout(root, "mvtec-loco").test
    assert masks(root, of_kind(parts, "logical_anomalies")) == [
        ["ground_truth/logical_anomalies/000/000.png", "ground_truth/logical_anomalies/000/001.png"],
        ["ground_truth/logical_anomalies/001/000.png"],
    ]
    assert masks(root, of_kind(parts, "structural_anomalies")) == [
        ["ground_truth/structural_anomalies/000/000.png"]
    ]
    assert masks(root, of_kind(parts, "good")) == [[], []]


def test_masks_of_one_picture_are_united(loco: Path) -> None:
    (part,) = (p for p in read_layout(loco / "pushpins").test if len(p.mask_paths) == 2)
    assert read_masks(part.mask_paths, (2, 3)).tolist() == [[True, False, False], [False, False, True]]
    assert read_masks(part.mask_paths[1:], (2, 3)).tolist() == [[False] * 3, [False, False, True]]
    with pytest.raises(ImageError, match="3 x 2"):
        read_masks(part.mask_paths, (3, 2))


def test_a_scan_counts_pictures_with_masks_and_names_each_that_does_not_fit(loco: Path) -> None:
    assert scan(loco / "pushpins").masks == 3
    odd = loco / "pushpins/ground_truth/logical_anomalies/000/001.png"
    odd.write_bytes(encode_png(np.zeros((5, 5), np.uint8)))
    report = scan(loco / "pushpins")
    assert report.masks == 2
    assert [refused.path for refused in report.unreadable] == [odd]


# MVTec AD 2.


@pytest.fixture
def mvtec_ad_2(tmp_path: Path) -> Path:
    root = tmp_path / "mvtec_ad_2"
    for product in ("can", "walnuts"):
        place = root / product
        plant(place, [f"train/good/{k:03d}_regular.png" for k in range(4)])
        plant(place, [f"validation/good/{k:03d}_regular.png" for k in range(2)])
        plant(
            place,
            [f"test_public/good/{k:03d}_{light}.png" for k in (0, 1) for light in ("regular", "shift")],
        )
        plant(place, ["test_public/bad/000_regular.png", "test_public/bad/000_overexposed.png"])
        plant(
            place / "test_public/ground_truth/bad",
            ["000_regular_mask.png", "000_overexposed_mask.png"],
            MARKED,
        )
        plant(place, [f"test_private/{k:03d}_regular.png" for k in range(3)])
        plant(place, [f"test_private_mixed/{k:03d}_mixed.png" for k in range(3)])
    return root


def test_mvtec_ad_2_is_found_with_public_and_private_parts(mvtec_ad_2: Path) -> None:
    dataset = read_layout(mvtec_ad_2)
    assert (dataset.layout, dataset.products) == ("mvtec-ad-2", ("can", "walnuts"))
    can = dataset.of_product("can")
    assert can.counts == {"train": {"good": 6}, "test": {"good": 4, "bad": 2, "unlabelled": 6}}
    assert can.kinds == ("bad",)
    assert masks(mvtec_ad_2 / "can", of_kind(can.test, "bad")) == [
        ["test_public/ground_truth/bad/000_overexposed_mask.png"],
        ["test_public/ground_truth/bad/000_regular_mask.png"],
    ]
    assert not any(part.mask_paths for part in of_kind(can.test, None))


def test_mvtec_ad_2_as_it_is_without_private_parts(mvtec_ad_2: Path) -> None:
    root = mvtec_ad_2 / "can"
    for name in ("test_private", "test_private_mixed"):
        shutil.rmtree(root / name)
    assert read_layout(root).counts == {"train": {"good": 6}, "test": {"good": 4, "bad": 2}}


def test_private_parts_alone_are_no_defects(mvtec_ad_2: Path) -> None:
    root = mvtec_ad_2 / "can"
    shutil.rmtree(root / "test_public")
    assert read_layout(root).layout == "mvtec-ad-2"
    assert "No test part has a label: nothing can be measured." in scan(root).warnings


# BTAD.


BTAD_SUFFIXES = {"01": (".bmp", ".png"), "02": (".png", ".png"), "03": (".bmp", ".bmp")}


@pytest.fixture
def btad(tmp_path: Path) -> Path:
    root = tmp_path / "BTech_Dataset_transformed"
    for product, (suffix, mask_suffix) in BTAD_SUFFIXES.items():
        place = root / product
        plant(place, [f"train/ok/{k:04d}{suffix}" for k in range(4)])
        plant(place, [f"test/ok/{k:04d}{suffix}" for k in range(2)])
        plant(place, [f"test/ko/{k:04d}{suffix}" for k in range(2)])
        plant(place, [f"ground_truth/ko/{k:04d}{mask_suffix}" for k in range(2)], MARKED)
    return root


def test_btad_is_found_with_masks_of_either_kind(btad: Path) -> None:
    dataset = read_layout(btad)
    assert (dataset.layout, dataset.products) == ("btad", ("01", "02", "03"))
    for product, (_, mask_suffix) in BTAD_SUFFIXES.items():
        one = dataset.of_product(product)
        assert one.counts == {"train": {"good": 4}, "test": {"good": 2, "ko": 2}}
        assert masks(btad / product, of_kind(one.test, "ko")) == [
            [f"ground_truth/ko/0000{mask_suffix}"],
            [f"ground_truth/ko/0001{mask_suffix}"],
        ]


def test_a_product_of_btad_alone(btad: Path) -> None:
    dataset = read_layout(btad / "03")
    assert (dataset.layout, dataset.products) == ("btad", ("03",))
    assert named(dataset.train_good) == [f"{k:04d}.bmp" for k in range(4)]


def test_a_kind_called_ko_makes_no_btad(btad: Path) -> None:
    (btad / "01/train/ok").rename(btad / "01/train/good")
    assert read_layout(btad / "01").layout == "mvtec"


# What goes for all of them.


def test_btad_and_loco_are_read_alike_when_called_mvtec(btad: Path, loco: Path) -> None:
    for root in (btad, loco):
        assert read_layout(root, "mvtec").parts == read_layout(root).parts


@pytest.mark.parametrize("asked", sorted(LAYOUTS.keys() - {"mvtec", "btad", "folder"}))
def test_a_btad_tree_is_no_other_layout(btad: Path, asked: str) -> None:
    with pytest.raises(LayoutError, match="01, 02, 03"):
        read_layout(btad, asked)


def test_products_of_different_layouts_are_ambiguous(btad: Path, mvtec_ad_2: Path) -> None:
    shutil.move(mvtec_ad_2 / "can", btad / "can")
    with pytest.raises(LayoutError, match="01: btad, 02: btad, 03: btad, can: mvtec-ad-2") as caught:
        read_layout(btad)
    assert "--layout" in caught.value.remedy
    chosen = read_layout(btad, "btad")
    assert chosen.products == ("01", "02", "03")
    assert chosen.notes == ("Not of the btad layout and left out: can.",)


def test_products_that_share_a_layout_are_read_by_it(btad: Path) -> None:
    plant_mvtec(btad / "carpet")
    dataset = read_layout(btad)
    assert (dataset.layout, dataset.products) == ("mvtec", ("01", "02", "03", "carpet"))


def test_a_folder_around_the_dataset_is_named(btad: Path) -> None:
    with pytest.raises(LayoutError) as caught:
        read_layout(btad.parent)
    assert caught.value.remedy == f"Name {btad} instead: it holds products of the btad layout."


@pytest.mark.parametrize("tree", ["loco", "mvtec_ad_2", "btad"])
def test_the_masks_of_one_picture_are_found_from_its_path_alone(
    tree: str, request: pytest.FixtureRequest
) -> None:
    parts = read_layout(request.getfixturevalue(tree)).parts
    assert any(part.mask_paths for part in parts)
    assert {part.path: masks_near(part.path) for part in parts} == {p.path: p.mask_paths for p in parts}
