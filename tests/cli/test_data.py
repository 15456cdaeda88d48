from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from differnet.cli.data import LAYOUT_NAMES
from differnet.images.layouts import LAYOUTS

Invoke = Callable[..., Result]


def test_a_clean_folder_is_0_and_json_is_one_object(invoke: Invoke, tree: Path) -> None:
    shown = invoke("data", "scan", tree, "--json")
    assert shown.exit_code == 0
    found = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert found["layout"] == "folder"
    assert found["counts"] == {"train": {"good": 6}, "test": {"good": 2, "scratch": 3}}
    assert found["readable"] == 11


def test_a_person_reads_the_same_figures(invoke: Invoke, tree: Path) -> None:
    shown = invoke("data", "scan", tree)
    words = " ".join(shown.stdout.split())
    assert "train good 6 test good 2 scratch 3" in words
    assert "11 pictures can be read" in words
    assert "32 x 24" in words


def test_what_is_wrong_is_named(invoke: Invoke, tree: Path) -> None:
    (tree / "good" / "cut.png").write_bytes((tree / "good" / "0.png").read_bytes()[:100])
    (tree / "scratch" / "\x1b[31mred.png").write_bytes(b"no picture")
    shutil.copy(tree / "good" / "0.png", tree / "good" / "twin.png")
    shown = invoke("data", "scan", tree, "--no-color")
    assert shown.exit_code == 4
    assert "unreadable: 2" in shown.stdout
    assert "good/cut.png" in shown.stdout
    assert "good/twin.png" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_the_help_names_every_layout() -> None:
    assert tuple(LAYOUTS) == LAYOUT_NAMES


def test_an_unknown_layout_is_explained(invoke: Invoke, tree: Path) -> None:
    shown = invoke("data", "scan", tree, "--layout", "coco")
    assert shown.exit_code == 1
    assert f"auto, {', '.join(LAYOUTS)}" in shown.stderr
