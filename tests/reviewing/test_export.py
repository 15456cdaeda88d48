"""A manifest of reviews reads back as what people said, or is not written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from differnet.images.layouts import read_layout
from differnet.records import Record, Verdict
from differnet.reviewing import (
    ReviewError,
    export,
    export_beside,
    last_words,
    locate,
    manifest_folder,
    set_aside,
    unsure,
)
from differnet.reviewing.judgements import LastWord, Located
from differnet.store import Asked, ReviewEntry
from reviewing.conftest import Line, sha256_of


def located(line: Line, asked: Asked | None = None) -> list[Located]:
    return locate(line.store, last_words(line.store, asked or Asked()), line.root)[0]


def one(path: Path, judgement: str, kind: str = "", product: str = "") -> Located:
    content = path.read_bytes()
    record = Record(
        "r", "i", "p", "", str(path), sha256_of(content), Verdict.PASS, ("told",), product=product
    )
    return Located(LastWord(record, ReviewEntry(judgement, "ada", kind)), path)  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_the_reader_finds_exactly_what_people_said(line: Line, ending: str) -> None:
    said = {"a.png": "good", "b.png": "defect", "c.png": "unsure", "sub/d.png": "good"}
    for path, judgement in said.items():
        kind = "dent, deep" if judgement == "defect" else ""
        line.say(line.inspect("monday", path, path.encode()), judgement, kind)
    # The same picture again: not a second row, and the later word.
    line.say(line.inspect("tuesday", "sub/d.png", b"sub/d.png"), "good")
    listing = line.root / f"said{ending}"
    told = export(located(line), listing)
    assert (told.good, told.defects, told.aside, told.renamed_kinds) == (2, 1, 0, ())
    read = read_layout(listing)
    assert {p.path.relative_to(line.root).as_posix(): p.label for p in read.parts} == {
        "a.png": "good",
        "sub/d.png": "good",
        "b.png": "dent, deep",
    }
    assert [p.path.name for p in read.train_good] == ["a.png", "d.png"]
    assert read.products == ("flange",)
    assert unsure(last_words(line.store, Asked())) == 1


# Everything that a POSIX name may hold and a listing may stumble over.
_NAMES = st.text(st.sampled_from("ab ,;\"'\t\n\r\\|:=@#%\u00e4\u2028\udcff\udc80"), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    names=st.sets(_NAMES.map(lambda name: f"{name}.png"), min_size=1, max_size=4),
    folder=st.sampled_from(["", "one two", "c:"]),
    ending=st.sampled_from([".csv", ".jsonl"]),
)
def test_every_name_comes_back_or_is_refused(names: set[str], folder: str, ending: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / folder).mkdir(exist_ok=True)
        files = [root / folder / name for name in sorted(names)]
        for number, file in enumerate(files):
            file.write_bytes(bytes([number]))
        listing = root / f"said{ending}"
        try:
            export([one(file, "good") for file in files], listing)
        except ReviewError:
            assert not listing.exists()
            # Nothing plain is refused.
            assert any(
                set(os.fspath(f.relative_to(root))) & set(" \\:\t\n\r\u2028\udcff\udc80") for f in files
            )
            return
        assert {part.path for part in read_layout(listing).train_good} == set(files)


@pytest.mark.parametrize("name", ["a\nb.png", "a\rb.png", "a\udcffb.png"])
def test_json_lines_hold_what_a_table_cannot(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ReviewError, match=r"\.jsonl"):
        export([one(tmp_path / name, "good")], tmp_path / "said.csv")
    export([one(tmp_path / name, "good")], tmp_path / "said.jsonl")
    assert [part.path for part in read_layout(tmp_path / "said.jsonl").parts] == [tmp_path / name]


def test_a_name_of_bytes_goes_all_the_way_round(line: Line) -> None:
    line.say(line.inspect("monday", "a\udcff\nb.png", b"odd"), "good")
    export(located(line), line.root / "said.jsonl")
    assert [p.path for p in read_layout(line.root / "said.jsonl").train_good] == [
        line.root / "a\udcff\nb.png"
    ]


@pytest.mark.parametrize("name", ["=1+1,2.png", '"quoted".png', "it's.png", "a;b.png"])
def test_a_table_holds_formulas_commas_and_quotes_as_they_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    export([one(tmp_path / name, "good")], tmp_path / "said.csv")
    assert [part.path for part in read_layout(tmp_path / "said.csv").parts] == [tmp_path / name]


def test_a_manifest_stands_above_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "shots" / "a.png").write_bytes(b"x")
    with pytest.raises(ReviewError) as refused:
        export([one(tmp_path / "shots" / "a.png", "good")], tmp_path / "elsewhere" / "said.csv")
    assert str(tmp_path / "shots" / "said.csv") in refused.value.remedy
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_link_on_the_way_to_a_picture_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "a.png").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "shots")
    export([one(tmp_path / "link" / "a.png", "good")], tmp_path / "shots" / "said.csv")
    assert len(read_layout(tmp_path / "shots" / "said.csv").parts) == 1


@pytest.mark.parametrize("kind", ["good", "OK", "1", "yes", "two\nlines", "\udcff"])
def test_no_kind_of_defect_is_read_as_good(tmp_path: Path, kind: str) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    told = export(
        [one(tmp_path / "a.png", "good"), one(tmp_path / "b.png", "defect", kind)], tmp_path / "said.csv"
    )
    assert told.renamed_kinds == (kind,)
    assert [part.label for part in read_layout(tmp_path / "said.csv").parts] == ["good", "defect"]


def test_nothing_is_overwritten_and_nothing_empty_written(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "said.csv").write_text("mine")
    for said, listing in (("good", "said.csv"), ("unsure", "new.csv"), ("good", "said.txt")):
        with pytest.raises(ReviewError):
            export([one(tmp_path / "a.png", said)], tmp_path / listing)
    assert (tmp_path / "said.csv").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "said.csv"]


def test_products_are_all_named_or_none(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    export([one(a, "good", product="nut"), one(b, "good", product="bolt")], tmp_path / "two.csv")
    assert read_layout(tmp_path / "two.csv").products == ("bolt", "nut")
    for pair in (
        [one(a, "good", product="nut"), one(b, "good")],
        [one(a, "good", product="nut"), one(a, "good", product="bolt")],
        [one(a, "good", product=" nut"), one(b, "good", product="bolt")],
    ):
        with pytest.raises(ReviewError, match="--product"):
            export(pair, tmp_path / "mixed.csv")


def test_every_fourth_good_part_by_hash_is_held_out(tmp_path: Path) -> None:
    said = []
    for number in range(10):
        file = tmp_path / f"{number}.png"
        file.write_bytes(f"{number}".encode())
        said.append(one(file, "defect" if number == 9 else "good"))
    told = export(said, tmp_path / "said.csv", hold_out=True)
    assert (told.good, told.defects, told.aside) == (9, 1, 2)
    read = read_layout(tmp_path / "said.csv")
    hashes = sorted(sha256_of(f"{number}".encode()) for number in range(9))
    aside = {sha256_of(p.path.read_bytes()) for p in read.test if p.label == "good"}
    assert aside == {hashes[3], hashes[7]} == set_aside(hashes)
    assert [p.path.name for p in read.test if p.label != "good"] == ["9.png"]
    assert len(read.train_good) == 7


def test_a_manifest_is_written_beside_the_pictures(line: Line) -> None:
    line.run("one")
    for name, said in (("a/1.png", "good"), ("a/2.png", "defect"), ("a/b/3.png", "good")):
        record = line.inspect("one", name, name.encode())
        line.store.review("one", record.item_id, ReviewEntry(said, "ada"))  # type: ignore[arg-type]
    found = located(line)
    assert manifest_folder(found) == (line.root / "a").resolve()
    file, written = export_beside(found, " reviewed.csv ")
    assert file == (line.root / "a" / "reviewed.csv").resolve()
    assert (written.good, written.defects) == (2, 1)
    with pytest.raises(ReviewError, match="nothing yet at"):
        export_beside(found, "reviewed.csv")


@pytest.mark.parametrize(
    "name", ["", "..", "../x.csv", "/x.csv", "b/x.csv", "b\\x.csv", ".x.csv", "c:x.csv", "x\n.csv", "x\0.csv"]
)
def test_a_manifest_is_written_nowhere_else(line: Line, name: str) -> None:
    line.run("one")
    record = line.inspect("one", "a/1.png", b"1")
    line.store.review("one", record.item_id, ReviewEntry("good", "ada"))
    found = located(line)
    before = sorted(line.root.rglob("*"))
    with pytest.raises(ReviewError, match="plain file name"):
        export_beside(found, name)
    assert sorted(line.root.rglob("*")) == before


def test_pictures_that_are_gone_have_no_folder() -> None:
    assert manifest_folder([]) is None
    with pytest.raises(ReviewError, match="none that is still there"):
        export_beside([], "x.csv")
