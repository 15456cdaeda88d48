"""What a measurement keeps of each test part, so that two methods can be compared part by part.

A part goes by its path below the dataset's folder. Files of figures hold one part a line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet.evaluation.metrics import MetricError
from differnet.images.layouts import GOOD, Part

KEY = "scores"
"""Under which a run keeps its parts."""

# What stands on a line of its own is written with this around it, which no name of a file contains.
_MARK = "\x00"


def part_names(parts: Sequence[Part], root: Path) -> list[str]:
    """Name parts by their paths below ``root``.

    Args:
        parts: Any.
        root: The dataset's folder. A part that lies elsewhere goes by its file's name alone.

    Returns:
        As many names, all different: the second of a name gets ``#2`` behind it, and so on.

    Example:
        >>> from differnet.images.layouts import Part
        >>> somewhere = [Part(Path(p), None, None) for p in ("/d/good/0.png", "/a/0.png", "/b/0.png")]
        >>> part_names(somewhere, Path("/d"))
        ['good/0.png', '0.png', '0.png#2']
    """
    seen: dict[str, int] = {}
    names: list[str] = []
    for part in parts:
        below = part.path.is_relative_to(root)
        name = part.path.relative_to(root).as_posix() if below else part.path.name
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def by_part(
    parts: Sequence[Part], root: Path, figures: Mapping[str, Sequence[float | None]]
) -> dict[str, dict[str, Any]]:
    """Gather figures by part.

    Args:
        parts: Labelled.
        root: The dataset's folder.
        figures: Name to ``(parts,)`` values. What is not finite becomes ``None``.

    Returns:
        A part's name to its ``label`` and each of the figures, rounded to 4 decimals.
    """
    kept: dict[str, dict[str, Any]] = {}
    for index, (name, part) in enumerate(zip(part_names(parts, root), parts, strict=True)):
        kept[name] = {"label": part.label} | {k: _rounded(v[index]) for k, v in figures.items()}
    return kept


def stacked(
    runs: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None, figure: str = "total"
) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """Read one figure of the same parts out of several runs.

    Args:
        runs: Each with what `by_part` gave under ``scores``.
        names: Parts to take, in this order; ``None`` takes those of the first run.
        figure: Which one. A part without it counts as the strangest, as an unreadable one does.

    Returns:
        ``(runs, parts)`` figures, ``(parts,)`` whether each part is defective, and the parts' names.

    Raises:
        MetricError: There is no run, one keeps no figures by part, or other parts than the first.

    Example:
        >>> run = {"scores": {"a": {"label": "good", "total": 0.5}, "b": {"label": "dent", "total": None}}}
        >>> stacked([run])
        (array([[0.5, inf]]), array([False,  True]), ['a', 'b'])
    """
    if not runs or not all(run.get(KEY) for run in runs):
        raise MetricError(
            expected="runs that keep figures by part",
            found=f"{sum(bool(run.get(KEY)) for run in runs)} of {len(runs)} that do",
            remedy="Measure them anew.",
        )
    wanted = list(runs[0][KEY] if names is None else names)
    lacking = [name for run in runs for name in wanted if name not in run[KEY]]
    if lacking:
        raise MetricError(
            expected="runs of the same parts",
            found=f"{len(lacking)} lacking, such as {lacking[0]}",
            remedy="Compare what was measured on the same split.",
        )
    values = [[run[KEY][name].get(figure) for name in wanted] for run in runs]
    figures = np.array([[math.inf if v is None else v for v in row] for row in values], dtype=np.float64)
    return figures, np.array([runs[0][KEY][name]["label"] != GOOD for name in wanted]), wanted


def without_parts(measured: Any) -> Any:
    """Leave out of a tree of figures what it keeps of each part: a terminal shows the others.

    Example:
        >>> without_parts({"by_seed": [{"image_auroc": 0.9, "scores": {}}]})
        {'by_seed': [{'image_auroc': 0.9}]}
    """
    if isinstance(measured, Mapping):
        return {k: without_parts(v) for k, v in measured.items() if k != KEY}
    return [without_parts(v) for v in measured] if isinstance(measured, list) else measured


def figures_json(measured: Any) -> str:
    """Write a tree of figures as strict JSON, each part on one line.

    Args:
        measured: JSON-able.

    Raises:
        ValueError: A figure is not finite.

    Example:
        >>> print(figures_json({"scores": {"a": {"label": "good", "total": 0.5}}}))
        {
         "scores": {
          "a": {"label": "good", "total": 0.5}
         }
        }
    """
    lines: list[str] = []

    def marked(tree: Any, *, of_part: bool = False) -> Any:
        if of_part:
            lines.append(json.dumps(tree, allow_nan=False))
            return f"{_MARK}{len(lines) - 1}{_MARK}"
        if isinstance(tree, Mapping):
            return {
                k: {name: marked(one, of_part=True) for name, one in v.items()} if k == KEY else marked(v)
                for k, v in tree.items()
            }
        return [marked(v) for v in tree] if isinstance(tree, list | tuple) else tree

    written = json.dumps(marked(measured), indent=1, allow_nan=False)
    mark = json.dumps(_MARK)[1:-1]
    pattern = f'"{re.escape(mark)}(\\d+){re.escape(mark)}"'
    return re.sub(pattern, lambda found: lines[int(found[1])], written)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 4)
