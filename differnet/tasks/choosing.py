"""What a page says of a folder before anything is done with it, and names for what will be made of it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from differnet.tasks.places import Workspace, existing, name_from, unused_name


@dataclass(frozen=True)
class FolderSummary:
    """What a folder holds by its names; nothing is decoded.

    Attributes:
        layout: How it is laid out.
        products: Products found; none where the folder does not tell.
        train_good: Good parts to learn from.
        test: Parts to inspect that are set aside for it.
        kinds: Kinds of defect.
        wrong_inputs: Pictures beside it that are no parts.
        notes: What a person should know about the reading, in sentences.
    """

    layout: str
    products: tuple[str, ...]
    train_good: int
    test: int
    kinds: tuple[str, ...]
    wrong_inputs: int
    notes: tuple[str, ...]

    @property
    def words(self) -> str:
        """In one sentence."""
        told = [f"{self.train_good:,} good parts to learn from", f"{self.test:,} set aside for inspection"]
        if self.kinds:
            told.append(f"{len(self.kinds):,} kinds of defect")
        if self.wrong_inputs:
            told.append(f"{self.wrong_inputs:,} wrong inputs")
        products = f", products {', '.join(self.products)}" if len(self.products) > 1 else ""
        return f"{self.layout} layout{products}: {', '.join(told)}."


def summary_of(place: str, layout: str = "auto", product: str = "") -> FolderSummary:
    """Read the names in a folder.

    Args:
        place: Its absolute path.
        layout: How it is laid out; ``auto`` finds out.
        product: One of several.

    Raises:
        WishError: Nothing is there.
        LayoutError: It holds no pictures, or is of no layout.
    """
    from differnet.images.layouts import read_layout, wrong_inputs

    folder = existing(place, "a folder of pictures")
    dataset = read_layout(folder, layout)
    chosen = dataset.of_product(product) if product else dataset
    beside = len(wrong_inputs(folder)) if folder.is_dir() else 0
    return FolderSummary(
        dataset.layout,
        dataset.products,
        len(chosen.train_good),
        len(chosen.test),
        chosen.kinds,
        beside,
        dataset.notes,
    )


@dataclass(frozen=True)
class InspectionSummary:
    """What of a folder would be inspected, by its names; nothing is decoded.

    Attributes:
        pictures: To inspect.
        labelled: Of these, how many the folder tells a label of.
        left_out: Parts that are set aside for training.
        wrong_inputs: Pictures beside the parts that are none.
    """

    pictures: int
    labelled: int
    left_out: int
    wrong_inputs: int

    @property
    def words(self) -> str:
        """In one sentence."""
        told = [f"{self.pictures:,} pictures to inspect, {self.labelled:,} of them with a label"]
        if self.wrong_inputs:
            told.append(f"{self.wrong_inputs:,} wrong inputs beside them")
        if self.left_out:
            told.append(f"{self.left_out:,} parts that are set aside for training are left out")
        return f"{'; '.join(told)}."


def to_inspect(place: str, layout: str = "auto") -> InspectionSummary:
    """Say what of a folder would be inspected.

    Args:
        place: Its absolute path, or that of a picture.
        layout: How it is laid out; ``auto`` finds out.

    Raises:
        WishError: Nothing is there.
        LayoutError: It holds no pictures.
    """
    from differnet.images.layouts import parts_to_inspect, wrong_inputs

    folder = existing(place, "a folder of pictures")
    if not folder.is_dir():
        return InspectionSummary(1, 0, 0, 0)
    found = parts_to_inspect(folder, layout)
    labelled = sum(part.label is not None for part in found.parts)
    return InspectionSummary(len(found.parts), labelled, found.left_out, len(wrong_inputs(folder)))


def model_name(workspace: Workspace, place: str, product: str = "") -> str:
    """Propose a name for a model: of its product or folder, and not taken."""
    return unused_name(workspace.models, name_from(product or Path(place).name, "model"))


def run_name(word: str) -> str:
    """Propose a name for a run, of a word, the time and chance: two that begin at once are two runs."""
    return f"{name_from(word, 'run')}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
