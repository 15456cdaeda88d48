"""How much of bare inference a batch job keeps.

Bare inference is `Detector.inspect_many` over the same files: decoding, network, densities and verdict,
nothing written. The job decodes in processes of their own, writes heat maps and previews, and commits every
verdict to the record. Both take turns in one process; the figure is the median of the ratios of neighbours,
so that a busy machine slows both.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from differnet.batch import RunPlan, begin, work
from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.images.reading import encode_png, read_image
from differnet.images.synthetic import make_sample_product
from differnet.reporting import run_facts
from differnet.store import Store
from differnet.store.queue import Wanted
from trust.finding import Figure, Finding

# Width of the pictures: the sample product's own, and a camera of 5 million pixels.
SIDES = (320, 2236)
_TURNS = 3
# Of a job, at most this much longer than bare inference.
_BAR = 1.1


def job_beside_inference(size: int, seed: int, turns: int = _TURNS) -> Finding:
    """Time batch jobs and bare inference in turn.

    Args:
        size: Large pictures in each turn; of small ones four times as many.
        seed: Of the product that is trained on.
        turns: Of each; one more before them warms up.
    """
    started = time.perf_counter()
    figures: dict[str, Figure] = {}
    passed = True
    with tempfile.TemporaryDirectory(prefix="differnet-throughput-") as scratch:
        place = Path(scratch)
        sample = make_sample_product(
            place / "sample", train=40, good_test=24, per_defect=8, per_wrong=0, seed=seed
        )
        # A step of training costs an inspection nothing: it is short.
        settings = DetectorSettings(density=DensitySettings(steps=60), device="cpu")
        detector = Detector(settings).fit(sorted((sample / "train" / "good").iterdir())).calibrate()
        for side in SIDES:
            # Small ones are more, so that a decoder's start is the small part that it is of thousands.
            count = size if side > 1000 else 4 * size
            files = _pictures(sample / "test", place / str(side), side, count)
            ratios = _ratios(detector, files, place, side, turns)
            low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
            figures[f"ratio at {side} px"] = round(float(middle), 3)
            figures[f"quartiles at {side} px"] = f"{low:.3f} to {high:.3f}"
            passed = passed and bool(middle <= _BAR)
    return Finding(
        id="throughput",
        title="a batch job beside bare inference",
        size=size,
        figures=figures,
        passed=passed,
        seconds=time.perf_counter() - started,
    )


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


def _ratios(detector: Detector, pictures: list[Path], place: Path, side: int, turns: int) -> list[float]:
    ratios = []
    for turn in range(turns + 1):
        before = _bare(detector, pictures)
        job = _job(detector, pictures, place, f"{side}-{turn}")
        after = _bare(detector, pictures)
        if turn:
            ratios.append(job / ((before + after) / 2))
    return ratios


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
