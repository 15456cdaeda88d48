"""Understand how a person's folder says which parts are good, which are not, and where the masks are.

A layout is one entry of :data:`LAYOUTS`: what it looks for, whether a folder looks like it, and how
its parts are listed. Nothing is decoded here except MTD's masks, some of which are blank.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from differnet.images.reading import ImageError, read_mask
from differnet.records import DiffernetError

Split = Literal["train", "test"]

GOOD = "good"
PICTURE_SUFFIXES = frozenset(
    (".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
_GOOD_NAMES = frozenset(
    ("good", "ok", "okay", "normal", "nominal", "pass", "defect_free", "defect-free", "no_defect")
)
_MASK_NAMES = frozenset(("ground_truth", "groundtruth", "gt", "mask", "masks", "labels", "annotations"))
_TRAIN_NAMES = frozenset(("train", "training"))
_TEST_NAMES = frozenset(("test", "testing"))
# A held-out set of good parts serves calibration, which is part of training.
_VALIDATION_NAMES = frozenset(("validation", "val", "valid"))
_MTD_NAMES = "train_filenames.txt"


class LayoutError(DiffernetError):
    """A folder that cannot be understood, or that lacks what is needed."""


@dataclass(frozen=True)
class Part:
    """One picture of one part.

    Attributes:
        path: The picture.
        label: ``good``, a kind of defect, or ``None`` where the folder does not tell.
        split: ``train``, ``test``, or ``None`` where the folder does not tell.
        mask_path: Ground truth of the defect's pixels, where there is one.
        product: What the part is, where a folder holds several products.
    """

    path: Path
    label: str | None
    split: Split | None
    mask_path: Path | None = None
    product: str | None = None


@dataclass(frozen=True)
class Dataset:
    """The parts of a folder, in an order that depends on names only.

    Attributes:
        root: The folder.
        layout: Name of the layout that was read.
        parts: All parts: train before test, good before defective, then by name.
        notes: What a person should know about the reading, in sentences.
    """

    root: Path
    layout: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def good(self) -> tuple[Part, ...]:
        """All good parts."""
        return tuple(part for part in self.parts if part.label == GOOD)

    @property
    def train_good(self) -> tuple[Part, ...]:
        """Good parts to fit and calibrate on: of the train split, or of no split at all."""
        return tuple(part for part in self.good if part.split != "test")

    @property
    def test(self) -> tuple[Part, ...]:
        """Parts to evaluate on."""
        return tuple(part for part in self.parts if part.split == "test")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of defect, sorted."""
        return tuple(sorted({part.label for part in self.parts if part.label not in (GOOD, None)}))

    @property
    def products(self) -> tuple[str, ...]:
        """Products, sorted; empty where the folder does not tell."""
        return tuple(sorted({part.product for part in self.parts if part.product is not None}))

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Parts by split (``train``, ``test``, ``unsplit``) and label (``unlabelled`` for none)."""
        counted = Counter((part.split or "unsplit", part.label or "unlabelled") for part in self.parts)
        splits = [name for name in ("train", "test", "unsplit") if any(key[0] == name for key in counted)]
        return {
            split: {label: n for (of, label), n in sorted(counted.items(), key=_good_first) if of == split}
            for split in splits
        }

    def of_product(self, product: str) -> Dataset:
        """Keep one product's parts.

        Raises:
            LayoutError: There is no such product.
        """
        if product not in self.products:
            raise LayoutError(
                expected=f"a product named {product!r} in {self.root}",
                found=", ".join(self.products) or "no products",
                remedy="Name one of the products found, or the product's own folder.",
            )
        return replace(self, parts=tuple(part for part in self.parts if part.product == product))


def _good_first(counted: tuple[tuple[str, str], int]) -> tuple[bool, str]:
    label = counted[0][1]
    return label != GOOD, label


@dataclass(frozen=True)
class Layout:
    """One way to arrange pictures in folders.

    Attributes:
        wanted: What a folder of this layout contains, for the message when it does not.
        matches: Whether a folder looks like this layout; cheap, decodes nothing.
        read: List the parts, with notes.
    """

    wanted: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], tuple[list[Part], list[str]]]


def read_layout(root: Path | str, layout: str = "auto") -> Dataset:
    """List the parts of a folder.

    Args:
        root: The folder: one product, or a folder of products.
        layout: A name of :data:`LAYOUTS`, or ``auto`` for the first that fits, the most specific
            first.

    Returns:
        The parts, with label, split, mask and product as far as the folder tells them. Where it
        names no test split, the 4th, 8th, 12th ... good file by name is a test part.

    Raises:
        LayoutError: No such folder or layout, no layout fits, or fewer than two good parts.
    """
    root = Path(root)
    if not root.is_dir():
        raise LayoutError(
            expected=f"a folder at {root}",
            found="a file" if root.exists() else "nothing there",
            remedy="Name the folder that holds the pictures.",
        )
    if layout != "auto" and layout not in LAYOUTS:
        raise LayoutError(
            expected=f"one of the layouts auto, {', '.join(LAYOUTS)}",
            found=repr(layout),
            remedy="Choose one of these; auto finds the layout by itself.",
        )
    names = list(LAYOUTS) if layout == "auto" else [layout]
    for name in names:
        if (found := _read_as(name, root)) is not None:
            return _require_good(found)
    raise _no_layout(root, names)


def list_pictures(folder: Path | str) -> list[Path]:
    """List every picture file below a folder, by name as strings; masks and hidden files are left out.

    Raises:
        LayoutError: There is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise LayoutError(
            expected=f"a folder at {root}",
            found="a file" if root.exists() else "nothing there",
            remedy="Name the folder that holds the pictures.",
        )
    return _pictures_below(root)


def _read_as(name: str, root: Path) -> Dataset | None:
    """Read one product, or a folder of products that each have this layout."""
    layout = LAYOUTS[name]
    if layout.matches(root):
        parts, notes = layout.read(root)
        return Dataset(root, name, tuple(sorted(parts, key=_order)), tuple(notes))
    gathered: list[Part] = []
    remarks: list[str] = []
    others: list[str] = []
    for child in _folders(root):
        if _is_mask_name(child.name):
            continue
        if not layout.matches(child) or (name == "folder" and not _names_good(child)):
            others.append(child.name)
            continue
        parts, notes = layout.read(child)
        gathered += [replace(part, product=child.name) for part in parts]
        remarks += [f"{child.name}: {note}" for note in notes]
    if not gathered:
        return None
    if others:
        remarks.append(f"Not of the {name} layout and left out: {', '.join(others[:12])}.")
    return Dataset(root, name, tuple(sorted(gathered, key=_order)), tuple(remarks))


def _order(part: Part) -> tuple[str, int, bool, str, str, str]:
    split = {"train": 0, "test": 1, None: 2}[part.split]
    return (
        part.product or "",
        split,
        part.label != GOOD,
        part.label or "",
        part.path.name,
        part.path.as_posix(),
    )


def _require_good(dataset: Dataset) -> Dataset:
    if len(dataset.good) >= 2:
        return dataset
    raise LayoutError(
        expected=f"at least 2 good parts in the {dataset.layout} layout of {dataset.root}",
        found=f"{len(dataset.good)} good and {len(dataset.parts) - len(dataset.good)} other parts",
        remedy="Put pictures of good parts into its folder of good parts; 50 or more make a usable model.",
    )


def _no_layout(root: Path, names: Sequence[str]) -> LayoutError:
    folders = [child.name for child in _folders(root)]
    found = f"{len(_pictures_in(root))} pictures and the folders {', '.join(folders[:12]) or '(none)'}"
    return LayoutError(
        expected=f"in {root} " + "; or ".join(f"{name}: {LAYOUTS[name].wanted}" for name in names),
        found=found + (" ..." if len(folders) > 12 else ""),
        remedy="Make a folder 'good' with pictures of good parts, beside one folder for each kind of defect.",
    )


# Folders and files.


def _folders(root: Path) -> list[Path]:
    found = (child for child in root.iterdir() if child.is_dir() and _is_visible(child.name))
    return sorted(found, key=_name)


def _name(path: Path) -> str:
    return path.name


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))


def _is_mask_name(name: str) -> bool:
    return name.lower() in _MASK_NAMES


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and _is_visible(path.name)


def _pictures_in(folder: Path) -> list[Path]:
    """Pictures of one folder, without the masks that lie beside them."""
    found = sorted((file for file in folder.iterdir() if _is_picture(file) and not file.is_dir()), key=_name)
    stems = {file.stem for file in found}
    return [file for file in found if not _is_mask_beside(file.stem, stems)]


def _is_mask_beside(stem: str, stems: set[str]) -> bool:
    return stem.endswith("_mask") and stem.removesuffix("_mask") in stems


def _pictures_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_visible(name) and not _is_mask_name(name))
        found += _pictures_in(Path(place))
    return sorted(found, key=lambda file: (file.name, file.as_posix()))


def _child(root: Path, names: Iterable[str]) -> Path | None:
    wanted = set(names)
    return next((child for child in _folders(root) if child.name.lower() in wanted), None)


def _good_folders(root: Path) -> list[Path]:
    return [child for child in _folders(root) if child.name.lower() in _GOOD_NAMES]


def _split_good(files: Sequence[Path]) -> list[Part]:
    """Make the 4th, 8th, 12th ... file a test part.

    Args:
        files: In any order; they are sorted by name as strings.
    """
    ranked = sorted(files, key=lambda file: (file.name, file.as_posix()))
    return [Part(file, GOOD, "test" if k % 4 == 0 else "train") for k, file in enumerate(ranked, 1)]


def _mask_of(picture: Path, places: Iterable[Path]) -> Path | None:
    """Find ``<stem>_mask`` or ``<stem>`` in a mask folder, or ``<stem>_mask`` beside the picture."""
    marked = f"{picture.stem}_mask"
    wanted = [place / stem for place in places for stem in (marked, picture.stem)]
    for stem in [*wanted, picture.parent / marked]:
        for suffix in (".png", picture.suffix, ".bmp", ".tif", ".tiff", ".jpg"):
            candidate = stem.with_name(stem.name + suffix)
            if candidate.is_file():
                return candidate
    return None


# Magnetic Tile Defects: MT_Free/Imgs/*.jpg, MT_<Kind>/Imgs/*.jpg, a .png mask beside every .jpg.


def _is_mtd(root: Path) -> bool:
    return (root / "MT_Free" / "Imgs").is_dir()


def _read_mtd(root: Path) -> tuple[list[Part], list[str]]:
    parts: list[Part] = []
    for folder in _folders(root):
        if not folder.name.startswith("MT_") or not (folder / "Imgs").is_dir():
            continue
        pictures = [file for file in _pictures_in(folder / "Imgs") if file.suffix.lower() == ".jpg"]
        if folder.name == "MT_Free":
            good, notes = _split_mtd_good(root, pictures)
            parts += good
            continue
        kind = folder.name.removeprefix("MT_")
        parts += [Part(file, kind, "test", _marked_mask(file.with_suffix(".png"))) for file in pictures]
    return parts, notes


def _split_mtd_good(root: Path, pictures: Sequence[Path]) -> tuple[list[Part], list[str]]:
    listing = root / _MTD_NAMES
    if not listing.is_file():
        return _split_good(pictures), [f"No {_MTD_NAMES}: every 4th good tile by name is a test part."]
    # Only compared with the names that are there: nothing is opened by a name out of this list.
    names = {line.strip() for line in listing.read_text("utf-8", "replace").splitlines()} - {""}
    absent = names - {file.name for file in pictures}
    notes = [f"{len(absent)} of {len(names)} names in {_MTD_NAMES} have no picture."] if absent else []
    return [Part(file, GOOD, "train" if file.name in names else "test") for file in pictures], notes


def _marked_mask(mask: Path) -> Path | None:
    """Keep a mask that marks something: four of MTD's defective tiles come with a blank one."""
    if not mask.is_file():
        return None
    try:
        return mask if read_mask(mask).any() else None
    except ImageError:
        # The scan reports it; a mask that cannot be read must not be dropped in silence.
        return mask


# MVTec AD: train/good, test/good, test/<kind>, ground_truth/<kind>/<stem>_mask.png.


def _is_mvtec(root: Path) -> bool:
    train = _child(root, _TRAIN_NAMES)
    return train is not None and _child(root, _TEST_NAMES) is not None and bool(_pictures_below(train))


def _read_mvtec(root: Path) -> tuple[list[Part], list[str]]:
    parts: list[Part] = []
    masks = [child for child in _folders(root) if _is_mask_name(child.name)]
    for folder in _folders(root):
        name = folder.name.lower()
        if name in _TRAIN_NAMES | _VALIDATION_NAMES:
            parts += _read_classes(folder, "train", masks, loose=GOOD)
        elif name in _TEST_NAMES:
            parts += _read_classes(folder, "test", masks, loose=None)
    return [replace(part, product=root.name or None) for part in parts], []


def _read_classes(folder: Path, split: Split, masks: Sequence[Path], loose: str | None) -> list[Part]:
    """Read a folder of classes; pictures directly in it get the label ``loose``."""
    parts = [Part(file, loose, split) for file in _pictures_in(folder)]
    for child in _folders(folder):
        if _is_mask_name(child.name):
            continue
        good = child.name.lower() in _GOOD_NAMES
        label = GOOD if good else child.name
        parts += [
            Part(file, label, split, None if good else _mask_of(file, _mask_places(masks, child.name)))
            for file in _pictures_below(child)
        ]
    return parts


def _mask_places(masks: Sequence[Path], kind: str) -> list[Path]:
    return [*(place / kind for place in masks), *masks]


# Plain folders: good (ok, normal, train/good) beside anything else; or pictures and nothing else.


def _is_plain(root: Path) -> bool:
    if _names_good(root):
        return True
    others = [child for child in _folders(root) if not _is_mask_name(child.name)]
    return not any(_pictures_below(child) for child in others) and bool(_pictures_in(root))


def _names_good(root: Path) -> bool:
    """Whether the folder names its good parts: good, train/good or test/good."""
    splits = (_child(root, _TRAIN_NAMES), _child(root, _TEST_NAMES))
    return any(_good_folders(place) for place in (root, *splits) if place is not None)


def _read_plain(root: Path) -> tuple[list[Part], list[str]]:
    loose = _pictures_in(root)
    if not _names_good(root):
        note = "No folder names: every picture is taken for a good part, and none is kept for testing."
        return [Part(file, GOOD, None) for file in loose], [note]
    masks = [child for child in _folders(root) if _is_mask_name(child.name)]
    parts: list[Part] = []
    for folder in _folders(root):
        name = folder.name.lower()
        if name in _TRAIN_NAMES | _VALIDATION_NAMES:
            parts += _read_classes(folder, "train", masks, loose=GOOD)
        elif name in _TEST_NAMES:
            parts += _read_classes(folder, "test", masks, loose=None)
    split_given = any(part.label == GOOD for part in parts)
    parts += _read_root_classes(root, masks, split_given)
    note = f"{len(loose)} pictures directly in {root.name} have no class and are left out."
    return parts, [note] if loose else []


def _read_root_classes(root: Path, masks: Sequence[Path], split_given: bool) -> list[Part]:
    good: list[Path] = []
    parts: list[Part] = []
    for folder in _folders(root):
        name = folder.name.lower()
        if name in _GOOD_NAMES:
            good += _pictures_below(folder)
        elif name not in _TRAIN_NAMES | _TEST_NAMES | _VALIDATION_NAMES | _MASK_NAMES:
            places = _mask_places(masks, folder.name)
            parts += [
                Part(file, folder.name, "test", _mask_of(file, places)) for file in _pictures_below(folder)
            ]
    if split_given:
        # train/good is there as it stands; good parts beside it are not in train.
        return [Part(file, GOOD, "test") for file in good] + parts
    return _split_good(good) + parts


LAYOUTS: dict[str, Layout] = {
    "mtd": Layout("MT_Free/Imgs/*.jpg beside MT_<Kind>/Imgs/*.jpg", _is_mtd, _read_mtd),
    "mvtec": Layout("train/good, test/<kind> and perhaps ground_truth/<kind>", _is_mvtec, _read_mvtec),
    "folder": Layout(
        "good (or ok, normal, train/good) beside a folder for each kind of defect, or only pictures",
        _is_plain,
        _read_plain,
    ),
}
