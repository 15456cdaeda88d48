"""The layouts that are known, and which of them a folder has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from differnet.images.layouts.files import folders, has_pictures, is_mask_name, pictures_below, pictures_in
from differnet.images.layouts.kolektor import KOLEKTORSDD, KOLEKTORSDD2
from differnet.images.layouts.manifest import MANIFEST, MANIFEST_SUFFIXES, read_manifest_file
from differnet.images.layouts.mtd import MTD
from differnet.images.layouts.mvtec import BTAD, MVTEC, MVTEC_AD_2, MVTEC_LOCO
from differnet.images.layouts.parts import GOOD, Dataset, Layout, LayoutError, Part
from differnet.images.layouts.plain import FOLDER
from differnet.images.layouts.real_iad import REAL_IAD
from differnet.images.layouts.visa import VISA

# The most specific first: what a person wrote down, then shapes that only one dataset has. VisA as its
# authors sort it cannot be told from MVTec AD, which is read alike. Good parts beside others is the loosest
# shape, and is asked for last of all.
LAYOUTS: dict[str, Layout] = {
    "manifest": MANIFEST,
    "mtd": MTD,
    "kolektorsdd": KOLEKTORSDD,
    "kolektorsdd2": KOLEKTORSDD2,
    "real-iad": REAL_IAD,
    "mvtec-ad-2": MVTEC_AD_2,
    "mvtec-loco": MVTEC_LOCO,
    "btad": BTAD,
    "mvtec": MVTEC,
    "visa": VISA,
    "folder": FOLDER,
}
# Folders that a message names.
_NAMED = 12


def read_layout(root: Path | str, layout: str = "auto") -> Dataset:
    """List the parts of a folder.

    Args:
        root: The folder: one product, or a folder of products. Or a manifest, .csv or .jsonl.
        layout: A name of :data:`LAYOUTS`, or ``auto`` for the first that fits, the most specific
            first.

    Returns:
        The parts, with label, split, masks and product as far as the folder tells them. Where it
        names no test split, the 4th, 8th, 12th ... good file by name is a test part.

    Raises:
        LayoutError: No such folder or layout, no layout fits, products fit different ones, a tree lacks
            files that it names, or there is no good part.
    """
    root = Path(root)
    if layout != "auto" and layout not in LAYOUTS:
        raise LayoutError(
            expected=f"one of the layouts auto, {', '.join(LAYOUTS)}",
            found=repr(layout),
            remedy="Choose one of these; auto finds the layout by itself.",
        )
    if layout in ("auto", "manifest") and root.suffix.lower() in MANIFEST_SUFFIXES and root.is_file():
        return _require_good(_dataset(root.parent, "manifest", *read_manifest_file(root)))
    _require_folder(root)
    names = list(LAYOUTS) if layout == "auto" else [layout]
    specific = [name for name in names if LAYOUTS[name] is not FOLDER]
    for asked in (specific, [name for name in names if name not in specific]):
        found = _read_one(root, asked) or _read_products(root, asked)
        if found is not None:
            return _require_good(found)
    raise _no_layout(root, names)


def list_pictures(folder: Path | str) -> list[Path]:
    """List every picture file below a folder, by name as strings; masks and hidden files are left out.

    Raises:
        LayoutError: There is no such folder.
    """
    root = Path(folder)
    _require_folder(root)
    return pictures_below(root)


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        raise LayoutError(
            expected=f"a folder at {root}",
            found="a file" if root.exists() else "nothing there",
            remedy="Name the folder that holds the pictures.",
        )


def _read_one(root: Path, names: Iterable[str]) -> Dataset | None:
    """Read a folder that has one of the layouts itself."""
    for name in names:
        if LAYOUTS[name].matches(root):
            parts, notes = LAYOUTS[name].read(root)
            return _dataset(root, name, parts, notes)
    return None


def _read_products(root: Path, names: Sequence[str]) -> Dataset | None:
    """Read a folder of products that all have one of the layouts."""
    candidates = [folder for folder in folders(root) if not is_mask_name(folder.name)]
    fitting = {
        folder: fits
        for folder in candidates
        if (fits := [name for name in names if LAYOUTS[name].matches_product(folder)])
    }
    if not fitting:
        return None
    shared = [name for name in names if all(name in fits for fits in fitting.values())]
    if not shared:
        raise LayoutError(
            expected=f"products of one layout in {root}",
            found=_listed(f"{folder.name}: {fits[0]}" for folder, fits in fitting.items()),
            remedy="Name one product's own folder, or choose with --layout which of them are read.",
        )
    name = shared[0]
    parts: list[Part] = []
    notes: list[str] = []
    for folder in fitting:
        read, remarks = LAYOUTS[name].read(folder)
        parts += [replace(part, product=part.product or folder.name) for part in read]
        notes += [f"{folder.name}: {remark}" for remark in remarks]
    others = [folder.name for folder in candidates if folder not in fitting and has_pictures(folder)]
    if others:
        notes.append(f"Not of the {name} layout and left out: {_listed(others)}.")
    return _dataset(root, name, parts, notes)


def _dataset(root: Path, name: str, parts: Iterable[Part], notes: Iterable[str]) -> Dataset:
    return Dataset(root, name, tuple(sorted(parts, key=_order)), tuple(notes))


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
    if dataset.good:
        return dataset
    raise LayoutError(
        expected=f"at least 1 good part in the {dataset.layout} layout of {dataset.root}",
        found=f"{len(dataset.good)} good and {len(dataset.parts) - len(dataset.good)} other parts",
        remedy="Put pictures of good parts into its folder of good parts; twenty are a fair start.",
    )


def _no_layout(root: Path, names: Sequence[str]) -> LayoutError:
    found = _listed(folder.name for folder in folders(root)) or "(none)"
    return LayoutError(
        expected=f"in {root} " + "; or ".join(f"{name}: {LAYOUTS[name].wanted}" for name in names),
        found=f"{len(pictures_in(root))} pictures and the folders {found}",
        remedy=_hint(root, names)
        or "Make a folder 'good' with pictures of good parts, beside one folder for each kind of defect.",
    )


def _hint(root: Path, names: Sequence[str]) -> str | None:
    """Name a folder inside that holds products: archives often wrap theirs in one more folder."""
    for folder in folders(root):
        for product in folders(folder):
            if (name := next((n for n in names if LAYOUTS[n].matches_product(product)), None)) is not None:
                return f"Name {folder} instead: it holds products of the {name} layout."
    return None


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_NAMED]) + (" ..." if len(listed) > _NAMED else "")
