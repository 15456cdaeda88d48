"""What each part of the design buys: `python benchmarks/accuracy.py --ablation aliens sample`.

Every seed trains the detector once with the defaults, and once for each part of the design that training
depends on. Whatever only concerns how evidence is read (kinds of part, sums, one evidence alone) is
asked of the evidence of that first training, and once more without any defect: a detector of three quarters
of the training parts tells the others from simulated defects on them. Each product leaves
`reports/ablation-<product>.json`; seeds are trained one after another, four to five trainings each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet.calibration import Kernel, TailScale
from differnet.detection import DetectorSettings
from differnet.detection.detector import Detector
from differnet.detection.evidence import RawEvidence
from differnet.detection.judging import Calibration, Identity, Judge
from differnet.detection.settings import PatchScale
from differnet.detection.sources import Seen, as_picture
from differnet.detection.usual import Surprises
from differnet.evaluation.benchmark import BenchmarkError, labelled_test_parts
from differnet.evaluation.intervals import auroc_difference
from differnet.evaluation.metrics import by_kind, image_auroc
from differnet.images.disturbances import DEFECT_SIMULATIONS, simulate_defect
from differnet.images.layouts import GOOD, Dataset
from differnet.records import Picture

Figures = NDArray[np.float64]
DEFAULT = "default"
# Good parts that are held out and spoilt, ten times each: more would take longer than training.
_MOST_SPARED, _LEAST_SPARED = 60, 4


@dataclass(frozen=True)
class Evidence:
    """What one training knows of good parts that a member has not seen, and of the test parts.

    Attributes:
        held_out: Of the good parts.
        test: Of the test parts.
        suspects: How many training parts were left out.
    """

    held_out: RawEvidence
    test: RawEvidence
    suspects: int

    def judge(self, *, kinds: bool = True) -> Judge:
        """Return who judges by these good parts, with or without regard to the kind of part."""
        # What is promised plays no part in an order of parts, nor do wrong inputs, nor who the model is.
        nowhere = np.zeros(6 * self.held_out.local.shape[1] + self.held_out.whole.shape[1] + 1)
        calibration = Calibration.of(self.held_out, 0.05, 0.01, "cross-fitted", nowhere)
        if not kinds:
            plain = np.tile(np.array(Kernel(1.0, 0.0)), (len(calibration.kernels), 1))
            calibration = replace(calibration, kernels=plain)
        return Judge(calibration, Identity("", "cpu", "", ()))


def _default(evidence: Evidence) -> Figures:
    return evidence.judge().strangeness(evidence.test)["total"]


def _without_kinds(evidence: Evidence) -> Figures:
    return evidence.judge(kinds=False).strangeness(evidence.test)["total"]


def _whole(evidence: Evidence) -> Figures:
    return evidence.judge().strangeness(evidence.test)["whole"]


def _local(evidence: Evidence) -> Figures:
    return evidence.judge().strangeness(evidence.test)["local"]


def _strongest(evidence: Evidence) -> Figures:
    return np.asarray(np.max(surprises(evidence), axis=0))


def _typicality(evidence: Evidence) -> Figures:
    return _by(evidence, "typicality")


def _improbability(evidence: Evidence) -> Figures:
    return _by(evidence, "improbability")


def _by(evidence: Evidence, statistic: str) -> Figures:
    """Judge patches by one statistic of their density alone."""
    usual = evidence.judge().calibration.usual
    usual = replace(usual, local={statistic: usual.local[statistic]})
    return _read(usual.held_out, usual.surprises(evidence.test))


def _fine(evidence: Evidence) -> Figures:
    return _by_scale(evidence, lambda local: local[0])


def _coarse(evidence: Evidence) -> Figures:
    return _by_scale(evidence, lambda local: local[1])


def _mean_scale(evidence: Evidence) -> Figures:
    return _by_scale(evidence, lambda local: local.mean(axis=0))


def _by_scale(evidence: Evidence, read: Callable[[Figures], Figures]) -> Figures:
    """Judge patches by something else than the strangest scale."""
    usual = evidence.judge().calibration.usual
    held, found = usual.held_out, usual.surprises(evidence.test)
    return _read(*(replace(s, local=[read(np.stack(s.local))]) for s in (held, found)))


def _read(held_out: Surprises, found: Surprises) -> Figures:
    return TailScale.fit(held_out.sums["total"]).strangeness(found.sums["total"])


def surprises(evidence: Evidence) -> list[Figures]:
    """Return what the whole and the patches say of the test parts, as the default adds it up.

    Args:
        evidence: Of one training.

    Returns:
        ``(parts,)`` surprises each, see `differnet.calibration.surprise`.
    """
    found = evidence.judge().calibration.usual.surprises(evidence.test)
    return [*found.whole, found.patches]


@dataclass(frozen=True)
class Ablation:
    """A row of the table.

    Attributes:
        title: What a reader sees.
        read: Turns evidence into ``(parts,)`` strangeness.
        change: Of the settings; ``None`` needs no training of its own.
    """

    title: str
    read: Callable[[Evidence], Figures] = _default
    change: Callable[[DetectorSettings], DetectorSettings] | None = None


def _side_by_side(settings: DetectorSettings) -> DetectorSettings:
    strides = tuple(stride for scale in settings.scales for stride in scale.strides)
    return replace(settings, scales=(PatchScale("patches", strides),))


ABLATIONS = {
    DEFAULT: Ablation("as it is by default"),
    "gaussian": Ablation(
        "no couplings: Gaussians alone",
        change=lambda s: replace(s, density=replace(s.density, couplings=0)),
    ),
    "side_by_side": Ablation("strides 8 and 16 side by side in one density", change=_side_by_side),
    "fine": Ablation("patches of stride 8 alone", _fine),
    "coarse": Ablation("patches of stride 16 alone", _coarse),
    "mean_scale": Ablation("both strides' mean instead of the stranger", _mean_scale),
    "no_kinds": Ablation("all parts of one kind", _without_kinds),
    "strongest": Ablation("the strongest evidence instead of the sum", _strongest),
    "whole": Ablation("the whole alone", _whole),
    "local": Ablation("patches alone", _local),
    "typicality": Ablation("patches by z only", _typicality),
    "improbability": Ablation("patches by full nll only", _improbability),
    "keep_suspects": Ablation("suspects kept", change=lambda s: replace(s, keep_suspects=True)),
}


def measure(dataset: Dataset, settings: DetectorSettings, seeds: int) -> dict[str, Any]:
    """Measure every ablation on one product.

    Args:
        dataset: With training parts, and test parts good and defective, all readable.
        settings: Defaults; the seed is replaced by 0, 1, ...
        seeds: How many runs.

    Returns:
        ``rows``: an ablation's name to its ``title``, ``image_auroc`` and ``by_defect`` (means over seeds),
        ``by_seed`` (image AUROC), whether it was ``trained`` anew and is the ``same`` as the default part by
        part, and ``difference``, ``low``, ``high`` and ``word``: its image AUROC less the default's, with the
        paired interval of the placements' means over seeds. ``suspects``: how many training parts each seed
        left out. ``parts``: how many were tested on. ``simulated``: see `measure_simulated`.

    Raises:
        BenchmarkError: No seed, or a test part that cannot be read.
        MetricError: The test parts lack good or defective ones.
    """
    if seeds < 1:
        raise BenchmarkError(expected="at least one seed", found=str(seeds), remedy="Three are usual.")
    parts = labelled_test_parts(dataset)
    labels = [str(p.label) for p in parts]
    defective = [label != GOOD for label in labels]
    train, test = [p.path for p in dataset.train_good], [p.path for p in parts]
    runs: dict[str, list[Figures]] = {name: [] for name in ABLATIONS}
    suspects: list[int] = []
    for seed in range(seeds):
        chosen = replace(settings, seed=seed)
        first = _trained(chosen, train, test, f"seed {seed}: {DEFAULT}")
        suspects.append(first.suspects)
        for name, ablation in ABLATIONS.items():
            evidence = first
            # Where nobody was suspected, keeping suspects changes nothing.
            if ablation.change is not None and (name != "keep_suspects" or first.suspects):
                evidence = _trained(ablation.change(chosen), train, test, f"seed {seed}: {name}")
            runs[name].append(ablation.read(evidence))
    return {
        "rows": {name: _row(name, runs[name], runs[DEFAULT], labels, defective) for name in ABLATIONS},
        "suspects": suspects,
        "parts": {"good": labels.count(GOOD), "defective": sum(defective)},
        "simulated": measure_simulated(dataset, settings, seeds),
    }


def measure_simulated(dataset: Dataset, settings: DetectorSettings, seeds: int) -> dict[str, Any]:
    """Measure every way to read evidence on simulated defects; no test part is looked at.

    Each seed draws a quarter of the training parts, at most 60, that nobody trains on. Each of them is spoilt
    once in every way of `differnet.images.disturbances`.

    Args:
        dataset: With at least 16 readable training parts.
        settings: As for `measure`.
        seeds: How many runs.

    Returns:
        ``rows``: an ablation's name, of those that train nothing, to ``auroc``, the mean over kinds and seeds
        of the AUROC of spoilt parts against the same parts as they were, ``by_seed`` and ``by_kind``.
        ``parts``: how many were spoilt.

    Raises:
        BenchmarkError: Fewer than 16 training parts.
    """
    paths = [p.path for p in dataset.train_good]
    if len(paths) < 4 * _LEAST_SPARED:
        raise BenchmarkError(
            expected=f"at least {4 * _LEAST_SPARED} training parts",
            found=str(len(paths)),
            remedy="Of fewer, a quarter is too little to compare on.",
        )
    readings = [name for name, ablation in ABLATIONS.items() if ablation.change is None]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in readings}
    for seed in range(seeds):
        chosen = replace(settings, seed=seed)
        order = np.random.default_rng(seed).permutation(len(paths))
        spared, rest = np.split(order, [len(paths) // 4])
        good = [as_picture(paths[i], chosen.reading) for i in spared[:_MOST_SPARED]]
        spoilt: list[Picture] = []
        for number, kind in enumerate(DEFECT_SIMULATIONS):
            for i, part in enumerate(good):
                rng = np.random.default_rng([seed, i, number])
                donor = good[(i + 1) % len(good)].pixels
                pixels, _ = simulate_defect(part.pixels, kind, rng, donors=[donor])
                spoilt.append(as_picture(pixels, chosen.reading))
        told = f"seed {seed}: simulated defects of {len(good)} held-out good parts"
        evidence = _trained(chosen, [paths[i] for i in sorted(rest)], [*good, *spoilt], told)
        for name in readings:
            strangeness = ABLATIONS[name].read(evidence)
            usual, kinds = np.split(strangeness, [len(good)])
            found[name].append(
                {
                    kind: image_auroc([*usual, *of_kind], [*[False] * len(good), *[True] * len(good)])
                    for kind, of_kind in zip(
                        DEFECT_SIMULATIONS, np.split(kinds, len(DEFECT_SIMULATIONS)), strict=True
                    )
                }
            )
    return {"rows": {name: _simulated_row(runs) for name, runs in found.items()}, "parts": len(good)}


def _simulated_row(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    by_seed = [fmean(run.values()) for run in runs]
    by_kind = {kind: fmean(run[kind] for run in runs) for kind in DEFECT_SIMULATIONS}
    return {"auroc": fmean(by_seed), "by_seed": by_seed, "by_kind": by_kind}


def _trained(
    settings: DetectorSettings, train: Sequence[Path], test: Sequence[Path | Picture], told: str
) -> Evidence:
    print(f"  {told}", file=sys.stderr, flush=True)
    detector = Detector(settings).fit(train)
    held_out, suspects = detector._held_out, len(detector.suspects)
    read = Seen()
    features = detector._extract(test, "test", None, read)
    if len(read.names) != len(test) or held_out is None or detector.ensemble_ is None:
        raise BenchmarkError(
            expected="test parts that can all be read",
            found=f"{len(test) - len(read.names)} that cannot",
            remedy="Leave them out; the benchmark itself counts them as rejected.",
        )
    return Evidence(held_out, detector.ensemble_.evidence(features), suspects)


def _row(
    name: str,
    strangeness: Sequence[Figures],
    default: Sequence[Figures],
    labels: Sequence[str],
    defective: Sequence[bool],
) -> dict[str, Any]:
    runs = [image_auroc(s, defective) for s in strangeness]
    kinds = [by_kind(s, labels) for s in strangeness]
    paired = auroc_difference(np.stack(strangeness), np.stack(default), defective)
    return {
        "title": ABLATIONS[name].title,
        "trained": ABLATIONS[name].change is not None,
        "image_auroc": fmean(runs),
        "by_defect": {kind: fmean(k[kind] for k in kinds) for kind in kinds[0]},
        "by_seed": runs,
        # As where nobody was suspected, or kinds explain nothing: an interval would mislead.
        "same": all(np.array_equal(a, b) for a, b in zip(strangeness, default, strict=True)),
        "difference": paired.difference,
        "low": paired.low,
        "high": paired.high,
        "word": paired.word,
    }


def read_results(reports: Path) -> dict[str, dict[str, Any]]:
    """Return the stored figures by product."""
    found = sorted(reports.glob("ablation-*.json"))
    return {p.stem.removeprefix("ablation-"): json.loads(p.read_text("utf-8")) for p in found}


def table(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Write the figures as a Markdown table, a row a product and ablation.

    Args:
        results: As `read_results` gives them.

    Returns:
        Lines, without headings.
    """
    lines = [
        "| product | design | seeds | image AUROC | less the default, points | 95 % interval | it is | "
        "weakest kind of defect | simulated defects |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for product, stored in results.items():
        for name, r in stored["rows"].items():
            weakest, kind = min((auroc, kind) for kind, auroc in r["by_defect"].items())
            cells = [product, r["title"], str(len(r["by_seed"])), f"{100 * r['image_auroc']:.2f}"]
            if name == DEFAULT:
                cells += ["", "", ""]
            elif r["same"]:
                cells += ["0.00", "", "the same"]
            else:
                points, low, high = (f"{100 * r[k]:+.2f}" for k in ("difference", "low", "high"))
                cells += [points, f"{low} to {high}", r["word"]]
            cells.append(f"{kind} {100 * weakest:.2f}")
            # Older figures have none.
            simulated = stored.get("simulated", {"rows": {}})["rows"].get(name)
            cells.append("" if simulated is None else f"{100 * simulated['auroc']:.2f}")
            lines.append("| " + " | ".join(cells) + " |")
    return lines
