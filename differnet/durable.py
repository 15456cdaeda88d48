"""Files and folders that are there whole or not at all, also after a loss of power.

A file's bytes are one thing, its name in a folder another: both have to reach the disk before anybody may
rely on them. Every file that must not be torn is written by `write_file`, every folder by `whole_folder`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_DRAFT = ".part"


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new, never a part.

    Args:
        path: File to make or replace; its folder must exist.
        content: All of its bytes.

    Raises:
        OSError: The disk refused (full, read-only, gone). The old file stands, and no draft is left.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "verdict.txt"
        ...     write_file(file, b"PASS")
        ...     write_file(file, b"DEFECT")
        ...     file.read_bytes(), len(list(Path(folder).iterdir()))
        (b'DEFECT', 1)
    """
    write_files(path.parent, {path.name: content})


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write several files, each of which a reader finds old or new, never a part.

    All of them are on the disk before the first takes its name, and every folder is synced once, not once a
    file. Where the disk refuses, some may be new and others old: they are not whole together, see
    `whole_folder`.

    Args:
        folder: Where they are.
        files: Content of each, by its path below ``folder``; its own folder must exist.

    Raises:
        OSError: The disk refused. No draft is left.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_files(Path(folder), {"a.txt": b"A", "b.txt": b"B"})
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['a.txt', 'b.txt']
    """
    drafts: dict[Path, Path] = {}
    try:
        for name, content in files.items():
            path = folder / name
            handle, draft = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=_DRAFT, dir=path.parent)
            drafts[path] = Path(draft)
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for path, written in drafts.items():
            # mkstemp makes private files; this one is as readable as its owner's other files.
            written.chmod(0o644)
            written.replace(path)
    except BaseException:
        for written in drafts.values():
            written.unlink(missing_ok=True)
        raise
    for parent in dict.fromkeys(path.parent for path in drafts):
        sync_folder(parent)


def remove_drafts(folder: Path, seconds: float) -> int:
    """Remove drafts of `write_files` that nobody finishes any more, since their process was killed.

    Args:
        folder: Where they would be; only its own files are looked at. It may be missing.
        seconds: Age from which a draft is taken for left behind.

    Returns:
        How many were removed.

    Raises:
        OSError: The folder cannot be read, or a draft not be removed.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / ".verdict.txt.x1y2.part").write_bytes(b"PA")
        ...     remove_drafts(Path(folder), 60), remove_drafts(Path(folder), 0)
        (0, 1)
    """
    if not folder.is_dir():
        return 0
    oldest = time.time() - seconds
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if not (entry.name.startswith(".") and entry.name.endswith(_DRAFT)):
                continue
            # Another process may finish or remove it at the same time.
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime <= oldest:
                    Path(entry.path).unlink()
                    removed += 1
    return removed


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Fill a new folder that takes its place when the block ends, and only if it ends well.

    Args:
        folder: Where it will be. What is there is replaced, and stands as it was where the block or the disk
            fails: ask first whether it may go.

    Yields:
        An empty folder beside it, to write into.

    Raises:
        OSError: The disk refused.

    Example:
        >>> with tempfile.TemporaryDirectory() as place:
        ...     with whole_folder(Path(place) / "model") as building:
        ...         _ = (building / "manifest.json").write_text("{}")
        ...     sorted(path.name for path in Path(place).rglob("*"))
        ['manifest.json', 'model']
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name[:100]}-", dir=folder.parent))
    try:
        yield building
        # mkdtemp makes private folders; this one is as readable as its owner's other files.
        building.chmod(0o755)
        _sync_tree(building)
        if folder.exists():
            _replace_folder(folder, building)
        else:
            building.rename(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time do something to what lies in a folder; others that ask wait for it.

    A process that dies gives way. Windows has no such locks of folders; nobody waits there.

    Raises:
        OSError: The folder cannot be opened.
    """
    if os.name == "nt":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        # The lock goes with it.
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make new and changed names in a folder durable; Windows cannot open folders and needs no such step.

    Raises:
        OSError: The folder cannot be opened, or the disk fails.
    """
    if os.name != "nt":
        sync_file(folder)


def _sync_tree(folder: Path) -> None:
    """Make everything below a folder durable, and the folder itself."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(place) / name)
        sync_folder(Path(place))


def sync_file(path: Path) -> None:
    """Make the content of a file durable that somebody else has written.

    Raises:
        OSError: The file cannot be opened, or the disk fails.
    """
    # Windows syncs only what may be written to.
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace_folder(folder: Path, building: Path) -> None:
    """Put ``building`` in the place of ``folder``; where that fails, ``folder`` is as before."""
    retired = Path(tempfile.mkdtemp(prefix=f".{folder.name[:100]}-old-", dir=folder.parent))
    try:
        folder.rename(retired / "old")
        try:
            building.rename(folder)
        except BaseException:
            (retired / "old").rename(folder)
            raise
    except BaseException:
        retired.rmdir()
        raise
    # The new folder is in place: that an old one could not be removed is no failure.
    shutil.rmtree(retired, ignore_errors=True)
