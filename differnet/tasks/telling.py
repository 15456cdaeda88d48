"""What pages say of a task: how it stands, what is left, what went wrong, and what a training promises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differnet.durations import duration
from differnet.records import DiffernetError
from differnet.store.tasks import State, TaskEntry

if TYPE_CHECKING:
    import pandas as pd

TRAINING, HELD_OUT = "training", "held-out parts"

_WORDS: dict[State, str] = {
    "waiting": "waits for its turn",
    "running": "at work",
    "done": "done",
    "failed": "failed",
    "stopped": "stopped",
    "lost": "ended unexpectedly",
}
_READ = 64 * 2**10


class FailedTaskError(DiffernetError):
    """What made a task fail, as the record keeps it."""


def state_words(task: TaskEntry) -> str:
    """Say how a task stands."""
    if task.state == "waiting" and task.progress.get("starts"):
        return "starts"
    return "stops at its next step" if task.state == "running" and task.stop_asked else _WORDS[task.state]


def share_done(task: TaskEntry) -> float | None:
    """Return the share of the present stage that is done, from 0 to 1; ``None`` where nobody can say."""
    done, total = task.progress.get("done"), task.progress.get("total")
    if not isinstance(done, int | float) or not isinstance(total, int | float) or total <= 0:
        return None
    return min(1.0, max(0.0, done / total))


def progress_words(task: TaskEntry) -> str:
    """Say how far a task is, and what is left of its present stage.

    Example:
        >>> progress = {"stage": "densities", "done": 300, "total": 1000, "left": 84.2}
        >>> progress_words(TaskEntry("t", "train", "", {}, "ada", "running", progress=progress))
        'densities: 300 of 1,000, about 1 min 24 s left'
    """
    told = task.progress
    if task.state == "waiting" or not told.get("stage"):
        return state_words(task)
    counted = f": {told['done']:,} of {told['total']:,}" if told.get("total", 0) > 1 else ""
    left = told.get("left")
    if task.state != "running" or left is None:
        return f"{told['stage']}{counted}"
    return f"{told['stage']}{counted}, about {duration(max(0.0, left - _since(task.seen_at)))} left"


def took(task: TaskEntry) -> str:
    """Say how long a task has been at work, or was; empty where it has not begun."""
    if task.started_at is None:
        return ""
    ended = task.finished_at or (task.seen_at if task.state == "lost" else None)
    until = datetime.fromisoformat(ended) if ended else datetime.now(UTC)
    return duration(max(0.0, (until - datetime.fromisoformat(task.started_at)).total_seconds()))


def error_of(task: TaskEntry) -> FailedTaskError | None:
    """Return what made a task fail, where it did."""
    if task.state == "lost":
        return FailedTaskError(
            expected="a process that says every few seconds that it is at work",
            found=f"nothing heard since {(task.seen_at or '')[:19].replace('T', ' ')} UTC",
            remedy="It was killed, or the machine was switched off. What it had kept stands; start it again.",
        )
    if task.state != "failed":
        return None
    told = task.outcome.get("error")
    if not isinstance(told, dict):
        return FailedTaskError(
            expected="a task that is done", found=task.reason or "no reason", remedy="Look at its log."
        )
    return FailedTaskError(**{name: str(told.get(name, "")) for name in ("expected", "found", "remedy")})


def losses_table(progress: Mapping[str, Any]) -> pd.DataFrame:
    """Lay out the losses of a training for a chart or to be read.

    Args:
        progress: Of a task, see `differnet.tasks.course.Course.progress`.

    Returns:
        Columns ``density`` (a trial of couplings is a density of its own), ``member``, ``step``, ``nll`` in
        nats a vector, and ``of``: training, or held-out parts.
    """
    import pandas as pd

    rows = [
        (curve["density"] + (", trial" if curve["trial"] else ""), curve["member"], step, nll, of)
        for curve in progress.get("losses", ())
        for step, training, held_out in curve["points"]
        for nll, of in ((training, TRAINING), (held_out, HELD_OUT))
        if nll is not None
    ]
    return pd.DataFrame(rows, columns=["density", "member", "step", "nll", "of"])


def latest_losses(progress: Mapping[str, Any]) -> pd.DataFrame:
    """Lay out where each training stands.

    Returns:
        A row for each training: ``density``, ``member``, ``step``, ``steps``, ``first nll`` and ``last nll``
        of training, and the last ``held-out nll`` or NaN.
    """
    import pandas as pd

    rows = []
    for curve in progress.get("losses", ()):
        points = curve["points"]
        density = curve["density"] + (", trial" if curve["trial"] else "")
        held = next((held_out for _, _, held_out in reversed(points) if held_out is not None), math.nan)
        (_, first, _), (step, last, _) = points[0], points[-1]
        rows.append((density, curve["member"], step, curve["steps"], first, last, held))
    columns = ["density", "member", "step", "steps", "first nll", "last nll", "held-out nll"]
    return pd.DataFrame(rows, columns=columns)


def promises_table(facts: Mapping[str, Any]) -> pd.DataFrame:
    """Lay out what a model promises.

    Args:
        facts: `Detector.facts`.

    Returns:
        A row for each threshold: ``threshold``, ``beyond it a part``, ``strangeness``, ``of good parts, on
        average``, ``with this calibration, 90 %``.
    """
    import pandas as pd

    from differnet.reporting import run_facts
    from differnet.reporting.report import promises

    rows = [
        (each.name, each.action, f"{each.threshold:.2f}", each.share, each.interval)
        for each in promises(run_facts(dict(facts), ""))
    ]
    columns = ["threshold", "beyond it a part", "strangeness", "of good parts, on average"]
    return pd.DataFrame(rows, columns=[*columns, "with this calibration, 90 %"])


def few_parts(alpha_review: float, alpha_defect: float, facts: Mapping[str, Any]) -> list[str]:
    """Say where a calibration's parts are too few for the rates that were asked for.

    Args:
        alpha_review: Asked for.
        alpha_defect: Asked for.
        facts: `Detector.facts`.
    """
    from differnet.evaluation.intervals import percent
    from differnet.reporting.report import no_promise

    calibration = facts["calibration"]
    if not calibration["promised"]:
        sentence = no_promise(calibration["parts"])
        return [f"{sentence[0].upper()}{sentence[1:]}. Twenty parts are a fair start."]
    asked = ((alpha_review, "alpha_review", "go to review"), (alpha_defect, "alpha_defect", "are rejected"))
    return [
        f"{calibration['parts']:,} good parts cannot promise that at most {percent(alpha)} of good parts "
        f"{what}, only {percent(calibration[name])}; that takes {math.ceil(1 / alpha) - 1:,} good parts."
        for alpha, name, what in asked
        if calibration[name] > alpha
    ]


def scan_table(outcome: Mapping[str, Any]) -> pd.DataFrame:
    """Lay out which parts a look at a folder has found.

    Args:
        outcome: Of a task of kind ``scan``.

    Returns:
        Columns ``split``, ``label`` and ``parts``.
    """
    import pandas as pd

    rows = [
        (split, label, number)
        for split, labels in outcome.get("counts", {}).items()
        for label, number in labels.items()
    ]
    return pd.DataFrame(rows, columns=["split", "label", "parts"])


def last_lines(log: Path, number: int = 60) -> str:
    """Return the last lines of a log; empty where there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _READ))
            written = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(written.splitlines()[-number:])


def _since(time: str | None) -> float:
    return 0.0 if time is None else (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
