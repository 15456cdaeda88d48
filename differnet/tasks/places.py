"""Where tasks read and write: one workspace, names that stay inside it, and folders that are there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from differnet.records import DiffernetError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What Windows takes for devices, whatever ending they have.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# Folders that a person can look through in a list.
_LISTED = 500


class WishError(DiffernetError):
    """Raised for a wish that cannot be fulfilled as it is: a name, a path or a number that does not serve."""


@dataclass(frozen=True)
class Workspace:
    """The folder in which pages put what they make.

    Attributes:
        root: The folder, absolute.
    """

    root: Path

    @classmethod
    def open(cls, place: str) -> Self:
        """Open a workspace that is there.

        Raises:
            WishError: It is no absolute path of a folder.
        """
        return cls(existing_folder(place, "a workspace"))

    @property
    def samples(self) -> Path:
        """For sample products."""
        return self.root / "data"

    @property
    def models(self) -> Path:
        """For model bundles."""
        return self.root / "models"

    @property
    def runs(self) -> Path:
        """For heat maps and previews of runs."""
        return self.root / "runs"

    @property
    def reports(self) -> Path:
        """For reports and tables of runs."""
        return self.root / "reports"

    @property
    def uploads(self) -> Path:
        """For pictures that somebody sent, by their content."""
        return self.root / "uploads"

    @property
    def logs(self) -> Path:
        """For what the processes of tasks write."""
        return self.root / "logs"

    def log_of(self, task_id: str) -> Path:
        """Return the file that the process of a task writes to.

        Raises:
            WishError: It is no task's name.
        """
        return self.logs / f"{plain_name(task_id)}.log"


def plain_name(name: str) -> str:
    """Check that a name is one step of a path, and the same on every system.

    Raises:
        WishError: It is not.

    Example:
        >>> plain_name("flange-2")
        'flange-2'
    """
    if _NAME.fullmatch(name) is None or ".." in name or name.endswith(".") or _DEVICES.fullmatch(name):
        raise WishError(
            expected="a name of letters, digits, dots, dashes and underscores, 64 at most",
            found=repr(name[:100]),
            remedy="Choose another name; it becomes a folder's.",
        )
    return name


def name_from(text: str, otherwise: str = "part") -> str:
    """Make a plain name of any text.

    Example:
        >>> name_from("flange 40 mm"), name_from("../../etc"), name_from("\u00e4\u00f6")
        ('flange-40-mm', 'etc', 'part')
    """
    made = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:40].strip("-_")
    return made if made and not _DEVICES.fullmatch(made) else otherwise


def folder_of(text: str) -> str:
    """Name a folder after any text; two texts do not share one.

    Example:
        >>> folder_of("monday"), folder_of("line 3/monday")
        ('monday', 'line-3-monday-0578058f')
    """
    made = name_from(text)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return made if made == text else f"{made}-{digest}"


def unused_name(folder: Path, wanted: str) -> str:
    """Return a name that nothing in a folder has: the wanted one, or one with a number behind it."""
    number = 1
    name = wanted
    while (folder / name).exists():
        number += 1
        name = f"{wanted}-{number}"
    return name


def require_unused(folder: Path) -> Path:
    """Check that nothing would be overwritten.

    Raises:
        WishError: Something is there.
    """
    if folder.is_symlink() or folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise WishError(
            expected=f"nothing at {folder}",
            found="a file" if folder.is_file() else "a folder with files in it",
            remedy="Choose another name: nothing is overwritten.",
        )
    return folder


def existing(place: str, what: str) -> Path:
    """Check that a path is absolute, and that something is there that this user may read.

    Args:
        place: The path.
        what: Is looked for, in words.

    Raises:
        WishError: It does not serve.
    """
    try:
        path = Path(place)
        there = bool(place.strip()) and path.is_absolute() and os.access(path, os.R_OK)
    except (OSError, ValueError):
        # A name that no file can have: too long, or with NUL in it.
        there = False
    if not there:
        raise WishError(
            expected=f"the absolute path of {what} that this server's user may read",
            found=repr(place[:200]) if place.strip() else "nothing",
            remedy="Choose it from the list, or check how it is spelt.",
        )
    return path


def existing_folder(place: str, what: str) -> Path:
    """Check that a path is absolute, and a folder that this user may look into.

    Raises:
        WishError: It does not serve.
    """
    path = existing(place, what)
    if not (path.is_dir() and os.access(path, os.X_OK)):
        raise WishError(
            expected=f"{what}, a folder", found=f"a file, {path}", remedy="Name the folder that it lies in."
        )
    return path


def subfolders(folder: Path) -> list[str]:
    """Name the folders in a folder that this user may look into, without hidden ones, 500 at most.

    Returns:
        Their names, sorted; none where the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []
    # A name that cannot be shown can be typed.
    listed = [entry for entry in shown if entry.name.isprintable()]
    found = [entry.name for entry in listed if os.access(entry.path, os.R_OK | os.X_OK)]
    return sorted(found, key=str.casefold)[:_LISTED]


def roots(workspace: Path, given: Sequence[str] = ()) -> list[Path]:
    """Return the folders at which looking for pictures begins: the workspace, those that were given, home.

    Args:
        workspace: Of the dashboard.
        given: Further ones; those that are no folders are left out.
    """
    places = [workspace, *(Path(place) for place in given if place)]
    # A container's user may have no home.
    with contextlib.suppress(RuntimeError):
        places.append(Path.home())
    kept = [place.absolute() for place in places if place.is_dir() and os.access(place, os.R_OK | os.X_OK)]
    return list(dict.fromkeys(kept))
