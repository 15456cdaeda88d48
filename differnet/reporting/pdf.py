"""The report on paper: the same page as PDF, made by WeasyPrint, which comes with the extra ``pdf``."""

from __future__ import annotations

import importlib.util
import logging
import re
from functools import cache
from pathlib import Path
from typing import Any

from differnet.records import DiffernetError

STYLES = Path(__file__).parent / "templates" / "report.css"
"""Of the page; those for paper are its own."""


class PdfError(DiffernetError):
    """Raised when a PDF is asked for and cannot be made here."""


def has_weasyprint() -> bool:
    """Tell whether WeasyPrint is installed; whether it works is found out when it is used."""
    return importlib.util.find_spec("weasyprint") is not None


def require_weasyprint() -> Any:
    """Return the module that makes PDF.

    Raises:
        PdfError: It is not installed, or the system lacks the library that it sets text with.
    """
    try:
        import weasyprint
    except ImportError as error:
        raise PdfError(
            expected="WeasyPrint, which makes PDF",
            found=str(error),
            remedy="Install it: pip install 'differnet[pdf]'. Or print the HTML report from a browser.",
        ) from error
    except OSError as error:
        raise PdfError(
            expected="Pango, with which WeasyPrint sets text",
            found=str(error).splitlines()[0],
            remedy="Install it; on Debian: apt-get install libpango-1.0-0 libpangoft2-1.0-0.",
        ) from error
    return weasyprint


def pdf_of(page: str) -> bytes:
    """Set a page of `differnet.reporting.report.render_report` as PDF.

    Nothing is fetched: what the page shows is in it, and every other address is refused.

    Args:
        page: Its HTML.

    Returns:
        The file's bytes.

    Raises:
        PdfError: PDF cannot be made here, or the page asks for something that is not in it.
    """
    weasyprint = require_weasyprint()
    # It warns of every style that is meant for browsers alone.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    drawn = re.sub(r"<svg [^>]*>", lambda opening: opening[0] + _drawing_style(), page)
    try:
        return bytes(weasyprint.HTML(string=drawn, url_fetcher=_fetcher(weasyprint.urls)).write_pdf())
    except weasyprint.urls.FatalURLFetchingError as error:
        raise PdfError(
            expected="a page that holds all that it shows",
            found=f"a reference to {error}",
            remedy="This is a fault of the report; please tell its authors.",
        ) from error


@cache
def _drawing_style() -> str:
    """Say the style of drawings once more inside each: WeasyPrint reads them as files of their own."""
    printed = STYLES.read_text("utf-8").partition("@media print {")[2].partition("}")[0]
    tones = dict(re.findall(r"--([a-z]+): ([^;]+);", printed))
    rules = [
        f"text{{font:15px Liberation Sans,Arial,sans-serif;fill:{tones['ink']}}}",
        f".quiet,.tick{{fill:{tones['quiet']}}}",
        f".row,.threshold-word{{font-weight:bold}}.band{{fill:{tones['band']}}}",
        f".grid{{stroke:{tones['rule']};stroke-dasharray:2 3;fill:none}}",
        f".axis{{stroke:{tones['quiet']};fill:none}}",
        f".threshold{{stroke:{tones['ink']};stroke-width:1.5;fill:none}}",
    ]
    rules += [
        f".{name}{{fill:{tones[name]}}}.outline.{name}{{stroke:{tones[name]};stroke-width:.6}}"
        f".hatch.{name} path,.{name} .stroke{{stroke:{tones[name]};fill:none}}"
        for name in ("pass", "review", "defect", "ood", "invalid", "good")
    ]
    rules += [".hatch path{stroke-width:1.6}.glyph .stroke{stroke-width:3}.hatch .wash{opacity:.28}"]
    return f"<style>{''.join(rules)}.bar .review{{opacity:.75}}.bar .pass{{opacity:.45}}</style>"


def _fetcher(urls: Any) -> Any:
    """Make a fetcher that reads pictures out of their addresses, and nothing else."""

    class Nothing(urls.URLFetcher):  # type: ignore[misc]
        def fetch(self, url: str, headers: Any = None) -> Any:
            if not url.startswith("data:image/"):
                # The one error that WeasyPrint does not swallow.
                raise urls.FatalURLFetchingError(url[:100])
            return super().fetch(url, headers)

    return Nothing(allowed_protocols={"data"}, allow_redirects=False)
