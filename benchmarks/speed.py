"""Rebuild reports/speed.md: what training and inspecting take, beside the bare network on the same machine.

    python benchmarks/speed.py                        measure everything, then write, about an hour
    python benchmarks/speed.py --only training parity measure these, keep the others' figures
    python benchmarks/speed.py --only                 write from the figures that are there
    python benchmarks/speed.py --model FOLDER         keep the model of MTD's tiles there, or take it

Peers need anomalib 2.7 in an environment of its own, whose Python ANOMALIB_PYTHON names:

    python -m venv anomalib && anomalib/bin/pip install "anomalib==2.7.*"

Everything is a ratio to something that ran in turn with it. Run it on a machine that does nothing else; the
report says what its load was.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, LogLocator

from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.detection.inspector import Inspector
from differnet.detection.side_by_side import in_lanes
from differnet.detection.sources import BATCH, as_picture
from differnet.evaluation.benchmark import labelled_test_parts, running_commit
from differnet.evaluation.metrics import image_auroc
from differnet.features import TO_THE_END, Backbone, Preprocessing, find_weights, prepare_batch
from differnet.images.layouts import GOOD, Dataset, read_layout
from differnet.images.reading import write_png
from differnet.images.synthetic import render_part
from differnet.runtime import quick_maps
from differnet.runtime.bench import machine, measure
from differnet.runtime.export import compare, export
from differnet.runtime.exported import TORCH, ExportedDetector, choose_runtime, exports_in

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "reports" / "speed"
REPORT = ROOT / "reports" / "speed.md"
LIBRARIES = ("torch", "timm", "numpy", "opencv-python-headless", "openvino", "onnxruntime")

SIDES = (128, 192, 256, 384, 512, 768, 1024)
PARTS = (50, 200, 1000, 2000, 5000)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
# Enough of them that the global density has as many directions as it gets with a few hundred.
_FEW_PARTS = 48
# What a picture takes does not depend on how long its densities were trained.
_HARDLY_TRAINED = DensitySettings(steps=50)
_ROUNDS = 60
"""Of single pictures."""

# Bars, by what they hold.
TRAINING_PASSES, TRAINING_MEGABYTES = 3.0, 2560.0
PICTURE, FILE, SHARE = 1.35, 1.6, 0.75
COLD_SECONDS, COLD_MEGABYTES = 2.5, 600.0
PEER_RATIO = 4.0
PEERS = {"padim": "PaDiM", "cflow": "CFLOW"}
# Seconds between two turns: threads of whoever was asked last wait by spinning, for some milliseconds.
QUIET = 0.05
# An epoch of CFLOW over all tiles takes most of an hour on two processors.
CFLOW_TILES, CFLOW_ASKED = 16, 40
LARGEST_DEVIATION, LARGEST_AUROC_CHANGE = 1e-3, 1e-3


def main() -> None:
    """Measure what is asked for, then write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", metavar="PART", help="parts to measure; all when left out")
    parser.add_argument("--model", type=Path, help="folder of the model of MTD's tiles")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(trained(Path(chosen.child[0]), Path(chosen.child[1]))))
        return
    asked = list(MEASURED) if chosen.only is None else chosen.only
    if unknown := [name for name in asked if name not in MEASURED]:
        parser.error(f"nothing is called {', '.join(unknown)}; there are {', '.join(MEASURED)}")
    with tempfile.TemporaryDirectory(prefix="differnet-speed-") as name:
        model = chosen.model or Path(name) / "mtd"
        for part in asked:
            told = source()
            print(part, file=sys.stderr, flush=True)
            figures = MEASURED[part](model)
            OUT.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"figures": figures, "source": told}, indent=1, allow_nan=False)
            (OUT / f"{part}.json").write_text(text + "\n", encoding="utf-8")
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(OUT.glob("*.json"))}
    draw(found, OUT)
    REPORT.write_text(report(found), encoding="utf-8")


def source() -> dict[str, Any]:
    """Return by which code, with which versions and on which machine something is measured."""
    versions: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "commit": running_commit() or "unknown",
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions,
    }


# What is measured -----------------------------------------------------------------------------------------


def mtd() -> Dataset:
    """Return the magnetic tiles."""
    if not (DATA / "mtd").is_dir():
        raise SystemExit(f"{DATA / 'mtd'} is not there: these figures need it")
    return read_layout(DATA / "mtd")


def training(model: Path) -> dict[str, Any]:
    """Train on MTD's tiles in a process of its own, beside passes of the bare network over them."""
    with tempfile.TemporaryDirectory() as name:
        listing = Path(name) / "good.json"
        listing.write_text(json.dumps([str(p.path) for p in mtd().train_good]), encoding="utf-8")
        return _in_a_process(listing, model)


def _in_a_process(listing: Path, model: Path) -> dict[str, Any]:
    words = [sys.executable, str(Path(__file__).resolve()), "--child", str(listing), str(model)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def trained(listing: Path, model: Path) -> dict[str, Any]:
    """Train on listed files, and say what it took; runs in a process of its own, for its memory.

    Returns:
        ``passes``: seconds of the bare network in torch over all parts, before and after; ``quick_passes``:
        of the same in OpenVINO, by which training looks at pictures; ``stages``: seconds of each stage;
        ``seconds`` in all; ``ratio`` and ``quick_ratio`` to a pass; ``megabytes`` at most.
    """
    paths = [Path(p) for p in json.loads(listing.read_text("utf-8"))]
    settings = DetectorSettings(device="cpu")
    passes = [bare_passes(paths, settings)]
    started = time.perf_counter()
    detector = Detector(settings).fit(paths, quicken=quick_maps).calibrate()
    seconds = time.perf_counter() - started
    # Before the second pass, which holds pictures of its own.
    megabytes = peak_of_this_process() / 2**20
    passes.append(bare_passes(paths, settings))
    plain, quick = (list(of) for of in zip(*passes, strict=True))
    if not model.exists():
        detector.save(model)
    return {
        "parts": len(paths),
        "passes": plain,
        "quick_passes": quick,
        "stages": detector.seconds,
        "seconds": seconds,
        "ratio": seconds / statistics.fmean(plain),
        "quick_ratio": seconds / statistics.fmean(quick),
        "megabytes": megabytes,
    }


def peak_of_this_process() -> int:
    """Return the most memory that this process has held, bytes, as the checks of trust measure it."""
    sys.path.append(str(ROOT / "tests"))
    peak: int = importlib.import_module("trust.apart").peak()
    return peak


def bare_passes(paths: Sequence[Path], settings: DetectorSettings) -> tuple[float, float]:
    """Return the seconds that the network alone takes for some pictures, in torch and in OpenVINO.

    In turn, batch by batch: torch on all processors, OpenVINO in lanes, as training asks it.
    """
    weights = find_weights(settings.backbone, settings.weights, allow_download=False)
    # To its end, which a detector need not look at.
    backbone = Backbone(settings.backbone, weights, TO_THE_END)
    preprocessing = Preprocessing(settings.sizes[0], weights.mean, weights.std, halving=True)
    quick = quick_maps(backbone, settings.sizes)
    if quick is None:
        raise SystemExit("training: OpenVINO is not installed, or does not show what torch does")
    plain = lanes = 0.0
    for start in range(0, len(paths), BATCH):
        pictures = [as_picture(path, settings.reading) for path in paths[start : start + BATCH]]
        pixels = prepare_batch(pictures, preprocessing)
        started = time.perf_counter()
        backbone(pixels)
        between = time.perf_counter()
        for _ in in_lanes(quick, torch.split(pixels, 4)):
            pass
        plain, lanes = plain + between - started, lanes + time.perf_counter() - between
    return plain, lanes


def inspecting(model: Path) -> dict[str, Any]:
    """Inspect MTD's test tiles in every runtime, beside the bare network in the same runtime."""
    ready = _exported(model)
    files = [part.path for part in labelled_test_parts(mtd())]
    chosen = [files[i] for i in np.random.default_rng(0).permutation(len(files))[:64]]
    return {"speeds": [speed.to_json() for speed in measure(ready, chosen, rounds=_ROUNDS)]}


def parity(model: Path) -> dict[str, Any]:
    """Compare every runtime with torch on all of MTD's test tiles."""
    ready = _exported(model)
    detector = Detector.load(ready, "cpu")
    parts = labelled_test_parts(mtd())
    defective = [str(part.label) != GOOD for part in parts]
    pictures = [as_picture(part.path, detector.settings.reading) for part in parts]
    own = detector._evidence(pictures)
    judge = detector._judge()
    found: dict[str, Any] = {
        "pictures": len(pictures),
        TORCH: {"auroc": image_auroc(judge.strangeness(own)["total"], defective)},
    }
    for name in exports_in(ready):
        exported = ExportedDetector.load(ready, name)
        same = compare(detector, exported, pictures, own)
        strangeness = judge.strangeness(exported._evidence(pictures))["total"]
        found[name] = {
            "auroc": image_auroc(strangeness, defective),
            "deviation": same.deviation,
            "flips": same.flips,
        }
    return found


def sides(_: Path) -> dict[str, Any]:
    """Inspect parts of the sample product at several sizes of the network's input."""
    return {str(side): _at_side(side) for side in SIDES}


def _at_side(side: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        files = _sample_parts(place / "good", _FEW_PARTS, side)
        settings = DetectorSettings(image_size=side, density=_HARDLY_TRAINED, device="cpu")
        detector = Detector(settings).fit(files).calibrate()
        detector.save(place / "model")
        export(detector, place / "model")
        rounds = 30 if side <= 512 else 10
        found = measure(place / "model", files[:16], rounds=rounds, cold=False)
    return [speed.to_json() for speed in found]


def parts(_: Path) -> dict[str, Any]:
    """Train on more and more parts of the sample product."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        files = _sample_parts(place / "good", max(PARTS), 256)
        for number in PARTS:
            listing = place / f"{number}.json"
            listing.write_text(json.dumps([str(path) for path in files[:number]]), encoding="utf-8")
            found[str(number)] = _in_a_process(listing, place / f"model-{number}")
            print(f"  {number} parts", file=sys.stderr, flush=True)
    return found


def batches(model: Path) -> dict[str, Any]:
    """Inspect one to 64 files at once, in torch and in every runtime."""
    ready = _exported(model)
    files = [part.path for part in labelled_test_parts(mtd())][: max(BATCHES)]
    inspectors: dict[str, Any] = {TORCH: Detector.load(ready, "cpu")}
    inspectors |= {name: ExportedDetector.load(ready, name) for name in exports_in(ready)}
    found: dict[str, dict[str, list[float]]] = {n: {str(b): [] for b in BATCHES} for n in inspectors}
    for number in range(-1, 5):
        for name, inspector in inspectors.items():
            for batch in BATCHES:
                started = time.perf_counter()
                for _ in inspector.inspect_many(files[:batch]):
                    continue
                if number >= 0:
                    found[name][str(batch)].append(1000 * (time.perf_counter() - started) / batch)
    return {n: {b: statistics.median(taken) for b, taken in of.items()} for n, of in found.items()}


def peers(model: Path) -> dict[str, Any]:
    """Train and ask anomalib's models in turn with the default model: same network, size and machine."""
    python = os.environ.get("ANOMALIB_PYTHON")
    if not python:
        raise SystemExit("peers: say in ANOMALIB_PYTHON where the Python lies that has anomalib 2.7")
    ready = _exported(model)
    runtime = choose_runtime(ready)
    own: Inspector = (
        Detector.load(ready, "cpu") if runtime == TORCH else ExportedDetector.load(ready, runtime)
    )
    good = [str(part.path) for part in mtd().train_good]
    parts = labelled_test_parts(mtd())
    defective = [str(part.label) != GOOD for part in parts]
    found: dict[str, Any] = {"runtime": runtime, "pictures": len(parts)}
    with tempfile.TemporaryDirectory() as name:
        weights = Path(name) / "network.pt"
        network = Detector.load(ready, "cpu")._network()
        torch.save(network.network.state_dict(), weights)
        made = {
            "backbone": own.settings.backbone,
            "weights": str(weights),
            "size": own.preprocessing_[0].size,
        }
        made |= {"mean": own.preprocessing_[0].mean, "std": own.preprocessing_[0].std}
        for peer in PEERS:
            with _Worker(python) as worker:
                whole = peer == "padim"
                worker.ask({"make": peer, **made})
                some = good if whole else good[:CFLOW_TILES]
                trained_in = worker.ask({"train": some})["seconds"] * len(good) / len(some)
                scores, ours, theirs, own_ms, ratios = [], [], [], [], []
                for part in parts if whole else parts[:CFLOW_ASKED]:
                    time.sleep(QUIET)
                    answer = worker.ask({"ask": str(part.path)})
                    time.sleep(QUIET)
                    started = time.perf_counter()
                    inspection = own.inspect(part.path)
                    taken = time.perf_counter() - started
                    scores.append(answer["score"])
                    ours.append(inspection.record.strangeness or 0.0)
                    own_ms.append(1000 * taken)
                    theirs.append(1000 * answer["seconds"])
                    ratios.append(answer["seconds"] / taken)
                found[peer] = {
                    "training": trained_in,
                    "milliseconds": statistics.median(theirs),
                    "own milliseconds": statistics.median(own_ms),
                    "ratio": statistics.median(ratios),
                    "auroc": image_auroc(scores, defective) if whole else None,
                    "version": worker.ask({"version": "anomalib"})["version"],
                }
                if whole:
                    found["auroc"] = image_auroc(ours, defective)
    # In the same run as theirs.
    with tempfile.TemporaryDirectory() as name:
        found["training"] = training(Path(name) / "model")["seconds"]
    return found


class _Worker:
    """A process of anomalib that answers line by line; see `anomalib_worker`."""

    def __init__(self, python: str) -> None:
        words = [python, str(Path(__file__).with_name("anomalib_worker.py"))]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request."""
        sent, told = self._process.stdin, self._process.stdout
        if sent is None or told is None:
            raise SystemExit("peers: a worker without pipes")
        sent.write(json.dumps(request) + "\n")
        sent.flush()
        line = told.readline()
        if not line:
            raise SystemExit("peers: anomalib's process ended; what it said stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _exported(model: Path) -> Path:
    """Return the model of MTD's tiles with its exports, trained where there is none."""
    if not model.exists():
        training(model)
    if not exports_in(model):
        export(Detector.load(model, "cpu"), model)
    return model


def _sample_parts(folder: Path, number: int, side: int) -> list[Path]:
    folder.mkdir(parents=True)
    files: list[Path] = []
    for seed in range(number):
        files.append(folder / f"{seed:05d}.png")
        write_png(files[-1], render_part(seed, size=side).pixels)
    return files


MEASURED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "training": training,
    "inspecting": inspecting,
    "parity": parity,
    "sides": sides,
    "parts": parts,
    "batches": batches,
    "peers": peers,
}


# What is shown --------------------------------------------------------------------------------------------

HEAD = """
Made by `make speed` from the files `speed/*.json` beside it; do not edit. *Bare* is the network alone, of
inputs that are ready, in the same runtime, in the same process and in turn with what is compared to it. Every
ratio is the median of such rounds; milliseconds are this machine's and say little by themselves. The model is
the default one, of 256 pixels, learned from the 761 good tiles of MTD.

Nothing was measured on a GPU: there was none. What is built for one (runtime `cuda`: network and densities as
one captured graph, the network in half precision, two batches in flight) has run with a processor in its
place, in which nothing is captured and nothing in flight. A model is only exported to it where it judges
there as before; on a processor 1 of MTD's 583 verdicts was another one in half precision
(`benchmarks/quantised.py --half`).
"""


def report(found: dict[str, Any]) -> str:
    """Write the figures as Markdown.

    Args:
        found: What stands in the files, by the part.
    """
    lines = ["# What it takes", "", HEAD.strip(), ""]
    for name, section in SECTIONS.items():
        if name in found:
            lines += section(found[name]["figures"])
        else:
            lines += [f"Not measured yet: {name}.", ""]
    lines += ["## Where the figures come from", ""]
    for name in SECTIONS:
        if name not in found:
            continue
        told = found[name]["source"]
        on = told["machine"]
        versions = ", ".join(f"{library} {number}" for library, number in told["versions"].items())
        lines.append(
            f"* {name}: `python benchmarks/speed.py --only {name}`, commit {told['commit']}, "
            f"{told['measured_at']}, {on['processors']} processors ({on['processor']}), load when it began "
            f"{on['load']:.1f}; {versions}."
        )
    return "\n".join(lines) + "\n"


def _against(figure: float, bar: float, digits: int = 2, *, least: bool = False) -> str:
    met = figure >= bar if least else figure <= bar
    return f"{figure:,.{digits}f}, {'met' if met else '**missed**'}"


def _training(figures: dict[str, Any]) -> list[str]:
    plain, quick = (statistics.fmean(figures[name]) for name in ("passes", "quick_passes"))
    stages = "; ".join(f"{name} {seconds:.1f} s" for name, seconds in figures["stages"].items())
    return [
        "## Training",
        "",
        f"| of {figures['parts']} parts | bar | it is |",
        "|---|---|---|",
        f"| training and calibrating, in passes of the bare network in torch | at most {TRAINING_PASSES:g} "
        f"| {_against(figures['ratio'], TRAINING_PASSES)} |",
        f"| the same in passes of OpenVINO, which looks at pictures then | at most {TRAINING_PASSES:g} "
        f"| {_against(figures['quick_ratio'], TRAINING_PASSES)} |",
        f"| most memory, MB | at most {TRAINING_MEGABYTES:,.0f} "
        f"| {_against(figures['megabytes'], TRAINING_MEGABYTES, 0)} |",
        "",
        f"A pass took {plain:.1f} s in torch and {quick:.1f} s in OpenVINO, all {figures['seconds']:.1f} s: "
        f"{stages}. Features include making OpenVINO ready.",
        "",
    ]


def _inspecting(figures: dict[str, Any]) -> list[str]:
    lines = [
        "## Inspecting",
        "",
        f"| runtime | decoded picture, times bare (bar {PICTURE:g}) | from a file, times bare (bar {FILE:g}) "
        f"| many files, share of bare (bar {SHARE:g}) | cold start, s (bar {COLD_SECONDS:g}) "
        f"| its memory, MB (bar {COLD_MEGABYTES:g}) |",
        "|---|---|---|---|---|---|",
    ]
    for speed in figures["speeds"]:
        cold = speed["cold"]
        lines.append(
            f"| {speed['runtime']} | {_against(speed['picture_ratio'], PICTURE)} "
            f"| {_against(speed['file_ratio'], FILE)} | {_against(speed['rate_share'], SHARE, least=True)} "
            f"| {_against(cold['seconds'], COLD_SECONDS)} "
            f"| {_against(cold['megabytes'], COLD_MEGABYTES, 0)} |"
        )
    lines += [
        "",
        "| runtime | bare, ms | decoded picture, ms: median, 95 %, 99 % "
        "| from a file, ms: median, 95 %, 99 % | many, pictures a second |",
        "|---|---|---|---|---|",
    ]
    for speed in figures["speeds"]:
        picture, file = (
            ", ".join(f"{speed[of][p]:.1f}" for p in ("p50", "p95", "p99")) for of in ("picture", "file")
        )
        lines.append(
            f"| {speed['runtime']} | {speed['bare']['p50']:.1f} | {picture} | {file} "
            f"| {speed['rate']:.0f} of {speed['bare_rate']:.0f} |"
        )
    return [*lines, ""]


def _parity(figures: dict[str, Any]) -> list[str]:
    own = figures[TORCH]["auroc"]
    lines = [
        "## The same verdicts in every runtime",
        "",
        f"On MTD's {figures['pictures']} test tiles. A deviation is the largest of any figure of evidence, "
        "in standard deviations over the calibration parts, to which a hundredth of a part's own distance is "
        "added: single precision tells 300 standard deviations from 301 to no more.",
        "",
        f"| runtime | image AUROC, % | less torch's, points (bar {100 * LARGEST_AUROC_CHANGE:g}) "
        f"| deviation (bar {LARGEST_DEVIATION:g}) | verdicts that differ (bar 0) |",
        "|---|---|---|---|---|",
        f"| {TORCH} | {100 * own:.2f} | | | |",
    ]
    for name, of in figures.items():
        if isinstance(of, dict) and name != TORCH:
            change = abs(of["auroc"] - own)
            met = "met" if change <= LARGEST_AUROC_CHANGE else "**missed**"
            lines.append(
                f"| {name} | {100 * of['auroc']:.2f} | {100 * change:.4f}, {met} "
                f"| {_against(of['deviation'], LARGEST_DEVIATION, 5)} | {_against(of['flips'], 0, 0)} |"
            )
    return [*lines, ""]


def _sides(figures: dict[str, Any]) -> list[str]:
    runtimes = [speed["runtime"] for speed in next(iter(figures.values()))]
    lines = [
        "## Against the size of the picture",
        "",
        f"Models of {_FEW_PARTS} parts of the sample product; a decoded picture, in milliseconds, and how "
        "many times the bare network's.",
        "",
        f"| pixels | {' | '.join(runtimes)} |",
        f"|---|{'---|' * len(runtimes)}",
    ]
    for side, speeds in figures.items():
        cells = [f"{s['picture']['p50']:.1f}, {s['picture_ratio']:.2f} times" for s in speeds]
        lines.append(f"| {side} | {' | '.join(cells)} |")
    return [*lines, "", "![Milliseconds against the size of the picture](speed/sides.png)", ""]


def _parts(figures: dict[str, Any]) -> list[str]:
    lines = [
        "## Against the number of training parts",
        "",
        "Parts of the sample product, trained and calibrated on in a process of its own.",
        "",
        "| parts | in passes of the bare network in torch | seconds | features, s | densities, s "
        "| most memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for number, of in figures.items():
        lines.append(
            f"| {int(number):,} | {of['ratio']:.2f} | {of['seconds']:.0f} | {of['stages']['features']:.0f} "
            f"| {of['stages']['densities']:.0f} | {of['megabytes']:,.0f} |"
        )
    return [*lines, "", "![Seconds and memory against the number of parts](speed/parts.png)", ""]


def _batches(figures: dict[str, Any]) -> list[str]:
    runtimes = list(figures)
    lines = [
        "## Against the number of files at once",
        "",
        "Milliseconds a file, from file to verdict.",
        "",
        f"| files | {' | '.join(runtimes)} |",
        f"|---|{'---|' * len(runtimes)}",
    ]
    sizes = next(iter(figures.values()))
    rows = [f"| {size} | {' | '.join(f'{figures[r][size]:.1f}' for r in runtimes)} |" for size in sizes]
    return [*lines, *rows, ""]


def _peers(figures: dict[str, Any]) -> list[str]:
    own = f"{100 * figures['auroc']:.1f}"
    lines = [
        "## Beside anomalib",
        "",
        "The same network and size on MTD; two processes in turn, each after a moment in which nobody's "
        f"threads spin, {figures['pictures']} test tiles one by one from file to score and map; differnet in "
        f"{figures['runtime']}, anomalib in torch. What an epoch of CFLOW takes is estimated from "
        f"{CFLOW_TILES} tiles, and it was asked {CFLOW_ASKED} "
        "times: after so little its accuracy says nothing. It takes several epochs; FastFlow does not take "
        "this network.",
        "",
        f"| | milliseconds a file | times differnet's (bar at least {PEER_RATIO:g}) | training, s "
        "| image AUROC, % |",
        "|---|---|---|---|---|",
        f"| differnet | {figures['padim']['own milliseconds']:.1f} | | {figures['training']:.0f} | {own} |",
    ]
    for peer in PEERS:
        of = figures[peer]
        sooner = ", **sooner than differnet**" if of["training"] < figures["training"] else ""
        lines.append(
            f"| {PEERS[peer]} (anomalib {of['version']}) | {of['milliseconds']:.1f} "
            f"| {_against(of['ratio'], PEER_RATIO, 1, least=True)} | {of['training']:.0f}{sooner} "
            f"| {'' if of['auroc'] is None else format(100 * of['auroc'], '.1f')} |"
        )
    return [*lines, ""]


SECTIONS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "training": _training,
    "inspecting": _inspecting,
    "parity": _parity,
    "sides": _sides,
    "parts": _parts,
    "batches": _batches,
    "peers": _peers,
}


def draw(found: dict[str, Any], folder: Path) -> None:
    """Draw how the cost grows, where it was measured."""
    matplotlib.use("Agg")
    if "sides" in found:
        figures = found["sides"]["figures"]
        figure, axis = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
        sizes = [int(side) for side in figures]
        for number, speed in enumerate(next(iter(figures.values()))):
            colour = f"C{number}"
            taken = [speeds[number]["picture"]["p50"] for speeds in figures.values()]
            bare = [speeds[number]["bare"]["p50"] for speeds in figures.values()]
            axis.plot(sizes, taken, "o-", color=colour, label=f"{speed['runtime']}: a picture")
            axis.plot(sizes, bare, "--", color=colour, label=f"{speed['runtime']}: the bare network")
        _logarithmic(axis, sizes, "side of the picture, pixels", "milliseconds")
        figure.savefig(folder / "sides.png", dpi=110)
        pyplot.close(figure)
    if "parts" in found:
        figures = found["parts"]["figures"]
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
        numbers = [int(number) for number in figures]
        left.plot(numbers, [of["seconds"] for of in figures.values()], "o-", label="training and calibrating")
        passes = [statistics.fmean(of["passes"]) for of in figures.values()]
        left.plot(numbers, passes, "--", label="one pass of the bare network in torch")
        _logarithmic(left, numbers, "training parts", "seconds")
        right.plot(numbers, [of["megabytes"] for of in figures.values()], "o-", label="most memory")
        _logarithmic(right, numbers, "training parts", "MB")
        figure.savefig(folder / "parts.png", dpi=110)
        pyplot.close(figure)


def _logarithmic(axis: Any, places: Sequence[int], across: str, up: str) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(places, labels=[f"{place:,}" for place in places])
    axis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda figure, _: f"{figure:,g}"))
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)


if __name__ == "__main__":
    main()
