"""Rebuild reports/flows.md: `make flow-reports`, or the parts one by one.

    python benchmarks/flows_report.py                     measure everything, then write
    python benchmarks/flows_report.py --only digits ood   measure these, keep the others' figures
    python benchmarks/flows_report.py --only versus --families radial   of a part, these families alone
    python benchmarks/flows_report.py --only              write from the figures that are there

Each part runs in a process of its own and leaves a JSON file in reports/flows/. The peers of part (b) must be
installed, which `make flow-reports` does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import flows_digits
import flows_ood
import flows_plane
import flows_versus

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "reports" / "flows"
SEEDS = 1
LIBRARIES = ("torch", "torchdiffeq", "zuko", "nflows", "normflows", "numpy", "scikit-learn")


def parts(data: Path) -> dict[str, list[list[str]]]:
    """Return the commands of each part, without the interpreter."""
    out = ["--out", str(OUT)]
    ood = ["benchmarks/flows_ood.py", *out, *(["--data", str(data)] if data.is_dir() else [])]
    return {
        "plane": [["benchmarks/flows_plane.py", *out, "--seed", str(seed)] for seed in range(SEEDS)],
        "versus": [["benchmarks/flows_versus.py", *out]],
        "digits": [["benchmarks/flows_digits.py", *out]],
        "ood": [ood],
    }


def main() -> None:
    """Measure what is asked for, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="parts to measure; all when left out")
    parser.add_argument(
        "--data", type=Path, default=ROOT / "../shared/data", help="folder of mtd/ and aliens/"
    )
    parser.add_argument("--families", nargs="+", help="with --only versus: measure these, keep the others")
    chosen = parser.parse_args()
    if chosen.families and chosen.only != ["versus"]:
        parser.error("--families goes with --only versus")
    commands = parts(chosen.data)
    if chosen.families:
        commands["versus"][0] += ["--families", *chosen.families]
    asked = list(commands) if chosen.only is None else chosen.only
    if unknown := set(asked) - set(commands):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(commands)}")
    OUT.mkdir(parents=True, exist_ok=True)
    for part in asked:
        # Taken before: what is measured is the code that stands there now.
        told = source()
        for command in commands[part]:
            print(f"{part}: {' '.join(command)}", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
        remember(part, told, chosen.families or [])
    (ROOT / "reports" / "flows.md").write_text(report(), encoding="utf-8")


def source() -> dict[str, Any]:
    """Return by which code, with which versions and on which machine something is measured."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    code = hashlib.sha256()
    for path in [*sorted(ROOT.glob("differnet/flows/*.py")), *sorted(ROOT.glob("benchmarks/flows_*.py"))]:
        code.update(path.read_bytes())
    return {
        "commit": commit or "unknown",
        "code_sha256": code.hexdigest()[:16],
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def remember(part: str, told: dict[str, Any], families: list[str]) -> None:
    """Note the source of a part's figures, or of some families' alone, beside them."""
    path = OUT / "sources.json"
    sources = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if families:
        sources |= {f"{part}, {family}": told for family in families}
    else:
        # What some families were measured by has no figures left.
        sources = {name: value for name, value in sources.items() if not name.startswith(f"{part}, ")}
        sources[part] = told
    path.write_text(json.dumps(sources, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read(name: str) -> Any:
    """Return one part's figures, or ``None`` where it was not measured."""
    path = OUT / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def report() -> str:
    """Write all parts as Markdown."""
    lines = [*HEAD.strip().splitlines(), "", *PLANE.strip().splitlines(), ""]
    planes = [json.loads(path.read_text("utf-8")) for path in sorted(OUT.glob("plane-*.json"))]
    if planes:
        lines += [*flows_plane.tables(planes), ""]
        for path in sorted(OUT.glob("plane-*-0.png")):
            lines += [f"![True and learned densities: {path.stem}](flows/{path.name})", ""]
        moons = next((r for r in planes if r["target"] == "two_moons"), planes[0])
        lines += [*TOLERANCES.strip().splitlines(), "", *flows_plane.tolerance_lines(moons), ""]
    lines += [*VERSUS.strip().splitlines(), ""]
    if versus := read("versus"):
        lines += [*flows_versus.likelihood_lines(versus), "", *TIMES.strip().splitlines(), ""]
        lines += [*flows_versus.time_lines(versus), "", *flows_versus.verdict_lines(versus), ""]
    lines += [*TABLES.strip().splitlines(), "", *DIGITS.strip().splitlines(), ""]
    if digits := read("digits"):
        lines += [*flows_digits.tables(digits), "", "![Digits and samples](flows/digits.png)", ""]
    lines += [*OOD.strip().splitlines(), ""]
    if ood := read("ood"):
        lines += [*flows_ood.tables(ood), "", "![nll of every set](flows/ood.png)", ""]
    lines += ["## Where the figures come from", ""]
    for part, told in (read("sources") or {}).items():
        versions = ", ".join(f"{name} {value}" for name, value in told["versions"].items())
        note = f" ({told['note']})" if "note" in told else ""
        lines.append(
            f"* {part}: commit {told['commit']}, code {told['code_sha256']}, {told['measured_at']}, "
            f"{told['machine']}; {versions}{note}."
        )
    return "\n".join(lines).rstrip() + "\n"


HEAD = """
# Flows

Made by `make flow-reports` from the files in `flows/`; do not edit. Part by part: `python
benchmarks/flows_report.py --only plane`. The seeds are fixed; times depend on the machine, their ratios
less so.

What is proven by tests rather than measured here: every transform's log-determinant in both directions
against the float64 autograd Jacobian, densities that integrate to 1, round trips and densities in
float32 near and far, and the planted faults that all of these must catch (`tests/flows`,
`tests/mutants`).
"""

PLANE = """
## (a) Learned against true densities

Nats above the true entropy: the mean of `log p - log q` on 20,000 vectors that no flow has seen, which
is `KL(p, q)`. Every family learns from the same 20,000 vectors in batches of 256, standardised first;
discrete families take 1,000 steps, continuous ones 600 at a tolerance of 1e-3 (flow matching 6,000 of
its own, far cheaper ones) and are evaluated to the default tolerance; `evaluations` are those of one
pass. An augmented flow has no density: its figure, marked `<=`, is from its lower bound with 64 draws,
and bounds the divergence from above. All panels of a picture share the true density's scale.
"""

TOLERANCES = """
### What a continuous flow's tolerance costs

`ffjord` trained on two moons, 1,000 vectors, in float64 against dopri8 at 1e-12.
"""

VERSUS = """
## (b) Beside zuko, nflows and normflows

The same vectors, layers, widths (64), bins (8), batches (256), steps, optimiser (Adam, rate 2e-3,
cosine), in one process on one thread; how each library's flow is built is in
`benchmarks/flows_peers.py`, which also checks every one of them. Nats above the true entropy on held-out
vectors, mean of three seeds and its standard error. `chain` is a table of eight features of which each
depends on the one before. Reverse KL trains on the density itself. A tie is a gap, paired by seed, within
its 95 % interval (Student's t over three seeds, which is wide) or below 0.01 nats.
"""

TIMES = """
Time of the library over time of differnet, median and 10 % to 90 % range over rounds in which the
libraries take turns: above 1 differnet is faster. Bold where differnet is slower throughout. A step is
forward, backward and Adam on 256 vectors; log_prob and sampling are of 4,096 vectors without gradients
(ffjord: 128 and 512).
"""

TABLES = """
## (c) POWER, GAS, HEPMASS, MINIBOONE, BSDS300

`differnet.tables.published.read_density_table(name, folder)` reads the published files with the
preparation of Papamakarios et al. 2017. It is checked on generated files of their shape
(`tests/tables/test_published.py`). The published files themselves are not at hand here: no
figure on them is claimed.
"""

DIGITS = """
## (d) Bits per dimension of Glow and Real NVP on 8x8 digits
"""

OOD = """
## (e) Likelihood out of distribution
"""


if __name__ == "__main__":
    main()
