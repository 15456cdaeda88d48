"""Every family on densities of the plane that are known exactly: part (a) of reports/flows.md.

Each family learns each target from the same vectors. What is reported is the divergence
``KL(target, flow) = E[log p - log q]`` in nats, on vectors that no flow has seen: the nats above the true
entropy, with a standard error that the target's own spread does not enter.

    python benchmarks/flows_plane.py --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flows_targets
import torch
from torch import Tensor

from differnet.flows import (
    AugmentedFlow,
    ContinuousTransform,
    Density,
    ElementwiseAffine,
    Flow,
    TrainingPlan,
    Transform,
    augmented,
    augmented_bound,
    ffjord,
    fit_maximum_likelihood,
    flow_matching,
    glow,
    iaf,
    maf,
    nice,
    planar,
    radial,
    real_nvp,
    regularised_nll,
    rnode,
    spline_autoregressive,
    spline_coupling,
    tolerance_table,
)
from differnet.flows.training import Objective, negative_log_likelihood

PLANE = ("two_moons", "rings", "checkerboard", "eight_gaussians", "hills")
TRAIN, TEST, BATCH = 20_000, 20_000, 256
# Of the augmented flow, whose density has to be averaged over noise for every vector.
BOUNDED, DRAWS = 2_000, 64
GRID = flows_targets.grid_points(0.08, 4.0)

Built = Callable[[Transform, int], Density]


def _with(family: Callable[..., Density], **sizes: int) -> Built:
    return lambda first, seed: family(2, first=first, seed=seed, **sizes)


# Name -> how it is built, its objective, steps and peak rate. Couplings have eight networks of width 64,
# autoregressive flows as many, or four where each layer does more; planar and radial flows have no networks,
# and more layers.
FAMILIES: dict[str, tuple[Built, Objective, int, float]] = {
    "planar": (_with(planar, layers=32), negative_log_likelihood, 1000, 5e-3),
    "radial": (_with(radial, layers=32), negative_log_likelihood, 1000, 5e-3),
    "nice": (_with(nice, couplings=8, hidden=64), negative_log_likelihood, 1000, 5e-3),
    "real_nvp": (_with(real_nvp, couplings=8, hidden=64), negative_log_likelihood, 1000, 5e-3),
    "glow": (_with(glow, steps=8, hidden=64), negative_log_likelihood, 1000, 5e-3),
    "maf": (_with(maf, layers=8, hidden=64), negative_log_likelihood, 1000, 5e-3),
    "iaf": (_with(iaf, layers=8, hidden=64), negative_log_likelihood, 1000, 5e-3),
    "spline_coupling": (_with(spline_coupling, couplings=8, hidden=64), negative_log_likelihood, 1000, 5e-3),
    "spline_autoregressive": (
        _with(spline_autoregressive, layers=4, hidden=64),
        negative_log_likelihood,
        1000,
        5e-3,
    ),
    "ffjord": (_with(ffjord, hidden=64), negative_log_likelihood, 600, 5e-3),
    "rnode": (_with(rnode, hidden=64), regularised_nll(), 600, 5e-3),
    "augmented": (_with(augmented, extra=1, hidden=64), augmented_bound(), 600, 5e-3),
    "flow_matching": (_with(ffjord, hidden=128), flow_matching(), 6000, 5e-3),
}


def divergence(density: Density, x: Tensor, log_p: Tensor) -> dict[str, Any]:
    """Return mean and standard error of ``log p - log q``, or of its bound for an augmented flow."""
    bounded = isinstance(density, AugmentedFlow)
    if bounded:
        x, log_p = x[:BOUNDED], log_p[:BOUNDED]
    gaps = (log_p - log_density(density, x.float())).double()
    return {
        "nats": float(gaps.mean()),
        "standard_error": float(gaps.std()) / len(gaps) ** 0.5,
        "bound": bounded,
    }


@torch.no_grad()
def log_density(density: Density, x: Tensor) -> Tensor:
    """Return ``log q`` of every vector, or its bound for an augmented flow."""
    if isinstance(density, AugmentedFlow):
        generator = torch.Generator().manual_seed(0)
        parts = [density.lower_bound(p, draws=DRAWS, generator=generator) for p in torch.split(x, 500)]
    elif isinstance(density, Flow):
        parts = [density.log_prob(p) for p in torch.split(x, 5000)]
    else:
        raise TypeError(f"{type(density).__name__} has no density")
    return torch.cat(parts)


def evaluations(density: Density) -> int | None:
    """Return how often the velocity was evaluated by the last call; ``None`` for a discrete flow."""
    found = [m.evaluations for m in density.modules() if isinstance(m, ContinuousTransform)]
    return sum(found) if found else None


def learn(family: str, target: flows_targets.Target, seed: int, share: float) -> tuple[Density, float]:
    """Return the trained density and the seconds that training took."""
    build, objective, steps, rate = FAMILIES[family]
    generator = torch.Generator().manual_seed(1000 + seed)
    x = target.sample(TRAIN, generator)[0].float()
    density = build(ElementwiseAffine.standardising(x), seed)
    plan = TrainingPlan(
        steps=max(1, int(share * steps)), batch=BATCH, learning_rate=rate, weight_decay=0.0, seed=seed
    )
    solved = [m for m in density.modules() if isinstance(m, ContinuousTransform)]
    tolerances = [(t.rtol, t.atol) for t in solved]
    for transform in solved:
        # Gradients bear a looser tolerance than the figures, which are integrated to the default one. Steps
        # fixed beforehand do not serve: eight of fourth order learned a field that they could not follow.
        transform.rtol = transform.atol = 1e-3
    begun = time.perf_counter()
    fit_maximum_likelihood(density, x, plan=plan, objective=objective)
    seconds = time.perf_counter() - begun
    for transform, (rtol, atol) in zip(solved, tolerances, strict=True):
        transform.rtol, transform.atol = rtol, atol
    return density, seconds


def measure(
    name: str,
    seed: int = 0,
    *,
    families: tuple[str, ...] = tuple(FAMILIES),
    share: float = 1.0,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Train every family on one target.

    Args:
        name: Of `PLANE`.
        seed: Of data, weights and batches.
        families: Of `FAMILIES`.
        share: Of the steps that are taken: less than 1 for a trial.
        say: Told every figure.

    Returns:
        The figures, and the true and the learned densities on `GRID`.
    """
    target = flows_targets.TARGETS[name]()
    x, _ = target.sample(TEST, torch.Generator().manual_seed(99))
    log_p = target.log_prob(x, None)
    panels = {"true density": target.log_prob(GRID, None).exp()}
    told: dict[str, Any] = {
        "target": name,
        "seed": seed,
        "entropy": target.entropy,
        "entropy_error": target.entropy_error,
        "families": {},
    }
    for family in families:
        density, seconds = learn(family, target, seed, share)
        found = divergence(density, x, log_p)
        found |= {"seconds": seconds, "evaluations": evaluations(density)}
        told["families"][family] = found
        panels[family] = log_density(density, GRID.float()).exp()
        say(f"{name} {family}: {found['nats']:.3f} +- {found['standard_error']:.3f}, {seconds:.0f} s")
        if family == "ffjord" and isinstance(density, Flow):
            told["tolerances"] = _tolerances(density, x[:1000].float())
    return told, panels


def _tolerances(flow: Flow, x: Tensor) -> list[dict[str, float]]:
    standard, last = [t for t in flow.transform.children() for t in t.children()]  # Compose's list
    if not isinstance(last, ContinuousTransform) or not isinstance(standard, ElementwiseAffine):
        raise TypeError("the flow is not a standardisation and a continuous transform")
    return [row._asdict() for row in tolerance_table(last, standard(x)[0].detach())]


def draw(name: str, panels: dict[str, Tensor], path: Path) -> None:
    """Draw the true density and each family's, in two rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    columns = math.ceil(len(panels) / 2)
    figure, axes = pyplot.subplots(2, columns, figsize=(1.35 * columns, 3.3), squeeze=False)
    side = round(len(GRID) ** 0.5)
    # One scale for all, the true density's, so that a flow that is too sharp shows.
    top = float(panels["true density"].max())
    for panel in axes.flat:
        panel.set_axis_off()
    for panel, (family, density) in zip(axes.flat, panels.items(), strict=False):
        picture = density.reshape(side, side).T.clamp(max=top).numpy()
        panel.imshow(picture, origin="lower", vmin=0, vmax=top, cmap="inferno")
        panel.set_title(family.replace("_", " "), fontsize=7)
    figure.suptitle(name.replace("_", " "), fontsize=9)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def tables(results: list[dict[str, Any]]) -> list[str]:
    """Return the markdown of all results: mean over seeds, smallest and largest in brackets."""
    names = [name for name in PLANE if any(r["target"] == name for r in results)]
    by_name = {name: [r for r in results if r["target"] == name] for name in names}
    entropies = [f"{by_name[name][0]['entropy']:.4f}" for name in names]
    lines = [
        "| family | " + " | ".join(name.replace("_", " ") for name in names) + " | evaluations |",
        "|---|" + "---|" * (len(names) + 1),
        "| *true entropy, nats* | " + " | ".join(entropies) + " | |",
    ]
    for family in results[0]["families"]:
        cells, counts = [], []
        for name in names:
            runs = [r["families"][family] for r in by_name[name]]
            nats = [run["nats"] for run in runs]
            counts += [run["evaluations"] for run in runs if run["evaluations"]]
            mark = "<= " if runs[0]["bound"] else ""
            spread = f" ({min(nats):.3f} to {max(nats):.3f})" if len(nats) > 1 else ""
            cells.append(f"{mark}{sum(nats) / len(nats):.3f}{spread}")
        told = f"{min(counts)} to {max(counts)}" if counts else ""
        lines.append(f"| {family} | " + " | ".join(cells) + f" | {told} |")
    every = [run for r in results for run in r["families"].values()]
    sharp = max((run["standard_error"] for run in every if not run["bound"]), default=0.0)
    blunt = max((run["standard_error"] for run in every if run["bound"]), default=0.0)
    return [*lines, "", f"Standard errors are at most {sharp:.3f}; {blunt:.3f} where a bound is averaged."]


def tolerance_lines(results: dict[str, Any]) -> list[str]:
    """Return the markdown of what a continuous flow's tolerance costs and leaves."""
    lines = [
        "| tolerance | evaluations | largest error of z, relative | largest error of log_det, nats |",
        "|---|---|---|---|",
    ]
    return lines + [
        f"| {r['tolerance']:.0e} | {r['evaluations']} | {r['vector_error']:.1e} | {r['log_det_error']:.1e} |"
        for r in results["tolerances"]
    ]


def main() -> None:
    """Measure one seed and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files and the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="share of the steps, for a trial")
    parser.add_argument("--targets", nargs="*", default=PLANE)
    parser.add_argument("--families", nargs="*", default=tuple(FAMILIES))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name in chosen.targets:
        found, panels = measure(
            name,
            chosen.seed,
            families=tuple(chosen.families),
            share=chosen.share,
            say=partial(print, flush=True),
        )
        text = json.dumps(found, indent=1, allow_nan=False)
        (chosen.out / f"plane-{name}-{chosen.seed}.json").write_text(text + "\n", encoding="utf-8")
        draw(name, panels, chosen.out / f"plane-{name}-{chosen.seed}.png")
        print("\n".join(tables([found])))


if __name__ == "__main__":
    main()
