"""Which pictures of a folder are inspected: all but those that a model may have learned from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from differnet.images.layouts.parts import LayoutError, Part
from differnet.images.layouts.registry import list_pictures, read_layout

WRONG_INPUTS = "wrong_inputs"
"""Folder beside a product's parts, as the sample product has one: pictures that are no parts, by kind."""


@dataclass(frozen=True)
class ToInspect:
    """Pictures of a folder that are to be inspected.

    Attributes:
        parts: With a label where the folder's layout tells one.
        layout: Its name; ``None`` where the folder is nothing but pictures.
        left_out: Parts that are set aside for training: a model finds what it has learned less strange.
    """

    parts: tuple[Part, ...]
    layout: str | None
    left_out: int


def parts_to_inspect(folder: Path, layout: str = "auto") -> ToInspect:
    """List the pictures of a folder that are to be inspected.

    The split of a folder is the same whenever it is read, so that what is left out here is what training
    takes. Of a folder without a split nothing is left out, and nothing is taken for good.

    Args:
        folder: Any folder with pictures.
        layout: How it is laid out; ``auto`` finds out, and takes all pictures where it is no layout.

    Raises:
        LayoutError: It holds no pictures, or is not of the layout that was named.
    """
    try:
        dataset = read_layout(folder, layout)
    except LayoutError:
        if layout != "auto":
            raise
        return _all_of(folder, list_pictures(folder))
    if all(part.split is None for part in dataset.parts):
        return _all_of(folder, [part.path for part in dataset.parts])
    kept = tuple(part for part in dataset.parts if part.split != "train")
    return ToInspect(kept, dataset.layout, len(dataset.parts) - len(kept))


def wrong_inputs(folder: Path) -> list[Part]:
    """List the wrong inputs beside a product's parts, each with the label ``wrong_inputs/KIND``.

    Returns:
        By kind and name; none where there are none.
    """
    if not (folder / WRONG_INPUTS).is_dir():
        return []
    paths = list_pictures(folder / WRONG_INPUTS)
    listed = [Part(path, f"{WRONG_INPUTS}/{path.parent.name}", "test") for path in paths]
    return sorted(listed, key=lambda part: (part.label or "", part.path.name))


def _all_of(folder: Path, paths: list[Path]) -> ToInspect:
    if not paths:
        raise LayoutError(
            expected=f"pictures in {folder}",
            found="none",
            remedy="Name pictures, or a folder with .png, .jpg, .bmp, .tif, .webp or .pgm files.",
        )
    return ToInspect(tuple(Part(path, None, None) for path in paths), None, 0)
