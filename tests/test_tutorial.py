"""The tutorial keeps its word: every block of it runs, in order, and prints what it says."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from differnet.flows import presets
from differnet.tables import FAMILIES

TUTORIAL = Path(__file__).parents[1] / "docs" / "flows.md"
_BLOCK = re.compile(r"^```python\n(?P<source>.*?)^```$(?:\n\s*^```text\n(?P<printed>.*?)^```$)?", re.M | re.S)


class Block(NamedTuple):
    line: int
    source: str
    printed: str


def blocks(text: str) -> list[Block]:
    """Return the Python of a page; where a block of text follows at once, it is what is printed."""
    return [
        Block(text[: match.start()].count("\n") + 2, match["source"], match["printed"] or "")
        for match in _BLOCK.finditer(text)
    ]


def run(block: Block, names: dict[str, Any], page: str) -> None:
    """Run a block in the names that the ones before it have left, and compare what it prints."""
    printed = io.StringIO()
    # Blank lines in front give tracebacks the line numbers of the page.
    code = compile("\n" * (block.line - 1) + block.source, page, "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    checker = doctest.OutputChecker()
    if not checker.check_output(block.printed, printed.getvalue(), doctest.ELLIPSIS):
        raise AssertionError(
            f"{page}, line {block.line}: printed\n{printed.getvalue()}\nand not\n{block.printed}"
        )


@pytest.fixture
def one_thread() -> Any:
    """Small products: several threads would wait for each other. Random numbers as of a fresh start."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_every_block_runs_and_prints_what_it_says() -> None:
    page = TUTORIAL.read_text("utf-8")
    found = blocks(page)
    # None is missed by the pattern.
    assert len(found) == page.count("```python")
    assert sum(bool(block.printed) for block in found) == page.count("```text")
    names: dict[str, Any] = {"__name__": "tutorial"}
    for block in found:
        run(block, names, str(TUTORIAL))


def test_a_page_that_lies_is_caught() -> None:
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    (block,) = blocks(page)
    assert (block.line, block.printed) == (2, "3\n")
    with pytest.raises(AssertionError, match="page, line 2"):
        run(block, {}, "page")


def test_output_that_is_not_stated_is_caught() -> None:
    (block,) = blocks("```python\nprint(7)\n```\n\nWords between.\n\n```text\n7\n```\n")
    with pytest.raises(AssertionError, match="page, line 2"):
        run(block, {}, "page")


def test_the_table_names_every_family() -> None:
    rows = [line for line in TUTORIAL.read_text("utf-8").splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall("`([a-z_]+)`", row.split("|")[1])}
    builders = {
        name for name, thing in vars(presets).items() if getattr(thing, "__module__", "") == presets.__name__
    }
    # Two of that module are parts of the others.
    expected = (
        (builders - {"shuffle", "stack"}) | set(FAMILIES) | {"augmented", "glow_image", "real_nvp_image"}
    )
    assert listed == expected
