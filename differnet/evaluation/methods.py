"""Measure the named methods by the detector's protocol: same parts, metrics and fields."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from differnet import __version__
from differnet.detection.founding import DifferNet, DifferNetSettings
from differnet.detection.gaussian import PooledGaussian
from differnet.detection.method import BATCH, Judgement, Method, MethodError, MethodSettings, Progress
from differnet.evaluation.benchmark import (
    configuration_of,
    labelled_test_parts,
    measure_each_product,
    numbered,
    require_measurable,
    running_commit,
    summary_of,
)
from differnet.evaluation.metrics import PixelCurves, aupr, by_kind, fpr_at_tpr, image_auroc
from differnet.evaluation.per_part import by_part
from differnet.images.layouts import GOOD, Dataset
from differnet.images.reading import ImageError, ReadingRule, read_image, read_masks
from differnet.records import Picture

# A name to the class and its settings.
METHODS: dict[str, tuple[Callable[[Any], Method], type[MethodSettings]]] = {
    DifferNet.name: (DifferNet, DifferNetSettings),
    PooledGaussian.name: (PooledGaussian, MethodSettings),
}
# A picture that cannot be read is stranger than any that can: inspection rejects it.
_UNREADABLE = Judgement(strangeness=np.inf, nll=np.inf)
_PACKAGES = ("torch", "timm", "numpy")


def make_method(name: str, **chosen: Any) -> Method:
    """Build a method by its name.

    Args:
        name: One of `METHODS`.
        **chosen: Fields of its settings; ``None`` leaves the default.

    Raises:
        MethodError: There is no such method, or it has no such setting.

    Example:
        >>> make_method("differnet", rotations=4, training_rotations=None).settings.rotations
        4
    """
    if name not in METHODS:
        raise MethodError(
            expected=f"one of {', '.join(METHODS)}", found=repr(name), remedy="Name one of these methods."
        )
    build, settings = METHODS[name]
    given = {key: value for key, value in chosen.items() if value is not None}
    strange = sorted(set(given) - set(settings.__dataclass_fields__))
    if strange:
        raise MethodError(
            expected=f"settings of {name}: {', '.join(settings.__dataclass_fields__)}",
            found=", ".join(strange),
            remedy="Leave it out for this method.",
        )
    return build(settings(**given))


def run_method_benchmark(
    dataset: Dataset, method: Method, seeds: int, progress: Progress | None = None
) -> dict[str, Any]:
    """Fit and evaluate a method once for each seed.

    Args:
        dataset: Of one product, with training parts, and test parts good and defective.
        method: Is fitted anew for each seed.
        seeds: How many runs: seeds 0, 1, ...
        progress: Called with (stage, done, total).

    Returns:
        The fields of `run_benchmark` that a method without verdicts has: ``image_auroc``, ``pixel_auroc``,
        ``aupro`` (``None`` without masks or heat maps), ``by_defect``, ``evidence`` (z-only and full nll),
        ``by_seed``, ``seconds``, ``configuration``; and ``method``.

    Raises:
        BenchmarkError: No seed, or several products.
        MetricError: The test parts lack good or defective ones; said before anything is fitted.
    """
    require_measurable(dataset, seeds, "run_method_benchmark_by_product")
    # Noted before: what is measured is the code that stands there now.
    commit = running_commit()
    versions = {"differnet": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES}
    runs: list[dict[str, Any]] = []
    for seed in range(seeds):
        told = numbered(progress, seed, seeds)
        method.fit([p.path for p in dataset.train_good], seed, told)
        measured = evaluate_method(method, dataset, told)
        seconds = {**method.seconds, **measured.pop("seconds")}
        seconds["total"] = sum(seconds.values())
        runs.append(
            {
                "seed": seed,
                **measured,
                "seconds": {k: round(v, 2) for k, v in seconds.items()},
                **method.provenance_,
                "skipped": len(method.skipped),
                "versions": versions,
            }
        )
    return {
        "method": method.name,
        **summary_of(runs),
        "configuration": {**configuration_of(dataset, method.settings, seeds), "commit": commit},
    }


def run_method_benchmark_by_product(
    dataset: Dataset,
    method: Method,
    seeds: int,
    progress: Progress | None = None,
    finished: Callable[[str, Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Fit and evaluate a method on each product of a dataset by itself, once for each seed.

    Args:
        dataset: Of several products, each with training parts, and test parts good and defective.
        method: Is fitted anew for each product and seed.
        seeds: How many runs of each product.
        progress: Called with (stage, done, total).
        finished: Called with each product's name and figures as soon as they are measured.

    Returns:
        As `run_benchmark_by_product` does; ``by_product`` holds what `run_method_benchmark` returns.

    Raises:
        BenchmarkError: No seed, or no product has a name.
        MetricError: A product's test parts lack good or defective ones; said before anything is fitted.
    """

    def measure(product: str, parts: Dataset, told: Progress | None) -> dict[str, Any]:
        return run_method_benchmark(parts, method, seeds, told)

    together = measure_each_product(dataset, measure, seeds, progress, finished)
    configuration = configuration_of(dataset, method.settings, seeds)
    return {"method": method.name, **together, "configuration": configuration}


def evaluate_method(method: Method, dataset: Dataset, progress: Progress | None = None) -> dict[str, Any]:
    """Judge the test parts and compare with their labels and masks.

    Args:
        method: Fitted.
        dataset: Its test parts are judged; all its parts when none is marked as a test part. One that cannot
            be read counts as the strangest, as in `evaluate_detector`.
        progress: Called with (stage, done, total).

    Returns:
        Image and pixel metrics, the AUROC of the z-only statistic and of the full nll beside each other,
        counts of parts, seconds; under ``scores`` each part's ``label`` and strangeness (``total``).

    Raises:
        MetricError: The test parts lack good or defective ones.
    """
    parts = labelled_test_parts(dataset)
    labels = [str(p.label) for p in parts]
    defective = np.array([label != GOOD for label in labels])
    # Heat maps cost more than scores: they are made only where something is known of the pixels.
    located = any(p.mask_paths for p in parts)
    curves: PixelCurves | None = None
    judged: list[Judgement] = []
    started = time.perf_counter()
    looking = 0.0
    for start in range(0, len(parts), BATCH):
        some = parts[start : start + BATCH]
        pictures = [_read(part.path, method.settings.reading) for part in some]
        found = method.judge([p for p in pictures if p is not None], located=located)
        for part, picture in zip(some, pictures, strict=True):
            judgement = _UNREADABLE if picture is None else next(found)
            before = time.perf_counter()
            # A defective part without a mask says nothing of its pixels.
            if judgement.heat_map is not None and (part.mask_paths or part.label == GOOD):
                height, width = judgement.heat_map.shape
                curves = curves or PixelCurves()
                curves.add(judgement.heat_map, read_masks(part.mask_paths, (height, width)))
            judged.append(Judgement(judgement.strangeness, judgement.nll))
            looking += time.perf_counter() - before
            if progress is not None:
                progress("inspect", len(judged), len(parts))
    inspecting = time.perf_counter() - started - looking
    before = time.perf_counter()
    strangeness = np.array([j.strangeness for j in judged])
    return {
        "image_auroc": image_auroc(strangeness, defective),
        "aupr": aupr(strangeness, defective),
        "fpr95": fpr_at_tpr(strangeness, defective),
        "pixel_auroc": None if curves is None else curves.pixel_auroc(),
        "aupro": None if curves is None else curves.aupro(max_fpr=0.3),
        "by_defect": by_kind(strangeness, labels),
        "evidence": {
            "z_only": image_auroc(strangeness, defective),
            "nll": image_auroc([j.nll for j in judged], defective),
        },
        "parts": {"good": int((~defective).sum()), "defective": int(defective.sum())},
        "scores": by_part(parts, dataset.root, {"total": strangeness.tolist()}),
        "seconds": {"inspection": inspecting, "metrics": looking + time.perf_counter() - before},
    }


def _read(path: Any, rule: ReadingRule) -> Picture | None:
    try:
        return read_image(path, rule)
    except ImageError:
        return None
