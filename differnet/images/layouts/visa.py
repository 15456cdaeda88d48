"""VisA: as published, with its splits in a table, or sorted by its authors' script as MVTec AD is."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from differnet.images.layouts.files import masks_of, pictures_in, split_good
from differnet.images.layouts.listings import bad_line, read_table, require_files, required_inside
from differnet.images.layouts.mvtec import read_mvtec
from differnet.images.layouts.parts import GOOD, Layout, Part, Reading, Split

_IMAGES = Path("Data", "Images")
_MASKS = Path("Data", "Masks", "Anomaly")
_LABELS = {"Normal": GOOD, "Anomaly": "anomaly"}
_SPLITS = Path("split_csv", "1cls.csv")


def is_visa(root: Path) -> bool:
    """Whether one product's pictures lie as published or sorted."""
    return _is_published(root) or all(
        (root / name).is_dir() for name in ("train/good", "test/good", "test/bad")
    )


def read_visa(root: Path) -> Reading:
    """List one product's parts; the table of splits lies beside the products."""
    return _read_published(root) if _is_published(root) else read_mvtec(root)


def _is_published(root: Path) -> bool:
    return (root / _IMAGES / "Normal").is_dir()


def _read_published(root: Path) -> Reading:
    product = root.resolve().name
    labels = {
        file: label
        for folder, label in _LABELS.items()
        if (root / _IMAGES / folder).is_dir()
        for file in pictures_in(root / _IMAGES / folder)
    }
    splits = _splits(root, product)
    notes: list[str] = []
    if splits:
        surplus = len(labels.keys() - splits.keys())
        notes = [f"{surplus:,} pictures are in no split and are left out."] if surplus else []
    else:
        splits = dict.fromkeys(labels, "test")
        good = split_good([file for file, label in labels.items() if label == GOOD])
        splits |= {part.path: "train" for part in good if part.split == "train"}
        notes = [f"No {_SPLITS.as_posix()} with this product: every 4th good part by name is a test part."]
    parts = [
        Part(file, label, splits[file], () if label == GOOD else masks_of(file, [root / _MASKS]), product)
        for file, label in labels.items()
        if file in splits
    ]
    return parts, notes


def _splits(root: Path, product: str) -> dict[Path, Split]:
    """Read the product's rows of the table of splits; none where there is no table."""
    listing = root.resolve().parent / _SPLITS
    splits: dict[Path, Split] = {}
    if not listing.is_file():
        return splits
    for line, row in read_table(listing, ("object", "split", "image")):
        if row["object"] != product:
            continue
        # The paths begin with the product's folder.
        path = required_inside(root, str(PurePosixPath(*PurePosixPath(row["image"]).parts[1:])), listing)
        if row["split"] not in ("train", "test"):
            raise bad_line(listing, line, "train or test", repr(row["split"]))
        splits[path] = "train" if row["split"] == "train" else "test"
    require_files(splits, listing)
    return splits


VISA = Layout(
    "products with Data/Images/Normal and Data/Images/Anomaly beside split_csv/1cls.csv", is_visa, read_visa
)
