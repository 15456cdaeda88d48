"""Likelihood's failure out of distribution on small pictures, and what is done about it.

    python benchmarks/flows_ood.py --out FOLDER --seed 0 --data ../shared/data

A Glow learns 8x8 grey crops of one kind. Crops of other kinds are then judged by their negative
log-likelihood and by what is proposed instead, each by its AUROC against held-out crops of the first kind:

* nll: the likelihood itself; low for whatever is simple (Nalisnick et al. 2019a).
* typicality: ``|nll - H|`` with ``H`` the mean over calibration crops, also for batches (Nalisnick et al.
  2019b).
* complexity: nll less the length of a lossless code of the crop (Serra et al. 2020).
* code alone: the distance of that length from the usual one: what needs no flow at all.
* norm and norm, two-sided: ``|z|^2 / D`` without the volume term, and its distance from the usual value.
* combined: two-sided conformal p-values of nll and of complexity, the smaller one doubled (Bonferroni).

Of pictures under ``--data`` only numbers leave, no picture.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits, load_sample_image
from torch import Tensor

from differnet.evaluation.intervals import auroc_interval
from differnet.flows import Flow, TrainingPlan, fit_maximum_likelihood
from differnet.flows.dequantisation import Logit, bits_per_dimension, dequantise, dequantised_likelihood
from differnet.flows.multiscale import glow_image
from differnet.images.layouts import list_pictures
from differnet.images.reading import read_image

Crops = NDArray[np.uint8]
Figures = dict[str, NDArray[np.float64]]

SIDE, LEVELS = 8, 256
FEATURES = SIDE * SIDE
# One held-out crop is taken from every block of so many pixels: no two overlap, and no training crop comes
# from a block of another share.
BLOCK = 12
# Of blocks, or of pictures: training, stopping, calibration; the rest is the test.
SHARES = (0.5, 0.1, 0.15)
BATCHES = (1, 2, 5, 10, 25)
DRAWS = 4
STATISTICS = ("nll", "typicality", "complexity", "code alone", "norm", "norm, two-sided", "combined")
# Below this a statistic is said to fail: four of ten strange crops then look better than a good one.
FAILED = 0.6

# The references of this report, and what they say of its figures.
MEANING = """
The mean nll of crops of a density q is H(q) + KL(q, p): their entropy, and how far the learned p is from q
(Caterini and Loaiza-Ganem 2022). What is simple has little entropy, and may have a low nll although p never
saw it (Nalisnick et al. 2019, "Do deep generative models know what they don't know?"). The code column bounds
the entropy from above. What is left after subtracting it (Serra et al. 2020) is the divergence less what the
code wastes. Typicality (Nalisnick et al. 2019, "Detecting out-of-distribution inputs to deep generative
models using typicality") sees sets whose mean nll differs in either direction; for single crops the spread of
nll among the good ones hides it. Zhang, Goldstein and Ranganath 2021 prove that no statistic is better than
chance for every q, and hold that errors of the learned density explain the failures better than a true
density that is high there: p puts mass on simple crops that it was never shown. So the tables say what each
statistic misses, and none is to be trusted for kinds of crops that are not in them.
"""


def grey_of(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the luma of an RGB picture (ITU-R BT.601), ``(height, width)`` of 0 to 255."""
    luma: NDArray[np.float64] = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return luma


def smaller(grey: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Return the means of blocks of ``factor`` pixels."""
    height, width = (size // factor * factor for size in grey.shape)
    blocks = grey[:height, :width].reshape(height // factor, factor, width // factor, factor)
    means: NDArray[np.float64] = blocks.mean((1, 3))
    return means


def whole(grey: NDArray[np.float64]) -> Crops:
    """Return the nearest whole levels."""
    return grey.round().clip(0, LEVELS - 1).astype(np.uint8)


def shares(count: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Deal ``count`` blocks or pictures: training, stopping, calibration and test."""
    return np.split(rng.permutation(count), np.cumsum([round(share * count) for share in SHARES]))


def grid(rows: int, columns: int) -> NDArray[np.int64]:
    """Return every ``(row, column)``, ``(rows * columns, 2)``."""
    return np.indices((rows, columns)).reshape(2, -1).T


def crop(grey: NDArray[np.float64], corners: NDArray[np.int64]) -> Crops:
    """Return the crops whose upper left corners are given, ``(n, 8, 8)``."""
    rows, columns = (corners[:, axis, None] + np.arange(SIDE) for axis in (0, 1))
    return whole(grey[rows[:, :, None], columns[:, None, :]])


def landscape(rng: np.random.Generator) -> dict[str, Crops]:
    """Return crops of china.jpg for training and test, and ten kinds of other crops."""
    china, flower = (grey_of(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))
    corners = BLOCK * grid(china.shape[0] // BLOCK, china.shape[1] // BLOCK)
    training, stopping, calibration, test = (corners[share] for share in shares(len(corners), rng))
    offsets = grid(BLOCK - SIDE + 1, BLOCK - SIDE + 1)
    places = test + rng.integers(BLOCK - SIDE + 1, size=test.shape)
    held_out = crop(china, places)
    n = len(held_out)
    levels = rng.integers(LEVELS, size=(n, 1, 1)).astype(np.float64)
    digits = load_digits().images[rng.permutation(len(load_digits().images))[:n]] * (255 / 16)
    means = held_out.mean((1, 2), keepdims=True)
    return {
        "training": crop(china, (training[:, None] + offsets).reshape(-1, 2)),
        "stopping": crop(china, stopping),
        "calibration": crop(china, calibration + rng.integers(BLOCK - SIDE + 1, size=calibration.shape)),
        "test": held_out,
        "constant": whole(np.broadcast_to(levels, (n, SIDE, SIDE))),
        "blurred": crop(gaussian_filter(china, 2.0), places),
        "low contrast": whole(means + 0.25 * (held_out - means)),
        "inverted": 255 - held_out,
        "upside down": held_out[:, ::-1].copy(),
        "flower.jpg": crop(flower, places),
        "digits": whole(digits),
        "high contrast": whole(means + 4 * (held_out - means)),
        "shuffled": rng.permuted(held_out.reshape(n, -1), axis=1).reshape(n, SIDE, SIDE),
        "noise": rng.integers(LEVELS, size=(n, SIDE, SIDE)).astype(np.uint8),
    }


def crops_of(
    folder: Path, factor: int, background: float, rng: np.random.Generator, each: int
) -> list[Crops]:
    """Return ``each`` random crops of every picture, that many times smaller.

    Crops in which nothing is darker than ``background`` are drawn again: they show no part.
    """
    found = []
    for path in list_pictures(folder):
        if path.suffix == ".png" and path.with_suffix(".jpg").exists():
            continue  # the mask beside a tile
        grey = smaller(grey_of(read_image(path).pixels), factor)
        limits = np.array(grey.shape) - SIDE + 1
        kept: list[Crops] = []
        while len(kept) < each:
            drawn = crop(grey, rng.integers(limits, size=(1, 2)))
            if drawn.min() < background:
                kept.append(drawn)
        found.append(np.concatenate(kept))
    return found


def parts(ours: list[Crops], theirs: list[Crops], name: str, rng: np.random.Generator) -> dict[str, Crops]:
    """Return crops of one product for training and test, and crops of another and of nothing."""
    training, stopping, calibration, test = (
        np.concatenate([ours[i] for i in share]) for share in shares(len(ours), rng)
    )
    # At most as many as make a figure certain: 400 a set.
    stopping, calibration, test = (rng.permutation(s)[:400] for s in (stopping, calibration, test))
    n = len(test)
    levels = rng.integers(LEVELS, size=(n, 1, 1)).astype(np.uint8)
    return {
        "training": training,
        "stopping": stopping,
        "calibration": calibration,
        "test": test,
        "constant": np.broadcast_to(levels, (n, SIDE, SIDE)).copy(),
        name: rng.permutation(np.concatenate(theirs))[:n],
        "inverted": 255 - test,
        "shuffled": rng.permuted(test.reshape(n, -1), axis=1).reshape(n, SIDE, SIDE),
        "noise": rng.integers(LEVELS, size=(n, SIDE, SIDE)).astype(np.uint8),
    }


def settings(data: Path | None, rng: np.random.Generator) -> dict[str, dict[str, Crops]]:
    """Return every setting that can be had here: name of what is trained on -> its sets of crops."""
    found = {"china.jpg": landscape(rng)}
    if data is not None and (data / "mtd").is_dir() and (data / "aliens").is_dir():
        # A quarter of the size: a crop then shows a piece of a part, not a few of its pixels.
        tiles = crops_of(data / "mtd" / "MT_Free" / "Imgs", 4, math.inf, rng, each=8)
        figures = crops_of(data / "aliens" / "normal", 4, 200.0, rng, each=60)
        found["magnetic tiles"] = parts(tiles, figures, "toy figures", rng)
        found["toy figures"] = parts(figures, tiles, "magnetic tiles", rng)
    return found


def flat(crops: Crops) -> Tensor:
    """Return ``(n, 64)`` whole levels as floats."""
    return torch.as_tensor(crops.reshape(len(crops), FEATURES)).float()


def train(sets: dict[str, Crops], seed: int, steps: int) -> Flow:
    """Train a Glow on the training crops; it stops by the crops kept for that."""
    flow = glow_image((1, SIDE, SIDE), levels=3, first=Logit(FEATURES), seed=seed)
    training, stopping = flat(sets["training"]), flat(sets["stopping"])
    generator = torch.Generator().manual_seed(seed)
    first = training[torch.randperm(len(training), generator=generator)[:2000]]
    flow.transform.start_from(dequantise(first, LEVELS, generator))
    plan = TrainingPlan(steps=steps, batch=96, learning_rate=3e-3, weight_decay=1e-2, seed=seed)
    return fit_maximum_likelihood(
        flow, training, plan=plan, objective=dequantised_likelihood(LEVELS), held_out=(stopping, None)
    )


def code_length(pixels: Crops) -> float:
    """Return bits per pixel of the crop's shortest code by PNG's filters and DEFLATE.

    What PNG would store, without its header and checksums, for the best of its filters none, left, above
    and average: a bound on the information in the crop from above.
    """
    wide = pixels.astype(np.int64)
    left, above = np.zeros_like(wide), np.zeros_like(wide)
    left[:, 1:], above[1:] = wide[:, :-1], wide[:-1]
    lengths = []
    for predicted in (0 * wide, left, above, (left + above) // 2):
        coder = zlib.compressobj(9, zlib.DEFLATED, -15)
        residual = ((wide - predicted) % LEVELS).astype(np.uint8)
        lengths.append(len(coder.compress(residual.tobytes()) + coder.flush()))
    return 8 * min(lengths) / pixels.size


def judge(flow: Flow, crops: Crops, seed: int) -> Figures:
    """Return nll, code length, nll less code length, and norm of every crop, in bits or units a pixel."""
    generator = torch.Generator().manual_seed(seed)
    grey = flat(crops)
    nll, norm = torch.zeros(len(grey)), torch.zeros(len(grey))
    with torch.no_grad():
        for _ in range(DRAWS):
            x = dequantise(grey, LEVELS, generator)
            nll += bits_per_dimension(flow.log_prob(x), FEATURES, LEVELS) / DRAWS
            norm += flow.transform(x)[0].square().mean(-1) / DRAWS
    bits = nll.double().numpy()
    code = np.array([code_length(c) for c in crops])
    return {"nll": bits, "code": code, "complexity": bits - code, "norm": norm.double().numpy()}


def two_sided(calibration: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return conformal p-values that are small at either end: twice the smaller tail, at most 1."""
    ordered = np.sort(calibration)
    below = np.searchsorted(ordered, values, side="right")
    above = len(ordered) - np.searchsorted(ordered, values, side="left")
    return np.minimum(1.0, 2 * (1 + np.minimum(below, above)) / (1 + len(ordered)))


def statistics(calibration: Figures, found: Figures) -> Figures:
    """Return each of `STATISTICS`, higher is stranger."""
    smaller_p = np.minimum(
        two_sided(calibration["nll"], found["nll"]),
        two_sided(calibration["complexity"], found["complexity"]),
    )
    return {
        "nll": found["nll"],
        "typicality": np.abs(found["nll"] - calibration["nll"].mean()),
        "complexity": found["complexity"],
        "code alone": np.abs(found["code"] - calibration["code"].mean()),
        "norm": found["norm"],
        "norm, two-sided": np.abs(found["norm"] - calibration["norm"].mean()),
        "combined": -np.minimum(1.0, 2 * smaller_p),
    }


def auroc(good: NDArray[np.float64], strange: NDArray[np.float64], seed: int) -> dict[str, float]:
    """Return the AUROC with its 95 % bootstrap interval."""
    labels = np.repeat([False, True], [len(good), len(strange)])
    held = auroc_interval(np.concatenate([good, strange]), labels, draws=1000, seed=seed)
    return {"auroc": round(held.auroc, 4), "low": round(held.low, 4), "high": round(held.high, 4)}


def in_batches(
    figures: dict[str, Figures], others: list[str], statistic: Callable[..., Any], seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return, for every other kind and batch size, the AUROC of the statistic of the batch's mean nll."""
    rng = np.random.default_rng(seed)
    order = {name: rng.permutation(figures[name]["nll"]) for name in ["test", *others]}
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in others}
    for size in BATCHES:
        means = {
            name: statistic(nll[: len(nll) // size * size].reshape(-1, size).mean(1))
            for name, nll in order.items()
        }
        for name in others:
            found[name][str(size)] = auroc(means["test"], means[name], seed)
    return found


def compare(sets: dict[str, Crops], seed: int, steps: int) -> tuple[dict[str, Any], dict[str, Figures]]:
    """Train on one setting; return its figures for JSON, and the values of every crop."""
    began = time.perf_counter()
    flow = train(sets, seed, steps)
    seconds = time.perf_counter() - began
    others = [name for name in sets if name not in ("training", "stopping", "calibration", "test")]
    figures = {name: judge(flow, sets[name], seed) for name in ("calibration", "test", *others)}
    calibration = figures["calibration"]
    judged = {name: statistics(calibration, figures[name]) for name in ("test", *others)}
    usual = calibration["nll"].mean()
    told = {
        "crops": {name: len(crops) for name, crops in sets.items()},
        "seconds": round(seconds, 1),
        "entropy": round(float(usual), 4),
        "sets": {
            name: {key: round(float(values[key].mean()), 4) for key in ("nll", "code", "complexity", "norm")}
            for name, values in figures.items()
            if name != "calibration"
        },
        "auroc": {
            name: {key: auroc(judged["test"][key], judged[name][key], seed) for key in STATISTICS}
            for name in others
        },
        "batches": {
            "nll": in_batches(figures, others, lambda mean: mean, seed),
            "typicality": in_batches(figures, others, lambda mean: np.abs(mean - usual), seed),
        },
    }
    return told, figures


def measure(
    seed: int = 0, *, steps: int = 600, data: Path | None = None, figure: Path | None = None
) -> dict[str, Any]:
    """Train on every kind of crop that is there, and judge all the others.

    Args:
        seed: Of blocks, crops, weights, batches, noise and intervals.
        steps: Of training, at most.
        data: Folder of ``mtd/`` and ``aliens/``; without them only scikit-learn's pictures are used.
        figure: Where to write the histograms (PNG); nowhere when ``None``.

    Returns:
        Plain numbers, ready for JSON.
    """
    rng = np.random.default_rng(seed)
    results: dict[str, Any] = {"seed": seed, "steps": steps, "settings": {}}
    drawn = {}
    for name, sets in settings(data, rng).items():
        results["settings"][name], drawn[name] = compare(sets, seed, steps)
    if figure is not None:
        draw(drawn, figure)
    return results


def draw(figures: dict[str, dict[str, Figures]], path: Path) -> None:
    """Draw, for every setting, a row of histograms for nll and one for nll less code length."""
    matplotlib.use("Agg")
    heights = [len(sets) for sets in figures.values()]
    plot, axes = pyplot.subplots(
        len(figures),
        2,
        figsize=(9, 0.38 * sum(heights) + 0.9 * len(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for row, (setting, sets) in zip(axes, figures.items(), strict=True):
        for panel, key, label in zip(
            row, ("nll", "complexity"), ("nll", "nll less code length"), strict=True
        ):
            _ridges(panel, {name: values[key] for name, values in sets.items() if name != "calibration"})
            panel.set_xlabel(f"{label}, bits per pixel (last bin: and beyond)", fontsize=8)
            panel.set_title(f"trained on {setting}", fontsize=9)
    plot.savefig(path, dpi=90)
    pyplot.close(plot)


def _ridges(panel: Any, sets: dict[str, NDArray[np.float64]]) -> None:
    """Draw one histogram above the other, all of one height; the band holds 95 % of the good crops."""
    good = sets["test"]
    everything = np.concatenate(list(sets.values()))
    # Noise may lie ten times as far out as all else: what is beyond is counted in the last bin.
    end = min(everything.max(), good.max() + 1.5 * (good.max() - good.min()))
    edges = np.linspace(everything.min(), end, 70)
    panel.axvspan(*np.quantile(good, [0.025, 0.975]), color="0.9")
    for place, (name, values) in enumerate(sets.items()):
        counts, _ = np.histogram(values.clip(max=end), edges)
        colour = "black" if name == "test" else "C3"
        heights = 0.85 * counts / counts.max()
        panel.bar(edges[:-1], heights, np.diff(edges), bottom=-place, align="edge", color=colour)
    panel.set_yticks([-place for place in range(len(sets))])
    panel.set_yticklabels(["in distribution" if name == "test" else name for name in sets], fontsize=8)
    panel.tick_params(axis="x", labelsize=8)


def tables(results: dict[str, Any]) -> list[str]:
    """Return the figures as lines of Markdown, with what they mean."""
    lines = [*MEANING.strip().splitlines(), ""]
    for setting, told in results["settings"].items():
        crops = told["crops"]
        lines += [
            f"### Trained on crops of {setting}",
            "",
            f"{crops['training']:,} crops for training, {crops['calibration']} for calibration, "
            f"{crops['test']} of the same kind for the test.",
            f"Their usual nll is {told['entropy']:.2f} bits per pixel.",
            "AUROC in percent with its 95 % bootstrap interval.",
            "",
            "| crops | nll, bits | code, bits | " + " | ".join(STATISTICS) + " |",
            "|---|---|---|" + "---|" * len(STATISTICS),
        ]
        for name, means in told["sets"].items():
            cells = [_percent(told["auroc"][name][key]) for key in STATISTICS] if name != "test" else []
            cells += [""] * (len(STATISTICS) - len(cells))
            title = "in distribution" if name == "test" else name
            lines.append(
                f"| {title} | {means['nll']:.2f} | {means['code']:.2f} | " + " | ".join(cells) + " |"
            )
        lines += ["", *_failures(told), "", *_batches(told), ""]
    return lines


def _percent(value: dict[str, float]) -> str:
    return f"{100 * value['auroc']:.0f} ({100 * value['low']:.0f} to {100 * value['high']:.0f})"


def _failures(told: dict[str, Any]) -> list[str]:
    """Say, for every statistic, which crops it does not tell apart."""
    lines = []
    for key in STATISTICS:
        missed = [name for name, row in told["auroc"].items() if row[key]["auroc"] < FAILED]
        worst = [name for name, row in told["auroc"].items() if row[key]["high"] < 0.5]
        what = f"fails on {', '.join(missed)}" if missed else "fails on none"
        reverse = f"; takes {', '.join(worst)} for better than its own" if worst else ""
        lines.append(f"* {key}: {what} (AUROC below {100 * FAILED:.0f}){reverse}.")
    return lines


def _batches(told: dict[str, Any]) -> list[str]:
    lines = [
        "Typicality of the mean nll of batches (Nalisnick et al. 2019b), AUROC in percent:",
        "",
        "| crops | " + " | ".join(f"M = {size}" for size in BATCHES) + " |",
        "|---|" + "---|" * len(BATCHES),
    ]
    for name, row in told["batches"]["typicality"].items():
        lines.append(f"| {name} | " + " | ".join(_percent(row[str(size)]) for size in BATCHES) + " |")
    return lines


def main() -> None:
    """Measure, and write the figures and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for ood.json and .png")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--data", type=Path, help="folder of mtd/ and aliens/")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    results = measure(chosen.seed, steps=chosen.steps, data=chosen.data, figure=chosen.out / "ood.png")
    text = json.dumps(results, indent=1, allow_nan=False)
    (chosen.out / "ood.json").write_text(text + "\n", encoding="utf-8")
    print("\n".join(tables(results)))


if __name__ == "__main__":
    main()
