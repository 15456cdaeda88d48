"""The dashboard over a record of the test's own, run without a browser."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from differnet.reporting.keeping import keep_runs
from differnet.reporting.serving import dashboard_app, dashboard_environment
from differnet.store import Store

OpenDashboard = Callable[..., AppTest]


def _load_drawn_runs() -> ModuleType:
    # Loaded by path: test folders are no packages, and both have a conftest.
    path = Path(__file__).resolve().parents[1] / "reporting" / "conftest.py"
    spec = importlib.util.spec_from_file_location("drawn_runs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


drawn_runs = _load_drawn_runs()
make_run = drawn_runs.make_run
make_record = drawn_runs.make_record


@pytest.fixture
def record_place(tmp_path: Path) -> Path:
    """Where the test's record is."""
    return tmp_path / "record.db"


@pytest.fixture
def open_dashboard(tmp_path: Path, record_place: Path, monkeypatch: pytest.MonkeyPatch) -> OpenDashboard:
    """Keep the runs of the test's own folder in its record, open the dashboard over it, and run it once."""
    st.cache_resource.clear()

    def open_page(page: str | None = None, *, read_only: bool = False, **query: str) -> AppTest:
        store = Store.open(record_place)
        refused = keep_runs(store, tmp_path)
        store.close()
        assert not refused
        for name, value in dashboard_environment(str(record_place), tmp_path, read_only=read_only).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["app.py"])
        app = AppTest.from_file(str(dashboard_app()), default_timeout=60)
        app.query_params.update(query)
        app.run()
        if page is not None:
            app.switch_page(f"{page}.py")
            app.query_params.update(query)
            app.run()
        return app

    return open_page
