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


def model_name(workspace: Workspace, place: str, product: str = "") -> str:
    """Propose a name for a model: of its product or folder, and not taken."""
    return unused_name(workspace.models, name_from(product or Path(place).name, "model"))


def run_name(word: str) -> str:
    """Propose a name for a run, of a word, the time and chance: two that begin at once are two runs."""
    return f"{name_from(word, 'run')}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
