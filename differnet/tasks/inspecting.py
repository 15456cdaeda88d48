"""The task that inspects pictures into a run of the record: begun, gone on with, or tried once more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differnet.store import NoRunError, RunEntry, Store
from differnet.store.queue import Progress, Queue, Wanted
from differnet.tasks.course import Course, StoppedError
from differnet.tasks.learning import load_judge, model_place
from differnet.tasks.places import WishError, Workspace
from differnet.tasks.wishes import InspectWish

if TYPE_CHECKING:
    from differnet.detection.inspector import Inspector

_STAGE = "inspecting"


def inspect(wish: InspectWish, store: Store, course: Course) -> dict[str, Any]:
    """Inspect pictures; what was judged stays whatever happens, and the run can be gone on with.

    Returns:
        ``run``, how many pictures are ``done``, ``quarantined`` and ``left``, ``verdicts``, and how many were
        ``left_out`` because they are set aside for training.

    Raises:
        StoppedError: Somebody wanted an end before all was judged.
        WishError: There is no such run and no model for a new one.
    """
    from differnet.batch import work

    course.tell(_STAGE, 0, 0)
    begun = _begun(store, wish.run)
    if begun is None and not (wish.model and wish.pictures):
        raise WishError(
            expected=f"a run {wish.run}, or a model and pictures for a new one",
            found="no such run, and " + ("no pictures" if wish.model else "no model"),
            remedy="Choose a model and a folder.",
        )
    wanted, left_out = _pictures(wish)
    detector = _judge_of(store, begun) if begun is not None else load_judge(store, wish.model)
    course.note(run=wish.run, left_out=left_out)
    queue = _queue(wish, store, begun, detector, wanted)
    if wish.retry:
        queue.retry()

    def told(progress: Progress) -> None:
        course.tell(_STAGE, progress.total - progress.left, progress.total)

    told(queue.progress())
    folder = Path(store.run(wish.run).folder)
    decoders = wish.decoders or None
    ended = work(
        queue, detector, detector.settings.reading, folder, decoders=decoders, told=told, stop=course.stopping
    )
    if ended.left:
        raise StoppedError(f"{course.why_stopped()}; {ended.left:,} of {ended.total:,} pictures are left")
    from differnet.store import Asked

    counts = store.verdict_counts(Asked(run_id=wish.run))
    return {
        "run": wish.run,
        "done": ended.done,
        "quarantined": ended.quarantined,
        "left": ended.left,
        "left_out": left_out,
        "verdicts": {verdict.value: count for verdict, count in counts.items()},
    }


def _begun(store: Store, run_id: str) -> RunEntry | None:
    try:
        return store.run(run_id)
    except NoRunError:
        return None


def _pictures(wish: InspectWish) -> tuple[list[Wanted], int]:
    """List what is to be inspected, with labels where folders tell them, and count what they set aside."""
    found = list(_each(wish))
    return [wanted for some, _ in found for wanted in some], sum(left_out for _, left_out in found)


def _each(wish: InspectWish) -> Iterator[tuple[list[Wanted], int]]:
    from differnet.batch import whole_path
    from differnet.images.layouts import parts_to_inspect, wrong_inputs

    for place in map(Path, wish.pictures):
        if place.is_dir():
            found = parts_to_inspect(place, wish.layout)
            parts = [*found.parts, *(wrong_inputs(place) if wish.wrong_inputs else ())]
            yield [Wanted(whole_path(part.path), part.label) for part in parts], found.left_out
        else:
            yield [Wanted(whole_path(place), None)], 0


def _judge_of(store: Store, run: RunEntry) -> Inspector:
    """Load the model of a run without thresholds that were set since, from where it lies now."""
    from differnet.batch import model_folder
    from differnet.runtime import load_fastest

    model_folder(run)
    return load_fastest(model_place(store, run.model_id))


def _queue(
    wish: InspectWish, store: Store, begun: RunEntry | None, detector: Inspector, wanted: list[Wanted]
) -> Queue:
    from differnet.batch import RunPlan, begin, resume
    from differnet.detection import revision_of
    from differnet.reporting import run_facts

    if begun is not None:
        queue = resume(store, begun.run_id, detector)
        if not wanted:
            return queue
    model = model_place(store, detector.model_id)
    source = ", ".join(wish.pictures[:3]) + (" ..." if len(wish.pictures) > 3 else "")
    facts = run_facts(detector.facts(), source, revision_of(detector, model))
    folder = Path(begun.folder) if begun is not None else Workspace.open(wish.workspace).runs / wish.run
    facts = replace(facts, run_id=wish.run, started_at=begun.started_at if begun is not None else None)
    return begin(store, detector, RunPlan(facts, model, folder, wanted))
