"""What each part of the design buys: `python benchmarks/accuracy.py --ablation aliens sample`.

Every seed trains the detector once with the defaults, and once for each part of the design that training
depends on. Whatever only concerns how evidence is read (kinds of part, sums, one evidence alone, z only) is
asked of the evidence of that first training. Each product leaves `reports/ablation-<product>.json`; seeds
are trained one after another, three to four trainings each.
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

from differnet.calibration import Kernel
from differnet.detection import DetectorSettings
from differnet.detection.detector import Detector
from differnet.detection.ensemble import RawEvidence
from differnet.detection.judging import Calibration, Identity, Judge
from differnet.detection.statistics import PatchScale
from differnet.evaluation.benchmark import BenchmarkError, labelled_test_parts
from differnet.evaluation.intervals import auroc_difference
from differnet.evaluation.metrics import by_kind, image_auroc
from differnet.images.layouts import GOOD, Dataset

Figures = NDArray[np.float64]
DEFAULT = "default"


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
        # What is promised plays no part in an order of parts, nor does who the model is.
        calibration = Calibration.of(self.held_out, 0.05, 0.01, "cross-fitted")
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


def _full_nll(evidence: Evidence) -> Figures:
    """Judge by nats instead of log energies, calibrated on those of the same good parts."""

    def nats(raw: RawEvidence) -> RawEvidence:
        # The nll of the whole is known at the first zoom, which is the only one of the defaults.
        return replace(raw, whole=raw.nll_whole[:, None], local=raw.nll_local)

    return _default(replace(evidence, held_out=nats(evidence.held_out), test=nats(evidence.test)))


def surprises(evidence: Evidence) -> list[Figures]:
    """Return what each kind of evidence says of the test parts, as the default adds it up.

    The whole is asked with and without regard to the kind of part where kinds explain something, patches
    with regard to it alone.

    Args:
        evidence: Of one training.

    Returns:
        ``(parts,)`` surprises each, see `differnet.calibration.surprise`.
    """
    found = evidence.judge().calibration.usual.surprises(evidence.test)
    return [*(s for of_zoom in found.whole for s in of_zoom), *found.local]


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


def _strides(*strides: int) -> Callable[[DetectorSettings], DetectorSettings]:
    return lambda settings: replace(settings, scales=(PatchScale("patches", strides),))


ABLATIONS = {
    DEFAULT: Ablation("as it is by default"),
    "gaussian": Ablation(
        "no couplings: Gaussians alone",
        change=lambda s: replace(s, density=replace(s.density, couplings=0)),
    ),
    "stride_8": Ablation("patches of stride 8 alone", change=_strides(8)),
    "stride_16": Ablation("patches of stride 16 alone", change=_strides(16)),
    "no_kinds": Ablation("all parts of one kind", _without_kinds),
    "strongest": Ablation("the strongest evidence instead of the sum", _strongest),
    "whole": Ablation("the whole alone", _whole),
    "local": Ablation("patches alone", _local),
    "full_nll": Ablation("full nll instead of z only", _full_nll),
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
        left out. ``parts``: how many were tested on.

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
    }


def _trained(settings: DetectorSettings, train: Sequence[Path], test: Sequence[Path], told: str) -> Evidence:
    print(f"  {told}", file=sys.stderr, flush=True)
    detector = Detector(settings).fit(train)
    held_out, suspects = detector._held_out, len(detector.suspects)
    read: list[str] = []
    features = detector._extract(test, "test", None, [], read)
    if len(read) != len(test) or held_out is None or detector.ensemble_ is None:
        raise BenchmarkError(
            expected="test parts that can all be read",
            found=f"{len(test) - len(read)} that cannot",
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
        "weakest kind of defect |",
        "|---|---|---|---|---|---|---|---|",
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
            lines.append("| " + " | ".join(cells) + " |")
    return lines
