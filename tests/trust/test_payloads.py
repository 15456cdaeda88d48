"""S5 of ``design/trust.md``: a hundred payloads in everything from outside, and none is alive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup
from streamlit.testing.v1 import AppTest

from differnet.images.reading import encode_png
from differnet.reporting import report, tables
from trust import payload_checks as checks


def test_there_are_a_hundred_different_payloads() -> None:
    assert len(set(checks.PAYLOADS)) == len(checks.PAYLOADS) == 100


def test_no_payload_is_markup_of_a_report() -> None:
    assert checks.page_troubles(checks.PAYLOADS) == []


def test_no_payload_is_a_formula_of_a_table() -> None:
    cells, formulas = checks.csv_troubles(checks.PAYLOADS)
    assert cells > 100 * 30
    assert formulas == []


def test_no_payload_is_alive_on_a_page_of_the_dashboard() -> None:
    elements, troubles = checks.dashboard_troubles(checks.PAYLOADS)
    assert elements > 100
    assert troubles == []


def test_no_payload_runs_in_a_browser() -> None:
    program = checks.browser()
    if program is None:
        pytest.skip("no Chromium to open pages in: Debian has it, apt-get install chromium")
    pages, troubles = checks.browser_troubles(program, checks.PAYLOADS)
    assert pages == 5
    assert troubles == []


def test_the_finding_tells_what_was_looked_at() -> None:
    found = checks.payloads_stay_text(5, everywhere=False)
    assert (found.id, found.size, found.passed) == ("S5", 5, True), found.figures
    assert found.figures["pages"] == 5


BAD = "![x](http://a/b.png)<b onclick='x'>"

# That the checks see what they look for: without escaping each of them must fail.


def test_payloads_that_are_not_escaped_are_seen_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = [payload for payload in checks.PAYLOADS[:41] if payload[0] in "<\"'"]
    report._environment.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(report, "_finalize", lambda value: Markup(value) if isinstance(value, str) else value)
        seen = [trouble for trouble in checks.page_troubles(alive) if "is markup" in trouble]
    report._environment.cache_clear()
    # One is a quote for an attribute in single quotes, of which the report has none.
    assert len(alive) > 35
    assert len(seen) == len(alive) - 1


def test_a_script_that_is_not_escaped_is_seen_in_a_browser(tmp_path: Path) -> None:
    program = checks.browser()
    if program is None:
        pytest.skip("no Chromium to open pages in: Debian has it, apt-get install chromium")
    page = report.render_report(checks.hostile_run(tmp_path, [checks.HARMLESS])[1])
    assert "data-ran" not in checks.open_page(program, tmp_path, page)[0]
    for payload in (checks.PAYLOADS[0], checks.PAYLOADS[18], checks.PAYLOADS[14]):
        alive = page.replace("</main>", f"{payload}</main>")
        assert 'data-ran="1"' in checks.open_page(program, tmp_path, alive)[0], payload


def test_formulas_that_are_not_escaped_are_seen_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_no_formula", lambda cell: cell)
    formulas = checks.csv_troubles(checks.PAYLOADS)[1]
    for payload in ("=1+1", "+1+1", "-1+1", "@SUM(1+1)*cmd|' /C calc'!A0", "  =1+1"):
        assert payload in formulas
    # Behind a semicolon, where lists are parted by it.
    assert any(cell == "=1+1" or cell.startswith("=1+1;") for cell in formulas)


@pytest.mark.parametrize(
    "call",
    [
        *(
            "st.write(bad)",
            "st.radio('a', [bad])",
            "st.pills('a', [bad])",
            "st.checkbox(bad)",
            "st.tabs([bad])",
        ),
        *(
            "st.button('a', help=bad)",
            "st.expander(bad)",
            "st.metric(bad, 1)",
            "st.toast(bad)",
            "st.markdown('<i>' + bad, unsafe_allow_html=True)",
            "st.html(f'<p>{bad}</p>')",
        ),
        *("st.table({bad: [1]})", "st.text_input(bad)", "st.popover(bad)", "st.image(path, caption=bad)"),
    ],
)
def test_markdown_that_is_not_escaped_is_seen_wherever_it_stands(call: str, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(encode_png(np.zeros((2, 2), np.uint8)))
    script = f"import streamlit as st; bad = {BAD!r}; path = {str(picture)!r}; {call}"
    app = AppTest.from_string(script).run()
    assert not app.exception
    assert any(checks.is_alive(words, html, [BAD]) for words, html in checks._marked_down(app))


@pytest.mark.parametrize(
    "call",
    [
        "st.text(bad)",
        "st.code(bad)",
        "st.selectbox('a', [bad])",
        "st.dataframe({'a': [bad]})",
        "st.html('<p>')",
    ],
)
def test_text_that_is_shown_as_it_is_is_not_taken_for_markdown(call: str) -> None:
    app = AppTest.from_string(f"import streamlit as st; bad = {BAD!r}; {call}").run()
    assert not app.exception
    assert not any(checks.is_alive(words, html, [BAD]) for words, html in checks._marked_down(app))


def test_markdown_that_is_not_escaped_is_seen() -> None:
    assert checks.is_active_markdown("![x](http://127.0.0.1:9/a.png)")
    assert checks.is_active_markdown("a <b onclick=x>b</b>")
    assert checks.is_active_markdown("[x]: http://127.0.0.1:9/ 'x'\n[x]")
    assert not checks.is_active_markdown("\\!\\[x\\]\\(http\\:\\/\\/a\\) 2 < 3")


@pytest.mark.parametrize("cell", ["-1.5", "+3", "1e9", "", "a=1", "'=1"])
def test_what_is_no_formula_is_taken_for_none(cell: str) -> None:
    assert not checks.is_formula(cell)
