"""A run on disk keeps what was acknowledged, and says so when something is wrong."""

from __future__ import annotations

import dataclasses
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from differnet.records import Inspection, Record, Region, Verdict
from differnet.reporting import artefacts
from differnet.reporting.artefacts import (
    HEAT_SIDE,
    PREVIEW_SIDE,
    Artefacts,
    RunError,
    shrink,
    write_atomically,
)
from differnet.reporting.run import RunFacts
from differnet.reporting.run_folder import RunFolder, list_runs
from differnet.strict_json import RecordFormatError

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]

Thing = TypeVar("Thing")

GREY = np.full((40, 60, 3), 128, np.uint8)


def present(thing: Thing | None) -> Thing:
    assert thing is not None
    return thing


def test_a_closed_run_reads_back_equal(make_run: MakeRun) -> None:
    run = make_run(["good", "scratch", None, "unreadable"])
    again = RunFolder.open(run.path)
    assert again.records == run.records
    assert again.facts == run.facts
    assert again.facts.counts["INVALID"] == 1
    assert sum(again.facts.counts.values()) == 4
    assert again.facts.run_id == "run"
    assert again.facts.finished_at is not None


def test_the_same_picture_twice_is_kept_twice(make_record: MakeRecord, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", RunFacts())
    twins = [make_record(1, Verdict.PASS, path=path) for path in ("a.png", "b.png", "c.png")]
    maps = [np.full((2, 2), value, np.float32) for value in range(3)]
    kept = [run.append(Inspection(twin, heat), GREY) for twin, heat in zip(twins, maps, strict=True)]
    run.close()
    ids = [record.item_id for record in kept]
    assert ids == [twins[0].item_id, f"{twins[0].item_id}-2", f"{twins[0].item_id}-3"]
    again = RunFolder.open(run.path)
    assert [record.path for record in again.records] == ["a.png", "b.png", "c.png"]
    assert [float(present(again.heat_map(record)).max()) for record in again.records] == [0, 1, 2]


@pytest.mark.parametrize("item_id", ["../../escape", "", "a/b", "CON:", ".hidden", "x" * 200, "a\0b"])
def test_an_item_id_never_leads_out_of_the_folder(
    make_record: MakeRecord, tmp_path: Path, item_id: str
) -> None:
    run = RunFolder.create(tmp_path / "run", RunFacts())
    kept = run.append(
        Inspection(make_record(1, Verdict.PASS, item_id=item_id), np.ones((2, 2), np.float32)), GREY
    )
    assert kept.item_id.isalnum()
    assert run.preview(kept) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "heat_map_path",
    [
        "../outside.npz",
        "/etc/passwd",
        "heat_maps/../../outside.npz",
        "a\0b",
        "x" * 5000,
        "\ud800",
        "heat_maps",
    ],
)
def test_a_heat_map_path_never_leads_out_of_the_folder(
    make_run: MakeRun, tmp_path: Path, heat_map_path: str
) -> None:
    run = make_run(["good"])
    np.savez(tmp_path / "outside.npz", heat_map=np.ones((2, 2), np.float32))
    record = dataclasses.replace(run.records[0], heat_map_path=heat_map_path)
    assert run.heat_map(record) is None


def test_a_torn_last_line_is_detected_left_out_and_cut_by_the_next_append(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    run = RunFolder.create(tmp_path / "run", RunFacts())
    for number in range(3):
        run.append(Inspection(make_record(number, Verdict.PASS)), None)
    file = run.path / "records.jsonl"
    whole = file.read_bytes()
    for cut in (1, 40, len(whole.splitlines()[2])):
        file.write_bytes(whole[:-cut])
        torn = RunFolder.open(run.path)
        assert len(torn.records) == 2
        assert torn.torn_line == whole.splitlines(keepends=True)[2][:-cut]
    torn.append(Inspection(make_record(9, Verdict.PASS)), None)
    again = RunFolder.open(run.path)
    assert [record.part_id for record in again.records] == ["part_0000", "part_0001", "part_0009"]
    assert again.torn_line == b""


def test_a_damaged_whole_line_is_named(make_run: MakeRun) -> None:
    run = make_run(["good", "good", "good"])
    file = run.path / "records.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"{}\n" + lines[2])
    with pytest.raises(RecordFormatError, match=r"line 2 of records\.jsonl"):
        RunFolder.open(run.path)


def test_an_append_is_on_disk_before_the_run_is_closed(make_record: MakeRecord, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", RunFacts())
    run.append(Inspection(make_record(1, Verdict.PASS)), None)
    assert len(RunFolder.open(run.path).records) == 1
    assert RunFolder.open(run.path).facts.finished_at is None


def test_a_run_left_by_an_error_stays_open_for_more(make_record: MakeRecord, tmp_path: Path) -> None:
    def interrupt() -> None:
        with RunFolder.create(tmp_path / "run", RunFacts()) as run:
            run.append(Inspection(make_record(1, Verdict.PASS)), None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    again = RunFolder.open(tmp_path / "run")
    again.append(Inspection(make_record(2, Verdict.PASS)), None)
    again.close()
    assert RunFolder.open(tmp_path / "run").facts.counts["PASS"] == 2


def test_a_finished_run_takes_no_more(make_run: MakeRun, make_record: MakeRecord) -> None:
    with pytest.raises(RunError, match="finished"):
        make_run(["good"]).append(Inspection(make_record(5, Verdict.PASS)), None)


def test_a_run_never_overwrites_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="empty folder"):
        RunFolder.create(tmp_path, RunFacts())


def test_nan_is_refused_and_leaves_no_row(make_record: MakeRecord, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", RunFacts())
    with pytest.raises(RecordFormatError, match="strangeness"):
        run.append(Inspection(make_record(1, Verdict.PASS, strangeness=float("nan"))), GREY)
    with pytest.raises(RecordFormatError, match="not finite"):
        run.append(Inspection(make_record(1, Verdict.PASS), np.full((2, 2), np.nan, np.float32)), GREY)
    assert RunFolder.open(run.path).records == ()


def test_facts_are_strict(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path / "a", {"product": "flange"}).facts.product == "flange"
    with pytest.raises(RecordFormatError, match="colour"):
        RunFolder.create(tmp_path / "b", {"colour": "red"})


def test_a_newer_form_is_refused(make_run: MakeRun) -> None:
    file = make_run(["good"]).path / "run.json"
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(RunError, match="format 2"):
        RunFolder.open(file.parent)


def test_no_run_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run\.json"):
        RunFolder.open(tmp_path)


def test_previews_are_bounded_and_small_pictures_stay_as_they_are(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    run = RunFolder.create(tmp_path / "run", RunFacts())
    region = Region(1500, 700, 40, 30, 900, 9.0, 0.01)
    large = run.append(
        Inspection(make_record(1, Verdict.DEFECT, width=2000, height=1000, regions=(region,))),
        np.full((1000, 2000, 3), 40000, np.uint16),
    )
    small = run.append(Inspection(make_record(2, Verdict.PASS)), GREY)
    assert present(run.preview(large)).shape == (PREVIEW_SIDE // 2, PREVIEW_SIDE, 3)
    assert abs(int(present(run.preview(large))[0, 0, 0]) - (40000 >> 8)) <= 2
    assert present(run.preview(small)).shape == GREY.shape
    assert run.closeup(small) is None
    assert present(run.closeup(large)).shape == (96, 96, 3)


def test_a_closeup_shows_the_strongest_region(make_record: MakeRecord, tmp_path: Path) -> None:
    pixels = np.zeros((1000, 2000, 3), np.uint8)
    pixels[700:730, 1500:1540] = 255
    regions = (Region(10, 10, 30, 30, 900, 5.0, 0.02), Region(1500, 700, 40, 30, 1200, 9.0, 0.01))
    run = RunFolder.create(tmp_path / "run", RunFacts())
    record = make_record(1, Verdict.DEFECT, width=2000, height=1000, regions=regions)
    closeup = present(run.closeup(run.append(Inspection(record), pixels)))
    assert np.count_nonzero(closeup[..., 0] > 128) == pytest.approx(1200, rel=0.05)


@pytest.mark.parametrize("extent", [(1, 1), (1, 3000), (3000, 1), (95, 700)])
def test_pictures_of_any_shape_are_kept(
    make_record: MakeRecord, tmp_path: Path, extent: tuple[int, int]
) -> None:
    height, width = extent
    region = Region(0, 0, width, height, 1, 5.0, 0.01)
    run = RunFolder.create(tmp_path / "run", RunFacts())
    record = make_record(1, Verdict.DEFECT, width=width, height=height, regions=(region,))
    kept = run.append(Inspection(record), np.zeros((height, width, 3), np.uint8))
    assert max(present(run.preview(kept)).shape) <= PREVIEW_SIDE


def test_a_pickled_heat_map_runs_no_code(make_run: MakeRun, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    run = make_run(["good"])
    path = run.path / str(run.records[0].heat_map_path)
    trap = np.empty(1, object)
    trap[0] = Trap()
    np.savez(path, heat_map=trap)
    assert run.heat_map(run.records[0]) is None
    path.write_bytes(pickle.dumps(Trap()))
    assert run.heat_map(run.records[0]) is None
    assert not (tmp_path / "sprung").exists()


def test_a_heat_map_that_unpacks_too_large_is_not_read(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(["good"])
    path = run.path / str(run.records[0].heat_map_path)
    with zipfile.ZipFile(path) as archive:
        monkeypatch.setattr(artefacts, "LARGEST_HEAT_MAP", archive.getinfo("heat_map.npy").file_size - 1)
    assert run.heat_map(run.records[0]) is None


def test_damaged_artefacts_are_absent_not_fatal(make_run: MakeRun) -> None:
    run = make_run(["good"])
    record = run.records[0]
    (run.path / str(record.heat_map_path)).write_bytes(b"PK nonsense")
    (run.path / "pictures" / f"{record.item_id}.jpg").write_bytes(b"")
    assert run.heat_map(record) is None
    assert run.preview(record) is None


@pytest.mark.parametrize("damage", ["stream", "method", "encrypted", "header"])
def test_heat_maps_damaged_in_any_way_are_absent(make_run: MakeRun, damage: str) -> None:
    run = make_run(["good"])
    path = run.path / str(run.records[0].heat_map_path)
    blob = bytearray(path.read_bytes())
    at, listed = blob.index(b"heat_map.npy") + len("heat_map.npy"), blob.index(b"PK\1\2")
    if damage == "stream":
        blob[at + 24 : at + 60] = b"\xff" * 36
    elif damage == "method":
        blob[8:10] = blob[listed + 10 : listed + 12] = b"\x63\0"
    elif damage == "encrypted":
        blob[6] |= 1
        blob[listed + 8] |= 1
    path.write_bytes(blob)
    if damage == "header":
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4000000, 4000000)}"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("heat_map.npy", b"\x93NUMPY\1\0" + bytes([len(head), 0]) + head)
    assert run.heat_map(run.records[0]) is None


def test_previews_that_ask_for_gigabytes_are_absent(make_run: MakeRun) -> None:
    """A run may come from anywhere."""
    run = make_run(["good"])
    path = run.path / "pictures" / f"{run.records[0].item_id}.jpg"
    blob = bytearray(path.read_bytes())
    frame = blob.index(b"\xff\xc0")
    blob[frame + 5 : frame + 9] = b"\x75\x30\x75\x30"
    assert run.preview(run.records[0]) is not None
    path.write_bytes(blob)
    assert run.preview(run.records[0]) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_for_a_heat_map_is_not_waited_for(make_run: MakeRun) -> None:
    run = make_run(["good"])
    path = run.path / str(run.records[0].heat_map_path)
    path.unlink()
    os.mkfifo(path)
    assert run.heat_map(run.records[0]) is None


def test_a_failed_write_keeps_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "run.json"
    write_atomically(target, b"old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space left"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_runs_are_listed_the_latest_first(make_run: MakeRun, tmp_path: Path) -> None:
    for place, name in enumerate(("first", "second", "third")):
        os.utime(make_run(["good"], name).path / "run.json", (place, place))
    (tmp_path / "notes").mkdir()
    assert [path.name for path in list_runs(tmp_path)] == ["third", "second", "first"]
    assert list_runs(tmp_path / "first") == [tmp_path / "first"]
    assert list_runs(tmp_path / "absent") == []


def test_the_colour_scale_is_one_for_the_run_and_ordered(make_run: MakeRun) -> None:
    run = make_run(["good"] * 10 + ["scratch"] * 5)
    low, high = run.heat_scale
    passed = [present(run.heat_map(r)).max() for r in run.records if r.verdict is Verdict.PASS]
    assert low == pytest.approx(float(np.median(passed)))
    assert high >= low + 1
    assert RunFolder.open(run.path).heat_scale == (low, high)


@pytest.mark.parametrize(("height", "width"), [(2236, 2236), (1537, 2049), (5000, 3), (40, 4001)])
def test_what_is_shrunk_keeps_its_proportions_and_its_mean(height: int, width: int) -> None:
    ramp = np.linspace(0, 250, height)[:, None, None] + np.zeros((1, width, 3))
    pixels = ramp.astype(np.uint8)
    small = shrink(pixels, 512)
    scale = 512 / max(height, width)
    assert small.shape == (max(1, round(height * scale)), max(1, round(width * scale)), 3)
    assert float(small.mean()) == pytest.approx(float(pixels.mean()), abs=1.0)
    # Rows still go from dark to bright, as far.
    assert int(small[0].max()) <= 250 / len(small) + 4
    assert int(small[-1].min()) >= 250 - 250 / len(small) - 4


def test_a_large_heat_map_is_sampled_and_nowhere_else_than_finite(
    tmp_path: Path, make_record: Callable[..., Record]
) -> None:
    rows, columns = np.mgrid[:600, :400].astype(np.float32)
    heat = 5 * np.exp(-((rows - 300) ** 2 + (columns - 100) ** 2) / (2 * 60**2)).astype(np.float32)
    record = make_record(0, Verdict.PASS)
    artefacts = Artefacts(tmp_path)
    artefacts.make()
    files = Artefacts.pack(record, heat, None)
    artefacts.keep(files)
    found = artefacts.heat_map(dataclasses.replace(record, heat_map_path=next(iter(files))))
    assert found is not None
    assert found.shape == (HEAT_SIDE, round(HEAT_SIDE * 400 / 600))
    hottest = np.unravel_index(int(found.argmax()), found.shape)
    assert hottest == pytest.approx((HEAT_SIDE / 2, HEAT_SIDE / 6), abs=1.5)
    assert float(found.max()) == pytest.approx(5, abs=0.02)
    # Beside the places that are looked at.
    heat[1, 1] = np.nan
    with pytest.raises(RecordFormatError, match="1 not finite"):
        Artefacts.pack(record, heat, None)
