"""A folder of the sample product, laid out as MVTec AD lays out its products, with wrong inputs beside it.

Every picture has a seed of its own that depends on the product's seed, the picture's role and its number
alone: asking for more of one kind changes no other file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from differnet.durable import whole_folder
from differnet.images.synthetic.parts import (
    DEFECT_KINDS,
    MASK_LEVEL,
    WRONG_INPUT_KINDS,
    Pixels,
    SyntheticError,
    render_part,
    render_wrong_input,
)

GENERATOR_VERSION = "1"
"""Raised whenever the same seed would give other pictures."""

MANIFEST = "sample.json"
PRODUCT = "flange"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Item:
    """One picture to make: ``role`` is its folder, ``kind`` what to render (``None``: a good part)."""

    role: str
    kind: str | None
    number: int
    wrong: bool = False


def make_sample_product(
    folder: Path,
    *,
    train: int = 120,
    good_test: int = 40,
    per_defect: int = 10,
    per_wrong: int = 6,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Write the sample product to a folder, or find that it is there already.

    The tree is ``train/good``, ``test/good``, ``test/<defect>``, ``ground_truth/<defect>/<stem>_mask.png``,
    ``wrong_inputs/<kind>`` and one file in ``wrong_inputs/unreadable`` that is cut short on purpose.
    ``sample.json`` holds the request and the sha256 of every file. The folder appears complete or not at all.

    Args:
        folder: Where to write. An older sample product there is replaced; anything else is left alone.
        train: Good parts to train on.
        good_test: Good parts to test on.
        per_defect: Parts of each kind of defect.
        per_wrong: Pictures of each kind of wrong input.
        seed: Of the whole product; the same seed gives the same bytes with the same versions of numpy and
            OpenCV.
        progress: Called with (pictures made, pictures in all) after each.

    Returns:
        ``folder``.

    Raises:
        SyntheticError: A count is negative, or ``folder`` holds files that are not a sample product's.
    """
    counts = {"train": train, "good_test": good_test, "per_defect": per_defect, "per_wrong": per_wrong}
    return _make(folder, counts, seed, ".png", progress, overview=False)


def make_small_sample(folder: Path, *, seed: int = 0, progress: Progress | None = None) -> Path:
    """Write the few pictures that travel with the source: JPEG (quality 90), with an overview of all of them.

    JPEG moves pixels outside a mask by a few levels; the masks are those of the pictures before it.

    Args:
        folder: As for ``make_sample_product``.
        seed: As for ``make_sample_product``.
        progress: As for ``make_sample_product``.

    Returns:
        ``folder``.

    Raises:
        SyntheticError: ``folder`` holds files that are not a sample product's.
    """
    counts = {"train": 8, "good_test": 4, "per_defect": 2, "per_wrong": 1}
    return _make(folder, counts, seed, ".jpg", progress, overview=True)


def _make(
    folder: Path, counts: dict[str, int], seed: int, suffix: str, progress: Progress | None, *, overview: bool
) -> Path:
    if min(counts.values()) < 0:
        raise SyntheticError(
            expected="counts of zero or more", found=str(counts), remedy="Ask for no fewer than none."
        )
    request = {
        "product": PRODUCT,
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "counts": counts,
        "picture_format": suffix.removeprefix("."),
        "mask_level": MASK_LEVEL,
    }
    present = _read_manifest(folder)
    if present is not None and _is_complete(folder, present, request):
        return folder
    _refuse_foreign_files(folder, present)
    with whole_folder(folder) as building:
        _write_tree(building, counts, seed, suffix, progress)
        if overview:
            _write(building / "overview.png", _overview(seed))
        manifest = request | {"files": _fingerprints(building)}
        (building / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return folder


def _items(counts: dict[str, int]) -> Iterator[_Item]:
    yield from (_Item("train/good", None, i) for i in range(counts["train"]))
    yield from (_Item("test/good", None, i) for i in range(counts["good_test"]))
    for kind in DEFECT_KINDS:
        yield from (_Item(f"test/{kind}", kind, i) for i in range(counts["per_defect"]))
    for kind in WRONG_INPUT_KINDS:
        yield from (_Item(f"wrong_inputs/{kind}", kind, i, wrong=True) for i in range(counts["per_wrong"]))


def _item_seed(seed: int, role: str, number: int) -> int:
    """Derive a picture's seed from its role and number: 64 bits, independent of every count."""
    key = int.from_bytes(hashlib.sha256(role.encode()).digest()[:4], "big")
    low, high = np.random.SeedSequence(entropy=seed, spawn_key=(key, number)).generate_state(2)
    return int(low) | int(high) << 32


def _write_tree(
    folder: Path, counts: dict[str, int], seed: int, suffix: str, progress: Progress | None
) -> None:
    items = list(_items(counts))
    for done, item in enumerate(items, start=1):
        _write_item(folder, item, seed, suffix)
        if progress is not None:
            progress(done, len(items))
    broken = _encode(render_part(_item_seed(seed, "wrong_inputs/unreadable", 0)).pixels, ".png")
    target = folder / "wrong_inputs" / "unreadable" / "000.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(broken[: len(broken) * 2 // 5])


def _write_item(folder: Path, item: _Item, seed: int, suffix: str) -> None:
    own_seed = _item_seed(seed, item.role, item.number)
    target = folder / item.role / f"{item.number:03d}{suffix}"
    if item.wrong:
        _write(target, render_wrong_input(own_seed, str(item.kind)))
        return
    part = render_part(own_seed, defect=item.kind)
    _write(target, part.pixels)
    if item.kind is not None:
        mask = (part.mask * 255).astype(np.uint8)
        _write(folder / "ground_truth" / item.kind / f"{item.number:03d}_mask.png", mask)


def _encode(pixels: Pixels, suffix: str) -> bytes:
    """Encode ``(height, width, 3)`` RGB or ``(height, width)`` grey; JPEG at quality 90."""
    channels_last = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    options = [cv2.IMWRITE_JPEG_QUALITY, 90] if suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 6]
    _, buffer = cv2.imencode(suffix, channels_last, options)
    return bytes(buffer)


def _write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_encode(pixels, path.suffix))


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _fingerprints(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in _files(folder)}


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    ours = isinstance(manifest, dict) and manifest.get("product") == PRODUCT
    return manifest if ours and isinstance(manifest.get("files"), dict) else None


def _is_complete(folder: Path, manifest: dict[str, Any], request: dict[str, Any]) -> bool:
    """Tell whether ``folder`` holds what is asked for, byte by byte."""
    if any(manifest.get(name) != wanted for name, wanted in request.items()):
        return False
    found = _fingerprints(folder)
    found.pop(MANIFEST)
    return bool(found == manifest["files"])


def _refuse_foreign_files(folder: Path, manifest: dict[str, Any] | None) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SyntheticError(expected="a folder", found=f"a file at {folder}", remedy="Choose another place.")
    known = set() if manifest is None else {MANIFEST, *manifest["files"]}
    foreign = [name for name in _files(folder) if name not in known]
    if foreign:
        raise SyntheticError(
            expected=f"an empty folder or an older sample product at {folder}",
            found=f"{len(foreign)} other files, such as {foreign[0]}",
            remedy="Choose another folder; these are not overwritten.",
        )


def _overview(seed: int) -> Pixels:
    """Draw a labelled sheet: good parts, each defect, the same with its mask's outline, each wrong input."""
    good = [("good", render_part(_item_seed(seed, "train/good", i)).pixels) for i in range(len(DEFECT_KINDS))]
    spoilt = [(k, render_part(_item_seed(seed, f"test/{k}", 0), defect=k)) for k in DEFECT_KINDS]
    plain = [(kind, part.pixels) for kind, part in spoilt]
    outlined = [(f"{kind}: mask", _outline(part.pixels, part.mask)) for kind, part in spoilt]
    wrong = [
        (f"wrong input: {k}", render_wrong_input(_item_seed(seed, f"wrong_inputs/{k}", 0), k))
        for k in WRONG_INPUT_KINDS
    ]
    return np.vstack([_row(row, len(DEFECT_KINDS)) for row in (good, plain, outlined, wrong)])


def _outline(pixels: Pixels, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Pixels:
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), dtype=np.uint8))
    line = cv2.dilate(grown, np.ones((3, 3), dtype=np.uint8)) - grown
    return np.where(line[..., None] > 0, np.array([255, 60, 40], dtype=np.uint8), pixels).astype(np.uint8)


def _row(cells: list[tuple[str, Pixels]], columns: int) -> Pixels:
    edge, label = 208, 22
    strip = np.full((edge + label, edge * columns, 3), 255, dtype=np.uint8)
    for i, (name, pixels) in enumerate(cells):
        small = cv2.resize(pixels, (edge - 4, edge - 4), interpolation=cv2.INTER_AREA)
        strip[label : label + edge - 4, i * edge + 2 : (i + 1) * edge - 2] = small
        place = (i * edge + 6, label - 7)
        cv2.putText(strip, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (20, 20, 20), 1, cv2.LINE_AA)
    return strip
