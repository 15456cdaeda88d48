"""Real-IAD: a JSON list for each product, and a tree of pictures for each resolution."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from differnet.images.layouts.files import folders, is_visible
from differnet.images.layouts.listings import inside, is_there, read_json, require_files, required_inside
from differnet.images.layouts.parts import GOOD, Layout, LayoutError, Part, Reading, Split

_LISTS = "realiad_jsons"
_RESOLUTION = re.compile(r"realiad_(\d+|raw)")
_SAMPLE = re.compile(r"S\d{4}")
_SPLITS: tuple[Split, ...] = ("train", "test")


def is_real_iad(root: Path) -> bool:
    """Whether there are lists, or pictures arranged as Real-IAD's are."""
    inner = folders(root)
    if _list_folders(root) or any(_RESOLUTION.fullmatch(folder.name) for folder in inner):
        return True
    return any(_is_product(folder) for folder in (root, *inner))


def read_real_iad(root: Path) -> Reading:
    """List the parts that the lists name.

    Args:
        root: The folder of lists and pictures, that of one resolution, or one product's in it.

    Returns:
        The parts of each product that is there, its five views together.

    Raises:
        LayoutError: No lists, several lists or resolutions to choose among, or missing pictures.
    """
    lists, notes = _choose_lists(root)
    only = root.resolve().name if _is_product(root) else None
    pictures = root if only is not None else _choose_resolution(root)
    parts: list[Part] = []
    absent: list[str] = []
    for listing in _lists_in(lists):
        if only is not None and listing.stem != only:
            continue
        tree = read_json(listing)
        folder = root if only is not None else _folder_of(listing, tree, pictures)
        if folder is None:
            absent.append(listing.stem)
        else:
            parts += _read_list(listing, tree, folder)
    if not parts:
        raise LayoutError(
            expected=f"pictures in {pictures} that a list in {lists} names",
            found=f"no folder of the name {', '.join(absent[:5])}" if absent else f"no list {only}.json",
            remedy="Unpack each product's pictures into a folder that has the name of its list.",
        )
    if absent:
        notes.append(f"{len(absent)} listed products have no pictures: {', '.join(absent)}.")
    return parts, notes


def _is_product(folder: Path) -> bool:
    good, bad = folder / "OK", folder / "NG"
    return good.is_dir() and bad.is_dir() and any(_SAMPLE.fullmatch(sample.name) for sample in folders(good))


def _lists_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.json") if is_visible(file.name))


def _list_folders(base: Path) -> dict[str, Path]:
    """Find folders of lists: realiad_jsons, single-view and noisy ones, or the folder of products itself."""
    outer = [folder for folder in folders(base) if folder.name.startswith(_LISTS)]
    inner = [folder for place in outer for folder in folders(place) if folder.name.startswith(_LISTS)]
    found = {folder.name: folder for folder in (*outer, *inner) if _lists_in(folder)}
    if not found and any(_is_product(base / listing.stem) for listing in _lists_in(base)):
        return {_LISTS: base}
    return found


def _choose_lists(root: Path) -> tuple[Path, list[str]]:
    # Lists are no further up than above the resolution of a product.
    here = root.resolve()
    found = next((lists for base in (here, *here.parents[:2]) if (lists := _list_folders(base))), {})
    if not found:
        raise LayoutError(
            expected=f"a folder {_LISTS} with a JSON list for each product in {root}, or above it",
            found="pictures without lists",
            remedy="Unpack the lists beside the pictures. If this is not Real-IAD, choose --layout folder.",
        )
    if _LISTS in found:
        others = sorted(found.keys() - {_LISTS})
        return found[_LISTS], [f"Read by {_LISTS}, not by {', '.join(others)}."] if others else []
    if len(found) > 1:
        raise LayoutError(
            expected=f"one folder of lists above the pictures in {root}",
            found=", ".join(sorted(found)),
            remedy=f"Keep one of them there, or rename it to {_LISTS}, which is read before the others.",
        )
    return next(iter(found.values())), []


def _choose_resolution(root: Path) -> Path:
    sizes = [folder for folder in folders(root) if _RESOLUTION.fullmatch(folder.name)]
    if len(sizes) > 1:
        raise LayoutError(
            expected=f"pictures of one resolution in {root}",
            found=", ".join(folder.name for folder in sizes),
            remedy=f"Name one of them instead, as {sizes[0]}; the lists beside it are found.",
        )
    return sizes[0] if sizes else root


def _folder_of(listing: Path, tree: Mapping[str, Any], pictures: Path) -> Path | None:
    """Find a product's pictures: by the prefix of its list, else by the list's name."""
    prefix = _meta(tree).get("prefix")
    named = inside(pictures, prefix) if isinstance(prefix, str) else None
    places = [place for place in (named, pictures / listing.stem) if place is not None]
    return next((place for place in places if is_there(place, folder=True)), None)


def _read_list(listing: Path, tree: Mapping[str, Any], folder: Path) -> list[Part]:
    normal = _meta(tree).get("normal_class", "OK")
    parts: list[Part] = []
    for split in _SPLITS:
        for image, kind, mask in _entries(tree, split, listing):
            masks = (required_inside(folder, mask, listing),) if mask else ()
            label = GOOD if kind == normal else kind
            parts.append(Part(required_inside(folder, image, listing), label, split, masks, listing.stem))
    require_files((file for part in parts for file in (part.path, *part.mask_paths)), listing)
    return parts


def _meta(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = tree.get("meta")
    return meta if isinstance(meta, dict) else {}


def _entries(tree: Mapping[str, Any], split: str, listing: Path) -> Iterator[tuple[str, str, str | None]]:
    """Yield picture, class and mask of a split's entries."""
    entries = tree.get(split, [])
    for entry in entries if isinstance(entries, list) else [entries]:
        match entry:
            case {"image_path": str(image), "anomaly_class": str(kind)}:
                mask = entry.get("mask_path")
            case _:
                raise _bad_entry(listing, split, entry)
        if not isinstance(mask, str | None):
            raise _bad_entry(listing, split, entry)
        yield image, kind, mask


def _bad_entry(listing: Path, split: str, entry: object) -> LayoutError:
    return LayoutError(
        expected=f"entries with image_path, anomaly_class and mask_path in {split} of {listing}",
        found=repr(entry)[:120],
        remedy="Take the list as it was published.",
    )


REAL_IAD = Layout(
    "realiad_jsons/<product>.json beside <product>/OK and <product>/NG, or beside realiad_1024/<product>",
    is_real_iad,
    read_real_iad,
)
