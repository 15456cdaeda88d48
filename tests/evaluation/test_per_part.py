"""What is kept of each part: names, order, and files that a person can still read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from differnet.evaluation.metrics import MetricError
from differnet.evaluation.per_part import by_part, figures_json, part_names, stacked, without_parts
from differnet.images.layouts import Part

PARTS = [
    Part(Path("/d/good/0.png"), "good", "test"),
    Part(Path("/d/dent/0.png"), "dent", "test"),
    Part(Path("/elsewhere/0.png"), "dent", "test"),
    Part(Path("/elsewhere/too/0.png"), "good", "test"),
]


def test_names_are_paths_below_the_root_and_all_different() -> None:
    names = part_names(PARTS, Path("/d"))
    assert names == ["good/0.png", "dent/0.png", "0.png", "0.png#2"]


def test_figures_are_rounded_and_what_is_not_finite_is_none() -> None:
    kept = by_part(PARTS, Path("/d"), {"total": [0.123456, math.inf, None, math.nan]})
    assert kept["good/0.png"] == {"label": "good", "total": 0.1235}
    assert [one["total"] for one in kept.values()] == [0.1235, None, None, None]


def test_runs_are_stacked_by_name_whatever_their_order() -> None:
    first = {"scores": by_part(PARTS, Path("/d"), {"total": [1.0, 2.0, 3.0, 4.0]})}
    second = {"scores": dict(reversed(by_part(PARTS, Path("/d"), {"total": [5.0, None, 7.0, 8.0]}).items()))}
    figures, defective, names = stacked([first, second])
    assert figures.tolist() == [[1, 2, 3, 4], [5, math.inf, 7, 8]]
    assert defective.tolist() == [False, True, True, False]
    assert stacked([second], names)[0].tolist() == [[5, math.inf, 7, 8]]


def test_runs_of_other_parts_are_refused() -> None:
    run = {"scores": by_part(PARTS, Path("/d"), {"total": [1.0, 2.0, 3.0, 4.0]})}
    fewer = {"scores": by_part(PARTS[:3], Path("/d"), {"total": [1.0, 2.0, 3.0]})}
    with pytest.raises(MetricError, match=r"1 lacking, such as 0.png#2"):
        stacked([run, fewer])
    lacking: list[list[dict[str, Any]]] = [[], [{}], [run, {"image_auroc": 1.0}]]
    for bare in lacking:
        with pytest.raises(MetricError, match="Measure them anew"):
            stacked(bare)


def test_a_file_of_figures_has_one_part_a_line_and_loses_nothing() -> None:
    kept = by_part(PARTS, Path("/d"), {"total": [0.25, 1.5, None, 3.0]}) | {'a "b" ß.png': {"total": 1}}
    measured = {"by_seed": [{"seed": 0, "scores": kept}], "trial": (1, 2), "note": '"0"'}
    written = figures_json(measured)
    assert json.loads(written) == json.loads(json.dumps(measured))
    lines = written.splitlines()
    assert sum('"label"' in line for line in lines) == len(PARTS)
    assert '    "dent/0.png": {"label": "dent", "total": 1.5},' in lines
    with pytest.raises(ValueError, match="JSON"):
        figures_json({"scores": {"a": {"total": math.inf}}})


def test_what_is_shown_leaves_the_parts_out() -> None:
    kept = {"image_auroc": 0.5, "scores": {"a": {}}}
    tree = {"by_product": {"bolt": {"by_seed": [kept]}}, **kept}
    assert without_parts(tree) == {
        "by_product": {"bolt": {"by_seed": [{"image_auroc": 0.5}]}},
        "image_auroc": 0.5,
    }
