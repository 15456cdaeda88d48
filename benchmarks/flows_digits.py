"""Bits per dimension of Glow and Real NVP on scikit-learn's 8x8 digits, with samples drawn.

    python benchmarks/flows_digits.py --out FOLDER --seed 0

1,797 pictures of 17 grey levels, split at random into training, validation and test pictures. Training adds
fresh uniform noise at every step and stops by the validation pictures; the test pictures are looked at once.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import Tensor

from differnet.flows import Compose, Flow, TrainingPlan, fit_maximum_likelihood, shrinkage_whitening
from differnet.flows.dequantisation import (
    Logit,
    bits_per_dimension,
    dequantise,
    dequantised_likelihood,
    quantise,
)
from differnet.flows.glow_layers import InvertibleLinear
from differnet.flows.multiscale import glow_image, real_nvp_image

SHAPE = (1, 8, 8)
FEATURES = math.prod(SHAPE)
# load_digits counts dark pixels in blocks of 4x4: 0 to 16.
LEVELS = 17
TEST, VALIDATION = 360, 240
# Draws of the noise for every test picture: their spread is then a tenth of that between pictures.
DRAWS = 20
SAMPLES = 40

MODELS: dict[str, Callable[..., Flow]] = {"Glow": glow_image, "Real NVP": real_nvp_image}


def split(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return training, validation and test pictures, ``(n, 64)`` whole grey levels as floats."""
    grey = torch.as_tensor(load_digits().data, dtype=torch.float32)
    order = torch.randperm(len(grey), generator=torch.Generator().manual_seed(seed))
    grey = grey[order]
    return grey[TEST + VALIDATION :], grey[TEST : TEST + VALIDATION], grey[:TEST]


def bits(flow: Flow, grey: Tensor, seed: int) -> Tensor:
    """Return the bits per dimension of every picture, the mean over `DRAWS` of the noise."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        draws = [flow.log_prob(dequantise(grey, LEVELS, generator)) for _ in range(DRAWS)]
    return bits_per_dimension(torch.stack(draws).mean(0), FEATURES, LEVELS)


def histogram_bits(training: Tensor, grey: Tensor) -> Tensor:
    """Return the exact bits per dimension under independent pixels, each with its own histogram.

    Half a count is added to every level (Jeffreys' prior), for levels that a pixel never had.
    """
    counts = torch.stack([(training == level).sum(0) for level in range(LEVELS)], -1) + 0.5
    log_probability = (counts / counts.sum(-1, keepdim=True)).log2()
    return -log_probability[torch.arange(FEATURES), grey.long()].mean(-1)


def gaussian(training: Tensor, seed: int) -> Flow:
    """Return the shrinkage Gaussian of the logits."""
    generator = torch.Generator().manual_seed(seed)
    logit = Logit(FEATURES)
    copies = torch.cat([dequantise(training, LEVELS, generator) for _ in range(4)])
    return Flow(Compose([logit, shrinkage_whitening(logit(copies)[0])]))


def train(
    build: Callable[..., Flow], training: Tensor, validation: Tensor, *, seed: int, steps: int
) -> tuple[Flow, dict[str, Any]]:
    """Train one model; return it with how that went."""
    flow = build(SHAPE, levels=3, hidden=32, first=Logit(FEATURES), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    # Training would start the ActNorms from whole grey levels, which lie outside of [0, 1].
    flow.transform.start_from(dequantise(training, LEVELS, generator))
    best = {"step": 0, "loss": math.inf}

    def look(check: Any) -> None:
        if check.best:
            best.update(step=check.step, loss=check.loss)

    began = time.perf_counter()
    fit_maximum_likelihood(
        flow,
        training,
        plan=TrainingPlan(steps=steps, batch=96, learning_rate=3e-3, weight_decay=1e-2, seed=seed),
        objective=dequantised_likelihood(LEVELS),
        held_out=(validation, None),
        on_check=look,
    )
    told = {
        "parameters": sum(p.numel() for p in flow.parameters()),
        "best_step": best["step"],
        "seconds": time.perf_counter() - began,
        "mixing_condition": _largest_condition(flow),
    }
    return flow.eval(), told


def _largest_condition(flow: Flow) -> float | None:
    """Return the largest condition number among learned mixings, ``None`` where there are none."""
    mixings = [m for m in flow.modules() if isinstance(m, InvertibleLinear)]
    with torch.no_grad():
        return max((float(torch.linalg.cond(m.weight())) for m in mixings), default=None)


def summary(values: Tensor) -> dict[str, float]:
    """Return the mean over pictures and its standard error."""
    return {"mean": float(values.mean()), "standard_error": float(values.std()) / len(values) ** 0.5}


def measure(seed: int = 0, *, steps: int = 1600, figure: Path | None = None) -> dict[str, Any]:
    """Train both models and compare them with two baselines, in bits per dimension of the test pictures.

    Args:
        seed: Of the split, the weights, the batches and the noise.
        steps: At most; training stops by the validation pictures.
        figure: Where to write samples beside real digits (PNG); nowhere when ``None``.

    Returns:
        Plain numbers, ready for JSON.
    """
    training, validation, test = split(seed)
    baselines = {
        "independent pixels, histograms": histogram_bits(training, test),
        "shrinkage Gaussian of logits": bits(gaussian(training, seed), test, seed),
    }
    results: dict[str, Any] = {
        "seed": seed,
        "steps": steps,
        "pictures": {"training": len(training), "validation": len(validation), "test": len(test)},
        "uniform": math.log2(LEVELS),
        "baselines": {name: summary(values) for name, values in baselines.items()},
        "models": {},
    }
    found, drawn = {}, {}
    for name, build in MODELS.items():
        flow, told = train(build, training, validation, seed=seed, steps=steps)
        found[name] = bits(flow, test, seed)
        told["training"] = summary(bits(flow, training, seed))
        told["validation"] = summary(bits(flow, validation, seed))
        told["test"] = summary(found[name])
        results["models"][name] = told
        generator = torch.Generator().manual_seed(seed)
        drawn[name] = quantise(flow.sample((SAMPLES,), generator=generator), LEVELS)
    # Both saw the same pictures: the difference is more certain than either figure.
    results["Glow less Real NVP"] = summary(found["Glow"] - found["Real NVP"])
    if figure is not None:
        draw({"test pictures": test[:SAMPLES].long(), **drawn}, figure)
    return results


def draw(sets: dict[str, Tensor], path: Path) -> None:
    """Write pictures of every set side by side, eight in a row, none picked by hand."""
    matplotlib.use("Agg")
    plot, axes = pyplot.subplots(1, len(sets), figsize=(3.2 * len(sets), 2.2), layout="constrained")
    for panel, (name, grey) in zip(axes, sets.items(), strict=True):
        tiles = torch.nn.functional.pad(grey.reshape(-1, 8, 8, 8), (1, 1, 1, 1), value=LEVELS // 2)
        panel.imshow(tiles.permute(0, 2, 1, 3).reshape(10 * len(tiles), 80), cmap="gray_r", vmin=0, vmax=16)
        panel.set_title(name, fontsize=9)
        panel.axis("off")
    plot.savefig(path, dpi=110)
    pyplot.close(plot)


def tables(results: dict[str, Any]) -> list[str]:
    """Return the figures as lines of Markdown."""
    pictures = results["pictures"]
    lines = [
        f"{pictures['training']} pictures for training, {pictures['validation']} to stop by, "
        f"{pictures['test']} for the test; seed {results['seed']}. Bits per dimension, mean and standard",
        f"error over pictures, each the mean over {DRAWS} draws of the dequantising noise. Even",
        f"probabilities need {results['uniform']:.3f}.",
        "",
        "| model | parameters | training | validation | test | best step | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, value in results["baselines"].items():
        lines.append(f"| {name} | | | | {_told(value)} | | |")
    for name, told in results["models"].items():
        lines.append(
            f"| {name} | {told['parameters']:,} | {_told(told['training'])} | {_told(told['validation'])} | "
            f"**{_told(told['test'])}** | {told['best_step']} | {told['seconds']:.0f} |"
        )
    difference = results["Glow less Real NVP"]
    condition = results["models"]["Glow"]["mixing_condition"]
    lines += ["", f"The largest condition number among Glow's learned mixings is {condition:.1f}."]
    return [*lines, "", f"Glow less Real NVP on the same test pictures: {_told(difference, '+.3f')}."]


def _told(value: dict[str, float], form: str = ".3f") -> str:
    return f"{value['mean']:{form}} ± {value['standard_error']:.3f}"


def main() -> None:
    """Measure, and write the figures and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for digits.json and .png")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1600)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    results = measure(chosen.seed, steps=chosen.steps, figure=chosen.out / "digits.png")
    text = json.dumps(results, indent=1, allow_nan=False)
    (chosen.out / "digits.json").write_text(text + "\n", encoding="utf-8")
    print("\n".join(tables(results)))


if __name__ == "__main__":
    main()
