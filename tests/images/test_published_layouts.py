"""VisA, KolektorSDD, KolektorSDD2 and Real-IAD, each on a small tree of exactly its shape."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from differnet.images.layouts import GOOD, LayoutError, masks_near, read_layout
from differnet.images.reading import encode_png
from differnet.images.scanning import scan
from images.trees import BLANK, MARKED, masks, named, numbered, of_kind, plant

PART = encode_png(np.full((2, 3, 3), 90, np.uint8))


# VisA.


@pytest.fixture
def visa(tmp_path: Path) -> Path:
    """As published: 6 good parts a product, of which the table puts some into test, and 2 anomalies."""
    root = tmp_path / "VisA_20220922"
    rows = ["object,split,label,image,mask"]
    for product in ("candle", "pcb1"):
        plant(root, numbered(f"{product}/Data/Images/Normal", 6, ".JPG"))
        plant(root, numbered(f"{product}/Data/Images/Anomaly", 2, ".JPG"))
        # Pixels are numbers of classes, hardly above 0.
        plant(root, numbered(f"{product}/Data/Masks/Anomaly", 2), encode_png(np.full((2, 3), 3, np.uint8)))
        plant(root, [f"{product}/image_anno.csv"], b"image,label,mask\n")
        for k in range(6):
            split = "test" if k in {"candle": (1, 2), "pcb1": (5,)}[product] else "train"
            rows.append(f"{product},{split},normal,{product}/Data/Images/Normal/{k:03d}.JPG,")
        for k in range(2):
            image, mask = (f"{product}/Data/{kind}/Anomaly/{k:03d}" for kind in ("Images", "Masks"))
            rows.append(f"{product},test,anomaly,{image}.JPG,{mask}.png")
    plant(root, ["split_csv/1cls.csv"], "\n".join(rows).encode())
    plant(
        root,
        ["split_csv/2cls_fewshot.csv", "split_csv/2cls_highshot.csv"],
        b"object,split,label,image,mask\n",
    )
    plant(root, ["LICENSE-DATASET"], b"")
    return root


def test_visa_as_published_is_split_by_its_table(visa: Path) -> None:
    dataset = read_layout(visa)
    assert (dataset.layout, dataset.products, dataset.notes) == ("visa", ("candle", "pcb1"), ())
    candle = dataset.of_product("candle")
    assert candle.counts == {"train": {"good": 4}, "test": {"good": 2, "anomaly": 2}}
    assert named(of_kind(candle.test, "good")) == ["001.JPG", "002.JPG"]
    assert named(of_kind(dataset.of_product("pcb1").test, "good")) == ["005.JPG"]
    assert masks(visa / "candle", of_kind(candle.test, "anomaly")) == [
        ["Data/Masks/Anomaly/000.png"],
        ["Data/Masks/Anomaly/001.png"],
    ]
    assert scan(visa).masks == 4


def test_a_product_of_visa_alone_finds_the_table_above(visa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = read_layout(visa / "candle")
    assert dataset.parts == read_layout(visa).of_product("candle").parts
    monkeypatch.chdir(visa / "candle")
    assert read_layout(Path()).counts == dataset.counts


def test_visa_without_its_table_uses_the_rule_and_says_so(visa: Path) -> None:
    shutil.rmtree(visa / "split_csv")
    dataset = read_layout(visa / "pcb1")
    assert dataset.counts == {"train": {"good": 5}, "test": {"good": 1, "anomaly": 2}}
    assert dataset.notes[0].startswith("No split_csv/1cls.csv")


def test_visa_with_pictures_missing_is_incomplete(visa: Path) -> None:
    (visa / "candle/Data/Images/Normal/001.JPG").unlink()
    with pytest.raises(LayoutError, match=r"the 8 files that .*1cls\.csv names; found 1 missing: .*001\.JPG"):
        read_layout(visa)


def test_visa_pictures_outside_the_table_are_noted(visa: Path) -> None:
    plant(visa, ["pcb1/Data/Images/Normal/999.JPG"])
    assert read_layout(visa).notes == ("pcb1: 1 pictures are in no split and are left out.",)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("candle,train,normal,candle/../../secret.JPG,", "secret"),
        ("candle,validation,normal,candle/Data/Images/Normal/000.JPG,", "line 18"),
        ("candle,train", "5 cells in line 18"),
    ],
)
def test_a_table_of_splits_is_not_trusted(visa: Path, row: str, told: str) -> None:
    with (visa / "split_csv/1cls.csv").open("a") as table:
        table.write("\n" + row)
    with pytest.raises(LayoutError, match=told):
        read_layout(visa)


def test_visa_as_its_authors_sort_it(tmp_path: Path) -> None:
    root = tmp_path / "VisA_pytorch/1cls"
    for product in ("candle", "pcb1"):
        plant(root / product, [*numbered("train/good", 4, ".JPG"), *numbered("test/good", 2, ".JPG")])
        plant(root / product, numbered("test/bad", 2, ".JPG"))
        plant(root / product, numbered("ground_truth/bad", 2), MARKED)
    told, found = read_layout(root, "visa"), read_layout(root)
    # Nothing but the names of products tells it from MVTec AD.
    assert (told.layout, found.layout) == ("visa", "mvtec")
    assert told.parts == found.parts
    assert told.of_product("pcb1").counts == {"train": {"good": 4}, "test": {"good": 2, "bad": 2}}
    assert masks(root / "pcb1", of_kind(told.of_product("pcb1").test, "bad")) == [
        ["ground_truth/bad/000.png"],
        ["ground_truth/bad/001.png"],
    ]


# KolektorSDD.


@pytest.fixture
def kolektorsdd(tmp_path: Path) -> Path:
    """Nine commutators of three surfaces, one defective surface in each of the first five."""
    root = tmp_path / "KolektorSDD"
    for item in range(1, 10):
        place = root / f"kos{item:02d}"
        plant(place, [f"Part{k}.jpg" for k in range(3)], PART)
        plant(place, [f"Part{k}_label.bmp" for k in range(3)], BLANK)
        if item <= 5:
            plant(place, ["Part1_label.bmp"], MARKED)
    return root


def test_kolektorsdd_is_labelled_by_its_masks(kolektorsdd: Path) -> None:
    dataset = read_layout(kolektorsdd)
    assert dataset.layout == "kolektorsdd"
    assert dataset.products == ()
    assert len(dataset.good) == 22
    defects = of_kind(dataset.parts, "defect")
    assert {part.split for part in defects} == {"test"}
    assert masks(kolektorsdd, defects) == [[f"kos{k:02d}/Part1_label.bmp"] for k in range(1, 6)]
    assert not any(part.mask_paths for part in dataset.good)


def test_good_surfaces_of_one_commutator_stay_together(kolektorsdd: Path) -> None:
    dataset = read_layout(kolektorsdd)
    good = of_kind(dataset.test, "good")
    assert {part.path.parent.name for part in good} == {"kos04", "kos08"}
    assert len(good) == 2 + 3
    assert not {part.path.parent for part in good} & {part.path.parent for part in dataset.train_good}
    assert "every 4th folder" in dataset.notes[0]


def test_one_commutator_of_kolektorsdd(kolektorsdd: Path) -> None:
    dataset = read_layout(kolektorsdd / "kos01")
    assert (dataset.layout, named(of_kind(dataset.parts, "defect"))) == ("kolektorsdd", ["Part1.jpg"])
    assert named(dataset.train_good) == ["Part0.jpg", "Part2.jpg"]


def test_kolektorsdd_without_a_mask_is_incomplete(kolektorsdd: Path) -> None:
    (kolektorsdd / "kos03/Part2_label.bmp").unlink()
    with pytest.raises(LayoutError, match=r"none beside Part2\.jpg"):
        read_layout(kolektorsdd)


def test_a_mask_that_cannot_be_read_leaves_its_part_without_a_label(kolektorsdd: Path) -> None:
    plant(kolektorsdd, ["kos03/Part2_label.bmp"], b"broken")
    dataset = read_layout(kolektorsdd)
    assert named(of_kind(dataset.parts, None)) == ["Part2.jpg"]
    assert "1 masks cannot be read, first Part2_label.bmp" in dataset.notes[1]
    assert [file.path.name for file in scan(kolektorsdd).unreadable] == ["Part2_label.bmp"]


# KolektorSDD2.


@pytest.fixture
def kolektorsdd2(tmp_path: Path) -> Path:
    root = tmp_path / "KolektorSDD2"
    for split, first, count, marked in (("train", 10000, 5, (10003,)), ("test", 20000, 4, (20001, 20002))):
        numbers = range(first, first + count)
        plant(root / split, [f"{k}.png" for k in numbers], PART)
        plant(root / split, [f"{k}_GT.png" for k in numbers], BLANK)
        plant(root / split, [f"{k}_GT.png" for k in marked], MARKED)
    return root


def test_kolektorsdd2_is_labelled_by_its_masks(kolektorsdd2: Path) -> None:
    dataset = read_layout(kolektorsdd2)
    assert dataset.layout == "kolektorsdd2"
    assert dataset.counts == {"train": {"good": 4, "defect": 1}, "test": {"good": 2, "defect": 2}}
    assert named(dataset.train_good) == ["10000.png", "10001.png", "10002.png", "10004.png"]
    assert masks(kolektorsdd2, of_kind(dataset.test, "defect")) == [
        ["test/20001_GT.png"],
        ["test/20002_GT.png"],
    ]
    assert any("not trained on" in warning for warning in scan(kolektorsdd2).warnings)


def test_kolektorsdd2_without_a_mask_is_incomplete(kolektorsdd2: Path) -> None:
    (kolektorsdd2 / "test/20003_GT.png").unlink()
    with pytest.raises(LayoutError, match=r"none beside 20003\.png"):
        read_layout(kolektorsdd2)


# Real-IAD.


def good_of(product: str, sample: int, view: int) -> str:
    return f"OK/S{sample:04d}/{product}_{sample:04d}_OK_C{view}_20231018.jpg"


def bad_of(product: str, kind: str, view: int, suffix: str) -> str:
    return f"NG/{kind}/S0001/{product}_0001_NG_{kind}_C{view}_20231019{suffix}"


def listing(product: str) -> dict[str, Any]:
    def entry(kind: str, image: str, mask: str | None) -> dict[str, Any]:
        return {"category": product, "anomaly_class": kind, "image_path": image, "mask_path": mask}

    good = [entry("OK", good_of(product, sample, view), None) for sample in (1, 2, 3) for view in (1, 2)]
    bad = [
        entry(kind, bad_of(product, kind, view, ".jpg"), bad_of(product, kind, view, ".png"))
        for kind in ("AK", "HS")
        for view in (1, 2)
    ]
    meta = {"prefix": f"{product}/", "normal_class": "OK", "pre_transform": {}}
    return {"meta": meta, "train": good[:4], "test": good[4:] + bad}


def plant_lists(folder: Path, products: tuple[str, ...] = ("audiojack", "usb")) -> None:
    for product in products:
        plant(folder, [f"{product}.json"], json.dumps(listing(product)).encode())


@pytest.fixture
def real_iad(tmp_path: Path) -> Path:
    """Two products of one resolution beside the folder of lists, which holds another of that name."""
    root = tmp_path / "Real-IAD"
    plant_lists(root / "realiad_jsons/realiad_jsons")
    for product in ("audiojack", "usb"):
        place = root / "realiad_256" / product
        plant(place, [good_of(product, sample, view) for sample in (1, 2, 3) for view in (1, 2)], PART)
        for kind in ("AK", "HS"):
            plant(place, [bad_of(product, kind, view, ".jpg") for view in (1, 2)], PART)
            plant(place, [bad_of(product, kind, view, ".png") for view in (1, 2)], MARKED)
    return root


def test_real_iad_is_read_by_its_lists(real_iad: Path) -> None:
    dataset = read_layout(real_iad)
    assert (dataset.layout, dataset.products, dataset.notes) == ("real-iad", ("audiojack", "usb"), ())
    usb = dataset.of_product("usb")
    assert usb.counts == {"train": {"good": 4}, "test": {"good": 2, "AK": 2, "HS": 2}}
    assert masks(real_iad / "realiad_256/usb", of_kind(usb.test, "HS")) == [
        [bad_of("usb", "HS", 1, ".png")],
        [bad_of("usb", "HS", 2, ".png")],
    ]
    assert scan(real_iad).masks == 8


def test_real_iad_by_its_resolution_or_product(real_iad: Path) -> None:
    whole = read_layout(real_iad)
    assert read_layout(real_iad / "realiad_256").parts == whole.parts
    assert read_layout(real_iad / "realiad_256/usb").parts == whole.of_product("usb").parts


def test_files_that_a_system_leaves_are_no_lists(real_iad: Path) -> None:
    plant(real_iad, ["realiad_jsons/realiad_jsons/._usb.json"], b"\x00\x05\x16\x07")
    assert read_layout(real_iad).products == ("audiojack", "usb")


def test_products_keep_their_names_in_one_more_folder(real_iad: Path) -> None:
    assert read_layout(real_iad.parent).products == ("audiojack", "usb")


def test_real_iad_with_lists_beside_products(real_iad: Path) -> None:
    flat = real_iad.parent / "flat"
    shutil.move(real_iad / "realiad_256", flat)
    plant_lists(flat)
    dataset = read_layout(flat)
    assert (dataset.layout, dataset.products, len(dataset.parts)) == ("real-iad", ("audiojack", "usb"), 20)


def test_the_prefix_of_a_list_says_where_its_pictures_are(real_iad: Path) -> None:
    pictures = real_iad / "realiad_256"
    shutil.move(pictures / "usb", pictures / "usb-a")
    tree = listing("usb")
    tree["meta"]["prefix"] = "usb-a/"
    plant(real_iad, ["realiad_jsons/realiad_jsons/usb.json"], json.dumps(tree).encode())
    usb = read_layout(real_iad).of_product("usb")
    assert {part.path.relative_to(pictures).parts[0] for part in usb.parts} == {"usb-a"}


def test_one_of_several_lists_is_read_and_the_others_are_named(real_iad: Path) -> None:
    plant_lists(real_iad / "realiad_jsons/realiad_jsons_sv")
    plant_lists(real_iad / "realiad_jsons/realiad_jsons_fuiad_0.4")
    dataset = read_layout(real_iad)
    assert dataset.notes == ("Read by realiad_jsons, not by realiad_jsons_fuiad_0.4, realiad_jsons_sv.",)
    shutil.rmtree(real_iad / "realiad_jsons/realiad_jsons")
    with pytest.raises(LayoutError, match=r"realiad_jsons_fuiad_0\.4, realiad_jsons_sv"):
        read_layout(real_iad)


def test_several_resolutions_are_ambiguous(real_iad: Path) -> None:
    shutil.copytree(real_iad / "realiad_256", real_iad / "realiad_1024")
    with pytest.raises(LayoutError, match="realiad_1024, realiad_256") as caught:
        read_layout(real_iad)
    assert "Name one of them" in caught.value.remedy
    assert len(read_layout(real_iad / "realiad_1024").parts) == 20


def test_real_iad_without_lists_is_incomplete(real_iad: Path) -> None:
    shutil.rmtree(real_iad / "realiad_jsons")
    for place in (real_iad, real_iad / "realiad_256", real_iad / "realiad_256/usb"):
        with pytest.raises(LayoutError, match="pictures without lists") as caught:
            read_layout(place)
        assert "--layout folder" in caught.value.remedy


def test_listed_products_without_pictures_are_noted(real_iad: Path) -> None:
    shutil.rmtree(real_iad / "realiad_256/audiojack")
    dataset = read_layout(real_iad)
    assert dataset.products == ("usb",)
    assert dataset.notes == ("1 listed products have no pictures: audiojack.",)


def test_a_picture_that_a_list_names_must_be_there(real_iad: Path) -> None:
    (real_iad / "realiad_256/usb" / good_of("usb", 1, 2)).unlink()
    with pytest.raises(LayoutError, match=r"14 files that .*usb\.json names; found 1 missing"):
        read_layout(real_iad)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"image_path": "../../../etc/passwd", "anomaly_class": "OK"}, "nothing outside it is opened"),
        ({"image_path": "/etc/passwd", "anomaly_class": "OK"}, "nothing outside it is opened"),
        ({"anomaly_class": "OK"}, "entries with image_path"),
        (
            {"image_path": good_of("usb", 1, 1), "anomaly_class": "OK", "mask_path": 3},
            "entries with image_path",
        ),
        ("usb.jpg", "entries with image_path"),
    ],
)
def test_a_list_is_not_trusted(real_iad: Path, broken: object, told: str) -> None:
    tree = listing("usb")
    tree["train"].append(broken)
    plant(real_iad, ["realiad_jsons/realiad_jsons/usb.json"], json.dumps(tree).encode())
    with pytest.raises(LayoutError, match=told):
        read_layout(real_iad)


def test_a_list_that_is_no_json_is_named(real_iad: Path) -> None:
    plant(real_iad, ["realiad_jsons/realiad_jsons/usb.json"], b"[1, 2]")
    with pytest.raises(LayoutError, match=r"a JSON object in line 1 of .*usb\.json; found a list"):
        read_layout(real_iad)
    plant(real_iad, ["realiad_jsons/realiad_jsons/usb.json"], b"\xff\xfe")
    with pytest.raises(LayoutError, match="UTF-8"):
        read_layout(real_iad)


@pytest.mark.parametrize("tree", ["visa", "kolektorsdd", "kolektorsdd2"])
def test_the_masks_of_one_picture_are_found_from_its_path_alone(
    tree: str, request: pytest.FixtureRequest
) -> None:
    """Of good surfaces of KolektorSDD too, whose masks are blank."""
    parts = read_layout(request.getfixturevalue(tree)).parts
    broken = [part for part in parts if part.label != GOOD]
    assert any(part.mask_paths for part in broken)
    assert [masks_near(part.path) for part in broken] == [part.mask_paths for part in broken]
