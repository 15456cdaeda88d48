"""What a layout yields: parts, the dataset they make, and the one error of a folder not understood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from differnet.records import DiffernetError

Split = Literal["train", "test"]

GOOD = "good"


class LayoutError(DiffernetError):
    """A folder that cannot be understood, or that lacks what is needed."""


@dataclass(frozen=True)
class Part:
    """One picture of one part.

    Attributes:
        path: The picture.
        label: ``good``, a kind of defect, or ``None`` where the folder does not tell.
        split: ``train``, ``test``, or ``None`` where the folder does not tell.
        mask_paths: Ground truth of the defect's pixels: none, one file, or several whose union is meant.
        product: What the part is, where a folder holds several products.
    """

    path: Path
    label: str | None
    split: Split | None
    mask_paths: tuple[Path, ...] = ()
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

    @property
    def product_name(self) -> str:
        """What to call the product: as the layout tells it, else by the folder's name."""
        return self.products[0] if self.products else self.root.resolve().name

    def of_one_product(self, product: str = "") -> Dataset:
        """Keep one product's parts where there are several; a folder of one needs no name.

        Raises:
            LayoutError: There are several, and none of them is named.
        """
        if product in self.products:
            return self.of_product(product)
        if len(self.products) > 1:
            raise LayoutError(
                expected="one product, named with --product",
                found=", ".join(self.products),
                remedy="Name one of them: each product needs a model of its own.",
            )
        return self

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


Reading = tuple[list[Part], list[str]]


@dataclass(frozen=True)
class Layout:
    """One way to arrange pictures in folders.

    Attributes:
        wanted: What a folder of this layout contains, for the message when it does not.
        matches: Whether a folder looks like this layout; cheap, decodes nothing.
        read: List the parts, with notes.
        matches_one_of_several: Stricter, for a folder among others that are each a product; ``matches``
            where there is no difference.
    """

    wanted: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], Reading]
    matches_one_of_several: Callable[[Path], bool] | None = None

    def matches_product(self, folder: Path) -> bool:
        """Whether a folder among others looks like one product of this layout."""
        return (self.matches_one_of_several or self.matches)(folder)
