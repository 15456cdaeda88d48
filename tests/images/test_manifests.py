"""A folder whose manifest says what its pictures are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from differnet.images.layouts import LayoutError, read_layout
from images.trees import MARKED, masks, named, numbered, of_kind, plant

TABLE = """path,label,split,mask,product
shots/000.png,good,train,,nut
shots/001.png,OK,validation,,nut
shots/002.png,good,test,,nut
shots/003.png,dent,test,truth/003.png|truth/003b.png,nut
shots/004.png,,test,,nut
shots/005.png,good,train,,bolt
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plant(tmp_path, numbered("shots", 8))
    plant(tmp_path, ["truth/003.png", "truth/003b.png"], MARKED)
    return tmp_path


def table(root: Path, text: str) -> Path:
    (root / "manifest.csv").write_text(text, encoding="utf-8")
    return root


def test_a_table_says_label_split_masks_and_product(root: Path) -> None:
    dataset = read_layout(table(root, TABLE))
    assert (dataset.layout, dataset.products, dataset.notes) == ("manifest", ("bolt", "nut"), ())
    nut = dataset.of_product("nut")
    assert nut.counts == {"train": {"good": 2}, "test": {"good": 1, "dent": 1, "unlabelled": 1}}
    assert masks(root, of_kind(nut.parts, "dent")) == [["truth/003.png", "truth/003b.png"]]


def test_the_file_may_be_named_instead_of_its_folder(root: Path) -> None:
    (root / "lot 7.csv").write_text(TABLE, encoding="utf-8")
    dataset = read_layout(root / "lot 7.csv")
    assert (dataset.layout, dataset.root) == ("manifest", root)
    assert dataset.parts == read_layout(table(root, TABLE)).parts


@pytest.mark.parametrize(
    "change", [("\n", "\r\n"), (",", ";"), (",", "\t"), ("path", "\ufeffPath"), ("/", "\\")]
)
def test_tables_of_other_programs_are_read_alike(root: Path, change: tuple[str, str]) -> None:
    wanted = read_layout(table(root, TABLE)).parts
    (root / "manifest.csv").write_bytes(TABLE.replace(*change).encode())
    assert read_layout(root).parts == wanted


def test_json_lines_say_the_same(root: Path) -> None:
    wanted = read_layout(table(root, TABLE)).parts
    (root / "manifest.csv").unlink()
    lines = [
        {"path": "shots/000.png", "label": "good", "split": "train", "product": "nut"},
        {"path": "shots/001.png", "label": "good", "split": "train", "mask": None, "product": "nut"},
        {"path": "shots/002.png", "label": "good", "split": "test", "mask": [], "product": "nut"},
        {
            "path": "shots/003.png",
            "label": "dent",
            "split": "test",
            "mask": ["truth/003.png", "truth/003b.png"],
            "product": "nut",
        },
        {"path": "shots/004.png", "split": "test", "product": "nut", "operator": 7},
        {"path": "shots/005.png", "label": "good", "split": "train", "product": "bolt"},
    ]
    (root / "manifest.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    dataset = read_layout(root)
    assert (dataset.layout, dataset.parts) == ("manifest", wanted)


def test_without_splits_the_rule_holds_for_each_product(root: Path) -> None:
    rows = ["path,label,product", *(f"shots/{k:03d}.png,good,{'a' if k < 3 else 'b'}" for k in range(7))]
    dataset = read_layout(table(root, "\n".join([*rows, "shots/007.png,dent,b"])))
    assert named(of_kind(dataset.test, "good")) == ["006.png"]
    assert named(of_kind(dataset.test, "dent")) == ["007.png"]
    assert "every 4th good part" in dataset.notes[0]


def test_a_manifest_comes_before_any_shape_of_folders(root: Path) -> None:
    plant(root, numbered("good", 4))
    assert read_layout(table(root, TABLE)).layout == "manifest"
    assert read_layout(root, "folder").layout == "folder"


def test_a_table_of_something_else_is_no_manifest(root: Path) -> None:
    plant(root, numbered("good", 4))
    assert read_layout(table(root, "file,filepath,sha256\n")).layout == "folder"
    with pytest.raises(LayoutError, match=r"manifest\.csv or manifest\.jsonl"):
        read_layout(root, "manifest")


def test_two_manifests_are_ambiguous(root: Path) -> None:
    table(root, TABLE)
    (root / "manifest.jsonl").write_text('{"path": "shots/000.png", "label": "good"}\n')
    with pytest.raises(LayoutError, match=r"manifest\.csv and manifest\.jsonl"):
        read_layout(root)
    assert len(read_layout(root / "manifest.csv").parts) == 6


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("shots/000.png,good,train,,nut", "000.png, as in line 2"),
        ("shots/999.png,good,train,,nut", r"found 1 missing: .*999\.png"),
        ("shots/006.png,dent,test,truth/999.png,nut", r"found 1 missing: .*999\.png"),
        ("../../etc/passwd,good,train,,nut", "nothing outside it is opened"),
        ("/etc/passwd,good,train,,nut", "nothing outside it is opened"),
        ("c:/etc/passwd,good,train,,nut", "nothing outside it is opened"),
        ("shots/006.png,dent,test,../truth/003.png,nut", "nothing outside it is opened"),
        ("shots/006.png,0,train,,nut", "good or a kind of defect for a label in line 8"),
        ("shots/006.png,good,evaluation,,nut", "train, validation or test for a split in line 8"),
        ("shots/006.png,good,,,nut", "a split, as other lines have in line 8"),
        ("shots/006.png,good,train,,", "a product, as other lines have in line 8"),
        (",good,train,,nut", "the path of a picture in line 8"),
        ("shots/006.png,good,train", "5 cells in line 8 .*; found 3"),
    ],
)
def test_a_bad_line_is_named(root: Path, row: str, told: str) -> None:
    with pytest.raises(LayoutError, match=told):
        read_layout(table(root, TABLE + row + "\n"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"path": "shots/001.png", "label": 1}', "text for label in line 2"),
        ('{"path": "shots/001.png", "mask": [1]}', "a mask's path, or several in line 2"),
        ('{"path": "shots/001.png"', "JSON in line 2"),
        ('["shots/001.png"]', "a JSON object in line 2"),
    ],
)
def test_a_bad_line_of_json_is_named(root: Path, line: str, told: str) -> None:
    (root / "manifest.jsonl").write_text('{"path": "shots/000.png", "label": "good"}\n' + line)
    with pytest.raises(LayoutError, match=told):
        read_layout(root)
