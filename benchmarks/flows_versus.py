"""differnet beside zuko, nflows and normflows: part (b) of reports/flows.md.

The same vectors, widths, layers, bins, batches, steps, optimiser and schedule for every library, in one
process. What is learned is reported in nats above the true entropy, as a mean over seeds of
``E[log p - log q]`` on vectors that were held out. Families that sample fast and evaluate slowly are trained
by reverse KL on the same density, and their nats are ``E_q[log q - log p]``. Times are ratios: the library's
over differnet's in the same round.

    python benchmarks/flows_versus.py --out FOLDER

Needs the libraries, see flows_peers.py.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flows_peers
import flows_targets
import numpy as np
import torch
from flows_peers import LIBRARIES, Peer
from scipy import stats
from torch import Tensor

TRAIN, TEST, BATCH = 20_000, 10_000, 256
RATE = 2e-3


@dataclass(frozen=True)
class Match:
    """How one family is compared.

    Attributes:
        target: Of `flows_targets.TARGETS`.
        layers: Of every library's flow.
        steps: Of training.
        reverse: Whether it is trained by reverse KL.
        trained: Steps before a continuous flow is timed: its cost depends on its weights.
        batch: Vectors a step, where it is timed.
        count: Vectors of log_prob and of sampling, where they are timed.
    """

    target: str
    layers: int
    steps: int
    reverse: bool = False
    trained: int = 0
    batch: int = BATCH
    count: int = 4096


MATCHES: dict[str, Match] = {
    "planar": Match("two_moons", 16, 1000, reverse=True),
    "radial": Match("two_moons", 16, 1000, reverse=True),
    "nice": Match("chain", 5, 1000),
    "real_nvp": Match("chain", 5, 1000),
    "glow": Match("chain", 5, 1000),
    "maf": Match("chain", 5, 1000),
    "iaf": Match("chain", 5, 400, reverse=True),
    "spline_coupling": Match("chain", 5, 1000),
    "spline_autoregressive": Match("chain", 3, 1000),
    "ffjord": Match("chain", 1, 150, trained=60, batch=128, count=512),
}
HIDDEN, BINS = 64, 8


def batches(steps: int, seed: int) -> Tensor:
    """Return the rows of every step's batch, the same for all libraries."""
    return torch.randint(TRAIN, (steps, BATCH), generator=torch.Generator().manual_seed(seed))


def train(peer: Peer, match: Match, target: flows_targets.Target, x: Tensor, seed: int) -> None:
    """Train a peer; the loop is the same for every library."""
    optimiser = torch.optim.Adam(peer.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, match.steps)
    peer.model.train()
    peer.start(x[:BATCH], None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for rows in batches(match.steps, seed):
            if match.reverse:
                drawn, log_q = peer.rsample_and_log_prob(BATCH, None)
                loss = (log_q - target.log_prob(drawn.double(), None).clamp_min(-1e4)).mean()
            else:
                loss = -peer.log_prob(x[rows], None).mean()
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(peer.parameters(), 5.0)
            optimiser.step()
            schedule.step()
    peer.model.eval()


@torch.no_grad()
def nats(peer: Peer, match: Match, target: flows_targets.Target, seed: int) -> float:
    """Return the mean gap of log-densities, by held-out vectors or by the peer's own samples."""
    if match.reverse:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(10_000 + seed)
            drawn, log_q = peer.rsample_and_log_prob(TEST, None)
        return float((log_q.double() - target.log_prob(drawn.double(), None)).mean())
    x, _ = target.sample(TEST, torch.Generator().manual_seed(99))
    log_q = torch.cat([peer.log_prob(part, None) for part in torch.split(x.float(), 2500)])
    return float((target.log_prob(x, None) - log_q.double()).mean())


def compare(
    family: str, seeds: int, repeats: int, share: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Train and time one family in every library that has it."""
    match = MATCHES[family]
    target = flows_targets.TARGETS[match.target]()
    match = Match(**{**match.__dict__, "steps": max(1, int(match.steps * share))})
    built = {
        library: partial(_built, library, family, target.features, match.layers)
        for library in LIBRARIES
        if flows_peers.reason(library, family) is None
    }
    absent = {
        library: flows_peers.reason(library, family)
        for library in LIBRARIES
        if flows_peers.reason(library, family) is not None
    }
    learned: dict[str, list[float]] = {library: [] for library in built}
    for seed in range(seeds):
        x = target.sample(TRAIN, torch.Generator().manual_seed(1000 + seed))[0].float()
        for library, builder in built.items():
            peer = builder(seed)
            train(peer, match, target, x, seed)
            learned[library].append(nats(peer, match, target, seed))
            say(f"{family} {library} seed {seed}: {learned[library][-1]:.4f} nats")
    x = target.sample(max(match.count, 4096), torch.Generator().manual_seed(7))[0].float()

    def energy(drawn: Tensor) -> Tensor:
        return 0.5 * drawn.square().sum(-1)

    times = flows_peers.compare(
        {library: partial(builder, 0) for library, builder in built.items()},
        x,
        None,
        repeats=repeats,
        batch=match.batch,
        count=match.count,
        energy=energy if match.reverse else None,
        trained=match.trained,
    )
    for operation, by_library in times.items():
        told = ", ".join(f"{name} {value['ratio']:.2f}" for name, value in by_library.items())
        say(f"{family} {operation}: {told}")
    return {
        "match": match.__dict__,
        "nats": learned,
        "times": times,
        "absent": absent,
        "notes": {library: builder(0).note for library, builder in built.items()},
    }


def _built(library: str, family: str, features: int, layers: int, seed: int) -> Peer:
    peer = flows_peers.build(library, family, features, layers=layers, hidden=HIDDEN, bins=BINS, seed=seed)
    if peer is None:
        raise RuntimeError(f"{library} has no {family}")
    return peer


def summary(values: list[float]) -> tuple[float, float]:
    """Return mean and standard error over seeds."""
    numbers = np.array(values)
    error = float(numbers.std(ddof=1)) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
    return float(numbers.mean()), error


def likelihood_lines(results: dict[str, Any]) -> list[str]:
    """Return the markdown table of nats above the truth."""
    lines = [
        "| family | target | trained by | " + " | ".join(LIBRARIES) + " | differnet is |",
        "|---|---|---|" + "---|" * (len(LIBRARIES) + 1),
    ]
    for family, found in results["families"].items():
        match, cells = found["match"], []
        for library in LIBRARIES:
            if library not in found["nats"]:
                cells.append("none")
                continue
            mean, error = summary(found["nats"][library])
            cells.append(f"{mean:.3f} +- {error:.3f}")
        by = "reverse KL" if match["reverse"] else "likelihood"
        place = standing(found["nats"])
        lines.append(f"| {family} | {match['target']} | {by} | " + " | ".join(cells) + f" | {place} |")
    return lines


def standing(learned: dict[str, list[float]]) -> str:
    """Say where differnet stands beside each library: better, tied or worse, at 95 % by Student's t.

    The gaps are paired by seed: the same vectors and batches. A hundredth of a nat is called a tie however
    surely it is measured.

    Example:
        >>> standing({"differnet": [1, 1, 1], "zuko": [0.95, 0.951, 0.949], "nflows": [0.7, 1.2, 0.8]})
        '**worse** than zuko (+0.050); tied with nflows (+0.100)'
    """
    ours = np.array(learned["differnet"])
    words = []
    for library, values in learned.items():
        if library == "differnet":
            continue
        gaps = ours - np.array(values)
        n, gap = len(gaps), float(gaps.mean())
        reach = math.inf
        if n > 1:
            reach = float(stats.t.ppf(0.975, n - 1)) * float(gaps.std(ddof=1)) / math.sqrt(n)
        if abs(gap) <= max(reach, 0.01):
            words.append(f"tied with {library} ({gap:+.3f})")
        elif gap < 0:
            words.append(f"better than {library} ({gap:+.3f})")
        else:
            words.append(f"**worse** than {library} ({gap:+.3f})")
    return "; ".join(words) or "alone"


def time_lines(results: dict[str, Any]) -> list[str]:
    """Return the markdown table of time ratios."""
    others = [library for library in LIBRARIES if library != "differnet"]
    lines = [
        "| family | operation | differnet, ms | " + " | ".join(others) + " |",
        "|---|---|---|" + "---|" * len(others),
    ]
    for family, found in results["families"].items():
        for operation, by_library in found["times"].items():
            cells = []
            for library in others:
                value = by_library.get(library)
                if value is None:
                    cells.append("none")
                    continue
                told = f"{value['ratio']:.2f} ({value['ratio_low']:.2f} to {value['ratio_high']:.2f})"
                cells.append(f"**{told}**" if value["ratio_high"] < 1 else told)
            own = by_library["differnet"]["milliseconds"]
            lines.append(f"| {family} | {operation} | {own:.2f} | " + " | ".join(cells) + " |")
    return lines


def verdict_lines(results: dict[str, Any]) -> list[str]:
    """List every median ratio that rounds to less than 1 and every worse likelihood; say where is none."""
    slower = [
        f"* {family}, {operation}: {library} takes {value['ratio']:.2f} of differnet's time"
        + ("." if value["ratio_high"] < 1 else f", a tie within the range (to {value['ratio_high']:.2f}).")
        for family, found in results["families"].items()
        for operation, by_library in found["times"].items()
        for library, value in by_library.items()
        # From here on the table says 1.00.
        if library != "differnet" and value["ratio"] < 0.995
    ]
    worse = [
        f"* {family}: {words.replace('**', '')}."
        for family, found in results["families"].items()
        for words in standing(found["nats"]).split("; ")
        if "worse" in words
    ]
    return [
        "Not the fastest by the median:",
        "",
        *(slower or ["* nowhere."]),
        "",
        "Worse in likelihood:",
        "",
        *(worse or ["* nowhere."]),
        "",
        "How a library's flow differs:",
        "",
        *[f"* {library}, {family}: {note}." for family, library, note in _notes(results)],
    ]


def _notes(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (family, library, note)
        for family, found in results["families"].items()
        for library, note in found.get("notes", {}).items()
        if note
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--share", type=float, default=1.0, help="share of the steps, for a trial")
    parser.add_argument("--families", nargs="*", default=tuple(MATCHES))
    chosen = parser.parse_args()
    # The other libraries call what torch has deprecated.
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "versus.json"
    families = json.loads(path.read_text("utf-8"))["families"] if path.exists() else {}
    for family in chosen.families:
        families[family] = compare(
            family, chosen.seeds, chosen.repeats, chosen.share, partial(print, flush=True)
        )
        ordered = {name: families[name] for name in MATCHES if name in families}
        told = {"families": ordered, "hidden": HIDDEN, "bins": BINS, "batch": BATCH}
        path.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    results = json.loads(path.read_text("utf-8"))
    print("\n".join([*likelihood_lines(results), "", *time_lines(results)]))


if __name__ == "__main__":
    main()
