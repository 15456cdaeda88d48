"""One model of several products against a model of each: `python benchmarks/family.py`.

Trains a `Family` of mtd, aliens and the sample product with the defaults, and judges every test part twice:
told its product, which is what the model of that product alone does, and with its product found by Bayes'
rule. Then shows it pictures of no product and wrong views of each. Leaves `reports/family.json`, of which
`benchmarks/accuracy.py` makes a section. About ten minutes a seed on two cores, most of them training.

    python benchmarks/family.py --products aliens sample --seeds 1
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet.detection import DetectorSettings, Family
from differnet.evaluation.benchmark import configuration_of, labelled_test_parts
from differnet.evaluation.intervals import auroc_difference, proportion_interval
from differnet.evaluation.metrics import image_auroc
from differnet.evaluation.per_part import by_part, figures_json, stacked
from differnet.images.disturbances import WRONG_INPUT_SIMULATIONS, simulate_wrong_input
from differnet.images.layouts import GOOD, Dataset, read_layout
from differnet.images.reading import read_image
from differnet.images.synthetic import make_sample_product, render_part, render_wrong_input
from differnet.records import Record, Verdict

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "reports"
PRODUCTS = ("mtd", "aliens", "sample")

# What finding the product may cost, points of image AUROC, and the share of parts it has to find.
MOST_LOST = 0.5
LEAST_IDENTIFIED = 0.99
# Pictures of each kind of wrong input, and of each product it is made from.
WRONG_INPUTS = 8

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


def measure(
    products: Mapping[str, Dataset], settings: DetectorSettings, seed: int, wrong_inputs: int = WRONG_INPUTS
) -> dict[str, Any]:
    """Train one family, and judge the test parts of its products and wrong inputs.

    Args:
        products: Name to parts, each with training parts, and test parts good and defective.
        settings: For every product; the seed is replaced.
        seed: Of all densities.
        wrong_inputs: Pictures of each kind.

    Returns:
        ``by_product``: image AUROC ``told`` and ``found``, how many parts were ``identified`` as what among
        the good and the defective, ``scores`` of each part. ``wrong``: kind to number of each verdict, of
        inputs of no product and of views of each product. ``seconds``.

    Raises:
        MetricError: A product's test parts lack good or defective ones; said before anything is trained.
    """
    tests = {name: labelled_test_parts(dataset) for name, dataset in products.items()}
    started = time.perf_counter()
    train = {name: [p.path for p in dataset.train_good] for name, dataset in products.items()}
    family = Family.fit(train, replace(settings, seed=seed), _told)
    training = time.perf_counter() - started
    by_product: dict[str, Any] = {}
    for name, parts in tests.items():
        paths = [p.path for p in parts]
        told = [i.record for i in family.inspect_many(paths, name)]
        found = [i.record for i in family.inspect_many(paths)]
        defective = [p.label != GOOD for p in parts]
        kept = by_part(
            parts,
            products[name].root,
            {"told": [r.strangeness for r in told], "found": [r.strangeness for r in found]},
        )
        by_product[name] = {
            "told": image_auroc(_ranked(told), defective),
            "found": image_auroc(_ranked(found), defective),
            "identified": {
                kind: dict(Counter(r.product for r, d in zip(found, defective, strict=True) if d is wanted))
                for kind, wanted in (("good", False), ("defective", True))
            },
            "model_id": family.detectors[name].model_id,
            "scores": {
                part: one | {"product": record.product}
                for (part, one), record in zip(kept.items(), found, strict=True)
            },
        }
    wrong = {"no product": _verdicts(family, _of_no_product(products, wrong_inputs, seed))}
    for name, parts in tests.items():
        good = [p.path for p in parts if p.label == GOOD][:wrong_inputs]
        wrong[f"views of {name}"] = _verdicts(family, _wrong_views(good, seed))
    return {
        "seed": seed,
        "by_product": by_product,
        "wrong": wrong,
        "seconds": {"training": round(training, 2), "total": round(time.perf_counter() - started, 2)},
    }


def _of_no_product(names: Iterable[str], count: int, seed: int) -> Iterator[tuple[str, Pixels]]:
    """Yield kind and picture of what belongs to none of the products."""
    rng = np.random.default_rng(seed)
    canvas = np.full((256, 256, 3), 128, np.uint8)
    # A part of the sample product is another product to a family that does not know it.
    flanges = [] if "sample" in names else [("flange", render_part(i).pixels) for i in range(count)]
    yield from flanges
    for number in range(count):
        yield "cover plate", render_wrong_input(1000 * seed + number, "other_product")
        yield "empty belt", render_wrong_input(1000 * seed + number, "blank")
        yield "noise", simulate_wrong_input(canvas, "noise", rng)
    for kind in ("black", "white"):
        # One of them is all there are.
        yield kind, simulate_wrong_input(canvas, kind, rng)


def _wrong_views(good: Sequence[Path], seed: int) -> Iterator[tuple[str, Pixels]]:
    rng = np.random.default_rng(seed)
    pictures = [read_image(path).pixels for path in good]
    nothing_left = {"other_product", "black", "white", "noise"}
    for kind in WRONG_INPUT_SIMULATIONS:
        if kind not in nothing_left:
            for pixels in pictures:
                yield kind, simulate_wrong_input(pixels, kind, rng)


def _verdicts(family: Family, shown: Iterable[tuple[str, Pixels]]) -> dict[str, dict[str, int]]:
    kinds, pictures = zip(*shown, strict=True)
    counted: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    for kind, inspection in zip(kinds, family.inspect_many(pictures), strict=True):
        counted[kind][inspection.record.verdict.value] += 1
    return {kind: dict(counter) for kind, counter in counted.items()}


def _ranked(records: Sequence[Record]) -> list[float]:
    # What cannot be judged is stranger than anything judged.
    return [math.inf if r.strangeness is None else r.strangeness for r in records]


def _told(stage: str, done: int, total: int) -> None:
    if done == total:
        print(f"  {stage}: {done}", file=sys.stderr, flush=True)


def section(stored: Mapping[str, Any], single: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Write the figures as lines of Markdown, without a heading.

    Args:
        stored: What `main` stores.
        single: Product to what `run_benchmark` gave of its single model.
    """
    runs = stored["by_seed"]
    names = list(runs[0]["by_product"])
    lines = [
        "| product | seeds | told its product | product found | difference, 95 % interval | within "
        f"{MOST_LOST} | good parts identified | all identified | at least {100 * LEAST_IDENTIFIED:.0f} % | "
        "same model as alone |",
        "|---" * 10 + "|",
    ]
    for name in names:
        each = [run["by_product"][name] for run in runs]
        told, defective, parts = stacked(each, figure="told")
        found, _, _ = stacked(each, parts, figure="found")
        paired = auroc_difference(found, told, defective)
        good, every = _share(each, name, ("good",)), _share(each, name, ("good", "defective"))
        ids = {run["seed"]: run["model_id"] for run in single.get(name, {}).get("by_seed", [])}
        same = [ids.get(run["seed"]) == run["by_product"][name]["model_id"] for run in runs]
        cells = [name, str(len(runs)), *(_percent(np.mean([e[k] for e in each])) for k in ("told", "found"))]
        if every[0] == every[1]:
            # The two judge alike, and an interval of what cannot differ would mislead.
            cells += ["none: every part is found"]
        else:
            cells += [f"{_points(paired.difference)} ({_points(paired.low)} to {_points(paired.high)})"]
        cells += [_met(100 * paired.difference >= -MOST_LOST), _rate(*good), _rate(*every)]
        cells += [_met(every[0] >= LEAST_IDENTIFIED * every[1])]
        cells += [f"{sum(same)} of {len(same)}" if ids else "not measured alone"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Test parts of all seeds by what they are (rows) and what they are taken for:", ""]
    lines += ["| product | " + " | ".join(f"{n}: good, defective" for n in names) + " |"]
    lines += ["|---" * (1 + len(names)) + "|"]
    for name in names:
        counted = [run["by_product"][name]["identified"] for run in runs]
        cells = [
            ", ".join(str(sum(c[kind].get(other, 0) for c in counted)) for kind in ("good", "defective"))
            for other in names
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "What is no part of these products, and wrong views of good test parts, all seeds: how often they",
        "are called OOD, rejected (OOD, DEFECT or INVALID), and passed.",
        "",
        "| input | kind | pictures | OOD | rejected | passed |",
        "|---|---|---|---|---|---|",
    ]
    for source, kinds in runs[0]["wrong"].items():
        for kind in kinds:
            total = sum((Counter(run["wrong"][source][kind]) for run in runs), Counter())
            rejected = sum(total[v] for v in (Verdict.OOD, Verdict.DEFECT, Verdict.INVALID))
            of = total.total()
            shares = [f"{100 * n / of:.0f} %" for n in (total[Verdict.OOD], rejected, total[Verdict.PASS])]
            lines.append(f"| {source} | {kind} | {of} | " + " | ".join(shares) + " |")
    return lines


def _share(each: Sequence[Mapping[str, Any]], name: str, kinds: Sequence[str]) -> tuple[int, int]:
    """Return how many parts were taken for what they are, and how many there are."""
    counted = [one["identified"][kind] for one in each for kind in kinds]
    return sum(c.get(name, 0) for c in counted), sum(sum(c.values()) for c in counted)


def _rate(k: int, n: int) -> str:
    return f"{100 * k / n:.1f} % ({k}/{n}; at least {100 * proportion_interval(k, n)[0]:.1f})"


def _met(holds: bool) -> str:
    return "met" if holds else "**missed**"


def _percent(share: Any) -> str:
    return f"{100 * float(share):.2f}"


def _points(share: float) -> str:
    # No difference has no sign.
    return f"{100 * share:+.2f}" if round(100 * share, 2) else "0.00"


def main() -> None:
    """Measure, store, and print the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=ROOT / "../shared/data", help="folder of mtd/ and aliens/"
    )
    parser.add_argument("--products", nargs="+", choices=PRODUCTS, default=list(PRODUCTS))
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.seeds < 1 or len(set(chosen.products)) < 2:
        parser.error("at least one seed and two products")
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: chosen.data / name for name in PRODUCTS if name != "sample"}
        if "sample" in chosen.products:
            folders["sample"] = make_sample_product(Path(scratch) / "sample")
        products = {name: read_layout(folders[name]) for name in chosen.products}
        settings = DetectorSettings()
        configuration = {
            name: configuration_of(dataset, settings, chosen.seeds) for name, dataset in products.items()
        }
        runs = []
        for seed in range(chosen.seeds):
            print(f"seed {seed}", file=sys.stderr, flush=True)
            runs.append(measure(products, settings, seed))
    stored = {
        "by_seed": runs,
        "configuration": configuration,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    (REPORTS / "family.json").write_text(figures_json(stored) + "\n", encoding="utf-8")
    single = {
        name: json.loads(path.read_text("utf-8"))
        for name in chosen.products
        if (path := REPORTS / f"benchmark-{name}.json").exists()
    }
    print("\n".join(section(stored, single)))


if __name__ == "__main__":
    main()
