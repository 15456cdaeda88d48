"""The record is filled as jobs fill it, every question is put, and none reads all rows of the items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from differnet.store import Asked, Store, check

ITEMS = 2000


@pytest.fixture(scope="module")
def bench(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("record")


@pytest.fixture(scope="module")
def filled(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(tmp_path_factory.mktemp("record") / "record.db")
    assert bench.fill(store, ITEMS) > 0
    yield store
    store.close()


def test_what_is_filled_in_is_a_sound_record(filled: Store, bench: ModuleType) -> None:
    assert check(filled.engine) == []
    counts = filled.verdict_counts(Asked())
    assert sum(counts.values()) == ITEMS
    assert len(counts) == 5
    assert len(filled.runs(limit=1000)) == bench.RUNS + 1
    records = filled.items(Asked())
    assert sum(bool(record.regions) for record in records) == bench.RUNS
    assert 0 < len(filled.reviewed(Asked())) == ITEMS * bench.REVIEWED_SHARE


def test_no_question_reads_all_rows_of_the_items(filled: Store, bench: ModuleType) -> None:
    told: list[str] = []
    found = bench.measure(filled, ITEMS, told.append)
    assert len(found) == len(told) == len(bench.questions(filled, ITEMS))
    assert {name for name, question in found.items() if "SCAN items" in question["plan"]} == set()
    assert all(0 < question["median_ms"] <= question["worst_ms"] for question in found.values())
    # The same words are found where there is something to find.
    statement = "SELECT * FROM items ORDER BY decode_ms"
    assert bench.plans(filled.engine, [(statement, ())]) == ["SCAN items", "USE TEMP B-TREE FOR ORDER BY"]


def test_a_section_tells_every_question(filled: Store, bench: ModuleType) -> None:
    found = {
        "items": ITEMS,
        "engine": "SQLite",
        "mebibytes": 3,
        "runs": bench.RUNS,
        "machine": "here",
        "load": 0.5,
        "questions": bench.measure(filled, ITEMS, lambda _: None),
        "costs": bench.costs(filled, ["ix_items_latest"], 40),
    }
    section = bench.section(found)
    assert f"## The record at {ITEMS:,} items" in section
    assert all(f"| {name} |" in section for name in found["questions"])
    assert found["costs"]["ix_items_latest"]["mebibytes"] > 0
    assert check(filled.engine) == []
