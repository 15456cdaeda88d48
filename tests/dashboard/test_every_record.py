"""U1 of ``design/trust.md``: every page on every kind of record, without an exception."""

from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.offered import pages
from dashboard.stores import RECORDS, fill
from differnet.reporting.serving import dashboard_app, dashboard_environment

# Seconds until a page counts as hanging; what it takes is measured by benchmarks/dashboard_report.py.
_PATIENCE = 120


def open_over(place: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Open the dashboard over a record of a kind, which is made first."""
    fill(place, RECORDS[kind])
    st.cache_resource.clear()
    told = dashboard_environment(str(place), place.parent, read_only=RECORDS[kind].read_only)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["app.py"])
    return AppTest.from_file(str(dashboard_app()), default_timeout=_PATIENCE).run()


def told_by(app: AppTest) -> dict[str, list[str]]:
    """Return what a page says that it must not say of a record which is sound."""
    return {
        "exceptions": [str(one.value) for one in app.exception],
        "errors": [one.value for one in app.error],
        "titles": [] if len(app.title) == 1 else [f"{len(app.title)} titles"],
    }


@pytest.mark.parametrize("kind", RECORDS)
def test_no_page_fails(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_over(tmp_path / "record.db", kind, monkeypatch)
    wrong = {"first": told_by(app)}
    for name in pages():
        app.switch_page(f"{name}.py").run()
        wrong[name] = told_by(app)
    assert len(wrong) >= 4
    assert {name: told for name, told in wrong.items() if any(told.values())} == {}


def test_a_page_that_fails_is_seen() -> None:
    assert told_by(AppTest.from_string("1 / 0").run())["exceptions"]
    assert told_by(AppTest.from_string("import streamlit as st; st.error('no')").run())["errors"] == ["no"]
    assert told_by(AppTest.from_string("pass").run())["titles"]
