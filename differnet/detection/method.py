"""What the methods that the detector is compared with have in common: features in, strangeness out."""

from __future__ import annotations

import abc
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from differnet.detection.side_by_side import one_thread
from differnet.features import Backbone, Preprocessing, choose_device, find_weights, prepare_batch
from differnet.flows import Flow
from differnet.images.reading import ImageError, ReadingRule, read_image
from differnet.records import DiffernetError, Picture

Source = Path | str | Picture | NDArray[Any]
Progress = Callable[[str, int, int], None]

# Pictures that are decoded and prepared together: the detector's own number.
BATCH = 16
# With fewer parts a covariance says nothing; the detector refuses them too.
LEAST_PARTS = 4
# Of the maps that a network shows to them, whatever those of the detector are.
_STRIDES = (8, 16, 32)


class MethodError(DiffernetError):
    """A method that was asked before it was fitted, fed too little, or set to what makes no sense."""


@dataclass(frozen=True)
class MethodSettings:
    """What a person may choose of any method; the names are those of `DetectorSettings`.

    Attributes:
        backbone: A timm network.
        weights: Its weights; ``None`` finds the installed ones.
        allow_download: Let timm fetch weights.
        image_size: Side of the square that pictures are resized to, pixels.
        device: ``auto``, ``cpu`` or ``cuda``.
        reading: How files become pixels.
    """

    backbone: str = "tf_efficientnet_lite0"
    weights: Path | None = None
    allow_download: bool = False
    image_size: int = 256
    device: str = "auto"
    reading: ReadingRule = field(default_factory=ReadingRule)


@dataclass(frozen=True)
class Judgement:
    """What a method says of one picture.

    Attributes:
        strangeness: ``|z|^2 / 2``, nats: what the method ranks by. Higher is stranger.
        nll: The full negative log-density of the features, nats; kept beside it for comparison.
        heat_map: ``(height, width)`` float32 over the picture, or ``None`` where the method locates nothing
            or was not asked to.
    """

    strangeness: float
    nll: float
    heat_map: NDArray[np.float32] | None = field(default=None, repr=False)


class Judged(NamedTuple):
    """What a method says of a batch: ``(n,)``, ``(n,)``, and ``(n, size, size)`` or ``None``."""

    strangeness: Tensor
    nll: Tensor
    heat: Tensor | None


class Method(abc.ABC):
    """A density of one feature vector a picture, learned from good parts.

    Args:
        settings: See the class's own settings.

    Attributes:
        name: On the command line and in reports.
        seconds: Time of each stage of fitting.
        skipped: Files that fitting left out, with the reason.
        flow_: The density that was learned.
    """

    name: ClassVar[str]
    settings: MethodSettings

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings
        self.seconds: dict[str, float] = {}
        self.skipped: list[tuple[str, str]] = []
        self.flow_: Flow | None = None
        self.provenance_: dict[str, Any] = {}
        self._opened: tuple[Backbone, Preprocessing] | None = None
        self._device = choose_device(settings.device)

    def fit(self, pictures: Sequence[Source], seed: int = 0, progress: Progress | None = None) -> Self:
        """Learn the density of good parts.

        Args:
            pictures: Good parts. Files that cannot be read are left out and listed in ``skipped``.
            seed: Of everything that is random.
            progress: Called with (stage, done, total).

        Raises:
            MethodError: Fewer than four readable, different parts.
            WeightsError: The backbone has no verified weights here.
        """
        settings = self.settings
        weights = find_weights(settings.backbone, settings.weights, allow_download=settings.allow_download)
        preprocessing = Preprocessing(settings.image_size, weights.mean, weights.std)
        self._opened = Backbone(settings.backbone, weights, _STRIDES).to(self._device), preprocessing
        self.flow_, self.seconds, self.skipped = None, {}, []
        generator = torch.Generator().manual_seed(seed)
        started = time.perf_counter()
        vectors: list[Tensor] = []
        different: set[str] = set()
        for start in range(0, len(pictures), BATCH):
            readable = self._readable(pictures[start : start + BATCH])
            different |= {picture.sha256 for picture in readable}
            if readable:
                pixels = prepare_batch(readable, preprocessing).to(self._device)
                vectors.append(self._training_vectors(pixels, generator).cpu())
            if progress is not None:
                progress("features", min(start + BATCH, len(pictures)), len(pictures))
        if len(different) < LEAST_PARTS:
            unread = f" ({len(self.skipped)} could not be read)" if self.skipped else ""
            raise MethodError(
                expected=f"at least {LEAST_PARTS} readable, different pictures of good parts",
                found=f"{len(different)}{unread}",
                remedy="Give more pictures of good parts; twenty are a fair start.",
            )
        self.seconds["features"] = time.perf_counter() - started
        started = time.perf_counter()
        with one_thread():
            flow = self._learn(torch.cat(vectors), seed, progress)
        self.flow_ = flow.eval().requires_grad_(False).to(self._device)
        self.seconds["density"] = time.perf_counter() - started
        self.provenance_ = {
            "backbone": {"name": settings.backbone, "origin": weights.origin, "sha256": weights.sha256},
            "features": flow.features,
            "training_parts": len(different),
            "training_vectors": sum(len(some) for some in vectors),
        }
        return self

    def judge(self, pictures: Sequence[Source], *, located: bool = True) -> Iterator[Judgement]:
        """Judge pictures one after another, in their order.

        Args:
            pictures: Files, decoded pictures or ``(height, width, 3)`` RGB arrays.
            located: Whether heat maps are wanted.

        Raises:
            MethodError: Nothing was fitted.
            ImageError: A file cannot be read.
        """
        _, preprocessing = self._ready()
        for start in range(0, len(pictures), BATCH):
            batch = [self._read(source) for source in pictures[start : start + BATCH]]
            judged = self._judge(prepare_batch(batch, preprocessing).to(self._device), located)
            for i, picture in enumerate(batch):
                heat = None
                if judged.heat is not None:
                    whole = (picture.width, picture.height)
                    # One at a time: a heat map is as large as its picture.
                    heat = cv2.resize(judged.heat[i].numpy(), whole, interpolation=cv2.INTER_LINEAR)
                yield Judgement(float(judged.strangeness[i]), float(judged.nll[i]), heat)

    def strangeness(self, pictures: Sequence[Source]) -> NDArray[np.float64]:
        """Return ``(n,)`` numbers, higher is stranger; see `judge`."""
        return np.array([j.strangeness for j in self.judge(pictures, located=False)], dtype=np.float64)

    def heat_map(self, picture: Source) -> NDArray[np.float32] | None:
        """Return ``(height, width)`` of one picture, ``None`` where the method locates nothing."""
        return next(self.judge([picture])).heat_map

    @abc.abstractmethod
    def _training_vectors(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the feature vectors that ``(n, 3, size, size)`` good parts give to learn from."""

    @abc.abstractmethod
    def _learn(self, vectors: Tensor, seed: int, progress: Progress | None) -> Flow:
        """Return the density of ``(n, features)`` vectors."""

    @abc.abstractmethod
    def _judge(self, pixels: Tensor, located: bool) -> Judged:
        """Judge ``(n, 3, size, size)`` pixels; everything returned lies on the CPU."""

    def _ready(self) -> tuple[Backbone, Preprocessing]:
        if self._opened is None:
            raise MethodError(
                expected="a fitted method", found="one without a backbone", remedy="Call fit first."
            )
        return self._opened

    def _density(self) -> Flow:
        if self.flow_ is None:
            raise MethodError(
                expected="a fitted method", found="one without a density", remedy="Call fit first."
            )
        return self.flow_

    def _readable(self, sources: Sequence[Source]) -> list[Picture]:
        found = []
        for source in sources:
            try:
                found.append(self._read(source))
            except ImageError as error:
                self.skipped.append((str(source), str(error)))
        return found

    def _read(self, source: Source) -> Picture:
        if isinstance(source, Path | str):
            return read_image(Path(source), self.settings.reading)
        if isinstance(source, Picture):
            return source
        pixels = np.ascontiguousarray(source)
        colour = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size > 0
        if not colour or pixels.dtype not in (np.uint8, np.uint16):
            raise MethodError(
                expected="(height, width, 3) RGB pixels of uint8 or uint16, at least one",
                found=f"shape {pixels.shape} of {pixels.dtype}",
                remedy="Convert the array, or give a file.",
            )
        return Picture(pixels, None, hashlib.sha256(pixels.tobytes()).hexdigest())
