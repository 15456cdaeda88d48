"""Rebuild reports/trust.md: hostile files, killed jobs, and what became of them, in full.

    python benchmarks/trust_report.py                  measure everything, then write
    python benchmarks/trust_report.py --only S1 S3     measure these, keep the others' figures
    python benchmarks/trust_report.py --only           write from the figures that are there
    python benchmarks/trust_report.py --short          a taste of each, on the screen alone

The checks are those of `tests/trust`, which the suite runs in short. Each leaves `reports/trust/<id>.json`.
The exit status is 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import record

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "reports" / "trust"
REPORT = ROOT / "reports" / "trust.md"
LIBRARIES = (
    *("torch", "safetensors", "pydantic", "timm", "numpy", "opencv-python-headless", "pillow"),
    "sqlalchemy",
)


@dataclass(frozen=True)
class Check:
    """A row of the report.

    Attributes:
        id: Its name; the file of its figures is called so.
        tested: In words.
        module: Below `tests`, imported only when it is run.
        function: In that module: takes a size and a seed, gives a `trust.finding.Finding`.
        size: Of the full run.
        short: Of a taste.
        bar: What passes, in words; the function applies it.
        shown: Figures that stand in the table, those that it has.
    """

    id: str
    tested: str
    module: str
    function: str
    size: int
    short: int
    bar: str
    shown: tuple[str, ...]


_TIME, _MEMORY = "longest, s", "most extra memory, MiB"

CHECKS: tuple[Check, ...] = (
    Check(
        "S1",
        "bundles, each hostile in another way, every hash and the seal made right",
        "trust.bundle_checks",
        "hostile_bundles",
        40,
        8,
        "all refused by a `BundleError`, no code run, at most 64 MiB more, at most 2 s each",
        ("refused", "ran code", _TIME, _MEMORY),
    ),
    Check(
        "S2",
        "one flipped bit in a bundle",
        "trust.bundle_checks",
        "bit_flips",
        1_000,
        40,
        "all detected",
        ("detected",),
    ),
    Check(
        "S3",
        "mutated bundles, half with every hash and the seal made right",
        "trust.bundle_checks",
        "mutated_bundles",
        20_000,
        100,
        "only `BundleError`, none over 1 s",
        ("other than BundleError", "over 1 s", _TIME),
    ),
    Check(
        "S4",
        "names that lead elsewhere, in each place where a file names a file",
        "trust.path_checks",
        "traversal",
        200,
        12,
        "nothing read or written outside, no other error than a typed one",
        ("places", "read or written outside, or another error than a typed one"),
    ),
    Check(
        "I1",
        "mutated pictures of nine formats",
        "trust.picture_checks",
        "mutated_pictures",
        10_000,
        90,
        "each inspected, or refused with a reason; no process dies; at most 5 s each",
        ("inspected", "refused with a reason", "died", "hung", "something else", _TIME),
    ),
    Check(
        "I2",
        "bombs",
        "trust.picture_checks",
        "bombs",
        21,
        6,
        "refused before decoding, in at most 50 ms and 64 MiB",
        ("refused before decoding", _TIME, _MEMORY),
    ),
    Check(
        "I3",
        "EXIF 1 to 8, 10, 12 and 16 bits, alpha, CMYK, palette",
        "trust.picture_checks",
        "one_rule",
        64,
        8,
        "the pixels that the rule says, the same in training, on the command line, by path, bytes and pixels",
        ("ways into the program", "differences"),
    ),
    Check(
        "S5",
        "script and formula payloads in every name, label, note and reason",
        "trust.payload_checks",
        "payloads_stay_text",
        100,
        6,
        "none runs in report, dashboard or browser; no raw formula in a table",
        (
            *(
                "changed pages",
                "cells",
                "formulas",
                "dashboard elements",
                "dashboard elements that are alive",
            ),
            *("pages in a browser", "pages in a browser that are alive"),
        ),
    ),
    Check(
        "B1",
        "pictures of a batch job that is killed again and again (SIGKILL)",
        "trust.batch_checks",
        "killed_batch",
        20_000,
        200,
        "none lost, kept twice or torn; the record equal to an undisturbed job's",
        ("kills", "lost", "kept twice", "torn files", "verdicts that differ"),
    ),
    Check(
        "B2",
        "batch jobs of which a write, fsync, rename, open or commit is refused",
        "trust.fault_checks",
        "failing_steps",
        256,
        16,
        "each ends in a typed error and is finished by the next; nothing is damaged, torn or different",
        (
            *("ended in a typed error", "went on without the step", "ended in another error"),
            *("records damaged", "half files under a final name", "not finished the next time"),
        ),
    ),
    Check(
        "B3",
        "pictures in one queue that four processes share, some of them killed",
        "trust.batch_checks",
        "shared_queue",
        50_000,
        2_000,
        "none claimed while another holds it, settled twice or left; claims of dead processes are taken up",
        (
            *("processes killed at work", "kept", "left"),
            *("claims of dead processes taken up", "claimed while another held it"),
        ),
    ),
    Check(
        "throughput",
        "pictures by a batch job, and by bare inference in turn",
        "trust.throughput_checks",
        "job_beside_inference",
        160,
        8,
        "at most 1.1 times the time of bare inference",
        ("ratio at 320 px", "ratio at 2236 px"),
    ),
)

HEAD = """
Made by `make soak` from the files `trust/*.json` beside it; do not edit. What may be relied on where files
come from somebody else, where processes are killed and disks refuse. The same checks run in short in
`tests/trust`; `tests/mutants/test_trust_mutants.py` shows that those of files report a check missing when it
is taken out.
"""

LIMITS = """
What is not promised. A bundle whose parts fit each other, and which says that its model is large, costs what
a large model costs before its golden figures refuse it: minutes and gigabytes at 8192 pixels, the largest
input that a model may have. None of the forty is of this kind. A bundle forged with all its hashes, which
judges as its own golden figures say, is another model of another identity, and every record names that; the
mutated bundles that loaded are of this kind. A JPEG that was cut and closed again decodes to a picture whose
rest is grey, and nothing but a hash tells. The `path` of a record says where a picture was, and `differnet
drift check` of a run reads it there. Links that lie in a folder of pictures are followed.
"""


def main() -> None:
    """Measure what is asked for, then write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", metavar="ID", help="checks to run; all when left out")
    parser.add_argument("--short", action="store_true", help="few cases of each, nothing written")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    by_id = {check.id: check for check in CHECKS}
    asked = list(by_id) if chosen.only is None else chosen.only
    if unknown := [name for name in asked if name not in by_id]:
        parser.error(f"no check is called {', '.join(unknown)}; there are {', '.join(by_id)}")
    missed = [name for name in asked if not measure(by_id[name], chosen.seed, chosen.short)]
    if not chosen.short:
        REPORT.write_text(report(read_figures()), encoding="utf-8")
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


def measure(check: Check, seed: int, short: bool) -> bool:
    """Run a check, show its figures, and keep those of a full run; returns whether its bar was met."""
    # Taken before: what is measured is the code that stands there now.
    told = source(seed)
    size = check.short if short else check.size
    print(f"{check.id}: {size:,} {check.tested}", file=sys.stderr, flush=True)
    # Processes that a check starts look for it where this one does.
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        found = getattr(importlib.import_module(check.module), check.function)(size, seed)
    finally:
        sys.path.remove(str(ROOT / "tests"))
    for name, figure in found.figures.items():
        print(f"  {name}: {figure}", file=sys.stderr)
    print(f"  {'met' if found.passed else 'MISSED'} in {found.seconds:.0f} s", file=sys.stderr, flush=True)
    if not short:
        OUT.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(found) | {"source": told}, indent=1, allow_nan=False)
        (OUT / f"{check.id}.json").write_text(text + "\n", encoding="utf-8")
    return bool(found.passed)


def source(seed: int) -> dict[str, Any]:
    """Return by which code, with which versions and on which machine something is measured."""
    from differnet.evaluation.benchmark import running_commit

    return {
        "commit": running_commit() or "unknown",
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "seed": seed,
        "versions": {name: version(name) for name in LIBRARIES},
    }


def read_figures() -> dict[str, dict[str, Any]]:
    """Return the stored figures by check."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(OUT.glob("*.json"))}


def _records() -> list[str]:
    """Write how fast records of a million items answer, where `benchmarks/record.py` has measured it."""
    files = [record.OUT / f"{name}.json" for name in ("record", "record-postgresql")]
    told = [record.section(json.loads(file.read_text("utf-8"))).rstrip() for file in files if file.exists()]
    return [line for each in told for line in ("", each)]


def report(figures: dict[str, dict[str, Any]], checks: Sequence[Check] = CHECKS) -> str:
    """Write the figures of every check as Markdown.

    Args:
        figures: As `read_figures` gives them; checks without any are left out, and said.
        checks: Rows, in their order.
    """
    lines = ["# What may be relied on", "", *_paragraph(HEAD), ""]
    lines += [
        "| id | tested | cases | found | passes when | it is | to repeat |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(check, figures[check.id]) for check in checks if check.id in figures]
    if absent := [check.id for check in checks if check.id not in figures]:
        lines += ["", f"Not measured yet: {', '.join(absent)}."]
    lines += ["", *_paragraph(LIMITS), *_records(), "", "## Every figure", ""]
    for check in checks:
        if found := figures.get(check.id):
            lines += [f"* {check.id}: " + "; ".join(_told(n, v) for n, v in found["figures"].items()) + "."]
    lines += ["", "## Where the figures come from", ""]
    for check in checks:
        if found := figures.get(check.id):
            told = found["source"]
            versions = ", ".join(f"{name} {value}" for name, value in told["versions"].items())
            lines.append(
                f"* {check.id}: commit {told['commit']}, {told['measured_at']}, seed {told['seed']}, "
                f"{found['seconds']:.0f} s, {told['machine']}; {versions}."
            )
    return "\n".join(lines) + "\n"


def _row(check: Check, found: dict[str, Any]) -> str:
    figures = found["figures"]
    told = "; ".join(_told(name, figures[name]) for name in check.shown if name in figures)
    verdict = "met" if found["passed"] else "**MISSED**"
    command = f"`python benchmarks/trust_report.py --only {check.id}`"
    return (
        f"| {check.id} | {check.tested} | {found['size']:,} | {told} | {check.bar} | {verdict} | {command} |"
    )


def _told(name: str, value: Any) -> str:
    figure = f"{value:,}" if isinstance(value, int) else str(value)
    return f"{name}: {figure}".replace("|", "\\|").replace("\n", " ")


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 110)


if __name__ == "__main__":
    main()
