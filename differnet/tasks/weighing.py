"""The task that compares two models on known parts of the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from differnet.store import Store
from differnet.tasks.course import Course
from differnet.tasks.learning import load_known, model_place
from differnet.tasks.making import NAMED
from differnet.tasks.places import WishError, Workspace
from differnet.tasks.wishes import CompareWish


def compare_models(wish: CompareWish, store: Store, course: Course) -> dict[str, Any]:
    """Let two models judge the same known parts, which neither has learned, and keep that beside the new one.

    Returns:
        ``comparison_file``, ``good``, ``defects``, ``flips``, and of pictures that could not be compared the
        first 200, ``lost`` and ``left_out``, with ``lost_count``.
    """
    from differnet.reviewing import compare, keep, parts_to_compare

    folder = model_place(store, wish.new)
    course("loading the models", 0, 2)
    old = load_known(store, wish.model)
    course("loading the models", 1, 2)
    new = load_known(store, wish.new)
    course("choosing parts that neither has learned", 0, 1)
    roots = (Path(wish.root) if wish.root else Workspace.open(wish.workspace).root, Path())
    learned = old.trained_on | new.trained_on
    chosen = parts_to_compare(store, old.settings.product, learned, roots, wish.parts)
    if not chosen.parts:
        raise WishError(
            expected="good parts or defects on record that neither model has learned, where they were",
            found=f"none: {chosen.known[0]:,} good parts and {chosen.known[1]:,} defects are known, "
            f"{len(chosen.lost):,} pictures are lost",
            remedy="Inspect labelled parts, review some, or put their pictures back.",
        )
    compared = compare(old, new, chosen.parts, "the record", course)
    return {
        "comparison_file": str(keep(compared, folder)),
        "good": compared.good,
        "defects": compared.defects,
        "flips": len(compared.flips),
        "lost": list(chosen.lost[:NAMED]),
        "lost_count": len(chosen.lost),
        "left_out": list(compared.left_out[:NAMED]),
    }
