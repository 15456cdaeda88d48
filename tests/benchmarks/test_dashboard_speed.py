"""The measured moves are moves: on few parts, without a word of how long they take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import streamlit as st

from differnet.store import Asked, Store


@pytest.fixture(scope="module")
def bench(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("dashboard_speed")


def test_a_run_is_filled_in_and_every_tab_is_moved(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["app.py"])
    st.cache_resource.clear()
    model = bench.build_model(tmp_path / "model", parts=24)
    filled = bench.fill(tmp_path / "record.db", model, 600)
    store = Store.open(filled.place)
    counts = store.verdict_counts(Asked(run_id=bench.RUN))
    store.close()
    assert sum(counts.values()) == 600
    assert len(counts) >= 3
    found = bench.moves(filled, number=3)
    assert set(found["page"]) == set(bench.TABS)
    for figures in (found["functions"], *found["page"].values()):
        assert 0 < figures["median_ms"] <= figures["p95_ms"] <= figures["worst_ms"]
    assert found["worst_p95_ms"] == max(figures["p95_ms"] for figures in found["page"].values())


def test_a_page_that_does_not_move_is_no_measurement(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move that the page does not show must not be counted as a quick one."""
    monkeypatch.setattr("sys.argv", ["app.py"])
    st.cache_resource.clear()
    filled = bench.fill(tmp_path / "record.db", bench.build_model(tmp_path / "model", parts=24), 60)
    with bench.opened(filled) as app, pytest.raises(RuntimeError, match="in place of T1"):
        # Beyond the end of the boxes.
        bench._moved(app, [[1e6, 2e6]])
