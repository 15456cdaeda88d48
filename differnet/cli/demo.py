"""`differnet demo`: the whole job on the sample product, from nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from differnet import __version__
from differnet.cli.inspect import Wanted, each_inspected, verdict_table
from differnet.cli.terminal import Terminal, plain_table, terminal
from differnet.cli.train import (
    DeviceOption,
    PlaceError,
    SeedOption,
    load_model,
    require_unused,
    show_model,
    train_detector,
)
from differnet.durations import duration
from differnet.records import DiffernetError

if TYPE_CHECKING:
    from differnet.detection import Detector, DetectorSettings
    from differnet.records import Record
    from differnet.reporting import RunFolder

WRONG_INPUTS = "wrong_inputs"
# Beside the model: what it was made from. Without this file a folder is not the demonstration's own.
STAMP = "model.json"


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything is written.")] = Path(
        "demo"
    ),
    train_parts: Annotated[
        int, typer.Option("--train", metavar="NUMBER", min=24, help="Good parts to learn from.")
    ] = 120,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
) -> None:
    """Show the whole job on a rendered product: make parts, train, calibrate, inspect, report.

    Running it again takes up what is already there.
    """
    shown = terminal()
    begun = time.monotonic()
    if _read_stamp(out / STAMP) is None:
        require_unused(out / "model")
    product = make_product(shown, out / "product", train_parts, seed)
    detector = make_model(shown, product, out, seed, device)
    run = make_run(shown, detector, product, out / "runs")
    shown.note("[4/4] Writing the report")
    from differnet.reporting import write_report

    page = write_report(run, out / "report.html")
    show_story(shown, run, page, out, train_parts, time.monotonic() - begun)


def make_product(shown: Terminal, folder: Path, train_parts: int, seed: int) -> Path:
    """Render the sample product, unless it is there byte by byte."""
    from differnet.images.synthetic import make_sample_product

    shown.note(f"[1/4] The sample product, a machined flange, in {folder}")
    with shown.steps() as steps:
        return make_sample_product(
            folder, train=train_parts, seed=seed, progress=steps.named("      rendering parts")
        )


def make_model(shown: Terminal, product: Path, out: Path, seed: int, device: str) -> Detector:
    """Train on the product's good parts, or load the model that was trained on exactly these."""
    from differnet.images.layouts import read_layout

    with shown.waiting("loading torch"):
        from differnet.detection import DetectorSettings

    settings = DetectorSettings(seed=seed, device=device, product="flange")
    origin = _origin(product, settings)
    folder = out / "model"
    if _read_stamp(out / STAMP) == origin and folder.is_dir():
        try:
            detector = load_model(folder, device)
        except DiffernetError as error:
            shown.warn(f"the model in {folder} is not as it was saved ({error.found}); training a new one.")
        else:
            shown.note(f"[2/4] The model in {folder} was trained on exactly these parts; it is used again")
            return detector
    shown.note("[2/4] Learning what good parts look like, and calibrating")
    detector = train_detector(shown, settings, read_layout(product, "mvtec"))
    detector.save(folder)
    (out / STAMP).write_text(json.dumps({"made_from": origin}) + "\n", encoding="utf-8")
    show_model(shown, detector.facts())
    return detector


def _origin(product: Path, settings: DetectorSettings) -> str:
    """Name what a model is made from: every picture's hash, the settings, the program's version."""
    parts = hashlib.sha256((product / "sample.json").read_bytes()).hexdigest()
    chosen = {name: str(value) for name, value in asdict(settings).items() if name != "device"}
    return hashlib.sha256(json.dumps([__version__, parts, chosen], sort_keys=True).encode()).hexdigest()


def _read_stamp(path: Path) -> str | None:
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(stamp.get("made_from", "")) if isinstance(stamp, dict) else None


def make_run(shown: Terminal, detector: Detector, product: Path, runs: Path) -> RunFolder:
    """Inspect the test parts and the wrong inputs; take up a run of the same model where it stopped."""
    from differnet.detection import revision_of
    from differnet.reporting import RunFolder, run_facts

    wanted = pictures_to_inspect(product)
    revision = revision_of(detector, runs.parent / "model")
    facts = run_facts(detector.facts(), f"{product}: test and {WRONG_INPUTS}", revision)
    run, begun = None, False
    for number in range(1, 1000):
        place = runs / ("sample" if number == 1 else f"sample-{number}")
        if not place.exists():
            run = RunFolder.create(place, facts)
            break
        run = _same_run(place, facts.model_id, facts.calibration_id, wanted)
        if run is not None:
            begun = True
            break
    if run is None:
        raise PlaceError(
            expected=f"fewer runs in {runs}", found="a thousand", remedy="Remove those you do not need."
        )
    if run.facts.finished_at is not None:
        shown.note(f"[3/4] The run in {run.path} has judged exactly these pictures; it is used again")
        return run
    done = {record.path for record in run.records}
    rest = [item for item in wanted if str(item.path) not in done]
    shown.note(f"[3/4] {'Going on with' if begun else 'Inspecting'} {len(rest):,} parts and wrong inputs")
    with run:
        for inspection, pixels in each_inspected(shown, detector, rest):
            run.append(inspection, pixels)
    return run


def _same_run(folder: Path, model_id: str, calibration_id: str, wanted: Sequence[Wanted]) -> RunFolder | None:
    """Open a run if the same model judged the same files in it, as they are now."""
    from differnet.features import sha256_of
    from differnet.reporting import RunFolder

    try:
        run = RunFolder.open(folder)
    except DiffernetError:
        return None
    if (run.facts.model_id, run.facts.calibration_id) != (model_id, calibration_id):
        return None
    judged = {record.path: record.sha256 for record in run.records}
    present = {str(item.path): item.path for item in wanted}
    if not judged.keys() <= present.keys() or (run.facts.finished_at and judged.keys() != present.keys()):
        return None
    same = all(not sha256 or sha256 == sha256_of(present[path]) for path, sha256 in judged.items())
    return run if same else None


def pictures_to_inspect(product: Path) -> list[Wanted]:
    """List the test parts with their labels, and the wrong inputs as ``wrong_inputs/<kind>``."""
    from differnet.images.layouts import read_layout, wrong_inputs

    parts = [*read_layout(product, "mvtec").test, *wrong_inputs(product)]
    return [Wanted(part.path, part.label) for part in parts]


def show_story(
    shown: Terminal, run: RunFolder, page: Path, out: Path, train_parts: int, seconds: float
) -> None:
    """Tell on stdout what happened, what came of it, and what to do next."""
    from differnet.reporting.counts import recorded_counts

    records = run.records
    counts = recorded_counts(records)
    shown.tell("")
    shown.tell(
        f"{train_parts:,} good parts learned, {len(records):,} pictures judged, {duration(seconds)}.\n"
    )
    shown.write_table(verdict_table(records))
    shown.tell("")
    shown.tell(f"Overkill (good parts rejected): {counts.overkill}")
    shown.tell(f"Escapes (defects passed):       {counts.escape}")
    shown.write_table(_wrong_input_words(records))
    program = _program()
    rows = [
        ("Report", str(page)),
        ("Dashboard", f"{program} dashboard {out / 'runs'}"),
        ("Your parts", f"{program} data scan PICTURES"),
        ("", f"{program} train PICTURES --out model"),
        ("", f"{program} inspect model NEW_PICTURES --out runs/first"),
        ("", f"{program} report runs/first"),
    ]
    shown.tell("")
    shown.write_table(plain_table(("", ""), rows))


def _wrong_input_words(records: Sequence[Record]) -> Text:
    """Say whether every wrong input was recognised as one, and name those that were not."""
    wrong = [record for record in records if (record.label or "").startswith(WRONG_INPUTS)]
    passed = [record for record in wrong if record.verdict.value == "PASS"]
    missed = [record for record in wrong if record.verdict.value in ("REVIEW", "DEFECT")]
    if passed:
        words = Text(f"{len(passed):,} of {len(wrong):,} wrong inputs PASSED, which must not be:", "bold red")
    elif missed:
        words = Text(
            f"No wrong input passed, but {len(missed):,} of {len(wrong):,} were taken for parts:", "yellow"
        )
    else:
        words = Text(
            f"All {len(wrong):,} wrong inputs were recognised: OOD or INVALID, none passed.", "green"
        )
    for record in [*passed, *missed]:
        words.append(f"\n  {record.verdict.value}  {record.path}")
    return words


def _program() -> str:
    """Say how this program is called from here: by its name, or by its place when it is not on the path."""
    called = Path(sys.argv[0])
    if called.name != "differnet":
        return "differnet"
    on_path = shutil.which("differnet")
    if on_path is not None and Path(on_path).resolve() == called.resolve():
        return "differnet"
    absolute = called.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
