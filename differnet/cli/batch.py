"""`differnet batch`: thousands of pictures into one run of the record, resumable."""

from __future__ import annotations

import secrets
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from differnet.cli.data import JsonOption, LayoutOption
from differnet.cli.db import USUAL_PLACE, PlaceOption, open_record, shown_place
from differnet.cli.exits import ExitCode
from differnet.cli.inspect import FAILING, FailOn, expand
from differnet.cli.terminal import Terminal, plain_table, terminal
from differnet.cli.train import DeviceOption, PlaceError, RuntimeOption, load_inspector, require_unused
from differnet.records import Verdict

if TYPE_CHECKING:
    from differnet.detection import Inspector
    from differnet.store import RunEntry, Store
    from differnet.store.queue import Progress, Queue

# Quarantined pictures that are named; all are counted.
NAMED = 10

NameArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]
DecodersOption = Annotated[
    int | None,
    typer.Option(
        "--decoders",
        metavar="NUMBER",
        min=1,
        max=64,
        help="Processes that decode. Default: one a processor, up to 4.",
    ),
]
MovedModelOption = Annotated[
    Path | None,
    typer.Option("--model", metavar="MODEL", help="Where its model lies now, if it was moved."),
]
FailOnOption = Annotated[
    list[FailOn] | None,
    typer.Option(
        "--fail-on",
        metavar="VERDICT",
        help="defect, review, ood or invalid: exit code 3 on such a verdict; review means defect too.",
    ),
]


class Engine(StrEnum):
    """Where a job works."""

    LOCAL = "local"
    RAY = "ray"


EngineOption = Annotated[
    Engine,
    typer.Option("--engine", help="ray: on a Ray cluster, with pip install 'differnet[ray]'."),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", metavar="NUMBER", min=1, help="With --engine ray: actors, a model each.")
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="Of the Ray cluster. Default: one on this machine."),
]

app = typer.Typer(no_args_is_help=True, help="Inspect thousands of pictures, stop, come back.")


@app.callback()
def _batch() -> None:
    """Inspect thousands of pictures into the record: what was acknowledged is never lost, and resumed."""


@app.command("run")
def run(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `differnet train` wrote.")],
    pictures: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Pictures, or folders of them.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="RUN", help="Of the run. Default: product and time.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="For heat maps and previews. Default: runs/RUN."),
    ] = None,
    layout: LayoutOption = "auto",
    decoders: DecodersOption = None,
    engine: EngineOption = Engine.LOCAL,
    workers: WorkersOption = 2,
    address: AddressOption = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    fail_on: FailOnOption = None,
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Begin a run and work on it. Prints its name.

    With the name of a run that was begun, pictures that it does not have yet are added to it. Ctrl-C ends the
    current step, keeps it, and says how to resume. Further processes may work on the same run:
    `differnet batch resume RUN`.
    """
    shown = terminal()
    with open_record(place) as store:
        begun = _known_run(store, name)
        if begun is not None and out is not None and out.resolve() != Path(begun.folder).resolve():
            raise PlaceError(
                expected=f"no --out for run {name}, whose pictures are in {begun.folder}",
                found=str(out),
                remedy="Leave --out away, or name another run.",
            )
        folder = out if out is not None else Path(begun.folder) if begun else None
        if begun is None and folder is not None:
            require_unused(folder)
        wanted = expand(shown, pictures, layout)
        detector = load_inspector(model, device, runtime, adopt=begun is None)
        from dataclasses import replace

        from differnet.batch import RunPlan, begin, resume, whole_path
        from differnet.detection import revision_of
        from differnet.reporting import run_facts
        from differnet.store.queue import Wanted

        if begun is not None:
            # Under the thresholds that it was begun with, whatever was set since.
            resume(store, begun.run_id, detector)
        source = ", ".join(str(path) for path in pictures[:3]) + (" ..." if len(pictures) > 3 else "")
        facts = run_facts(detector.facts(), source, revision_of(detector, model))
        named = name or _usual_name(facts.product)
        folder = folder if folder is not None else Path("runs") / named
        plan = RunPlan(
            replace(facts, run_id=named, started_at=begun.started_at if begun else None),
            model,
            folder,
            [Wanted(whole_path(w.path), w.label) for w in wanted],
        )
        queue = begin(store, detector, plan)
        here = _Workplace(engine, workers, address, decoders, place, device, runtime)
        _work(shown, store, queue, detector, model, here)
        _tell(shown, store, queue, place, fail_on or [], as_json)


@app.command("resume")
def resume_(
    name: NameArgument,
    model: MovedModelOption = None,
    decoders: DecodersOption = None,
    engine: EngineOption = Engine.LOCAL,
    workers: WorkersOption = 2,
    address: AddressOption = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    fail_on: FailOnOption = None,
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Work on a run that was begun, alone or beside other processes, under its own thresholds."""
    shown = terminal()
    with open_record(place, known=True) as store:
        here = _Workplace(engine, workers, address, decoders, place, device, runtime)
        _resume(shown, store, name, model, here)
        _tell(shown, store, _queue(store, name), place, fail_on or [], as_json)


@app.command("retry")
def retry(
    name: NameArgument,
    model: MovedModelOption = None,
    decoders: DecodersOption = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    fail_on: FailOnOption = None,
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Try once more what was put aside. A new verdict takes the place of INVALID, which the audit keeps."""
    shown = terminal()
    with open_record(place, known=True) as store:
        queue = _queue(store, name)
        count = queue.retry()
        shown.note(f"{count:,} pictures are tried once more.")
        if count:
            here = _Workplace(Engine.LOCAL, 1, None, decoders, place, device, runtime)
            _resume(shown, store, name, model, here)
        _tell(shown, store, queue, place, fail_on or [], as_json)


@app.command("status")
def status(
    name: Annotated[str | None, typer.Argument(metavar="[RUN]", help="One run. Default: the latest.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="NUMBER", min=1, help="At most so many.")] = 20,
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Show how far runs are, and with RUN also what was put aside and why."""
    from differnet.store import Asked
    from differnet.store.queue import Queue

    shown = terminal()
    with open_record(place, known=True) as store:
        found = [store.run(name)] if name is not None else store.runs(limit=limit, jobs=True)
        queues = [Queue(store, run.run_id) for run in found]
        progress = [(run, queue.progress()) for run, queue in zip(found, queues, strict=True)]
        jobs = [(run, p, store.verdict_counts(Asked(run_id=run.run_id))) for run, p in progress]
        aside = queues[0].quarantined(limit) if name is not None else []
    if as_json:
        told = [_state(run, p, counts) for run, p, counts in jobs]
        shown.write_json({"runs": told, "quarantined": [{"path": p, "reason": r} for p, r in aside]})
        return
    rows = [
        (
            *(run.run_id, _words(run, p), f"{p.total:,}", f"{p.left:,}"),
            *(f"{counts[verdict]:,}" for verdict in Verdict),
        )
        for run, p, counts in jobs
    ]
    columns = ("run", "state", "pictures", "left", *(verdict.value for verdict in Verdict))
    shown.write_table(plain_table(columns, rows, numbers=7))
    for path, reason in aside:
        shown.tell(f"{path}: {reason}")
    if name is not None and len(aside) < (all_aside := progress[0][1].quarantined):
        shown.note(f"{len(aside):,} of {all_aside:,} that were put aside; --limit shows more.")


@app.command("merge")
def merge(
    records: Annotated[
        list[str], typer.Argument(metavar="RECORD...", help="Other records: files, or PostgreSQL databases.")
    ],
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Put the runs of other records into this one: of every line's machine into the plant's, say.

    Merging again adds what is new, and what has moved on since. Heat maps and previews stay where they are.
    """
    from differnet.store.merging import merge as merged

    shown = terminal()
    told = []
    with open_record(place) as store:
        for other in records:
            with open_record(other, known=True) as source, shown.steps() as steps:
                found = merged(store, source, steps.named(f"merging {shown_place(other)}"))
            told.append({"record": shown_place(other), **vars(found)})
    if as_json:
        shown.write_json({"db": shown_place(place), "merged": told})
        return
    for each in told:
        shown.tell(
            f"{each['record']}: {each['items']:,} pictures of {each['runs']:,} runs and {each['reviews']:,} "
            f"reviews were new; {each['changed']:,} had moved on."
        )


@dataclass(frozen=True)
class _Workplace:
    """Where a job works, as the command line says it."""

    engine: Engine
    workers: int
    address: str | None
    decoders: int | None
    place: str
    device: str
    runtime: str


def _known_run(store: Store, name: str | None) -> RunEntry | None:
    from differnet.store import NoRunError

    if name is None:
        return None
    try:
        return store.run(name)
    except NoRunError:
        return None


def _usual_name(product: str) -> str:
    from datetime import UTC, datetime

    # Two that begin in the same second are two runs.
    return f"{product or 'run'}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _queue(store: Store, name: str) -> Queue:
    from differnet.batch import model_folder
    from differnet.store.queue import Queue

    model_folder(store.run(name))
    return Queue(store, name)


def _resume(
    shown: Terminal,
    store: Store,
    name: str,
    model: Path | None,
    workplace: _Workplace,
) -> None:
    """Go on with a run."""
    from differnet.batch import model_folder, resume

    run = store.run(name)
    place = model if model is not None else model_folder(run)
    detector = load_inspector(place, workplace.device, workplace.runtime, adopt=False)
    queue = resume(store, name, detector)
    shown.note(f"Run {name} goes on under T1 {run.t_review:.3f} and T2 {run.t_defect:.3f}, as it was begun.")
    _work(shown, store, queue, detector, place, workplace)


def _work(
    shown: Terminal, store: Store, queue: Queue, detector: Inspector, model: Path, workplace: _Workplace
) -> None:
    from differnet.batch import work

    folder = Path(store.run(queue.run_id).folder)
    with shown.steps() as steps, _asked_to_stop(shown) as stop:

        def told(progress: Progress) -> None:
            steps("inspecting", progress.total - progress.left, progress.total)

        told(queue.progress())
        if workplace.engine is Engine.RAY:
            from differnet.batch.cluster import work_on_ray

            work_on_ray(
                queue,
                model,
                folder,
                workplace.place,
                workers=workplace.workers,
                decoders=workplace.decoders,
                address=workplace.address,
                device=workplace.device,
                runtime=workplace.runtime,
                told=told,
                stop=stop,
            )
        else:
            rule = detector.settings.reading
            work(queue, detector, rule, folder, decoders=workplace.decoders, told=told, stop=stop)


def _tell(
    shown: Terminal, store: Store, queue: Queue, place: str, fail_on: list[FailOn], as_json: bool
) -> None:
    """Say what came of it, and end with the exit code of that."""
    from differnet.store import Asked

    progress, run = queue.progress(), store.run(queue.run_id)
    counts = store.verdict_counts(Asked(run_id=run.run_id))
    if as_json:
        shown.write_json(_state(run, progress, counts))
    else:
        shown.write(run.run_id)
    shown.blank()
    shown.show(
        plain_table([v.value for v in Verdict], [[f"{counts[v]:,}" for v in Verdict]], numbers=len(Verdict))
    )
    for path, reason in queue.quarantined(NAMED):
        shown.note(f"put aside: {path}: {reason}")
    if progress.quarantined > NAMED:
        shown.note(f"and {progress.quarantined - NAMED:,} more: differnet batch status {run.run_id}")
    shown.blank()
    option = "" if place == USUAL_PLACE else f" --db {shlex.quote(shown_place(place))}"
    name = shlex.quote(run.run_id)
    if progress.left:
        shown.warn(
            f"stopped with {progress.left:,} of {progress.total:,} left; all others are kept. "
            f"Go on with: differnet batch resume {name}{option}"
        )
        raise typer.Exit(ExitCode.INTERRUPTED)
    shown.note(f"Next: differnet report {name}{option}")
    if any(counts[Verdict(v)] for condition in fail_on for v in FAILING[condition]):
        raise typer.Exit(ExitCode.FAIL_ON)
    raise typer.Exit(ExitCode.QUARANTINED if progress.quarantined else ExitCode.OK)


def _state(run: RunEntry, progress: Progress, counts: Mapping[Verdict, int]) -> dict[str, Any]:
    return {
        "run": run.run_id,
        "state": _words(run, progress),
        "pictures": progress.total,
        "judged": progress.done,
        "left": progress.left,
        "put_aside": progress.quarantined,
        "folder": run.folder,
        "began": run.started_at,
        "finished": run.finished_at,
        "verdicts": {verdict.value: counts[verdict] for verdict in Verdict},
    }


def _words(run: RunEntry, progress: Progress) -> str:
    if not progress.left:
        return "finished" if run.finished_at else "about to finish"
    return "at work" if progress.leased else "stopped"


@contextmanager
def _asked_to_stop(shown: Terminal) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a wish to stop; the second one ends at once."""
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        shown.warn("ending the current step; once more to end at once")

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, ask) for kind in kinds]
    try:
        yield lambda: bool(asked)
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
