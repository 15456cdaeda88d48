"""Measure a detector by the protocol: train on the training parts, look at the test parts once.

Nothing is chosen here: the number of steps is fixed, no epoch is picked, no threshold is tuned on
test parts.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet.detection import DetectorSettings
from differnet.detection.detector import Detector
from differnet.detection.inspector import Progress
from differnet.detection.method import MethodSettings
from differnet.evaluation.intervals import auroc_interval, proportion_interval
from differnet.evaluation.metrics import MetricError, PixelCurves, aupr, by_kind, fpr_at_tpr, image_auroc
from differnet.evaluation.per_part import by_part
from differnet.images.layouts import GOOD, Dataset, Part
from differnet.images.reading import read_masks
from differnet.records import DiffernetError, Inspection, Verdict


class BenchmarkError(DiffernetError):
    """A benchmark that would measure nothing."""


@dataclass(frozen=True)
class Trial:
    """What is done to the training parts before each run; as they are by default.

    Attributes:
        parts: Train on so many, drawn anew for each seed; ``None`` takes all.
        contamination: Share of the training parts that are defective. They are drawn for each seed from the
            defective test parts, which are then not tested on.
    """

    parts: int | None = None
    contamination: float = 0.0

    def __post_init__(self) -> None:
        if (self.parts is not None and self.parts < 1) or not 0 <= self.contamination < 0.5:
            raise BenchmarkError(
                expected="at least one training part, and a contamination of 0 or more and below 0.5",
                found=f"{self.parts} parts, contamination {self.contamination}",
                remedy="Leave them out to train on the good parts as they are.",
            )

    def draw(self, dataset: Dataset, seed: int) -> tuple[list[Path], Dataset]:
        """Return the pictures to train on, and the dataset that is left to test on.

        Raises:
            BenchmarkError: There are fewer parts than asked for.
        """
        rng = np.random.default_rng(seed)
        train = [p.path for p in dataset.train_good]
        if self.parts is not None:
            if self.parts > len(train):
                raise _too_few(f"{self.parts} training parts", len(train))
            train = [train[i] for i in sorted(rng.permutation(len(train))[: self.parts])]
        if not self.contamination:
            return train, dataset
        defective = [p for p in labelled_test_parts(dataset) if p.label != GOOD]
        spoilt = round(self.contamination / (1 - self.contamination) * len(train))
        if spoilt >= len(defective):
            raise _too_few(f"more than {spoilt} defective test parts", len(defective))
        taken = {defective[i].path for i in rng.permutation(len(defective))[:spoilt]}
        left = tuple(p for p in dataset.parts if p.path not in taken)
        return [*train, *sorted(taken)], replace(dataset, parts=left)


def _too_few(expected: str, found: int) -> BenchmarkError:
    return BenchmarkError(expected=expected, found=f"{found}", remedy="Ask for less, or give more parts.")


def run_benchmark(
    dataset: Dataset,
    settings: DetectorSettings,
    seeds: int,
    progress: Progress | None = None,
    trial: Trial | None = None,
    trained: Callable[[int, Detector], None] | None = None,
) -> dict[str, Any]:
    """Train and evaluate once for each seed.

    Args:
        dataset: With training parts, and test parts good and defective.
        settings: Defaults, or what the person chose; its seed is replaced by 0, 1, ...
        seeds: How many runs.
        progress: Called with (stage, done, total).
        trial: Fewer, or spoilt, training parts.
        trained: Called with each seed and its detector, once it is calibrated.

    Returns:
        ``image_auroc``, ``pixel_auroc``, ``aupro`` (means over seeds, ``None`` without masks),
        ``by_defect``, ``by_seed`` (see `evaluate_detector`; and ``suspects``, how many training parts were
        left out, good and defective, of how many defective), ``seconds`` by stage (means), ``configuration``.

    Raises:
        BenchmarkError: No seed, fewer parts than the trial asks for, or several products: one model of all
            of them is another task.
        MetricError: The test parts lack good or defective ones; said before anything is trained.
    """
    require_measurable(dataset, seeds, "run_benchmark_by_product")
    trial = trial or Trial()
    runs: list[dict[str, Any]] = []
    for seed in range(seeds):
        detector = Detector(replace(settings, seed=seed))
        train, left = trial.draw(dataset, seed)
        detector.fit(train, numbered(progress, seed, seeds)).calibrate()
        if trained is not None:
            trained(seed, detector)
        measured = evaluate_detector(detector, left, numbered(progress, seed, seeds), pooled=True)
        seconds = {**detector.seconds, **measured.pop("seconds")}
        seconds["total"] = sum(seconds.values())
        facts = detector.facts()
        good = {str(p.path) for p in dataset.train_good}
        runs.append(
            {
                "seed": seed,
                **measured,
                "suspects": {
                    "good": sum(name in good for name in detector.suspects),
                    "defective": sum(name not in good for name in detector.suspects),
                    "of_defective": sum(str(path) not in good for path in train),
                },
                "seconds": {k: round(v, 2) for k, v in seconds.items()},
                "model_id": facts["model_id"],
                "couplings_kept": facts["couplings_kept"],
                "versions": facts["versions"],
            }
        )
    return {
        **summary_of(runs),
        "configuration": configuration_of(dataset, settings, seeds, trial),
    }


def run_benchmark_by_product(
    dataset: Dataset,
    settings: DetectorSettings,
    seeds: int,
    progress: Progress | None = None,
    finished: Callable[[str, Mapping[str, Any]], None] | None = None,
    trial: Trial | None = None,
) -> dict[str, Any]:
    """Train and evaluate each product of a dataset on its own, once for each seed.

    Args:
        dataset: Of several products, each with training parts, and test parts good and defective.
        settings: As for `run_benchmark`; each model gets its product's name.
        seeds: How many runs of each product.
        progress: Called with (stage, done, total).
        finished: Called with each product's name and figures as soon as they are measured.
        trial: Fewer, or spoilt, training parts.

    Returns:
        ``image_auroc``, ``pixel_auroc``, ``aupro``: means over products, each counted once however many
        parts it has; ``None`` where one of them has no masks. ``image_auroc_spread`` of that mean over seeds.
        ``by_product``: what `run_benchmark` returns. ``seconds`` by stage, all products together.

    Raises:
        BenchmarkError: No seed, or no product has a name.
        MetricError: A product's test parts lack good or defective ones; said before anything is trained.
    """

    def measure(product: str, parts: Dataset, told: Progress | None) -> dict[str, Any]:
        return run_benchmark(parts, replace(settings, product=product), seeds, told, trial)

    together = measure_each_product(dataset, measure, seeds, progress, finished)
    return {**together, "configuration": configuration_of(dataset, settings, seeds, trial or Trial())}


def measure_each_product(
    dataset: Dataset,
    measure: Callable[[str, Dataset, Progress | None], dict[str, Any]],
    seeds: int,
    progress: Progress | None = None,
    finished: Callable[[str, Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Measure each product of a dataset on its own, and average.

    Args:
        dataset: As for `run_benchmark_by_product`.
        measure: From a product's name, its parts and a display of progress to its figures.
        seeds: How many runs ``measure`` makes.
        progress: Called with (stage, done, total).
        finished: Called with each product's name and figures as soon as they are measured.

    Returns:
        What `run_benchmark_by_product` returns, without the configuration.

    Raises:
        BenchmarkError: No seed, or no product has a name.
        MetricError: A product's test parts lack good or defective ones; said before anything is measured.
    """
    require_seeds(seeds)
    if not dataset.products:
        raise BenchmarkError(
            expected="a dataset of products", found="parts of no product", remedy="Use run_benchmark."
        )
    products = {product: dataset.of_product(product) for product in dataset.products}
    for product, parts in products.items():
        try:
            labelled_test_parts(parts)
        except MetricError as error:
            raise MetricError(
                expected=f"{error.expected} of {product}", found=error.found, remedy=error.remedy
            ) from error
    by_product: dict[str, dict[str, Any]] = {}
    for product, parts in products.items():
        by_product[product] = measure(product, parts, _prefixed(progress, product))
        if finished is not None:
            finished(product, by_product[product])
    measured = list(by_product.values())
    means = [fmean(m["by_seed"][seed]["image_auroc"] for m in measured) for seed in range(seeds)]
    return {
        "image_auroc": mean_of(measured, "image_auroc"),
        "image_auroc_spread": float(np.ptp(means)),
        "pixel_auroc": mean_of(measured, "pixel_auroc"),
        "aupro": mean_of(measured, "aupro"),
        "by_product": by_product,
        "seconds": {k: round(sum(m["seconds"][k] for m in measured), 2) for k in measured[0]["seconds"]},
    }


def evaluate_detector(
    detector: Detector, dataset: Dataset, progress: Progress | None = None, *, pooled: bool = False
) -> dict[str, Any]:
    """Inspect the test parts and compare with their labels and masks.

    Args:
        detector: Calibrated.
        dataset: Its test parts are inspected; all its parts when none is marked as a test part.
        progress: Called with (stage, done, total).
        pooled: Leave out the bootstrap interval, which means little beside several seeds.

    Returns:
        Image and pixel metrics, rates of both errors with their intervals, the AUROC of each evidence alone
        (full log-density and z-only statistic beside each other), seconds; under ``scores`` each part's
        ``label``, strangeness (``total``), typicality in nats of the ``whole`` and of the patches
        (``local``), the p-value of each (``p_whole``, ``p_local``) and, of a part with a mask,
        ``defect_pixels`` and the largest heat there (``heat_at_defect``) and anywhere (``heat``).

    Raises:
        MetricError: The test parts lack good or defective ones.
    """
    parts = labelled_test_parts(dataset)
    labels = [str(p.label) for p in parts]
    defective = np.array([label != GOOD for label in labels])
    curves = PixelCurves() if any(p.mask_paths for p in parts) else None
    inspections: list[Inspection] = []
    located: list[dict[str, float]] = []
    started = time.perf_counter()
    looking = 0.0
    for part, inspection in zip(parts, detector.inspect_many([p.path for p in parts], progress), strict=True):
        before = time.perf_counter()
        located.append({})
        if curves is not None and inspection.heat_map is not None:
            height, width = inspection.heat_map.shape
            # A defective part without a mask says nothing of its pixels.
            if part.mask_paths or part.label == GOOD:
                mask = read_masks(part.mask_paths, (height, width))
                curves.add(inspection.heat_map, mask)
                located[-1] = _located(inspection.heat_map, mask)
        inspections.append(replace(inspection, heat_map=None))
        looking += time.perf_counter() - before
    inspecting = time.perf_counter() - started - looking
    before = time.perf_counter()
    strangeness = np.array([_ranked(i) for i in inspections])
    verdicts = np.array([i.record.verdict for i in inspections])
    flagged = np.isin(verdicts, [Verdict.DEFECT, Verdict.OOD, Verdict.INVALID])
    passed = verdicts == Verdict.PASS
    measured: dict[str, Any] = {
        "image_auroc": image_auroc(strangeness, defective),
        "aupr": aupr(strangeness, defective),
        "fpr95": fpr_at_tpr(strangeness, defective),
        "pixel_auroc": None if curves is None else curves.pixel_auroc(),
        "aupro": None if curves is None else curves.aupro(max_fpr=0.3),
        "by_defect": by_kind(strangeness, labels),
        "evidence": {
            name: image_auroc(_figures(inspections, name), defective)
            for name in ("nll_global", "nll_local", "typicality_global", "typicality_local")
        },
        "overkill": _rate(flagged & ~defective, ~defective),
        "review": _rate((verdicts == Verdict.REVIEW) & ~defective, ~defective),
        "escape": _rate(passed & defective, defective),
        "parts": {"good": int((~defective).sum()), "defective": int(defective.sum())},
    }
    if not pooled:
        interval = auroc_interval(strangeness, defective)
        measured["image_auroc_interval"] = [interval.low, interval.high]
    records = [i.record for i in inspections]
    kept = by_part(
        parts,
        dataset.root,
        {
            "total": [r.strangeness for r in records],
            "whole": [r.typicality_global for r in records],
            "local": [r.typicality_local for r in records],
            "p_whole": [r.p_value_global for r in records],
            "p_local": [r.p_value_local for r in records],
        },
    )
    measured["scores"] = {
        name: one | of_pixels for (name, one), of_pixels in zip(kept.items(), located, strict=True)
    }
    measured["seconds"] = {"inspection": inspecting, "metrics": looking + time.perf_counter() - before}
    return measured


def require_measurable(dataset: Dataset, seeds: int, by_product: str) -> None:
    """Refuse what no figure of one product can come of; said before anything is trained.

    Args:
        dataset: To be measured on.
        seeds: How many runs.
        by_product: The function that takes several products.

    Raises:
        BenchmarkError: No seed, or several products.
        MetricError: The test parts lack good or defective ones.
    """
    require_seeds(seeds)
    if len(dataset.products) > 1:
        raise BenchmarkError(
            expected="one product",
            found=", ".join(dataset.products),
            remedy=f"Use {by_product}, or Dataset.of_product for one of them.",
        )
    labelled_test_parts(dataset)


def require_seeds(seeds: int) -> None:
    """Refuse to measure nothing.

    Raises:
        BenchmarkError: No seed.
    """
    if seeds < 1:
        raise BenchmarkError(
            expected="at least one seed", found=str(seeds), remedy="Three are the protocol's."
        )


def labelled_test_parts(dataset: Dataset) -> Sequence[Part]:
    """Return the parts to measure on: the test parts, or all where none is marked as such.

    Raises:
        MetricError: They lack good or defective ones.
    """
    parts = [p for p in (dataset.test or dataset.parts) if p.label is not None]
    kinds = {p.label == GOOD for p in parts}
    if kinds != {True, False}:
        raise MetricError(
            expected="good and defective test parts",
            found=f"{sum(p.label == GOOD for p in parts)} good of {len(parts)} labelled",
            remedy="Evaluate on a folder that holds both; inspect works without labels.",
        )
    return parts


def _located(heat_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> dict[str, float]:
    if not mask.any():
        return {}
    return {
        "defect_pixels": int(mask.sum()),
        "heat_at_defect": round(float(heat_map[mask].max()), 2),
        "heat": round(float(heat_map.max()), 2),
    }


def _ranked(inspection: Inspection) -> float:
    # What cannot be judged is stranger than anything judged.
    strangeness = inspection.record.strangeness
    return np.inf if strangeness is None else strangeness


def _figures(inspections: Sequence[Inspection], name: str) -> list[float]:
    values = [getattr(i.record, name) for i in inspections]
    return [np.inf if v is None else float(v) for v in values]


def _rate(events: np.ndarray[Any, Any], of: np.ndarray[Any, Any]) -> dict[str, Any]:
    k, n = int(events.sum()), int(of.sum())
    low, high = proportion_interval(k, n)
    return {"events": k, "of": n, "rate": k / n, "low": low, "high": high}


def summary_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over seeds, the spread of the image AUROC, and the runs themselves (``by_seed``)."""

    def by_name(field: str) -> dict[str, float]:
        return {name: fmean(r[field][name] for r in runs) for name in runs[0][field]}

    return {
        "image_auroc": mean_of(runs, "image_auroc"),
        "image_auroc_spread": float(np.ptp([r["image_auroc"] for r in runs])),
        "pixel_auroc": mean_of(runs, "pixel_auroc"),
        "aupro": mean_of(runs, "aupro"),
        "by_defect": by_name("by_defect"),
        "evidence": by_name("evidence"),
        "by_seed": runs,
        "seconds": {name: round(mean, 2) for name, mean in by_name("seconds").items()},
    }


def mean_of(runs: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Return a figure's mean, ``None`` where a run lacks it."""
    values = [r[name] for r in runs]
    return None if any(v is None for v in values) else fmean(values)


def numbered(progress: Progress | None, seed: int, seeds: int) -> Progress | None:
    """Say before each stage which seed is running, where there are several."""
    return progress if seeds == 1 else _prefixed(progress, f"seed {seed + 1} of {seeds}")


def _prefixed(progress: Progress | None, words: str) -> Progress | None:
    if progress is None:
        return None
    return lambda stage, done, total: progress(f"{words}: {stage}", done, total)


def running_commit() -> str | None:
    """Return the commit that runs, marked where tracked files differ from it; ``None`` outside a repository.

    Figures under ``reports/`` do not count: the second of two measurements would be marked for the first.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def told(*words: str) -> str:
        run = subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=10
        )
        return run.stdout.strip()

    try:
        commit = told("rev-parse", "--short=12", "HEAD")
        changed = told("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)reports")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def configuration_of(
    dataset: Dataset,
    settings: DetectorSettings | MethodSettings,
    seeds: int,
    trial: Trial | None = None,
) -> dict[str, Any]:
    """Return what names a measurement and lets it be made again, JSON-able.

    What is done to the training parts belongs to the name wherever something is.
    """
    chosen = asdict(settings)
    # Where features are kept changes no figure, and is nobody's business.
    chosen.pop("features", None)
    chosen["weights"] = None if settings.weights is None else settings.weights.name
    if chosen.get("ignore") is not None:
        chosen["ignore"] = chosen["ignore"].name
    chosen["reading"] = settings.reading.to_json()
    # The device is where it ran, not what was measured; everything else names the configuration.
    named = {k: v for k, v in chosen.items() if k not in ("device", "seed", "product")}
    told = {} if trial is None else {"trial": asdict(trial)}
    if trial is not None and trial != Trial():
        named |= told
    digest = hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()
    return {
        "sha256": digest[:16],
        "commit": running_commit(),
        "layout": dataset.layout,
        "parts": dataset.counts,
        "seeds": seeds,
        "settings": chosen,
        **told,
    }
