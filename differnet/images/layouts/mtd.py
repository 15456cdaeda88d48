"""Magnetic Tile Defects: MT_Free/Imgs/*.jpg, MT_<Kind>/Imgs/*.jpg, a .png mask beside every .jpg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from differnet.images.layouts.files import folders, marks_something, pictures_in, split_good
from differnet.images.layouts.parts import GOOD, Layout, Part, Reading

_NAMES = "train_filenames.txt"


def is_mtd(root: Path) -> bool:
    """Whether there are tiles free of defects in their own folder."""
    return (root / "MT_Free" / "Imgs").is_dir()


def read_mtd(root: Path) -> Reading:
    """List the tiles; the training names of the official split are in a text file."""
    parts: list[Part] = []
    notes: list[str] = []
    for folder in folders(root):
        if not folder.name.startswith("MT_") or not (folder / "Imgs").is_dir():
            continue
        pictures = [file for file in pictures_in(folder / "Imgs") if file.suffix.lower() == ".jpg"]
        if folder.name == "MT_Free":
            good, notes = _split(root, pictures)
            parts += good
            continue
        kind = folder.name.removeprefix("MT_")
        parts += [Part(file, kind, "test", _marked_mask(file.with_suffix(".png"))) for file in pictures]
    return parts, notes


def mask_of_tile(picture: Path) -> tuple[Path, ...]:
    """Find the mask of a tile from its own path; none for what is no tile of MTD with a defect."""
    folder = picture.parent
    kind = folder.parent.name
    if folder.name != "Imgs" or not kind.startswith("MT_") or kind == "MT_Free":
        return ()
    return _marked_mask(picture.with_suffix(".png")) if picture.suffix.lower() == ".jpg" else ()


def _split(root: Path, pictures: Sequence[Path]) -> Reading:
    listing = root / _NAMES
    if not listing.is_file():
        return split_good(pictures), [f"No {_NAMES}: every 4th good tile by name is a test part."]
    # Only compared with the names that are there: nothing is opened by a name out of this list.
    names = {line.strip() for line in listing.read_text("utf-8", "replace").splitlines()} - {""}
    absent = names - {file.name for file in pictures}
    notes = [f"{len(absent)} of {len(names)} names in {_NAMES} have no picture."] if absent else []
    return [Part(file, GOOD, "train" if file.name in names else "test") for file in pictures], notes


def _marked_mask(mask: Path) -> tuple[Path, ...]:
    """Keep a mask that marks something: four of MTD's defective tiles come with a blank one.

    One that cannot be read is kept too: the scan reports it, nothing is dropped in silence.
    """
    return () if not mask.is_file() or marks_something(mask) is False else (mask,)


MTD = Layout("MT_Free/Imgs/*.jpg beside MT_<Kind>/Imgs/*.jpg", is_mtd, read_mtd)
