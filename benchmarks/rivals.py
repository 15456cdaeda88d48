"""PaDiM, PatchCore and the closed-form Gaussians beside differnet: same network, preprocessing and split.

Every method sees the maps of strides 8, 16 and 32 of differnet's own backbone, of pictures read and resized
by differnet's own code, and is measured by its metrics on masks of the pictures' own size. No constant is
tuned on test parts: they are the papers', or where these are silent those of published implementations. The
Gaussian of stride 32 was added when that of stride 16 was seen to be the weaker on `aliens`; both are shown.
Each product leaves `reports/rivals-<product>.json`; methods that are not measured anew keep their figures.

    python benchmarks/rivals.py                                    every method on every product
    python benchmarks/rivals.py --only mtd --methods patchcore_1 --seeds 1

The methods are implemented here from their papers. To check them: anomalib 2.7 on the same backbone and split
at 256 px gave image AUROC 95.3 (PaDiM) and 91.6 (PatchCore, coreset 0.1 %) on MTD, and 86.6 and 99.5 on
`aliens`, by its raw scores, with its own decoding and resizing. On MTD this PatchCore with a coreset of
0.1 % gives 92.3 and 91.8 (seeds 0 and 1).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from torch import Tensor
from torch.nn import functional

from differnet.detection import DetectorSettings
from differnet.evaluation.intervals import auroc_difference, auroc_standard_error
from differnet.evaluation.metrics import MetricError, PixelCurves, by_kind, image_auroc
from differnet.evaluation.per_part import by_part, figures_json, stacked
from differnet.features import Backbone, Preprocessing, find_weights, prepare_batch
from differnet.features.preprocessing import BackboneError
from differnet.images.layouts import GOOD, Dataset, Part, read_layout
from differnet.images.reading import read_image, read_masks
from differnet.images.synthetic import make_sample_product

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "reports"
# Of the maps that every method sees, whatever those of differnet are.
STRIDES = (8, 16, 32)

# Pictures that are decoded, mapped and scored together: the detector's own number.
BATCH = 16
# Of the blur of heat maps, pixels of the network's input (both papers).
SIGMA = 4.0
# PaDiM, equation 1: epsilon of the covariance.
RIDGE = 0.01
# PatchCore's code projects to 128 numbers before it chooses the coreset.
PROJECTED = 128
# PatchCore, equation 7: b, the neighbours by which the score is weighted. The number is anomalib's.
NEIGHBOURS = 9
# Vectors times centres of one coreset, about 7 minutes on one core. 1 % of MTD's 779,264 vectors takes
# 6.1e9 and 10 % would take ten times as long.
MOST_PAIRS = 7e9

Maps = Sequence[Tensor]
Scores = NDArray[np.float64]
Heat = NDArray[np.float32]


class Rival(Protocol):
    """A method that learns from the maps of good parts and scores those of others.

    Maps are ``(parts, channels, rows, columns)`` each, fine to coarse, float32.
    """

    def fit(self, maps: Maps) -> Self:
        """Learn from good parts."""

    def score(self, maps: Maps) -> tuple[Scores, Heat | None]:
        """Return ``(parts,)`` strangeness, and ``(parts, size, size)`` heat maps where there are any."""

    def facts(self) -> dict[str, Any]:
        """Return what a reader of the figures should know, JSON-able."""


class WholeGaussian:
    """One Gaussian of the part's pooled statistics: mean and deviation of every channel of every map.

    The statistics are standardised, the covariance is Ledoit and Wolf's, the strangeness is the squared
    Mahalanobis distance.

    Source: Ledoit, Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
    """

    def fit(self, maps: Maps) -> Self:
        """Estimate mean and covariance."""
        statistics = _pooled(maps)
        self._level, self._spread = statistics.mean(0), statistics.std(0, correction=0)
        # A channel that never varies says nothing, whatever its unit.
        self._spread[self._spread < 1e-9] = 1.0
        self._gaussian = _Gaussian((statistics - self._level) / self._spread)
        return self

    def score(self, maps: Maps) -> tuple[Scores, Heat | None]:
        """Return squared distances; a density of the whole locates nothing."""
        squared = self._gaussian.squared_distance((_pooled(maps) - self._level) / self._spread)
        return squared.numpy(), None

    def facts(self) -> dict[str, Any]:
        """Return width and shrinkage."""
        return self._gaussian.facts()


class PatchGaussian:
    """One Gaussian of all raw patches of one stride, whatever their position.

    A part's strangeness is the mean squared Mahalanobis distance of its ten strangest patches, its heat
    map that of all patches, laid over the picture bilinearly.

    Args:
        size: Side of the network's input, pixels.
        stride: Of the map whose cells are the patches.

    Source: Ledoit, Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
    """

    def __init__(self, size: int, stride: int) -> None:
        self._size, self._index = size, STRIDES.index(stride)

    def fit(self, maps: Maps) -> Self:
        """Estimate mean and covariance."""
        self._gaussian = _Gaussian(self._patches(maps).flatten(0, 2).double())
        return self

    def score(self, maps: Maps) -> tuple[Scores, Heat | None]:
        """Return the mean of the ten largest squared distances, and all of them as a map."""
        squared = self._gaussian.squared_distance(self._patches(maps).double())
        count = min(10, squared[0].numel())
        strangest = squared.flatten(1).topk(count, dim=1).values.mean(1)
        return strangest.numpy(), _enlarged(squared.float(), self._size).numpy()

    def facts(self) -> dict[str, Any]:
        """Return width and shrinkage."""
        return self._gaussian.facts()

    def _patches(self, maps: Maps) -> Tensor:
        return maps[self._index].permute(0, 2, 3, 1)


class PaDiM:
    """One Gaussian a position, of all strides' features side by side on the finest grid.

    ``cov = S + 0.01 I`` with the unbiased ``S`` at each position (equation 1); the heat map is the
    Mahalanobis distance (equation 2), laid over the picture bilinearly and blurred; its maximum is the
    part's strangeness. Coarse cells are repeated on the finest grid.

    Args:
        size: Side of the network's input, pixels.
        dimensions: How many features are drawn at random, ``None`` for all.
        seed: Of the draw.

    Source: Defard, Setkov, Loesch, Audigier 2021, "PaDiM: a patch distribution modeling framework for anomaly
    detection and localization". The strides are differnet's 8, 16, 32; the paper's ResNets use 4, 8, 16.
    """

    def __init__(self, size: int, dimensions: int | None, seed: int) -> None:
        self._size, self._dimensions, self._seed = size, dimensions, seed

    def fit(self, maps: Maps) -> Self:
        """Estimate a mean and a covariance at each position; at least two parts."""
        width = sum(m.shape[1] for m in maps)
        self._chosen = torch.arange(width)
        if self._dimensions is not None and self._dimensions < width:
            generator = torch.Generator().manual_seed(self._seed)
            self._chosen = torch.randperm(width, generator=generator)[: self._dimensions].sort().values
        rows, columns, kept = maps[0].shape[2], maps[0].shape[3], len(self._chosen)
        self._mean = torch.empty(rows, columns, 1, kept)
        # float32, since these are a gigabyte for 472 features at 1,024 positions.
        self._whitening = torch.empty(rows, columns, kept, kept)
        identity = torch.eye(kept, dtype=torch.float64)
        for row in range(rows):
            vectors = self._vectors(maps, row).double()
            mean = vectors.mean(1, keepdim=True)
            centred = vectors - mean
            covariance = centred.mT @ centred / (vectors.shape[1] - 1) + RIDGE * identity
            factor = torch.linalg.cholesky(covariance)
            whitening = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
            self._mean[row], self._whitening[row] = mean.float(), whitening.float()
        return self

    def distances(self, maps: Maps) -> Tensor:
        """Return the Mahalanobis distance at each position, ``(parts, rows, columns)``."""
        found = []
        for row, (mean, whitening) in enumerate(zip(self._mean, self._whitening, strict=True)):
            z = (self._vectors(maps, row) - mean) @ whitening.mT
            found.append(torch.linalg.vector_norm(z, dim=2).T)
        return torch.stack(found, dim=1)

    def score(self, maps: Maps) -> tuple[Scores, Heat | None]:
        """Return the maximum of each blurred map, and the maps."""
        heat = _blurred(_enlarged(self.distances(maps), self._size))
        return heat.reshape(len(heat), -1).max(1).astype(np.float64), heat

    def facts(self) -> dict[str, Any]:
        """Return how many features were kept."""
        rows, columns = self._mean.shape[:2]
        return {"features": len(self._chosen), "positions": rows * columns}

    def _vectors(self, maps: Maps, row: int) -> Tensor:
        """Return one row of positions, ``(columns, parts, features)``."""
        rows, columns = maps[0].shape[2:]
        strips = []
        for features in maps:
            strip = features[:, :, row * features.shape[2] // rows]
            strips.append(strip[:, :, torch.arange(columns) * features.shape[3] // columns])
        return torch.cat(strips, dim=1)[:, self._chosen].permute(2, 0, 1).contiguous()


class PatchCore:
    """The nearest of a memory of good patches, thinned by greedy k-center.

    Patches are the maps of strides 8 and 16, averaged over 3 x 3 cells (zeros beyond the border, as in the
    paper's code), the coarser enlarged bilinearly, side by side on the finer grid. The coreset is chosen on
    a random projection. The part's strangeness is that of its strangest patch, weighted by `reweighted`; the
    heat map is laid over the picture bilinearly and blurred.

    Args:
        size: Side of the network's input, pixels.
        share: Of the good patches that the memory keeps; less when choosing it would cost more than
            ``MOST_PAIRS``, and the share that was kept is told.
        seed: Of the projection and the first centre.

    Source: Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler 2022, "Towards total recall in industrial anomaly
    detection".
    """

    def __init__(self, size: int, share: float, seed: int) -> None:
        self._size, self._share, self._seed = size, share, seed

    def fit(self, maps: Maps) -> Self:
        """Fill the memory."""
        patches = torch.cat([self._patches([m[some] for m in maps]).flatten(0, 2) for some in _batches(maps)])
        self._of = len(patches)
        # Distances are read off squared norms; centred vectors lose fewest digits of them.
        self._centre = patches.mean(0)
        patches -= self._centre
        count = max(1, min(round(self._share * self._of), int(MOST_PAIRS / self._of)))
        generator = torch.Generator().manual_seed(self._seed)
        start = int(torch.randint(self._of, (), generator=generator))
        projected = _projected(patches, generator)
        self._projected_to = projected.shape[1]
        chosen, self._radius = k_center_greedy(projected, count, start)
        self._memory = patches[chosen]
        return self

    def score(self, maps: Maps) -> tuple[Scores, Heat | None]:
        """Return the weighted distance of the strangest patch, and the distances as blurred maps."""
        patches = self._patches(maps) - self._centre
        distances = nearest_distance(patches.flatten(0, 2), self._memory).reshape(patches.shape[:3])
        strangest = distances.flatten(1).argmax(1)
        parts = patches.flatten(1, 2)[torch.arange(len(patches)), strangest]
        return np.array([reweighted(patch, self._memory) for patch in parts]), _blurred(
            _enlarged(distances, self._size)
        )

    def facts(self) -> dict[str, Any]:
        """Return the size of the memory, and how well it covers the good patches."""
        return {
            "memory": len(self._memory),
            "of": self._of,
            "share_asked": self._share,
            "share": len(self._memory) / self._of,
            "features": self._memory.shape[1],
            "projected": self._projected_to,
            "covering_radius": self._radius,
        }

    @staticmethod
    def _patches(maps: Maps) -> Tensor:
        """Return ``(parts, rows, columns, features)``."""
        averaged = [functional.avg_pool2d(m, 3, stride=1, padding=1) for m in maps[:2]]
        grid = averaged[0].shape[2:]
        coarse = functional.interpolate(averaged[1], size=grid, mode="bilinear", align_corners=False)
        return torch.cat([averaged[0], coarse], dim=1).permute(0, 2, 3, 1)


def k_center_greedy(vectors: Tensor, count: int, start: int) -> tuple[Tensor, float]:
    """Choose centres, each the vector that is farthest from those before it.

    The largest distance from a vector to its nearest centre is at most twice the smallest possible one
    (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance"). No vector is chosen twice.

    Args:
        vectors: ``(n, features)``, roughly centred: distances are read off squared norms.
        count: Of centres, at least 1; at most ``n`` are chosen.
        start: Index of the first.

    Returns:
        Indices in the order of choice, and the covering radius.

    Source: Roth et al. 2022, algorithm 1.

    >>> k_center_greedy(torch.tensor([[0.0], [1.0], [4.0], [9.0]]), 3, start=0)
    (tensor([0, 3, 2]), 1.0)
    """
    norms = vectors.square().sum(1)
    squared = torch.full_like(norms, math.inf)
    chosen = [start]
    while True:
        latest = chosen[-1]
        apart = torch.mv(vectors, vectors[latest]).mul_(-2).add_(norms).add_(norms[latest])
        torch.minimum(squared, apart, out=squared)
        # Below every distance and its rounding, for good: a centre is never taken again.
        squared[latest] = -math.inf
        farthest = int(squared.argmax())
        if len(chosen) >= min(count, len(vectors)):
            return torch.tensor(chosen), math.sqrt(max(0.0, float(squared[farthest])))
        chosen.append(farthest)


def nearest_distance(vectors: Tensor, memory: Tensor) -> Tensor:
    """Return each vector's Euclidean distance to the nearest in memory, ``(n,)``.

    Args:
        vectors: ``(n, features)``.
        memory: ``(m, features)``, roughly centred: distances are read off squared norms.
    """
    norms = memory.square().sum(1)
    # 1,024 x 10,000 float32 are 40 MB.
    starts = range(0, len(vectors), 1024)
    closest = [(norms - 2 * vectors[i : i + 1024] @ memory.T).min(1).values for i in starts]
    return (torch.cat(closest) + vectors.square().sum(1)).clamp_min(0).sqrt()


def reweighted(patch: Tensor, memory: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """Return a patch's distance to the memory, raised where the memory is sparse.

    ``s = (1 - exp(d*) / sum_m exp(d_m)) d*``: ``d*`` is the distance to the nearest vector ``m*`` in memory,
    and ``m`` runs over the vectors nearest to ``m*``, itself among them, ``d_m`` being the patch's
    distance to each. A memory of one vector has no neighbourhood, and gives ``d*``.

    Args:
        patch: ``(features,)``.
        memory: ``(m, features)``.
        neighbours: How many vectors near ``m*``.

    Source: Roth et al. 2022, equations 6 and 7.

    >>> round(reweighted(torch.tensor([1.0]), torch.tensor([[0.0], [3.0], [50.0]]), neighbours=2), 4)
    0.7311
    """
    distances = torch.linalg.vector_norm(memory - patch, dim=1)
    closest = int(distances.argmin())
    if len(memory) < 2:
        return float(distances[closest])
    around = torch.linalg.vector_norm(memory - memory[closest], dim=1)
    # Another copy of m* must not take its place.
    around[closest] = -1.0
    near = around.topk(min(neighbours, len(memory)), largest=False).indices
    # softmax subtracts the largest distance, and so never overflows; m* is its first.
    weight = 1 - float(distances[near].double().softmax(0)[0])
    return weight * float(distances[closest])


class _Gaussian:
    """Mean and Ledoit-Wolf covariance of ``(n, features)`` vectors, float64."""

    def __init__(self, vectors: Tensor) -> None:
        covariance, self.shrinkage = ledoit_wolf(vectors.numpy())
        self.mean = vectors.mean(0)
        self._factor = torch.linalg.cholesky(torch.from_numpy(covariance))

    def squared_distance(self, vectors: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance of ``(*batch, features)`` vectors, ``(*batch,)``."""
        flat = (vectors - self.mean).flatten(0, -2)
        z = torch.linalg.solve_triangular(self._factor, flat.T, upper=False)
        squared: Tensor = z.square().sum(0)
        return squared.reshape(vectors.shape[:-1])

    def facts(self) -> dict[str, Any]:
        """Return width and shrinkage."""
        return {"features": len(self.mean), "shrinkage": float(self.shrinkage)}


def _pooled(maps: Maps) -> Tensor:
    """Return mean and deviation of every channel, ``(parts, 2 * sum of channels)``."""
    means = [m.double().mean((2, 3)) for m in maps]
    deviations = [m.double().std((2, 3), correction=0) for m in maps]
    return torch.cat([*means, *deviations], dim=1)


def _projected(vectors: Tensor, generator: torch.Generator) -> Tensor:
    """Turn vectors wider than ``PROJECTED`` into so many random combinations.

    Source: Johnson, Lindenstrauss 1984, "Extensions of Lipschitz mappings into a Hilbert space".
    """
    width = vectors.shape[1]
    if width <= PROJECTED:
        return vectors
    mix: Tensor = torch.randn(width, PROJECTED, generator=generator) / PROJECTED**0.5
    return vectors @ mix


def _enlarged(maps: Tensor, size: int) -> Tensor:
    """Lay ``(parts, rows, columns)`` over the network's input, ``(parts, size, size)``."""
    whole = (size, size)
    enlarged: Tensor = functional.interpolate(maps[:, None], size=whole, mode="bilinear", align_corners=False)
    return enlarged[:, 0]


def _blurred(maps: Tensor) -> Heat:
    return np.stack([cv2.GaussianBlur(m, (0, 0), SIGMA) for m in maps.numpy()])


def _batches(maps: Maps) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, len(maps[0]), BATCH))


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        title: What a reader sees.
        build: ``(size of the network's input, seed) -> Rival``.
        random: Whether the seed matters; without, one run is all there is.
    """

    title: str
    build: Callable[[int, int], Rival]
    random: bool


METHODS: dict[str, Method] = {
    "gaussian_whole": Method("Gaussian, whole part", lambda size, seed: WholeGaussian(), random=False),
    "gaussian_patches_16": Method(
        "Gaussian, patches of stride 16", lambda size, seed: PatchGaussian(size, 16), random=False
    ),
    "gaussian_patches_32": Method(
        "Gaussian, patches of stride 32", lambda size, seed: PatchGaussian(size, 32), random=False
    ),
    "padim_100": Method("PaDiM, 100 features", lambda size, seed: PaDiM(size, 100, seed), random=True),
    "padim_all": Method("PaDiM, all features", lambda size, seed: PaDiM(size, None, seed), random=False),
    "patchcore_1": Method("PatchCore 1 %", lambda size, seed: PatchCore(size, 0.01, seed), random=True),
    "patchcore_10": Method("PatchCore 10 %", lambda size, seed: PatchCore(size, 0.1, seed), random=True),
}


@dataclass(frozen=True)
class Extracted:
    """What the backbone makes of some parts.

    Attributes:
        maps: Fine to coarse.
        shapes: ``(height, width)`` of each picture.
        seconds: From file to maps, for all of them.
    """

    maps: Maps
    shapes: list[tuple[int, int]]
    seconds: float


def measure(dataset: Dataset, names: Sequence[str], seeds: int, size: int | None = None) -> dict[str, Any]:
    """Fit and score every method on one product, from features that are extracted once.

    Args:
        dataset: With good training parts, and test parts good and defective.
        names: Of `METHODS`.
        seeds: Runs of the methods that are random.
        size: Side of the network's input, pixels; ``None`` for differnet's default.

    Returns:
        A method's name to ``image_auroc``, ``pixel_auroc`` and ``aupro`` (means over seeds, ``None`` without
        masks or map), ``by_defect``, ``by_seed`` (each part's strangeness under ``scores``), ``seconds``,
        ``configuration``.

    Raises:
        MetricError: The test parts lack good or defective ones; said before anything is extracted.
        BackboneError: The default network lacks a stride.
    """
    parts = _test_parts(dataset)
    # Taken before: what is measured is the code that stands there now.
    commit = _commit()
    defaults = DetectorSettings()
    weights = find_weights(defaults.backbone, defaults.weights)
    backbone = Backbone(defaults.backbone, weights, STRIDES)
    if backbone.strides != STRIDES:
        raise BackboneError(
            expected=f"maps at strides {STRIDES}",
            found=f"{backbone.strides} in {backbone.name}",
            remedy="Use a network that has them all.",
        )
    preprocessing = Preprocessing(size or defaults.image_size, weights.mean, weights.std)
    train = extract([p.path for p in dataset.train_good], backbone, preprocessing)
    test = extract([p.path for p in parts], backbone, preprocessing)
    shared = {
        "backbone": backbone.name,
        "weights_sha256": weights.sha256,
        "preprocessing": preprocessing.to_json(),
        "strides": list(backbone.strides),
        "threads": torch.get_num_threads(),
    }
    found: dict[str, Any] = {}
    for name in names:
        method = METHODS[name]
        runs = []
        for seed in range(seeds if method.random else 1):
            print(f"  {name}, seed {seed}", file=sys.stderr, flush=True)
            rival = method.build(preprocessing.size, seed)
            runs.append({"seed": seed, **_run(rival, train, test, parts, dataset.root)})
        found[name] = {
            "title": method.title,
            "random": method.random,
            **{k: _averaged(runs, k) for k in ("image_auroc", "pixel_auroc", "aupro")},
            "by_defect": {k: fmean(r["by_defect"][k] for r in runs) for k in runs[0]["by_defect"]},
            "by_seed": runs,
            "seconds": {k: fmean(r["seconds"][k] for r in runs) for k in runs[0]["seconds"]},
            "configuration": _configuration(dataset, {**shared, **_constants(name)}, len(runs), commit),
        }
    return found


@torch.inference_mode()
def extract(paths: Sequence[Path], backbone: Backbone, preprocessing: Preprocessing) -> Extracted:
    """Read pictures and map them, batch by batch.

    Raises:
        ImageError: A file cannot be read.
    """
    started = time.perf_counter()
    gathered: list[list[Tensor]] = []
    shapes: list[tuple[int, int]] = []
    for start in range(0, len(paths), BATCH):
        pictures = [read_image(path) for path in paths[start : start + BATCH]]
        shapes += [(p.height, p.width) for p in pictures]
        gathered.append([m.float().contiguous() for m in backbone(prepare_batch(pictures, preprocessing))])
    maps = [torch.cat(same) for same in zip(*gathered, strict=True)]
    return Extracted(maps, shapes, time.perf_counter() - started)


@torch.inference_mode()
def _run(
    rival: Rival, train: Extracted, test: Extracted, parts: Sequence[Part], root: Path
) -> dict[str, Any]:
    started = time.perf_counter()
    rival.fit(train.maps)
    fitting = time.perf_counter() - started
    curves = PixelCurves()
    scored: list[Scores] = []
    scoring = 0.0
    located = False
    for some in _batches(test.maps):
        before = time.perf_counter()
        strangeness, heat = rival.score([m[some] for m in test.maps])
        scoring += time.perf_counter() - before
        scored.append(strangeness)
        if heat is None:
            continue
        for part, shape, one in zip(parts[some], test.shapes[some], heat, strict=True):
            if not part.mask_paths and part.label != GOOD:
                continue
            located |= bool(part.mask_paths)
            mask = read_masks(part.mask_paths, shape)
            curves.add(cv2.resize(one, shape[::-1], interpolation=cv2.INTER_LINEAR), mask)
    strangeness = np.concatenate(scored)
    labels = [str(p.label) for p in parts]
    return {
        "image_auroc": image_auroc(strangeness, [label != GOOD for label in labels]),
        "pixel_auroc": curves.pixel_auroc() if located else None,
        "aupro": curves.aupro(max_fpr=0.3) if located else None,
        "by_defect": by_kind(strangeness, labels),
        "parts": {"good": labels.count(GOOD), "defective": len(labels) - labels.count(GOOD)},
        "facts": rival.facts(),
        "scores": by_part(parts, root, {"total": strangeness.tolist()}),
        "seconds": {
            "features": train.seconds,
            "fit": fitting,
            "features_a_picture": test.seconds / len(parts),
            "scoring_a_picture": scoring / len(parts),
        },
    }


def _test_parts(dataset: Dataset) -> Sequence[Part]:
    parts = [p for p in dataset.test if p.label is not None]
    if {p.label == GOOD for p in parts} != {True, False}:
        raise MetricError(
            expected="good and defective test parts",
            found=f"{sum(p.label == GOOD for p in parts)} good of {len(parts)} labelled",
            remedy="Measure on a folder that holds both.",
        )
    return parts


def _averaged(runs: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [r[name] for r in runs]
    return None if any(v is None for v in values) else fmean(values)


def _constants(name: str) -> dict[str, Any]:
    """Return the constants that a method rests on beside its own facts."""
    if name.startswith("padim"):
        return {"method": name, "ridge": RIDGE, "sigma": SIGMA}
    if name.startswith("patchcore"):
        return {"method": name, "sigma": SIGMA, "neighbours": NEIGHBOURS, "most_pairs": MOST_PAIRS}
    return {"method": name}


def _commit() -> str | None:
    """Return the commit that runs, marked when files differ from it; ``None`` outside a repository."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or None


def _configuration(
    dataset: Dataset, settings: dict[str, Any], seeds: int, commit: str | None
) -> dict[str, Any]:
    # Threads are how it ran, not what was measured; everything else names the configuration.
    named = {k: v for k, v in settings.items() if k != "threads"}
    digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
    names = ("differnet", "torch", "timm", "numpy", "scikit-learn", "opencv-python-headless")
    return {
        "sha256": digest[:16],
        "commit": commit,
        "layout": dataset.layout,
        "parts": dataset.counts,
        "seeds": seeds,
        "settings": settings,
        "versions": {name: version(name) for name in names},
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def read_results(reports: Path = REPORTS) -> dict[str, dict[str, Any]]:
    """Return the stored figures, product to method to figures, methods in the order of `METHODS`."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(reports.glob("rivals-*.json")):
        stored = json.loads(path.read_text("utf-8"))
        found[path.stem.removeprefix("rivals-")] = {name: stored[name] for name in METHODS if name in stored}
    return found


def table(
    results: Mapping[str, Mapping[str, Any]], own: Mapping[str, Mapping[str, Any]] | None = None
) -> list[str]:
    """Write the figures as a Markdown table, a row a product and method.

    Args:
        results: As `read_results` gives them.
        own: Product to what `run_benchmark` gave of differnet itself, which then leads each product.

    Returns:
        Lines, without headings.
    """
    lines = [
        "| product | method | seeds | image AUROC | SE | pixel AUROC | PRO | fit, s | a picture, ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for product, methods in results.items():
        if own is not None and product in own:
            r = own[product]
            stages, runs = r["seconds"], r["by_seed"]
            fit = stages["features"] + stages["densities"] + stages["calibration"]
            each = 1000 * stages["inspection"] / sum(runs[0]["parts"].values())
            lines.append(_row(product, "**differnet**", str(len(runs)), r, fit, each))
        for r in methods.values():
            stages = r["seconds"]
            fit = stages["features"] + stages["fit"]
            each = 1000 * (stages["features_a_picture"] + stages["scoring_a_picture"])
            seeds = str(len(r["by_seed"])) if r["random"] else "not random"
            lines.append(_row(product, _title(r), seeds, r, fit, each))
    return lines


def by_defect_table(
    results: Mapping[str, Mapping[str, Any]], own: Mapping[str, Mapping[str, Any]] | None = None
) -> list[str]:
    """Write the image AUROC of each kind of defect, a row a product and kind and a column a method.

    Args:
        results: As `read_results` gives them.
        own: As for `table`.

    Returns:
        Lines, without headings.
    """
    names = [n for n in METHODS if any(n in methods for methods in results.values())]
    leading = [] if own is None else ["differnet"]
    titles = [*leading, *(METHODS[n].title for n in names)]
    lines = ["| product | kind | " + " | ".join(titles) + " |", "|---" * (2 + len(titles)) + "|"]
    for product, methods in results.items():
        columns = [] if own is None else [own.get(product)]
        columns += [methods.get(n) for n in names]
        for kind in next(iter(methods.values()))["by_defect"]:
            cells = [_percent(c["by_defect"].get(kind) if c else None) for c in columns]
            lines.append(f"| {product} | {kind} | " + " | ".join(cells) + " |")
    return lines


def differences_table(
    results: Mapping[str, Mapping[str, Any]], own: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Write differnet's image AUROC less each method's on the same parts, a row a product and method.

    Placements are averaged over the runs of either side, see `auroc_difference`. A method that keeps no
    strangeness by part, or that of other parts, is left out.

    Args:
        results: As `read_results` gives them.
        own: As for `table`.

    Returns:
        Lines, without headings; none where nothing can be compared.
    """
    rows: list[str] = []
    for product, methods in results.items():
        for r in methods.values():
            try:
                first, defective, parts = stacked(own[product]["by_seed"] if product in own else ())
                second, _, _ = stacked(r["by_seed"], parts)
            except MetricError:
                continue
            found = auroc_difference(first, second, defective)
            bounds = [f"{100 * v:+.2f}" for v in (found.difference, found.low, found.high)]
            cells = [product, _title(r), f"{len(first)}, {len(second)}", bounds[0]]
            cells += [f"{bounds[1]} to {bounds[2]}", found.word]
            rows.append("| " + " | ".join(cells) + " |")
    if not rows:
        return []
    return [
        "| product | differnet less | runs of each | points | 95 % interval | differnet is |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def _row(product: str, title: str, seeds: str, r: Mapping[str, Any], fit: float, each: float) -> str:
    auroc = [s["image_auroc"] for s in r["by_seed"]]
    parts = r["by_seed"][0]["parts"]
    error = 100 * auroc_standard_error(r["image_auroc"], parts["defective"], parts["good"])
    spread = f" ({_percent(min(auroc))} to {_percent(max(auroc))})" if len(auroc) > 1 else ""
    cells = [product, title, seeds, _percent(r["image_auroc"]) + spread, f"{error:.2f}"]
    cells += [_percent(r["pixel_auroc"]), _percent(r["aupro"]), f"{fit:.0f}", f"{each:.0f}"]
    return "| " + " | ".join(cells) + " |"


def _title(r: Mapping[str, Any]) -> str:
    facts = r["by_seed"][0].get("facts", {})
    # Rounding a count to a whole vector moves the share by less than this.
    if facts.get("share", 0.0) >= 0.99 * facts.get("share_asked", 0.0):
        return str(r["title"])
    return f"{r['title']} (cut to {100 * facts['share']:.2g} %)"


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.2f}"


def main() -> None:
    """Measure what is asked for, store it, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=ROOT / "../shared/data", help="folder that holds a folder a product"
    )
    parser.add_argument("--only", nargs="*", help="products to measure; the others keep their figures")
    parser.add_argument("--methods", nargs="*", choices=METHODS, help="to measure; the others keep theirs")
    parser.add_argument("--seeds", type=int, default=3, help="runs of the methods that are random")
    chosen = parser.parse_args()
    if chosen.seeds < 1:
        parser.error("at least one seed")
    folders = {p.name: p for p in sorted(chosen.data.glob("*/"))}
    products = [*folders, "sample"]
    asked = products if chosen.only is None else chosen.only
    if unknown := set(asked) - set(products):
        parser.error(f"no product is called {', '.join(sorted(unknown))}; there are {', '.join(products)}")
    # One thread: the methods' matrices are small, and times stay comparable on a busy machine.
    torch.set_num_threads(1)
    REPORTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in asked:
            folder = folders.get(name) or make_sample_product(Path(scratch) / "sample")
            print(f"{name}:", file=sys.stderr, flush=True)
            measured = measure(read_layout(folder), chosen.methods or list(METHODS), chosen.seeds)
            path = REPORTS / f"rivals-{name}.json"
            stored = json.loads(path.read_text("utf-8")) if path.exists() else {}
            path.write_text(figures_json({**stored, **measured}) + "\n", encoding="utf-8")
    results = read_results()
    print("\n".join([*table(results), "", *by_defect_table(results)]))


if __name__ == "__main__":
    main()
