"""Files that list pictures: tables, JSON and JSON lines, read strictly, and never trusted with a path."""

from __future__ import annotations

import csv
import errno
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from differnet.images.layouts.parts import LayoutError

# Missing files that a message names; all are counted.
_NAMED = 3
# Characters of a name that a message shows.
_SHOWN = 200
_SEPARATORS = (",", ";", "\t")


def inside(folder: Path, name: str) -> Path | None:
    """Join a name out of a listing to a folder; ``None`` where it would lead out of the folder.

    Example:
        >>> inside(Path("parts"), "good/1.png").as_posix(), inside(Path("parts"), "../secret.png")
        ('parts/good/1.png', None)
    """
    pure = PurePosixPath(name.replace("\\", "/"))
    # A colon in the first part is a drive letter.
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0] or "\0" in name:
        return None
    return folder / pure


def required_inside(folder: Path, name: str, listing: Path) -> Path:
    """Join a name out of a listing to a folder.

    Raises:
        LayoutError: It would lead out of the folder.
    """
    if (path := inside(folder, name)) is None:
        raise LayoutError(
            expected=f"paths below {folder} in {listing}",
            found=repr(name)[:_SHOWN],
            remedy="Write paths relative to that folder; nothing outside it is opened.",
        )
    return path


def require_files(files: Iterable[Path], listing: Path) -> None:
    """Find out whether what a listing names is there.

    Raises:
        LayoutError: Files are missing.
    """
    wanted = list(files)
    missing = [file for file in wanted if not is_there(file)]
    if missing:
        named = ", ".join(str(file)[:_SHOWN] for file in missing[:_NAMED])
        raise LayoutError(
            expected=f"the {len(wanted):,} files that {listing} names",
            found=f"{len(missing):,} missing: {named}" + (" ..." if len(missing) > _NAMED else ""),
            remedy="Complete the folder, or take the missing files out of the listing.",
        )


def is_there(path: Path, *, folder: bool = False) -> bool:
    """Whether there is such a file, or folder; a name that no file can have is of none.

    Example:
        >>> is_there(Path("x" * 5000)), is_there(Path("."), folder=True)
        (False, True)
    """
    try:
        return path.is_dir() if folder else path.is_file()
    except OSError as error:
        # pathlib takes other names that no file can have for absent ones, but not this.
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def read_table(listing: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a table with a header, its cells separated by comma, semicolon or tab.

    Args:
        listing: The file, UTF-8.
        columns: Names that its header must have.

    Returns:
        Each row with the number of its line, cells stripped, names of columns in lower case.

    Raises:
        LayoutError: No text, no such columns, or a row of another length.
    """
    lines = _text(listing).split("\n")
    header = lines[0]
    separator = max(_SEPARATORS, key=header.count)
    names = [name.strip().lower() for name in next(csv.reader([header], delimiter=separator), [])]
    if missing := [name for name in columns if name not in names]:
        raise LayoutError(
            expected=f"a header with {', '.join(columns)} in {listing}",
            found=f"none of the name {', '.join(missing)} in {header[:80]!r}",
            remedy="Give the table a first line with the names of its columns.",
        )
    rows = csv.reader(lines[1:], delimiter=separator)
    table: list[tuple[int, dict[str, str]]] = []
    try:
        for cells in rows:
            line = rows.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(names):
                raise bad_line(listing, line, f"{len(names)} cells", f"{len(cells)}")
            table.append((line, dict(zip(names, (cell.strip() for cell in cells), strict=True))))
    except csv.Error as error:
        raise bad_line(listing, rows.line_num + 1, "a row of a table", str(error)) from error
    return table


def read_json(listing: Path) -> Mapping[str, Any]:
    """Read one JSON object.

    Raises:
        LayoutError: It is none.
    """
    return _object(_text(listing), listing)


def read_json_lines(listing: Path) -> list[tuple[int, Mapping[str, Any]]]:
    """Read a JSON object from each line that is not blank, with the number of its line.

    Raises:
        LayoutError: A line holds none.
    """
    lines = enumerate(_text(listing).split("\n"), 1)
    return [(number, _object(line, listing, number)) for number, line in lines if line.strip()]


def bad_line(listing: Path, line: int, expected: str, found: str) -> LayoutError:
    """Make the error of a line that cannot be understood."""
    return LayoutError(
        expected=f"{expected} in line {line} of {listing}",
        found=found,
        remedy="Correct that line; docs/layouts.md says what it may hold.",
    )


def _text(listing: Path) -> str:
    try:
        # Spreadsheets write a byte order mark.
        return listing.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(
            expected=f"UTF-8 text in {listing}", found=str(error), remedy="Save the file as UTF-8 text."
        ) from error


def _object(text: str, listing: Path, line: int = 1) -> Mapping[str, Any]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_line(listing, line, "JSON", str(error)) from error
    if not isinstance(tree, dict):
        raise bad_line(listing, line, "a JSON object", f"a {type(tree).__name__}")
    return tree
