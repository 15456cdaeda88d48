"""Rebuild reports/verdicts.md: `python benchmarks/verdicts.py --data ../shared/data`.

Are the stated error rates kept, is a wrong input told from a defect, and is drift noticed? One training a
seed and product; test parts, wrong inputs made from good test parts, and parts of the other products are
judged by it. Each product leaves `reports/verdicts-<product>.json`; `--products` alone rebuilds the text.
Promises that need no picture (C1 to C5) are tests: `pytest tests/validity`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray
from scipy import stats

from differnet.calibration import p_values, without_defects
from differnet.detection import Detector, DetectorSettings
from differnet.detection.evidence import RawEvidence
from differnet.detection.judging import Calibration, Judge, picture_quality
from differnet.detection.sources import as_picture
from differnet.evaluation.benchmark import configuration_of, labelled_test_parts
from differnet.evaluation.metrics import image_auroc
from differnet.images.disturbances import WRONG_INPUT_SIMULATIONS, simulate_wrong_input
from differnet.images.layouts import GOOD, Dataset, read_layout
from differnet.images.synthetic import make_sample_product
from differnet.records import Picture

Figures = NDArray[np.float64]
REPORTS = Path(__file__).resolve().parents[1] / "reports"
# What no figure of this script can say: it is written by hand.
TRIED = Path(__file__).resolve().parent / "tried-verdicts.md"
PRODUCTS = ("mtd", "aliens", "sample")
RATES = (0.01, 0.05)
# Good test parts that wrong inputs are made from, parts of each other product, batches of a disturbance.
_SPOILT, _OTHERS, _BATCHES = 30, 30, 10
_BATCH = 10


def main() -> None:
    """Measure, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder of mtd/ and aliens/"
    )
    parser.add_argument("--products", nargs="*", choices=PRODUCTS, default=PRODUCTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--splits", type=int, default=10, help="seeds, these among them, that overkill is measured with"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: chosen.data / name for name in PRODUCTS if name != "sample"}
        folders["sample"] = make_sample_product(Path(scratch) / "sample")
        there = {name: read_layout(folder) for name, folder in folders.items() if folder.is_dir()}
        for name in chosen.products:
            if name not in there:
                print(f"{name}: nothing at {folders[name]}, left out", file=sys.stderr)
                continue
            others = {other: dataset for other, dataset in there.items() if other != name}
            seeds = [measure(there[name], others, DetectorSettings(), seed) for seed in range(chosen.seeds)]
            splits: list[dict[str, Any]] = []
            _store(name, there[name], seeds, splits)
            for seed in range(chosen.seeds, chosen.splits):
                splits.append(measure_overkill(there[name], DetectorSettings(), seed))
                # Hours of splits: what is cut off keeps those that it has.
                _store(name, there[name], seeds, splits)
    for name, figures in read_results().items():
        draw(name, figures["by_seed"][0], REPORTS / "verdicts" / f"{name}.png")
    (REPORTS / "verdicts.md").write_text(tables(), encoding="utf-8")


def _store(
    name: str, dataset: Dataset, seeds: Sequence[dict[str, Any]], splits: Sequence[dict[str, Any]]
) -> None:
    stored = {
        "by_seed": seeds,
        "splits": splits,
        "configuration": configuration_of(dataset, DetectorSettings(), len(seeds)),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    text = json.dumps(stored, indent=1, allow_nan=False)
    (REPORTS / f"verdicts-{name}.json").write_text(text + "\n", encoding="utf-8")


def read_results() -> dict[str, dict[str, Any]]:
    """Return the stored figures by product."""
    found = {p.stem.removeprefix("verdicts-"): p for p in sorted(REPORTS.glob("verdicts-*.json"))}
    return {name: json.loads(path.read_text("utf-8")) for name, path in found.items()}


def measure(
    dataset: Dataset, others: Mapping[str, Dataset], settings: DetectorSettings, seed: int
) -> dict[str, Any]:
    """Train once, and judge test parts and wrong inputs.

    Args:
        dataset: The product.
        others: Other products, whose training parts are wrong inputs.
        settings: Defaults.
        seed: Of training, and of what is drawn.

    Returns:
        ``calibration`` parts; ``good_p`` p-values of the good test parts; ``verdicts`` by label; ``wrong`` by
        disturbance (``n``, ``auroc`` against good test parts, ``verdicts``, and ``unseen``: how many would be
        called DEFECT had the boundary never seen that kind); ``f1`` of thresholds; ``drift`` by disturbance;
        ``map``: the two thresholds, and strangeness and wrongness of every picture, ``parts`` by label and
        ``wrong`` by disturbance.
    """
    print(f"  seed {seed}", file=sys.stderr, flush=True)
    detector = Detector(replace(settings, seed=seed))
    detector.fit([p.path for p in dataset.train_good]).calibrate()
    judge = detector._judge()
    rule = detector.settings.reading
    parts = labelled_test_parts(dataset)
    pictures = [as_picture(p.path, rule) for p in parts]
    labels = np.array([str(p.label) for p in parts])
    good = labels == GOOD
    test = _evidence(detector, pictures)
    total = judge.strangeness(test)["total"]
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(np.flatnonzero(good))[:_SPOILT]
    wrong = {
        kind: [as_picture(simulate_wrong_input(pictures[i].pixels, kind, rng), rule) for i in chosen]
        for kind in WRONG_INPUT_SIMULATIONS
        if kind != "other_product"
    }
    for name, other in others.items():
        paths = [p.path for p in other.train_good]
        wrong[f"parts of {name}"] = [
            as_picture(paths[i], rule) for i in rng.permutation(len(paths))[:_OTHERS]
        ]
    calibration, spoilt = judge.calibration, detector._spoilt
    found: dict[str, Any] = {}
    places: dict[str, Any] = {}
    parts_good = [p for p, own in zip(pictures, good, strict=True) if own]
    shuffled = rng.permutation(len(parts_good))
    apart = [shuffled[i : i + _BATCH] for i in range(0, len(shuffled) - _BATCH + 1, _BATCH)]
    drift: dict[str, Any] = {
        "good": _drift(calibration, test[np.flatnonzero(good)], parts_good, apart),
    }
    for kind, some in wrong.items():
        evidence = _evidence(detector, some)
        strange = judge.strangeness(evidence)["total"]
        places[kind] = _places(judge, evidence)
        row: dict[str, Any] = {
            "n": len(some),
            "auroc": image_auroc([*total[good], *strange], [*[False] * int(good.sum()), *[True] * len(some)]),
            "verdicts": _verdicts(judge, evidence, some),
        }
        if spoilt is not None and kind in spoilt.kinds:
            seen = np.flatnonzero(np.array(spoilt.kinds) != kind)
            others_seen = replace(
                spoilt, wrong=spoilt.wrong[seen], kinds=tuple(k for k in spoilt.kinds if k != kind)
            )
            blind = replace(calibration, origin=calibration.boundary(others_seen).row)
            row["unseen"] = _verdicts(Judge(blind, judge.identity), evidence, some)
        found[kind] = row
        batches = [rng.permutation(len(some))[:_BATCH] for _ in range(_BATCHES)]
        drift[kind] = _drift(calibration, evidence, some, batches)
    return {
        "seed": seed,
        **_overkill(judge, total[good]),
        "verdicts": {
            str(label): _verdicts(
                judge,
                test[np.flatnonzero(labels == label)],
                [p for p, own in zip(pictures, labels, strict=True) if own == label],
            )
            for label in dict.fromkeys(labels)
        },
        "wrong": found,
        "f1": _f1(judge.good["total"], total, ~good),
        "drift": drift,
        "map": {
            "review": judge.thresholds.review,
            "defect": judge.thresholds.defect,
            "parts": {
                str(label): _places(judge, test[np.flatnonzero(labels == label)])
                for label in dict.fromkeys(labels)
            },
            "wrong": places,
        },
    }


def _places(judge: Judge, evidence: RawEvidence) -> list[list[float]]:
    """Return ``(strangeness, wrongness)`` of each part, to the digits that a picture shows."""
    both = np.stack([judge.strangeness(evidence)["total"], judge.wrongness(evidence)], axis=1)
    return [[float(f"{value:.4g}") for value in place] for place in both]


def measure_overkill(dataset: Dataset, settings: DetectorSettings, seed: int) -> dict[str, Any]:
    """Train once, and judge good test parts alone: the training parts are split into folds anew.

    Args:
        dataset: The product.
        settings: Defaults.
        seed: Of training.

    Returns:
        ``seed``, ``calibration`` and ``good_p`` as `measure` does.
    """
    print(f"  split {seed}", file=sys.stderr, flush=True)
    detector = Detector(replace(settings, seed=seed))
    detector.fit([p.path for p in dataset.train_good]).calibrate()
    parts = [p for p in labelled_test_parts(dataset) if p.label == GOOD]
    evidence = _evidence(detector, [as_picture(p.path, detector.settings.reading) for p in parts])
    return {"seed": seed} | _overkill(detector._judge(), detector._judge().strangeness(evidence)["total"])


def _overkill(judge: Judge, good: Figures) -> dict[str, Any]:
    return {"calibration": judge.calibration.parts, "good_p": p_values(judge.good["total"], good).tolist()}


def _evidence(detector: Detector, pictures: Sequence[Picture]) -> RawEvidence:
    ensemble = detector._fitted()
    starts = range(0, len(pictures), 16)
    return RawEvidence.joined(
        [ensemble.evidence(detector._features(list(pictures[s : s + 16]))) for s in starts]
    )


def _verdicts(judge: Judge, evidence: RawEvidence, pictures: Sequence[Picture]) -> dict[str, int]:
    said = Counter(judge.judge(evidence, i, p, 0.0).record.verdict.value for i, p in enumerate(pictures))
    return dict(sorted(said.items()))


def _f1(good: Figures, total: Figures, defective: NDArray[np.bool_]) -> dict[str, float]:
    """Compare thresholds that no labelled defect went into with the best there is on the test parts."""

    def at(threshold: float) -> float:
        flagged = total >= threshold
        hits = float((flagged & defective).sum())
        return 2 * hits / max(float(flagged.sum() + defective.sum()), 1.0)

    return {
        "oracle": max(at(t) for t in np.unique(total)),
        "alone": at(without_defects(good).defect),
        "with_batch": at(without_defects(good, total).defect),
        "overkill_1": at(float(np.nextafter(np.quantile(good, 1 - 0.01, method="higher"), np.inf))),
    }


def _drift(
    calibration: Calibration,
    evidence: RawEvidence,
    pictures: Sequence[Picture],
    batches: Sequence[NDArray[np.intp]],
) -> dict[str, Any]:
    """Ask of batches whether they are still what was calibrated on, at a false-alarm rate of 1 %."""
    quality = np.array([picture_quality(picture.pixels) for picture in pictures])
    compared = (calibration.drift_figures(evidence[some], quality[some]) for some in batches)
    alarms = sum(figures.test(0.01).alarm for figures in compared)
    return {"batches": len(batches), "alarms": alarms}


def draw(name: str, measured: Mapping[str, Any], path: Path) -> None:
    """Draw where test parts and wrong inputs lie, and what is said there.

    Args:
        name: Of the product.
        measured: Of one seed, from `measure`.
        path: Of the picture.
    """
    matplotlib.use("Agg")
    where = measured["map"]
    parts = {label: np.array(places) for label, places in where["parts"].items()}
    wrong = {kind: np.array(places) for kind, places in where["wrong"].items()}
    figure, axes = pyplot.subplots(1, 2, figsize=(14, 5), sharex=True, sharey=True, layout="constrained")
    _scatter(axes[0], parts, "test parts")
    _scatter(axes[1], wrong, "wrong inputs")
    everything = np.concatenate([*parts.values(), *wrong.values()])
    for axis in axes:
        axis.set_xscale("symlog", linthresh=3, linscale=1)
        axis.set_yscale("symlog", linthresh=3, linscale=1)
        axis.set_xticks([0, 1, 2, 3, 10, 30, 100], labels=["0", "1", "2", "3", "10", "30", "100"])
        axis.set_yticks([-30, -10, -3, 0, 3, 10, 30], labels=["-30", "-10", "-3", "0", "3", "10", "30"])
        axis.set_xlim(0, 1.3 * everything[:, 0].max())
        axis.set_ylim(1.3 * everything[:, 1].min(), 1.3 * everything[:, 1].max())
        axis.axvline(where["review"], color="0.3", lw=1, ls=":")
        axis.axvline(where["defect"], color="0.3", lw=1)
        axis.plot([where["defect"], 1.3 * everything[:, 0].max()], [0, 0], color="0.3", lw=1)
        low, high = axis.get_ylim()
        for x, y, word in (
            (where["review"] / 2, low, "PASS"),
            ((where["review"] + where["defect"]) / 2, low, "REVIEW"),
            (0.5 * everything[:, 0].max(), low, "DEFECT"),
            (0.5 * everything[:, 0].max(), high, "OOD"),
        ):
            axis.annotate(
                word,
                (x, y),
                xytext=(0, 6 if y == low else -6),
                textcoords="offset points",
                ha="center",
                va="bottom" if y == low else "top",
                weight="bold",
                color="0.3",
            )
        axis.set_xlabel("strangeness (2: one good part in a hundred)")
    axes[0].set_ylabel("like a wrong input (0: the boundary)")
    figure.suptitle(name)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _scatter(axis: Any, places: Mapping[str, Figures], title: str) -> None:
    colours = pyplot.get_cmap("tab20")
    for number, (label, some) in enumerate(places.items()):
        good = label == GOOD
        axis.scatter(
            some[:, 0],
            some[:, 1],
            s=18,
            color="0.6" if good else colours(number % 20),
            marker="o" if good else "osD^v<>PX*"[number % 10],
            alpha=0.7,
            lw=0,
            label=f"{label} ({len(some)})",
        )
    axis.set_title(title)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, markerscale=1.6)


def tables() -> str:
    """Write the stored figures as tables."""
    every = read_results()
    lines = ["# Verdicts", ""]
    lines += _paragraph(
        """Made by `python benchmarks/verdicts.py` from the files `verdicts-*.json` beside it; do
        not edit. One set of defaults, no threshold chosen by a test part. Where a defect ends and a
        wrong input begins was learned from spoilt good training parts; the share of simulated wrong
        inputs that may count as defects (5 %) was fixed while figures of seed 0 of these products
        were known. Promises that need no picture, C1 to C5, are tests: `pytest tests/validity`."""
    )
    lines += ["", "## Overkill that was promised, and found", ""]
    lines += _paragraph(
        """Good test parts with a p-value of at most alpha. The band holds 99 of 100 results if the promise
        holds: beta-binomial with k = floor(alpha (n+1)) of n calibration parts, the n of the first split.
        Splits deal the training parts into folds anew; they share training parts and test parts, so that
        what they find is not independent."""
    )
    lines += [
        "",
        "| product | splits | calibration parts | alpha | band, of good test parts | found, a split |",
        "|---|---|---|---|---|---|",
        *[row for name, r in every.items() for row in _overkill_rows(name, [*r["by_seed"], *r["splits"]])],
        "",
        "## Wrong inputs",
        "",
    ]
    lines += _paragraph(
        """Made from up to 30 good test parts, strengths drawn; and parts of other products. AUROC is of
        strangeness against good test parts. *Unseen*: called DEFECT had the boundary not seen that kind. Sums
        over seeds."""
    )
    lines += [
        "",
        "| product | disturbance | pictures | AUROC | PASS | REVIEW | DEFECT | OOD | DEFECT, unseen |",
        "|---|---|---|---|---|---|---|---|---|",
        *[row for name, r in every.items() for row in _wrong_rows(name, r["by_seed"])],
        "",
        "## Where every picture lies",
        "",
    ]
    lines += _paragraph(
        """First seed. To the right is stranger, upwards more like a wrong input; the lines are the thresholds
        T1 and T2, and the boundary that was learned from spoilt good training parts. Axes are logarithmic
        beyond 3."""
    )
    lines += [
        *[
            line
            for name in every
            for line in ("", f"![{name}: strangeness and wrongness](verdicts/{name}.png)")
        ],
        "",
        "## Test parts",
        "",
        "| product | label | parts x seeds | PASS | REVIEW | DEFECT | OOD |",
        "|---|---|---|---|---|---|---|",
        *[row for name, r in every.items() for row in _label_rows(name, r["by_seed"])],
        "",
        "## Thresholds without one labelled defect, F1",
        "",
    ]
    lines += _paragraph(
        """Of `without_defects` given the calibration parts alone, and with the unlabelled test parts as its
        batch; beside the best threshold there is on these test parts, and the one of 1 % overkill. Means over
        seeds."""
    )
    lines += [
        "",
        "| product | best there is | calibration parts alone | with the batch | 1 % overkill |",
        "|---|---|---|---|---|",
        *[_f1_row(name, r["by_seed"]) for name, r in every.items()],
        "",
        "## Drift",
        "",
    ]
    lines += _paragraph(
        f"""Batches of {_BATCH} pictures against the calibration parts, as `differnet drift check` asks: how
        pictures look, energy of the whole and of the median cell. Alarms at a false-alarm rate of 1 %, sums
        over seeds. Batches of good parts share no part, those of a disturbance may."""
    )
    lines += [
        "",
        "| product | batches of | batches | alarms |",
        "|---|---|---|---|",
        *[row for name, r in every.items() for row in _drift_rows(name, r["by_seed"])],
        "",
        "## Designs that were tried",
        "",
    ]
    lines += _paragraph(
        """Exploratory figures of seed 0, from scripts that are not kept; real test parts were looked at."""
    )
    lines += ["", TRIED.read_text("utf-8").strip(), "", "## Where the figures come from", ""]
    for name, r in every.items():
        c = r["configuration"]
        lines.append(
            f"* {name}: commit {c['commit']}, configuration {c['sha256']}, {r['measured_at']}, "
            f"{r['machine']}."
        )
    return "\n".join(lines) + "\n"


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 110)


def _overkill_rows(name: str, seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for alpha in RATES:
        n, of = seeds[0]["calibration"], len(seeds[0]["good_p"])
        k = int(np.floor(alpha * (n + 1) + 1e-9))
        counts = [sum(p <= alpha for p in seed["good_p"]) for seed in seeds]
        if k < 1:
            band = f"nothing is promised below {100 / (n + 1):.1f} %"
        else:
            law = stats.betabinom(of, k, n + 1 - k)
            band = f"{int(law.ppf(0.005))} to {int(law.ppf(0.995))} of {of}"
        told = ", ".join(str(count) for count in counts)
        rows.append(f"| {name} | {len(seeds)} | {n} | {100 * alpha:.0f} % | {band} | {told} |")
    return rows


def _wrong_rows(name: str, seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for kind in seeds[0]["wrong"]:
        some = [seed["wrong"][kind] for seed in seeds]
        n = sum(r["n"] for r in some)
        unseen = f"{_sum(some, 'unseen', 'DEFECT')}" if "unseen" in some[0] else ""
        cells = [name, kind, str(n), f"{100 * fmean(r['auroc'] for r in some):.1f}"]
        cells += [_of(_sum(some, "verdicts", v)) for v in ("PASS", "REVIEW", "DEFECT", "OOD")]
        rows.append("| " + " | ".join([*cells, unseen]) + " |")
    flat = [r for seed in seeds for r in seed["wrong"].values()]
    total = sum(r["n"] for r in flat)
    shares = [f"{100 * _sum(flat, 'verdicts', v) / total:.1f} %" for v in ("PASS", "REVIEW", "DEFECT", "OOD")]
    rows.append(f"| **{name}** | **all** | {total} |  | " + " | ".join(shares) + " |  |")
    return rows


def _label_rows(name: str, seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for label in seeds[0]["verdicts"]:
        counted = [seed["verdicts"][label] for seed in seeds]
        cells = [_of(sum(c.get(v, 0) for c in counted)) for v in ("PASS", "REVIEW", "DEFECT", "OOD")]
        rows.append(
            f"| {name} | {label} | {sum(sum(c.values()) for c in counted)} | " + " | ".join(cells) + " |"
        )
    return rows


def _f1_row(name: str, seeds: Sequence[Mapping[str, Any]]) -> str:
    keys = ("oracle", "alone", "with_batch", "overkill_1")
    cells = [f"{fmean(seed['f1'][key] for seed in seeds):.3f}" for key in keys]
    return f"| {name} | " + " | ".join(cells) + " |"


def _drift_rows(name: str, seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"| {name} | {kind} | {sum(s['drift'][kind]['batches'] for s in seeds)} | "
        f"{sum(s['drift'][kind]['alarms'] for s in seeds)} |"
        for kind in seeds[0]["drift"]
    ]


def _sum(rows: Sequence[Mapping[str, Any]], of: str, verdict: str) -> int:
    return sum(int(r[of].get(verdict, 0)) for r in rows)


def _of(count: int) -> str:
    return str(count) if count else "."


if __name__ == "__main__":
    main()
