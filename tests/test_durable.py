"""Files and folders are there whole or not at all, whatever step the disk refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from differnet.durable import remove_drafts, sync_folder, whole_folder, write_file, write_files

OLD, NEW = b"old", b"new content"


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refuse_at(step: int, errno: int, counted: list[int]) -> Callable[..., None]:
    """Fail at the ``step``-th call, counted from 0 over all that share ``counted``."""

    def refuse(*_: object, **__: object) -> None:
        counted.append(1)
        if len(counted) == step + 1:
            raise OSError(errno, os.strerror(errno))

    return refuse


def failing(patch: pytest.MonkeyPatch, step: int, errno: int) -> list[int]:
    """Let the ``step``-th of all syncs, renames and changes of mode fail; return what counts them."""
    counted: list[int] = []
    refuse = refuse_at(step, errno, counted)
    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "rename"), (Path, "chmod")):
        true = getattr(owner, name)

        def asked(*given: object, true: Callable[..., object] = true, **named: object) -> object:
            refuse()
            return true(*given, **named)

        patch.setattr(owner, name, asked)
    return counted


def make(folder: Path) -> None:
    with whole_folder(folder) as building:
        (building / "deep").mkdir()
        (building / "deep" / "new").write_bytes(NEW)


def errno_of(step: Callable[[], None]) -> int | None:
    """Return the number of the error that a step ends in, if any."""
    try:
        step()
    except OSError as error:
        return error.errno
    return None


@pytest.mark.parametrize("errno", [5, 13, 24, 28])
def test_a_file_is_old_or_new_at_every_step_that_fails(
    tmp_path: Path, errno: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.json"
    for step in range(10):
        write_file(file, OLD)
        with monkeypatch.context() as patch:
            counted = failing(patch, step, errno)
            told = errno_of(partial(write_file, file, NEW))
        # The last sync is of the name: the content is new then, and the caller knows it may not last.
        assert file.read_bytes() in (OLD, NEW)
        assert names(tmp_path) == ["run.json"]
        assert told == (None if len(counted) <= step else errno)
        if len(counted) <= step:
            assert file.read_bytes() == NEW
            assert step == 4
            break
        assert (file.read_bytes() == NEW) == (step == 3)
    else:
        pytest.fail("every step failed")


@pytest.mark.parametrize("errno", [5, 13, 24, 28])
def test_each_of_several_files_is_old_or_new_at_every_step_that_fails(
    tmp_path: Path, errno: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"heat.npz": NEW, "deep/picture.jpg": NEW}
    (tmp_path / "deep").mkdir()
    for step in range(20):
        for name in wanted:
            write_file(tmp_path / name, OLD)
        with monkeypatch.context() as patch:
            counted = failing(patch, step, errno)
            told = errno_of(partial(write_files, tmp_path, wanted))
        found = [(tmp_path / name).read_bytes() for name in wanted]
        assert set(found) <= {OLD, NEW}
        assert names(tmp_path) == ["deep", "deep/picture.jpg", "heat.npz"]
        assert told == (None if len(counted) <= step else errno)
        if step < 2:
            # Nothing takes its name before all are on the disk.
            assert found == [OLD, OLD]
        if len(counted) <= step:
            assert found == [NEW, NEW]
            # Two syncs of content, two modes and renames, two syncs of folders.
            assert step == 8
            return
    pytest.fail("every step failed")


def test_a_file_that_cannot_be_begun_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "nowhere" / "run.json", NEW)
    assert names(tmp_path) == []


def test_an_interrupt_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "run.json"
    write_file(file, OLD)
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_file(file, NEW)
    assert file.read_bytes() == OLD
    assert names(tmp_path) == ["run.json"]


@pytest.mark.parametrize("errno", [5, 13, 24, 28])
@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_old_or_new_at_every_step_that_fails(
    tmp_path: Path, errno: int, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(20):
        place = tmp_path / str(step)
        folder = place / "model"
        if there:
            with whole_folder(folder) as building:
                (building / "old").write_bytes(OLD)
        else:
            place.mkdir()
        before = names(place)
        with monkeypatch.context() as patch:
            counted = failing(patch, step, errno)
            told = errno_of(partial(make, folder))
        assert told == (None if len(counted) <= step else errno)
        new = ["model", "model/deep", "model/deep/new"]
        assert names(place) in (before, new)
        if len(counted) <= step:
            assert names(place) == new
            return
    pytest.fail("every step failed")


def test_what_goes_wrong_inside_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with whole_folder(folder) as building:
        (building / "old").write_bytes(OLD)

    def interrupted() -> None:
        with whole_folder(folder) as building:
            (building / "half").write_bytes(NEW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == ["model", "model/old"]


def test_every_byte_and_name_is_synced_before_the_folder_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    sync, rename = os.fsync, Path.rename

    def synced(handle: int) -> None:
        told.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        sync(handle)

    def renamed(self: Path, target: Path) -> Path:
        told.append("renamed")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not tell which file a handle is of")
    make(tmp_path / "model")
    before, after = told[: told.index("renamed")], told[told.index("renamed") + 1 :]
    assert {"deep", "new"} < set(before)
    assert any(name.startswith(".model-") for name in before)
    assert after == [tmp_path.name]


def test_written_files_and_folders_are_as_readable_as_others(tmp_path: Path) -> None:
    write_file(tmp_path / "file", NEW)
    with whole_folder(tmp_path / "folder"):
        pass
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


def test_a_folder_that_is_gone_cannot_be_synced(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "gone")


def test_only_old_drafts_of_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        # As after SIGKILL: nothing runs that would remove the draft.
        patch.setattr(os, "fsync", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        for name in ("old.npz", "young.npz"):
            with pytest.raises(SystemExit):
                write_file(tmp_path / name, NEW)
    for name in ("kept.part", ".hidden", ".folder.x.part/inside"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(NEW)
    (tmp_path / ".link.x.part").symlink_to(tmp_path / "kept.part")
    long_ago = 1_000_000_000
    for path in tmp_path.iterdir():
        if not path.name.startswith(".young"):
            os.utime(path, (long_ago, long_ago), follow_symlinks=False)
    assert remove_drafts(tmp_path, 60) == 1
    left = names(tmp_path)
    assert [name for name in left if "young" in name] == [left[-2]]
    assert not [name for name in left if "old.npz" in name]
    assert len(left) == 6
    assert remove_drafts(tmp_path, -1) == 1
    assert remove_drafts(tmp_path / "nowhere", 60) == 0
