"""How much of bare inference a batch job keeps: `python benchmarks/throughput.py`.

Bare inference is `Detector.inspect_many` over the same files: decoding, network, densities and verdict,
nothing written. The job decodes in processes of their own, writes heat maps and previews, and commits every
verdict to the record. Both take turns in one process; the figure is the median of the ratios of neighbours,
with their quartiles, so that a busy machine slows both. Leaves `reports/trust/throughput.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from differnet.batch import RunPlan, begin, work
from differnet.cli.inspect import run_facts
from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.images.reading import encode_png, read_image
from differnet.images.synthetic import make_sample_product
from differnet.store import Store
from differnet.store.queue import Wanted

REPORTS = Path(__file__).resolve().parents[1] / "reports" / "trust"
# Width of the pictures: the sample product's own, and a camera of 5 million pixels.
SIDES = (320, 2236)


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=160)
    parser.add_argument("--turns", type=int, default=7)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        sample = make_sample_product(place / "sample", train=40, good_test=24, per_defect=8, per_wrong=0)
        detector = _trained(sorted((sample / "train" / "good").iterdir()))
        detector.save(place / "model")
        cases = []
        for side in SIDES:
            pictures = _pictures(sample / "test", place / str(side), side, chosen.pictures)
            cases.append(_measured(detector, pictures, place, side, chosen.turns))
            print(cases[-1])
    facts = {
        "cases": cases,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / "throughput.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


def _trained(good: list[Path]) -> Detector:
    """Train the usual detector, shortly: a step of training costs an inspection nothing."""
    settings = DetectorSettings(density=DensitySettings(steps=60), device="cpu")
    return Detector(settings).fit(good).calibrate()


def _pictures(sample: Path, folder: Path, side: int, count: int) -> list[Path]:
    folder.mkdir()
    sources = sorted(sample.rglob("*.png"))
    for number in range(count):
        pixels = read_image(sources[number % len(sources)]).pixels
        larger = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC)
        # No two are alike, as no two pictures of a camera are.
        larger[0, :8, 0] = np.frombuffer(number.to_bytes(8, "little"), np.uint8)
        suffix, options = (".png", []) if side < 1000 else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95])
        path = folder / f"{number:04d}{suffix}"
        if suffix == ".png":
            path.write_bytes(encode_png(larger.astype(np.uint8)))
        else:
            _, encoded = cv2.imencode(suffix, larger[..., ::-1], options)
            path.write_bytes(encoded.tobytes())
    return sorted(folder.iterdir())


def _measured(detector: Detector, pictures: list[Path], place: Path, side: int, turns: int) -> dict[str, Any]:
    ratios, bare, jobs = [], [], []
    for turn in range(turns + 1):
        first = _bare(detector, pictures)
        job = _job(detector, pictures, place, f"{side}-{turn}")
        last = _bare(detector, pictures)
        # The first turn warms up.
        if turn:
            ratios.append(job / ((first + last) / 2))
            bare.append((first + last) / 2)
            jobs.append(job)
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {
        "pixels": [side, side],
        "pictures": len(pictures),
        "turns": turns,
        "bare_ms_a_picture": float(np.median(bare)) * 1e3 / len(pictures),
        "job_ms_a_picture": float(np.median(jobs)) * 1e3 / len(pictures),
        "ratio": float(middle),
        "ratio_quartiles": [float(low), float(high)],
    }


def _bare(detector: Detector, pictures: list[Path]) -> float:
    started = time.perf_counter()
    for _ in detector.inspect_many(pictures):
        pass
    return time.perf_counter() - started


def _job(detector: Detector, pictures: list[Path], place: Path, name: str) -> float:
    """Time a job from its first claim to its last commit; the model is loaded in both."""
    store = Store.open(place / f"{name}.db")
    facts = replace(run_facts(detector.facts(), "throughput"), run_id=name)
    folder = place / f"run-{name}"
    plan = RunPlan(facts, place / "model", folder, [Wanted(str(path)) for path in pictures])
    queue = begin(store, detector, plan)
    started = time.perf_counter()
    work(queue, detector, detector.settings.reading, folder)
    taken = time.perf_counter() - started
    if queue.progress().done != len(pictures):
        raise RuntimeError("not every picture was judged")
    store.close()
    shutil.rmtree(folder)
    return taken


if __name__ == "__main__":
    main()
