"""What a person may choose of a detector. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from differnet.features.preprocessing import KNOWN_STRIDES, LARGEST_INPUT, SMALLEST_INPUT, STRIDES
from differnet.images.reading import ReadingRule
from differnet.records import MOST_REFERENCES, USUAL_DEFECT, USUAL_REVIEW, DiffernetError

# Seeds of members and flows are made of 1,000 times this one, and torch takes 64 bits.
_LARGEST_SEED = 2**32 - 1
_MOST_FOLDS = 64
_MOST_SCALES = 8
_MOST_ZOOMS = 4


class ScaleError(DiffernetError):
    """A grid of patches that cannot be laid."""


@dataclass(frozen=True)
class PatchScale:
    """One grid of patches on which a local density is learned.

    Attributes:
        name: Said in reasons and kept in the model.
        strides: Of the network's maps that a patch is made of, picture pixels, fine to coarse. The first
            is the distance between neighbouring patches; coarser maps are interpolated between their cells.
        window: Side of the neighbourhood whose features are averaged, in patches; odd.
        zoom: Which of the detector's input sizes it looks at, counted from 0.

    Raises:
        ScaleError: The window is even, or the strides are not positive and ascending.
    """

    name: str
    strides: tuple[int, ...]
    window: int = 1
    zoom: int = 0

    def __post_init__(self) -> None:
        ascending = sorted(set(self.strides)) == list(self.strides) and min(self.strides, default=0) >= 1
        if not ascending or self.window < 1 or self.window % 2 == 0 or self.zoom < 0:
            raise ScaleError(
                expected="ascending strides of 1 or more, an odd window and a zoom of 0 or more",
                found=f"strides {self.strides}, window {self.window}, zoom {self.zoom}",
                remedy="A window of 1 averages nothing.",
            )


@dataclass(frozen=True)
class DensitySettings:
    """How the densities are built and trained. One set for every product.

    Attributes:
        noise: Smoothing, in standard deviations of a standardised feature. Without it likelihood
            grows on directions that tell good parts from each other, and detection falls.
        couplings: Affine couplings of each local flow.
        whole_couplings: Of each global one. By default none: on parts that are held out they gained nothing
            that a Gaussian with a shrunk covariance does not say, and cost a tenth of the training.
        hidden: Width of a coupling's network.
        redrawn: Whether features are dealt into halves anew after every other coupling. By default the same
            halves take turns: it detects as much, and an exported graph can keep each half by itself.
        steps: Training steps of a local flow; a global one, of few vectors, takes a quarter.
        batch: Vectors a step.
        learning_rate: Peak.
        context_noise: Blur of the local density's condition.
    """

    noise: float = 0.3
    couplings: int = 4
    whole_couplings: int = 0
    hidden: int = 112
    redrawn: bool = False
    steps: int = 700
    batch: int = 512
    learning_rate: float = 5e-3
    context_noise: float = 0.3


# Each stride has a density of its own: side by side in one, small pieces drown among their surroundings.
_SCALES = (PatchScale("fine", (8,)), PatchScale("coarse", (16,)))


# What a quality sets; all else stays as chosen. The second look is closer, at the whole and at patches.
_QUALITIES: dict[str, dict[str, Any]] = {
    "standard": {},
    "best": {
        "zooms": (1.0, 1.5),
        "scales": (*_SCALES, *(replace(s, name=f"close {s.name}", zoom=1) for s in _SCALES)),
    },
}
QUALITIES = tuple(_QUALITIES)


class DetectorError(DiffernetError):
    """A detector that was asked for something out of its order, or fed too little."""


@dataclass(frozen=True)
class DetectorSettings:
    """What a person may choose. Everything else has one default for every product.

    Attributes:
        backbone: A timm network.
        weights: Its weights; ``None`` finds the installed ones.
        allow_download: Let timm fetch weights.
        image_size: Side of the square that pictures are resized to, pixels.
        seed: Of folds, weights, batches and noise.
        alpha_review: Share of good parts that may be sent to REVIEW or beyond.
        alpha_defect: Share of good parts that may be called DEFECT or OOD (overkill).
        device: ``auto``, ``cpu`` or ``cuda``.
        product: Name that records carry.
        folds: Members of the ensemble. From 200 parts on, patches are learned from halves of an even one.
        density: How the densities are built.
        scales: Grids of the local densities.
        keep_suspects: Learn also from training parts that stand out so far that they are probably not good.
        strides: Of the network's maps that are looked at, picture pixels: the whole is pooled from them, and
            the network ends with the coarsest.
        zooms: Input sizes as multiples of ``image_size``; each takes a pass of the network, in tiles
            where it is above 1024 pixels.
        reading: How files become pixels.
        references: Good parts of which the model keeps a small picture, to show the one that is most like a
            strange part; 0 keeps none.
        ignore: A picture over every part's, whose pixels above 0 are ignored. A model keeps what it says; a
            loaded detector has no file here.
        features: A folder that keeps features of pictures from one training to the next, half a megabyte
            each; ``None`` keeps none. The model is the same with it and without.

    Raises:
        DetectorError: A number is outside its range; said here, before anything is trained.
    """

    backbone: str = "tf_efficientnet_lite0"
    weights: Path | None = None
    allow_download: bool = False
    image_size: int = 256
    seed: int = 0
    alpha_review: float = USUAL_REVIEW
    alpha_defect: float = USUAL_DEFECT
    device: str = "auto"
    product: str = ""
    folds: int = 4
    density: DensitySettings = field(default_factory=DensitySettings)
    scales: tuple[PatchScale, ...] = _SCALES
    strides: tuple[int, ...] = STRIDES
    zooms: tuple[float, ...] = (1.0,)
    keep_suspects: bool = False
    reading: ReadingRule = field(default_factory=ReadingRule)
    references: int = MOST_REFERENCES
    ignore: Path | None = None
    features: Path | None = None

    def __post_init__(self) -> None:
        check_alphas(self.alpha_review, self.alpha_defect)
        for name, value, least, most in (
            ("seed", self.seed, 0, _LARGEST_SEED),
            ("folds", self.folds, 2, _MOST_FOLDS),
            ("scales", len(self.scales), 1, _MOST_SCALES),
            ("zooms", len(self.zooms), 1, _MOST_ZOOMS),
            ("references", self.references, 0, MOST_REFERENCES),
            ("a scale's zoom", max((s.zoom for s in self.scales), default=0), 0, len(self.zooms) - 1),
        ):
            if not least <= value <= most:
                raise DetectorError(
                    expected=f"{name} from {least} to {most}", found=str(value), remedy="Use the default."
                )
        if sorted(set(self.strides) & set(KNOWN_STRIDES)) != list(self.strides) or not self.strides:
            raise DetectorError(
                expected=f"ascending strides of {', '.join(map(str, KNOWN_STRIDES))}, at least one",
                found=str(self.strides),
                remedy="Use the default.",
            )
        # Small ones are rounded up to the smallest.
        wide = all(z > 0 and math.isfinite(z) and self.image_size * z <= LARGEST_INPUT for z in self.zooms)
        if self.image_size < 1 or not wide:
            raise DetectorError(
                expected=f"zooms above 0, and no input of more than {LARGEST_INPUT} pixels",
                found=f"image size {self.image_size}, zooms {self.zooms}",
                remedy="Choose a smaller image size or smaller zooms.",
            )

    @classmethod
    def of_quality(cls, quality: str, **chosen: Any) -> Self:
        """Return settings of a quality, and whatever else is chosen.

        ``standard`` is the default: one pass of the network a picture. ``best`` looks once more at one and
        a half times the size, whole and patches: 3.25 times the operations.

        Raises:
            DetectorError: There is no such quality.
        """
        if quality not in _QUALITIES:
            raise DetectorError(
                expected=f"one of {', '.join(QUALITIES)}", found=quality, remedy="Choose one of them."
            )
        return cls(**{**_QUALITIES[quality], **chosen})

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the squares that the network sees, pixels: multiples of 32, as it needs them."""
        return tuple(max(SMALLEST_INPUT, 32 * round(self.image_size * zoom / 32)) for zoom in self.zooms)


def check_alphas(alpha_review: float, alpha_defect: float) -> None:
    """Raise `DetectorError` unless ``0 < alpha_defect <= alpha_review < 1``."""
    if not 0 < alpha_defect <= alpha_review < 1:
        raise DetectorError(
            expected="0 < alpha_defect <= alpha_review < 1",
            found=f"alpha_defect {alpha_defect}, alpha_review {alpha_review}",
            remedy=f"Usual are {USUAL_DEFECT} and {USUAL_REVIEW}: what is rejected would be reviewed too.",
        )
