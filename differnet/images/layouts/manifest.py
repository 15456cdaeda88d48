"""A manifest: a table or JSON lines that say of each picture what it is."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from differnet.images.layouts.files import (
    GOOD_NAMES,
    TEST_NAMES,
    TRAIN_NAMES,
    VALIDATION_NAMES,
    split_good,
)
from differnet.images.layouts.listings import (
    bad_line,
    read_json_lines,
    read_table,
    require_files,
    required_inside,
)
from differnet.images.layouts.parts import GOOD, Layout, LayoutError, Part, Reading, Split

MANIFEST_SUFFIXES = frozenset((".csv", ".jsonl"))
_NAMES = ("manifest.csv", "manifest.jsonl")
# Between several masks in one cell of a table.
_BETWEEN = "|"
# Some write 0 for good, others for defective.
AMBIGUOUS = frozenset(("0", "1", "true", "false", "yes", "no"))
_HEAD_BYTES = 4096
# As a whole word: the name of a column, or of a field.
_PATH = re.compile(rb"(?<![\w/.-])path(?![\w/.-])", re.IGNORECASE)


def is_manifest(root: Path) -> bool:
    """Whether there is a manifest that begins by naming paths; tables of other programs are none."""
    return any(_names_paths(root / name) for name in _NAMES)


def read_manifest(root: Path) -> Reading:
    """List the parts that a folder's manifest names.

    Raises:
        LayoutError: There are two, or it is not as it should be.
    """
    found = [root / name for name in _NAMES if (root / name).is_file()]
    if len(found) != 1:
        raise LayoutError(
            expected=f"one manifest in {root}",
            found=" and ".join(file.name for file in found),
            remedy="Name the file instead of its folder, or take the other one away.",
        )
    return read_manifest_file(found[0])


def read_manifest_file(listing: Path) -> Reading:
    """List the parts that a manifest names; paths are relative to its folder.

    Raises:
        LayoutError: A line is not as it should be, a file is missing or stands there twice, or only some
            parts have a split or a product.
    """
    rows: Sequence[tuple[int, Mapping[str, Any]]] = (
        read_table(listing, ("path",)) if listing.suffix.lower() == ".csv" else read_json_lines(listing)
    )
    lines: dict[Path, int] = {}
    parts: list[Part] = []
    for line, row in rows:
        part = _part(row, line, listing)
        if (before := lines.setdefault(part.path, line)) != line:
            raise bad_line(listing, line, "another picture", f"{part.path.name}, as in line {before}")
        parts.append(part)
    require_files((file for part in parts for file in (part.path, *part.mask_paths)), listing)
    for what, without in (
        ("split", [part for part in parts if part.split is None]),
        ("product", [part for part in parts if part.product is None]),
    ):
        if 0 < len(without) < len(parts):
            raise bad_line(listing, lines[without[0].path], f"a {what}, as other lines have", "none")
    if all(part.split is None for part in parts):
        return _split(parts), ["No splits given: every 4th good part by name is a test part."]
    return parts, []


def _names_paths(listing: Path) -> bool:
    if not listing.is_file():
        return False
    with listing.open("rb") as file:
        head = file.read(_HEAD_BYTES).split(b"\n", 1)[0]
    return _PATH.search(head) is not None


def _part(row: Mapping[str, Any], line: int, listing: Path) -> Part:
    path = _text(row, "path", line, listing)
    if path is None:
        raise bad_line(listing, line, "the path of a picture", "none")
    masks = row.get("mask") or ()
    if isinstance(masks, str):
        masks = [name for name in masks.split(_BETWEEN) if name.strip()]
    if not isinstance(masks, list | tuple) or not all(isinstance(name, str) for name in masks):
        raise bad_line(listing, line, "a mask's path, or several", repr(masks)[:80])
    return Part(
        required_inside(listing.parent, path, listing),
        _label(_text(row, "label", line, listing), line, listing),
        _split_name(_text(row, "split", line, listing), line, listing),
        tuple(required_inside(listing.parent, name.strip(), listing) for name in masks),
        _text(row, "product", line, listing),
    )


def _text(row: Mapping[str, Any], name: str, line: int, listing: Path) -> str | None:
    cell = row.get(name)
    if not isinstance(cell, str | None):
        raise bad_line(listing, line, f"text for {name}", repr(cell)[:80])
    return cell.strip() or None if cell else None


def _label(word: str | None, line: int, listing: Path) -> str | None:
    if word is None or word.lower() not in GOOD_NAMES | AMBIGUOUS:
        return word
    if word.lower() in AMBIGUOUS:
        raise bad_line(listing, line, "good or a kind of defect for a label", repr(word))
    return GOOD


def _split_name(word: str | None, line: int, listing: Path) -> Split | None:
    if word is None:
        return None
    if word.lower() in TRAIN_NAMES | VALIDATION_NAMES:
        return "train"
    if word.lower() in TEST_NAMES:
        return "test"
    raise bad_line(listing, line, "train, validation or test for a split", repr(word))


def _split(parts: Sequence[Part]) -> list[Part]:
    """Split by the rule for folders, product by product; what has no label stays out of both."""
    good: dict[str | None, list[Path]] = defaultdict(list)
    for part in parts:
        if part.label == GOOD:
            good[part.product].append(part.path)
    splits: dict[Path, Split | None] = {part.path: "test" for part in parts if part.label not in (GOOD, None)}
    splits |= {chosen.path: chosen.split for files in good.values() for chosen in split_good(files)}
    return [replace(part, split=splits.get(part.path)) for part in parts]


MANIFEST = Layout(
    "manifest.csv or manifest.jsonl with path, label, split, mask and product", is_manifest, read_manifest
)
