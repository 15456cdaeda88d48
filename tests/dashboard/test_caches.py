"""U2 of ``design/trust.md``: caches of pages are keyed by names and digests, never by pixels or tables.

Streamlit hashes a sample of a large array or table, so a small defect or one changed label would be shown
what was cached for another.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.stores import Kind, fill
from differnet.reporting.artefacts import Artefacts
from differnet.reporting.serving import dashboard_app, dashboard_environment
from differnet.store import Asked, Store

PAIRS = 400
SIDE = 128
_CACHES = ("cache_data", "cache_resource", "lru_cache", "cache")
_PLAIN = {"str", "int", "float", "bool", "None"}


def keyed_by_content(source: str) -> list[str]:
    """Name what a cache in Python source is keyed by and must not be.

    Args:
        source: Of a module.

    Returns:
        Function and argument; nothing where every cache is keyed by texts, numbers and tuples of them.
    """
    tree = ast.parse(source)
    named_types = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    decorators = {id(_called(one)) for function in functions for one in function.decorator_list}
    wrong = []
    for function in functions:
        mine = [one for one in function.decorator_list if _is_cache(_called(one))]
        wrong += [
            f"{function.name}: a hash of its own"
            for one in mine
            if isinstance(one, ast.Call) and any(word.arg == "hash_funcs" for word in one.keywords)
        ]
        taken = function.args
        named = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs]
        rest = [each for each in (taken.vararg, taken.kwarg) if each is not None]
        wrong += [
            f"{function.name}: {argument.arg}"
            for argument in ((*named, *rest) if mine else ())
            if not argument.arg.startswith("_") and not _is_plain(argument.annotation, named_types)
        ]
    # Called on a function it is a cache as well, of arguments that cannot be seen here.
    return wrong + [
        f"line {node.lineno}: a cache that is no decorator"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_cache(node.func) and id(node.func) not in decorators
    ]


def _called(decorator: ast.expr) -> ast.expr:
    return decorator.func if isinstance(decorator, ast.Call) else decorator


def _is_cache(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in _CACHES


def _is_plain(annotation: ast.expr | None, named_types: Mapping[str, ast.expr]) -> bool:
    """Tell whether an annotation is a text, a number, a truth value, none, or a tuple or choice of them."""
    if annotation is None:
        return False
    if isinstance(annotation, ast.Constant):
        return annotation.value in (None, Ellipsis)
    if isinstance(annotation, ast.Name):
        return annotation.id in _PLAIN or _is_plain(named_types.get(annotation.id), {})
    if isinstance(annotation, ast.BinOp):
        return _is_plain(annotation.left, named_types) and _is_plain(annotation.right, named_types)
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        if annotation.value.id == "Literal":
            return True
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        kept_whole = annotation.value.id in ("tuple", "frozenset")
        return kept_whole and all(_is_plain(each, named_types) for each in inner)
    return False


def test_no_cache_of_a_page_is_keyed_by_content() -> None:
    files = sorted(dashboard_app().parent.rglob("*.py"))
    cached = sum("st.cache_" in file.read_text("utf-8") for file in files)
    assert cached >= 1
    wrong = {file.name: keyed_by_content(file.read_text("utf-8")) for file in files}
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "@st.cache_data\ndef f(pixels: NDArray[np.uint8]): ...",
        "@st.cache_data(show_spinner=False)\ndef f(run: str, table: pd.DataFrame): ...",
        "@st.cache_resource\ndef f(content: bytes): ...",
        "@cache_data\ndef f(anything): ...",
        "@st.cache_data\ndef f(*, rows: tuple[list[int], ...]): ...",
        "@st.cache_data\ndef f(*pictures: Picture): ...",
        "@st.cache_data(hash_funcs={Run: id})\ndef f(run: str): ...",
        "Name = list[int]\n@st.cache_data\ndef f(name: Name): ...",
        "f = st.cache_data(g)",
        "f = st.cache_data(max_entries=3)(g)",
        "@functools.lru_cache\ndef f(record: Record): ...",
    ],
)
def test_a_cache_that_is_keyed_by_content_is_seen(source: str) -> None:
    assert keyed_by_content(source)


def test_a_cache_that_is_keyed_by_names_is_taken() -> None:
    sound = (
        "Name = tuple[str, int]\n@st.cache_data(max_entries=9)\n"
        "def f(_pixels: Pixels, run: Name, changed: int, item: str | None, band: tuple[float, ...]): ...\n"
        "def g(pixels: Pixels): ...\nst.cache_data.clear()"
    )
    assert keyed_by_content(sound) == []


def run_in_page(script: Callable[[], None], folder: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Run a function as a page over the record of a folder."""
    st.cache_resource.clear()
    st.cache_data.clear()
    for name, value in dashboard_environment(str(folder / "record.db"), folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["app.py"])
    monkeypatch.syspath_prepend(str(dashboard_app().parent))
    app = AppTest.from_function(script, default_timeout=300).run()
    assert not app.exception
    return app


def spotted_pairs(folder: Path) -> None:
    """Give every second item the picture of the one before it, but for a spot of 4 x 4 pixels."""
    rng = np.random.default_rng(3)
    store = Store.open(folder / "record.db")
    run = store.runs()[0]
    records = store.items(Asked(run_id=run.run_id))
    store.close()
    artefacts = Artefacts(Path(run.folder))
    artefacts.make()
    heat = np.full((32, 32), 2.0, np.float32)
    files: dict[str, bytes] = {}
    for good, flawed in zip(records[::2], records[1::2], strict=True):
        pixels = rng.integers(90, 110, (SIDE, SIDE, 3), dtype=np.uint8)
        files |= artefacts.pack(good, heat, pixels)
        row, column = rng.integers(0, SIDE - 4, 2)
        pixels[row : row + 4, column : column + 4] = 200
        files |= artefacts.pack(flawed, heat, pixels)
    artefacts.keep(files)


def test_pictures_that_differ_in_a_spot_are_shown_as_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "record.db", Kind(items=2 * PAIRS, pictures=False))
    spotted_pairs(tmp_path)

    def look_at_all() -> None:
        import streamlit as st
        from cards import drawing
        from opened import choose_run, current_run

        from differnet.records import Record
        from differnet.reporting.artefacts import PREVIEW_SIDE
        from differnet.reporting.tabled_run import drawn_picture

        choose_run()
        opened = current_run()
        run = opened.run
        records = run.records(list(run.table.item_id))

        def drawn(record: Record) -> bytes | None:
            return drawing(opened, record, PREVIEW_SIDE, 0.5, regions=True)

        st.session_state["shown"] = [drawn(record) for record in records]
        # Once more, now from the cache.
        st.session_state["again"] = [drawn(record) for record in records[:100]]
        st.session_state["true"] = [
            drawn_picture(run, record, PREVIEW_SIDE, 0.5, regions=True) for record in records
        ]

    app = run_in_page(look_at_all, tmp_path, monkeypatch)
    shown, true = app.session_state["shown"], app.session_state["true"]
    assert len(true) == len(shown) == 2 * PAIRS
    assert None not in true
    assert sum(good != flawed for good, flawed in zip(shown[::2], shown[1::2], strict=True)) == PAIRS
    assert shown == true
    assert app.session_state["again"] == true[:100]


def test_tables_that_differ_in_one_label_are_counted_as_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "record.db", Kind(items=PAIRS + 1, labels=(("good", 1.0),), pictures=False))

    def change_one_after_another() -> None:
        from dataclasses import replace

        import streamlit as st
        from opened import PEOPLE, choose_run, current_run, record

        from differnet.reporting.counts import Truth
        from differnet.store import ReviewEntry
        from differnet.store.connecting import writing
        from differnet.store.rows import replace_item, touch_runs

        st.session_state["truth"] = PEOPLE
        choose_run()
        store = record()
        defects = []
        ids = list(current_run().run.table.item_id)
        for number, item_id in enumerate(ids):
            defects.append(int((current_run().columns.truth == Truth.DEFECT.value).sum()))
            if number % 2:
                store.review("monday", item_id, ReviewEntry("defect", "Ada", "dent"))
            else:
                # What an engine does with a part that is inspected again.
                again = replace(store.records("monday", [item_id])[0], label="dent")
                with writing(store.engine).begin() as connection:
                    replace_item(connection, number + 1, again)
                    touch_runs(connection, ["monday"])
        st.session_state["defects"] = defects

    app = run_in_page(change_one_after_another, tmp_path, monkeypatch)
    assert app.session_state["defects"] == list(range(PAIRS + 1))
