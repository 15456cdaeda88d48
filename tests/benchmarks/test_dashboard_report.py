"""The report on the dashboard visits every page, tells what it took, and keeps its pictures small."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from dashboard.offered import pages
from PIL import Image

Program = Callable[[str], ModuleType]


def test_every_part_is_there(program: Program) -> None:
    report = program("dashboard_report")
    assert list(report.PARTS) == ["screenshots", "pages", "story"]
    for module in report.PARTS.values():
        assert callable(program(module).run)


def test_every_page_is_visited_and_told(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = program("dashboard_pages")
    monkeypatch.setattr(bench, "BAR", 1e9)
    # Puts back what the program sets for itself.
    for name in ("DIFFERNET_DB", "DIFFERNET_WORKSPACE", "DIFFERNET_READ_ONLY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(bench.logging, "disable", lambda level: None)
    assert bench.run(tmp_path, items=50)
    found = json.loads((tmp_path / "pages.json").read_text())
    assert found["items"] == 50
    assert list(found["pages"]) == list(pages())
    for page in found["pages"].values():
        assert 0 < page["later_median_s"] <= page["later_worst_s"]
        assert page["first_s"] > 0
    told = capsys.readouterr().out
    for title in pages().values():
        assert f"| {title} |" in told
    monkeypatch.setattr(bench, "BAR", 1e-9)
    monkeypatch.setattr(bench, "_visit", lambda place, name: found["pages"][name])
    assert not bench.run(tmp_path, items=0)


def test_pictures_are_kept_small(program: Program) -> None:
    bench = program("dashboard_screens")
    noise = np.random.default_rng(0).integers(0, 256, (900, 1280, 3), dtype=np.uint8)
    noise[200:] = 240
    written = io.BytesIO()
    Image.fromarray(noise).save(written, "PNG")
    kept = bench._small(written.getvalue())
    assert 10_000 < len(kept) <= bench.LARGEST
    shown = Image.open(io.BytesIO(kept))
    assert (shown.format, shown.size) == ("WEBP", (1280, 900))
