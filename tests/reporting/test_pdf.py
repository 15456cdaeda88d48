"""The report on paper holds what the page holds, in whole tables and cards, and fetches nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from differnet.reporting.pdf import PdfError, pdf_of, require_weasyprint
from differnet.reporting.report import write_reports
from differnet.reporting.run_folder import RunFolder

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def weasyprint() -> Any:
    """The module that makes PDF, or a skip that says why there is none."""
    try:
        return require_weasyprint()
    except PdfError as error:
        pytest.skip(f"no PDF here: {error.found}. {error.remedy}")


def pages_of(path: Path) -> list[str]:
    """Read the words of each page."""
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext to read PDF with: Debian has it, apt-get install poppler-utils")
    read = subprocess.run(["pdftotext", "-layout", path, "-"], check=True, capture_output=True, text=True)
    return read.stdout.rstrip("\f").split("\f")


@pytest.mark.usefixtures("weasyprint")
def test_every_page_is_numbered_and_no_card_is_cut(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(["good"] * 5 + ["scratch"] * 16 + ["wrong_input/blank", "unreadable"])
    html, pdf = write_reports(run, tmp_path / "out", ("html", "pdf"))
    assert [path.name for path in (html, pdf)] == ["report.html", "report.pdf"]
    pages = pages_of(pdf)
    assert len(pages) > 2
    for number, page in enumerate(pages, 1):
        assert re.search(rf"flange 40 mm\s+{number} of {len(pages)}\s*$", page)
    # The name of a part and its file, the first and the last line of a card, stand on one page.
    cards = re.findall(r'class="name">([^<]+)<', html.read_text("utf-8"))
    assert len(cards) > 8
    for part in cards:
        whole = [page for page in pages if re.search(rf"(DEFECT|REVIEW)\s+{part}", page)]
        assert len(whole) == 1
        assert f"test/{part}.png" in whole[0]


@pytest.mark.usefixtures("weasyprint")
def test_drawings_keep_their_colours_on_paper(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (plain,) = write_reports(make_run(["good"] * 9 + ["scratch"]), tmp_path, ("pdf",))
    monkeypatch.setattr("differnet.reporting.pdf._drawing_style", lambda: "")
    (black,) = write_reports(RunFolder.open(tmp_path / "run"), tmp_path / "black", ("pdf",))
    if shutil.which("pdftoppm") is None:
        pytest.skip("no pdftoppm to draw PDF with: Debian has it, apt-get install poppler-utils")
    green = [_green(path) for path in (plain, black)]
    # The bars of good parts are drawn in the green of PASS, and in black without their style.
    assert green[0] > 10 * max(1, green[1])


def _green(pdf: Path) -> int:
    drawn = subprocess.run(
        ["pdftoppm", "-r", "50", "-f", "1", "-l", "1", "-y", "200", "-H", "400", "-W", "420", pdf],
        check=True,
        capture_output=True,
    ).stdout
    _, size, _, pixels = drawn.split(b"\n", 3)
    assert size
    return sum(
        abs(r - 0x1F) < 20 and abs(g - 0x7A) < 20 and abs(b - 0x5A) < 20
        for r, g, b in zip(pixels[::3], pixels[1::3], pixels[2::3], strict=True)
    )


@pytest.mark.usefixtures("weasyprint")
@pytest.mark.parametrize(
    "asked",
    [
        '<img src="file:///etc/passwd">',
        '<img src="http://127.0.0.1/a.png">',
        '<p style="background: url(file:///etc/passwd)">x</p>',
        "<style>@import url(http://127.0.0.1/a.css);</style>",
        '<link rel="stylesheet" href="file:///etc/passwd">',
        '<link rel="attachment" href="file:///etc/passwd">',
    ],
)
def test_nothing_is_fetched(asked: str) -> None:
    with pytest.raises(PdfError, match=r"127\.0\.0\.1|etc/passwd"):
        pdf_of(f"<html><body>{asked}</body></html>")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ImportError("No module named 'weasyprint'"), "pip install 'differnet[pdf]'"),
        (OSError("cannot load library 'libpango-1.0-0'"), "apt-get install libpango-1.0-0"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_written(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    class Absent:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "weasyprint":
                raise error

    for name in [name for name in sys.modules if name.partition(".")[0] == "weasyprint"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    run = make_run(["good"])
    with pytest.raises(PdfError) as told:
        write_reports(run, tmp_path / "out", ("html", "pdf"))
    assert remedy in told.value.remedy
    assert not (tmp_path / "out").exists()
