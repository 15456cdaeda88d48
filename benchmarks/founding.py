"""The DifferNet paper's method and the closed-form Gaussian, by the detector's own protocol.

Each product leaves `reports/founding-<product>.json` with both methods under their names; a method that is
not measured anew keeps its figures. Rotations are as many as one core affords, fewer than the paper's 64,
and MTD, which has ten times as many parts, is measured once and at 224 pixels. On one thread the whole takes
about half an hour. Nothing is chosen by test parts.

    python benchmarks/founding.py                       both methods on every product
    python benchmarks/founding.py --only mtd --methods gaussian
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from differnet.detection import DifferNet, DifferNetSettings, Method, PooledGaussian
from differnet.evaluation.intervals import auroc_standard_error
from differnet.evaluation.methods import METHODS, run_method_benchmark
from differnet.evaluation.per_part import figures_json
from differnet.images.layouts import read_layout
from differnet.images.synthetic import make_sample_product

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "reports"

# What one core affords in a few minutes a seed.
SETTINGS = {
    "aliens": DifferNetSettings(training_rotations=16, rotations=16),
    "mtd": DifferNetSettings(training_rotations=4, rotations=8, map_rotations=1, image_size=224),
    "sample": DifferNetSettings(training_rotations=4, rotations=4, map_rotations=1),
}
SEEDS = {"aliens": 3, "mtd": 1, "sample": 3}


def measure(product: str, name: str, folder: Path) -> dict[str, Any]:
    """Return one method's figures on one product, with when and where they were measured."""
    method: Method = DifferNet(SETTINGS[product]) if name == DifferNet.name else PooledGaussian()
    # Nothing is random in the Gaussian: one run is all there is.
    seeds = SEEDS[product] if name == DifferNet.name else 1
    measured = run_method_benchmark(read_layout(folder), method, seeds, _told)
    return {
        **measured,
        "threads": torch.get_num_threads(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _told(stage: str, done: int, total: int) -> None:
    if done == total:
        print(f"  {stage}: {done}", file=sys.stderr, flush=True)


def table(reports: Path = REPORTS) -> list[str]:
    """Write the stored figures as a Markdown table, a row a product and method."""
    lines = [
        "| product | method | seeds | image AUROC | SE | full nll | pixel AUROC | PRO | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(reports.glob("founding-*.json")):
        for name, r in json.loads(path.read_text("utf-8")).items():
            runs = r["by_seed"]
            auroc = [run["image_auroc"] for run in runs]
            parts = runs[0]["parts"]
            error = auroc_standard_error(r["image_auroc"], parts["defective"], parts["good"])
            spread = f" ({_percent(min(auroc))} to {_percent(max(auroc))})" if len(auroc) > 1 else ""
            cells = [path.stem.removeprefix("founding-"), name, str(len(runs))]
            cells += [_percent(r["image_auroc"]) + spread, f"{100 * error:.2f}"]
            cells += [_percent(v) for v in (r["evidence"]["nll"], r["pixel_auroc"], r["aupro"])]
            lines.append("| " + " | ".join([*cells, f"{r['seconds']['total']:.0f}"]) + " |")
    return lines


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.2f}"


def main() -> None:
    """Measure what is asked for, store it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=ROOT / "../shared/data", help="folder of mtd/ and aliens/"
    )
    parser.add_argument("--only", nargs="*", choices=SETTINGS, help="products to measure; others keep theirs")
    parser.add_argument(
        "--methods", nargs="*", choices=METHODS, help="methods to measure; others keep theirs"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for product in chosen.only or SETTINGS:
            sample = product == "sample"
            folder = make_sample_product(Path(scratch) / "sample") if sample else chosen.data / product
            if not folder.is_dir():
                print(f"{product}: nothing at {folder}, left out", file=sys.stderr)
                continue
            path = REPORTS / f"founding-{product}.json"
            for name in chosen.methods or METHODS:
                print(f"{product}: {name}", file=sys.stderr, flush=True)
                stored = json.loads(path.read_text("utf-8")) if path.exists() else {}
                text = figures_json({**stored, name: measure(product, name, folder)})
                path.write_text(text + "\n", encoding="utf-8")
    print("\n".join(table()))


if __name__ == "__main__":
    main()
