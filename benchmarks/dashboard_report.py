"""Look at the dashboard and time it: reports/dashboard/.

    python benchmarks/dashboard_report.py                      everything
    python benchmarks/dashboard_report.py --only screenshots   pictures of every page on the sample product
    python benchmarks/dashboard_report.py --only pages         what each page takes with 100,000 records
    python benchmarks/dashboard_report.py --only story         from an empty record to a report, as a newcomer

The exit status is 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "reports" / "dashboard"

PARTS = {"screenshots": "dashboard_screens", "pages": "dashboard_pages", "story": "dashboard_story"}
"""Module of each part. Its ``run`` takes the folder to write to, and tells whether every bar was met."""


def main() -> int:
    """Run the parts that are asked for."""
    reader = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    reader.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    reader.add_argument("--out", type=Path, default=OUT)
    asked = reader.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    # What fills records and starts dashboards is the tests' own.
    sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]
    met = [importlib.import_module(PARTS[name]).run(asked.out) for name in asked.only]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
