"""Rebuild reports/accuracy.md: `make reports`, or `python benchmarks/accuracy.py --data ../shared/data`.

Three seeds on every product that is there, by the protocol of `differnet.evaluation.benchmark`, with the
defaults that every product gets; then with few, and with spoilt, training parts. Products that are absent are
left out, and said. `--only` names what to measure, `--only` alone rebuilds the text. What the rivals of
`benchmarks/rivals.py` and one model of all products (`benchmarks/family.py`) gave stands beside it.
`--ablation` measures what each part of the design buys on the products it names, and nothing else unless
`--only` asks for it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import textwrap
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ablation
import failures
import family
from rivals import by_defect_table, differences_table, read_results, table

from differnet.detection import Detector, DetectorSettings
from differnet.evaluation.benchmark import Trial, configuration_of, run_benchmark
from differnet.evaluation.intervals import auroc_difference, auroc_standard_error
from differnet.evaluation.per_part import figures_json, stacked
from differnet.images.layouts import read_layout
from differnet.images.synthetic import make_sample_product

# What no figure of this script can say: it is written by hand.
TRIED = Path(__file__).resolve().parent / "tried.md"
REPORTS = Path(__file__).resolve().parents[1] / "reports"
PRODUCTS = ("mtd", "aliens", "sample")
# The one product whose pictures are this project's own, and where its failures are drawn.
SHOWN = "sample"
PICTURE = REPORTS / "accuracy" / f"failures-{SHOWN}.png"
# The slower quality beside the default.
BEST = {f"{name}-best": name for name in PRODUCTS}
# Product and what is done to its training parts; each is measured with the seeds of the products.
TRIALS = {
    "aliens-16": ("aliens", Trial(parts=16)),
    "aliens-4": ("aliens", Trial(parts=4)),
    "aliens-1": ("aliens", Trial(parts=1)),
    "sample-16": ("sample", Trial(parts=16)),
    "sample-4": ("sample", Trial(parts=4)),
    "mtd-60": ("mtd", Trial(parts=60)),
    "mtd-16": ("mtd", Trial(parts=16)),
    "mtd-4": ("mtd", Trial(parts=4)),
    "mtd-spoilt": ("mtd", Trial(contamination=0.05)),
}


def main() -> None:
    """Measure, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder of mtd/ and aliens/"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--only", nargs="*", help="names of products to measure; the others keep their figures"
    )
    parser.add_argument(
        "--ablation", nargs="*", choices=PRODUCTS, help="products to take the design apart on; alone, all"
    )
    chosen = parser.parse_args()
    only = [] if chosen.only is None and chosen.ablation is not None else chosen.only
    ablated = PRODUCTS if chosen.ablation == [] else chosen.ablation or ()
    REPORTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: chosen.data / name for name in PRODUCTS if name != "sample"}
        cases = {name: (name, Trial()) for name in PRODUCTS} | TRIALS
        cases |= {case: (product, Trial()) for case, product in BEST.items()}
        asked = {name: case for name, case in cases.items() if only is None or name in only}
        if any(product == "sample" for product, _ in asked.values()) or "sample" in ablated:
            folders["sample"] = make_sample_product(Path(scratch) / "sample")
        for name, (product, trial) in asked.items():
            if _is_there(name, folders[product]):
                print(f"{name}: {chosen.seeds} seeds", file=sys.stderr)
                settings = DetectorSettings.of_quality("best" if name in BEST else "standard")
                _store(f"benchmark-{name}", _benchmark(name, folders[product], settings, chosen.seeds, trial))
        for name in ablated:
            if _is_there(name, folders[name]):
                print(f"{name}: ablation, {chosen.seeds} seeds", file=sys.stderr)
                dataset, settings = read_layout(folders[name]), DetectorSettings()
                configuration = configuration_of(dataset, settings, chosen.seeds)
                measured = ablation.measure(dataset, settings, chosen.seeds)
                _store(f"ablation-{name}", measured | {"configuration": configuration})
    (REPORTS / "accuracy.md").write_text(tables(), encoding="utf-8")


def _is_there(name: str, folder: Path) -> bool:
    if not folder.is_dir():
        print(f"{name}: nothing at {folder}, left out", file=sys.stderr)
    return folder.is_dir()


def _benchmark(
    name: str, folder: Path, settings: DetectorSettings, seeds: int, trial: Trial
) -> dict[str, Any]:
    """Measure a case, and draw what goes wrong where that may be shown."""
    dataset, first = read_layout(folder), []

    def keep(seed: int, detector: Detector) -> None:
        if seed == 0:
            first.append(detector)

    measured = run_benchmark(dataset, settings, seeds, trial=trial, trained=keep)
    if name == SHOWN:
        failures.write_picture(PICTURE, failures.worst(measured["by_seed"]), dataset, first[0])
    return measured


def _store(name: str, measured: dict[str, Any]) -> None:
    measured["measured_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    measured["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    (REPORTS / f"{name}.json").write_text(figures_json(measured) + "\n", encoding="utf-8")


def tables() -> str:
    """Write the figures of every benchmark file as tables."""
    found = {p.stem.removeprefix("benchmark-"): p for p in sorted(REPORTS.glob("benchmark-*.json"))}
    every = {name: json.loads(path.read_text("utf-8")) for name, path in found.items()}
    results = {name: r for name, r in every.items() if name not in TRIALS and name not in BEST}
    best = {name: every[name] for name in BEST if name in every}
    trials = {name: every[name] for name in TRIALS if name in every}
    lines = [
        "# Accuracy",
        "",
        *_paragraph(
            """Made by `make reports` from the files `benchmark-*.json` and `rivals-*.json` beside it; do not
            edit. One set of defaults for every product. Mean over seeds, in percent; in brackets the smallest
            and the largest seed. SE is Hanley and McNeil's standard error of one image AUROC on so many test
            parts. What was measured with other densities than the defaults of today says so: earlier
            design."""
        ),
        "",
        *_paragraph(
            """Within a run nothing is chosen by test parts. The design itself (strides, patches' share, how
            evidence adds up) was settled while these products' test figures were known, with simulated
            defects of held-out good parts as a second opinion: read the table as development figures. Other
            products are the test."""
        ),
        "",
        "| product | seeds | image AUROC | SE | pixel AUROC | PRO to FPR 0.3 | overkill at 1 % | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(_dated(name, r), r) for name, r in results.items()]
    lines += ["", "## By defect, image AUROC", "", "| product | kind | AUROC |", "|---|---|---|"]
    for name, r in results.items():
        lines += [f"| {name} | {kind} | {_percent(value)} |" for kind, value in r["by_defect"].items()]
    if best:
        lines += [
            "",
            "## The slower quality",
            "",
            *_paragraph(
                """`--quality best` looks once more at one and a half times the size, whole and patches: 3.25
                times the operations. It is an offer, not the default; the difference is of the mean image
                AUROC, with DeLong's paired interval of the mean placements."""
            ),
            "",
            *_best_table(best, results),
        ]
    if trials:
        lines += [
            "",
            "## Few parts, and parts that are not good",
            "",
            *_paragraph(
                """Training parts are drawn anew for each seed. Spoilt: 5 % of the training parts are
                defective ones of the test set, which are then not tested on. With n parts no overkill below
                1/(n+1) is promised, and with fewer than four none at all."""
            ),
            "",
            "| trial | seeds | image AUROC | SE | pixel AUROC | PRO to FPR 0.3 | overkill at 1 % | seconds |",
            "|---|---|---|---|---|---|---|---|",
            *(_row(_dated(name, r), r) for name, r in trials.items()),
        ]
    rivals = read_results()
    if rivals:
        lines += [
            "",
            "## Others on the same network, pixels and split",
            "",
            *_paragraph(
                """PaDiM, PatchCore and closed-form Gaussians as `benchmarks/rivals.py` implements them from
                the papers, each measured at the commit its file names. Fit and inspection times are of
                different, busy hours: read them as rough."""
            ),
            "",
            *table(rivals, results),
            "",
            *by_defect_table(rivals, results),
        ]
    if compared := differences_table(_with_founding(rivals), results):
        lines += [
            "",
            "## Differnet less the others, on the same test parts",
            "",
            *_paragraph(
                """The difference of the mean image AUROC over each side's runs, in points, with DeLong's
                paired interval of the mean placements: what other test parts might change, the models being
                as they are. Above or below where the interval leaves 0 out. With few parts of a class and
                near 100 % it is too narrow: with the 14 good parts of aliens about 88 of 100 such intervals
                hold what they should (simulated). Methods measured before strangeness was kept by part are
                left out."""
            ),
            "",
            *compared,
        ]
    if ablations := ablation.read_results(REPORTS):
        lines += [
            "",
            "## What each part of the design buys, image AUROC",
            "",
            *_paragraph(
                """One part of the design changed at a time, everything else as by default. What only concerns
                how evidence is read is asked of the evidence of the default's own training; the others are
                trained anew. Differences are of means over seeds, with DeLong's paired interval of the mean
                placements. Simulated defects need no test part: a quarter of the training parts, at most 60,
                that nobody trained on, against the same parts spoilt in ten ways, mean AUROC of a way."""
            ),
            "",
            *ablation.table({_dated(name, r): r for name, r in ablations.items()}),
        ]
    if (path := REPORTS / "family.json").exists():
        stored_family = json.loads(path.read_text("utf-8"))
        lines += [
            "",
            "## One model of all products",
            "",
            *_paragraph(
                f"""A `Family` holds a detector of each product behind one pass of the network. Told its
                product, a part is judged by that product's own model; else by the model of the product that
                Bayes' rule finds. Bars: at most {family.MOST_LOST} points of image AUROC less than told, and
                {100 * family.LEAST_IDENTIFIED:.0f} % of the parts taken for what they are. Made by
                `benchmarks/family.py` at commit {_commit_of(stored_family)}."""
            ),
            "",
            *family.section(stored_family, results),
        ]
    wrong = {name: failures.worst(r["by_seed"]) for name, r in results.items() if "scores" in r["by_seed"][0]}
    if wrong:
        lines += [
            "",
            "## What goes wrong",
            "",
            *_paragraph(
                """Test parts on the wrong side of most others, means over seeds: defects that good parts
                outrank, good parts that outrank defects. Strangeness 2 is as strange as one good part in a
                hundred; p-values are each evidence's own among good calibration parts."""
            ),
            "",
            *failures.table(wrong),
        ]
        if PICTURE.exists() and wrong.get(SHOWN):
            address = PICTURE.relative_to(REPORTS).as_posix()
            lines += [
                "",
                f"![Failures of the sample product, numbered as in the table]({address})",
                "",
                *_paragraph(
                    """The sample product's, numbered as above: picture, heat map, and a red line around the
                    true region. Heat maps are those of seed 0, in one scale of colours from the mean of good
                    patches to the hottest place shown."""
                ),
            ]
    lines += ["", "## Designs that were tried and not adopted", "", TRIED.read_text("utf-8").strip()]
    lines += ["", "## Published anchors on MTD, image AUROC", ""]
    lines += [
        *_paragraph(
            """CS-Flow (EfficientNet-B5, 768 px) 99.3; PaDiM as run by its authors 98.7; PatchCore-10 97.9;
            DifferNet (AlexNet, 448 px and two smaller, 64 rotations) 97.7; 1-NN on EfficientNet-B5 features
            97.8. As published, same split. A difference below one SE is a tie."""
        )
    ]
    lines += ["", "## Where the figures come from", ""]
    for name, r in every.items():
        c, versions = r["configuration"], r["by_seed"][0]["versions"]
        told = ", ".join(f"{k} {v}" for k, v in versions.items())
        lines.append(
            f"* {name}: commit {c['commit']}, configuration {c['sha256']}, {r['measured_at']}, "
            f"{r['machine']}; {told}."
        )
    for name, r in ablations.items():
        c = r["configuration"]
        lines.append(
            f"* ablation of {name}: commit {c['commit']}, configuration {c['sha256']}, {r['measured_at']}, "
            f"{r['machine']}."
        )
    return "\n".join(lines) + "\n"


_FOUNDING = {
    "differnet": "the DifferNet paper's method",
    "gaussian": "the detector's Gaussian, whole part",
}


def _with_founding(rivals: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Put what `benchmarks/founding.py` measured beside the rivals of its product."""
    found = {product: dict(methods) for product, methods in rivals.items()}
    for path in sorted(REPORTS.glob("founding-*.json")):
        methods = found.setdefault(path.stem.removeprefix("founding-"), {})
        for name, r in json.loads(path.read_text("utf-8")).items():
            methods[f"founding {name}"] = {**r, "title": _FOUNDING.get(name, name)}
    return found


def _commit_of(stored: dict[str, Any]) -> str:
    return ", ".join(sorted({str(c["commit"]) for c in stored["configuration"].values()}))


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 110)


def _row(name: str, r: dict[str, Any]) -> str:
    seeds = r["by_seed"]
    auroc = [s["image_auroc"] for s in seeds]
    parts = seeds[0]["parts"]
    error = auroc_standard_error(r["image_auroc"], parts["defective"], parts["good"])
    overkill = ", ".join(f"{s['overkill']['events']}/{s['overkill']['of']}" for s in seeds)
    pixels = [_percent(r[k]) for k in ("pixel_auroc", "aupro")]
    return (
        f"| {name} | {len(seeds)} | **{_percent(r['image_auroc'])}** ({_percent(min(auroc))} to "
        f"{_percent(max(auroc))}) | {100 * error:.2f} | {pixels[0]} | {pixels[1]} | {overkill} | "
        f"{r['seconds']['total']:.0f} |"
    )


def _dated(name: str, stored: dict[str, Any], quality: str = "standard") -> str:
    """Say of figures that they are of an earlier design: other densities than the defaults of today."""
    now = asdict(DetectorSettings.of_quality(quality))
    # As it stands in the file: lists for tuples.
    design = json.loads(json.dumps({key: now[key] for key in ("density", "scales", "zooms", "folds")}))
    measured = stored["configuration"]["settings"]
    same = all(measured[key] == design[key] for key in design)
    return name if same else f"{name} (earlier design)"


def _best_table(best: dict[str, dict[str, Any]], results: dict[str, dict[str, Any]]) -> list[str]:
    """Set the slower quality beside the default; over the seeds that both have."""
    lines = [
        "| product | seeds | image AUROC | less the default, points | 95 % interval | it is | pixel AUROC "
        "| PRO to FPR 0.3 | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case, r in best.items():
        runs, default = r["by_seed"], results.get(BEST[case])
        compared = ["", "", ""] if default is None else _difference(runs, default["by_seed"][: len(runs)])
        cells = [
            _dated(BEST[case], r, "best"),
            str(len(runs)),
            f"**{_percent(r['image_auroc'])}**",
            *compared,
            _percent(r["pixel_auroc"]),
            _percent(r["aupro"]),
            f"{r['seconds']['total']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _difference(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[str]:
    placed, defective, parts = stacked(first)
    found = auroc_difference(placed, stacked(second, parts)[0], defective)
    points, low, high = (f"{100 * v:+.2f}" for v in (found.difference, found.low, found.high))
    return [points, f"{low} to {high}", found.word]


def _percent(value: float | None) -> str:
    return "no masks" if value is None else f"{100 * value:.2f}"


if __name__ == "__main__":
    main()
