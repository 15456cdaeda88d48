"""What may be asked for, and checks that it can be fulfilled: nothing of a wish is ever run or imported.

A wish is kept in the record as JSON and read back strictly: a field that is not known, or of another type, is
an error. Paths are absolute and have to be there; names of what is made are one step of a path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from differnet.detection.settings import DensitySettings
from differnet.records import USUAL_DEFECT, USUAL_REVIEW
from differnet.tasks.places import WishError, existing, existing_folder, plain_name

PAGES = ("html", "pdf")
TABLES = {"csv": "csv", "parquet": "parquet", "json": "jsonl"}
"""Formats of a report: pages, and tables by what `differnet.reporting.export_run` calls them."""

_MOST_PICTURES = 2000
_MOST_PLACES = 1000
_MOST_PARTS = 20_000


@dataclass(frozen=True)
class SampleWish:
    """Make the sample product.

    Attributes:
        workspace: It goes into ``data`` there.
        name: Of its folder.
        train, good_test, per_defect, per_wrong, seed: As for `make_sample_product`.
    """

    workspace: str
    name: str = "flange"
    train: int = 120
    good_test: int = 40
    per_defect: int = 10
    per_wrong: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        existing_folder(self.workspace, "a workspace")
        plain_name(self.name)
        for what in ("train", "good_test", "per_defect", "per_wrong"):
            _between(what, getattr(self, what), 0, _MOST_PICTURES)
        _between("seed", self.seed, 0, 2**31 - 1)

    @property
    def title(self) -> str:
        """In words."""
        return f"Make the sample product {self.name}"


@dataclass(frozen=True)
class ScanWish:
    """Look at every picture of a folder before training on it.

    Attributes:
        workspace: For the log.
        data: The folder, or a manifest.
        layout: How it is laid out.
    """

    workspace: str
    data: str
    layout: str = "auto"

    def __post_init__(self) -> None:
        existing_folder(self.workspace, "a workspace")
        existing(self.data, "a folder of pictures")

    @property
    def title(self) -> str:
        """In words."""
        return f"Look at {self.data}"


@dataclass(frozen=True)
class TrainWish:
    """Learn what good parts look like, and calibrate.

    Attributes:
        workspace: The model goes into ``models`` there.
        data: Folder of good parts, or a manifest.
        name: Of the model's folder, which is new.
        product: Of the product; chooses one where the data has several.
        layout: How the data is laid out.
        quality, image_size, seed, alpha_review, alpha_defect, keep_suspects, backbone, device: As for
            `DetectorSettings`.
        ignore: A picture whose pixels above 0 are ignored; empty for none.
        weights: File of the backbone's weights; empty for the installed ones.
        folds: Members of the ensemble.
        steps: Training steps of each local density.
    """

    workspace: str
    data: str
    name: str
    product: str = ""
    layout: str = "auto"
    quality: str = "standard"
    image_size: int = 256
    seed: int = 0
    alpha_review: float = USUAL_REVIEW
    alpha_defect: float = USUAL_DEFECT
    ignore: str = ""
    keep_suspects: bool = False
    backbone: str = "tf_efficientnet_lite0"
    weights: str = ""
    device: str = "auto"
    folds: int = 4
    steps: int = DensitySettings.steps

    def __post_init__(self) -> None:
        existing_folder(self.workspace, "a workspace")
        existing(self.data, "a folder of good parts")
        plain_name(self.name)
        _one_of("quality", self.quality, ("standard", "best"))
        _one_of("device", self.device, ("auto", "cpu", "cuda"))
        _between("image size", self.image_size, 64, 1024)
        _between("seed", self.seed, 0, 2**31 - 1)
        _between("folds", self.folds, 2, 64)
        _between("steps", self.steps, 1, 100_000)
        if not 0 < self.alpha_defect <= self.alpha_review < 1:
            raise WishError(
                expected="shares of good parts above 0 and below 1, that of defects not above that of review",
                found=f"{self.alpha_defect:g} for defects, {self.alpha_review:g} for review",
                remedy="What is rejected would be reviewed too: lower the one or raise the other.",
            )
        for what, place in (("a mask of what is ignored", self.ignore), ("a file of weights", self.weights)):
            if place and not existing(place, what).is_file():
                raise WishError(expected=what, found=f"a folder, {place}", remedy="Name the file.")

    @property
    def title(self) -> str:
        """In words."""
        return f"Train {self.name} on {self.data}"


@dataclass(frozen=True)
class InspectWish:
    """Inspect pictures into a run of the record, or go on with one.

    Attributes:
        workspace: A new run's heat maps and previews go into ``runs`` there.
        run: Name of the run. One that was begun goes on, under the thresholds that it was begun with.
        model: Id of the model of a new run.
        pictures: Folders and files; none to go on with what a run has.
        layout: How folders are laid out.
        retry: Try once more what was put aside.
        wrong_inputs: Inspect also what lies in ``wrong_inputs`` in a folder, where there is that.
        decoders: Processes that decode; 0 for as many as are usual.
    """

    workspace: str
    run: str
    model: str = ""
    pictures: tuple[str, ...] = ()
    layout: str = "auto"
    retry: bool = False
    wrong_inputs: bool = False
    decoders: int = 0

    def __post_init__(self) -> None:
        existing_folder(self.workspace, "a workspace")
        _between("decoders", self.decoders, 0, 64)
        _between("folders and files", len(self.pictures), 0, _MOST_PLACES)
        for place in self.pictures:
            existing(place, "pictures")
        if self.pictures:
            # It may be new, and then becomes a folder's name.
            plain_name(self.run)

    @property
    def title(self) -> str:
        """In words."""
        if not self.pictures:
            return f"{'Try again what was put aside of' if self.retry else 'Go on with'} {self.run}"
        more = f" and {len(self.pictures) - 1:,} more" if len(self.pictures) > 1 else ""
        return f"Inspect {self.pictures[0]}{more} as {self.run}"


@dataclass(frozen=True)
class ReportWish:
    """Write reports and tables of a run.

    Attributes:
        workspace: They go into ``reports`` there.
        run: Name of the run.
        formats: Of html, pdf, csv, parquet, json.
    """

    workspace: str
    run: str
    formats: tuple[str, ...] = ("html", "csv")

    def __post_init__(self) -> None:
        existing_folder(self.workspace, "a workspace")
        for name in self.formats or ("",):
            _one_of("format", name, (*PAGES, *TABLES))

    @property
    def title(self) -> str:
        """In words."""
        return f"Write {', '.join(self.formats)} of {self.run}"


@dataclass(frozen=True)
class RetrainWish:
    """Train a model again with what people said since, and compare it with the one in use.

    Attributes:
        workspace: The new model goes into ``models`` there.
        model: Id of the model in use.
        data: What it was trained on, or a newer such folder.
        name: Of the new model's folder, which is new.
        product: Chooses one where the data has several; empty for the model's.
        layout: How the data is laid out.
        run: Take the reviews of one run alone; empty for all.
        seed: ``None`` for the model's own.
        keep_suspects: As for `DetectorSettings`.
        root: Where relative paths of inspected pictures begin; empty for the workspace.
    """

    workspace: str
    model: str
    data: str
    name: str
    product: str = ""
    layout: str = "auto"
    run: str = ""
    seed: int | None = None
    keep_suspects: bool = False
    root: str = ""

    def __post_init__(self) -> None:
        existing_folder(self.workspace, "a workspace")
        existing(self.data, "a folder of good parts")
        plain_name(self.name)
        if self.seed is not None:
            _between("seed", self.seed, 0, 2**31 - 1)
        if self.root:
            existing_folder(self.root, "the folder where relative paths begin")

    @property
    def title(self) -> str:
        """In words."""
        return f"Train {self.name} again, on {self.data} and what people said"


@dataclass(frozen=True)
class CompareWish:
    """Compare two models on known parts of the record, and keep that beside the new one.

    Attributes:
        workspace: For the log.
        model: Id of the model in use.
        new: Id of the new one.
        parts: Parts at most, see `differnet.reviewing.parts_to_compare`.
        root: Where relative paths of inspected pictures begin; empty for the workspace.
    """

    workspace: str
    model: str
    new: str
    parts: int = 400
    root: str = ""

    def __post_init__(self) -> None:
        existing_folder(self.workspace, "a workspace")
        _between("parts", self.parts, 2, _MOST_PARTS)
        if self.model == self.new:
            raise WishError(
                expected="two models", found=f"{self.model} twice", remedy="Choose another new model."
            )
        if self.root:
            existing_folder(self.root, "the folder where relative paths begin")

    @property
    def title(self) -> str:
        """In words."""
        return f"Compare model {self.model} with {self.new}"


Wish = SampleWish | ScanWish | TrainWish | InspectWish | ReportWish | RetrainWish | CompareWish


def _between(what: str, number: int, least: int, most: int) -> None:
    if not (math.isfinite(number) and least <= number <= most):
        raise WishError(
            expected=f"{what} from {least:,} to {most:,}", found=f"{number:,}", remedy="Change that number."
        )


def _one_of(what: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise WishError(
            expected=f"{what} of {', '.join(words)}", found=repr(word[:100]), remedy="Name one of them."
        )
