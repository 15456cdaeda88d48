"""`differnet inspect`: verdicts for pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from differnet.cli.data import JsonOption, LayoutOption
from differnet.cli.exits import ExitCode
from differnet.cli.terminal import Terminal, plain_table, terminal
from differnet.cli.train import DeviceOption, RuntimeOption, load_inspector, require_unused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from differnet.detection import Inspector
    from differnet.images.reading import ReadingRule
    from differnet.records import Inspection, Picture, Record
    from differnet.reporting import RunFacts, RunFolder

# Pictures that are read and judged together: most of the speed of many, little of their memory.
BATCH = 8
VERDICT_COLUMNS = ("PASS", "REVIEW", "DEFECT", "OOD", "INVALID")


class FailOn(StrEnum):
    """What makes `differnet inspect` end with exit code 3."""

    DEFECT = "defect"
    REVIEW = "review"
    OOD = "ood"
    INVALID = "invalid"


# A part that is stranger than one to be looked at must not go by unnoticed.
FAILING = {
    FailOn.DEFECT: {"DEFECT"},
    FailOn.REVIEW: {"REVIEW", "DEFECT"},
    FailOn.OOD: {"OOD"},
    FailOn.INVALID: {"INVALID"},
}


@dataclass(frozen=True)
class Wanted:
    """A picture to inspect.

    Attributes:
        path: The file.
        label: What its folder says it shows, or ``None``.
    """

    path: Path
    label: str | None = None


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `differnet train` wrote.")],
    pictures: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Pictures, or folders of them.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write a run: records, heat maps, previews.")
    ] = None,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option(
            "--fail-on",
            metavar="VERDICT",
            help="defect, review, ood or invalid: exit code 3 on such a verdict; review means defect too. "
            "May be given several times.",
        ),
    ] = None,
    layout: LayoutOption = "auto",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Judge pictures: PASS, REVIEW, DEFECT, OOD or INVALID, with reasons.

    Without --out one JSON record a picture goes to stdout. With --out a run is written there, for
    `differnet report` and `differnet dashboard`, and its folder goes to stdout. A folder gives its
    pictures their labels where it has a layout; parts that it sets aside for training are left out.
    """
    shown = terminal()
    if out is not None:
        require_unused(out)
    wanted = expand(shown, pictures, layout)
    detector = load_inspector(model, device, runtime)
    if out is None:
        records = list(_printed(shown, each_inspected(shown, detector, wanted)))
    else:
        source = ", ".join(str(path) for path in pictures[:3]) + (" ..." if len(pictures) > 3 else "")
        from differnet.detection import revision_of
        from differnet.reporting import run_facts

        facts = run_facts(detector.facts(), source, revision_of(detector, model))
        records = list(write_run(shown, detector, wanted, out, facts).records)
    show_verdicts(shown, records)
    if out is not None:
        if as_json:
            shown.write_json({"run": out, "counts": Counter(record.verdict.value for record in records)})
        else:
            shown.write(str(out))
        shown.blank()
        shown.note(f"Next: differnet report {out}")
    raise typer.Exit(exit_code(records, fail_on or []))


def expand(shown: Terminal, places: Sequence[Path], layout: str = "auto") -> list[Wanted]:
    """Turn files and folders into the pictures to inspect.

    Args:
        shown: Where it says what was left out.
        places: Files, taken as they are, and folders.
        layout: How folders are laid out.

    Returns:
        The pictures, with labels where a folder tells them.

    Raises:
        LayoutError: A folder is not there or holds no pictures.
    """
    wanted: list[Wanted] = []
    for place in places:
        # A file that is not there is INVALID like any other that cannot be read: it stops no run.
        wanted += _expand_folder(shown, place, layout) if place.is_dir() else [Wanted(place)]
    return wanted


def _expand_folder(shown: Terminal, folder: Path, layout: str) -> list[Wanted]:
    from differnet.images.layouts import parts_to_inspect

    found = parts_to_inspect(folder, layout)
    if found.left_out:
        shown.note(
            f"{folder}: {found.layout} layout; {found.left_out:,} parts set aside for training are left "
            "out, since a model finds what it has learned less strange."
        )
    return [Wanted(part.path, part.label) for part in found.parts]


def each_inspected(
    shown: Terminal, detector: Inspector, wanted: Sequence[Wanted]
) -> Iterator[tuple[Inspection, NDArray[Any] | None]]:
    """Inspect pictures one after another, showing progress.

    Args:
        shown: Where progress goes.
        detector: A model.
        wanted: What to inspect.

    Yields:
        Inspection, labelled, and the picture's pixels (``None`` when it cannot be read).
    """
    from differnet.repeats import Repeats

    repeats = Repeats()
    with shown.steps() as steps:
        steps("inspecting", 0, len(wanted))
        for start in range(0, len(wanted), BATCH):
            some = wanted[start : start + BATCH]
            for inspection, pixels in _inspect_some(detector, some):
                yield repeats.asked(inspection), pixels
            steps("inspecting", start + len(some), len(wanted))


def _inspect_some(
    detector: Inspector, some: Sequence[Wanted]
) -> Iterator[tuple[Inspection, NDArray[Any] | None]]:
    # Read here, once: the run keeps a preview of the same pixels that were judged.
    sources = [_read(item.path, detector.settings.reading) for item in some]
    for item, source, inspection in zip(some, sources, detector.inspect_many(sources), strict=True):
        pixels = None if isinstance(source, Path) else source.pixels
        yield replace(inspection, record=replace(inspection.record, label=item.label)), pixels


def _read(path: Path, rule: ReadingRule) -> Picture | Path:
    """Read a picture; one that cannot be read stays a path, which the detector judges INVALID."""
    from differnet.images.reading import ImageError, read_image

    try:
        return read_image(path, rule)
    except ImageError:
        return path


def _printed(
    shown: Terminal, inspected: Iterable[tuple[Inspection, NDArray[Any] | None]]
) -> Iterator[Record]:
    from differnet.strict_json import to_json

    for inspection, _ in inspected:
        shown.write(to_json(inspection.record))
        yield inspection.record


def write_run(
    shown: Terminal, detector: Inspector, wanted: Sequence[Wanted], folder: Path, facts: RunFacts
) -> RunFolder:
    """Inspect pictures into a run's folder.

    Args:
        shown: Where progress goes.
        detector: A model.
        wanted: What to inspect.
        folder: New or empty.
        facts: What is known of the run before its first picture, see `run_facts`.

    Returns:
        The run, finished.
    """
    from differnet.reporting import RunFolder

    with RunFolder.create(folder, facts) as run:
        for inspection, pixels in each_inspected(shown, detector, wanted):
            run.append(inspection, pixels)
    return run


def show_verdicts(shown: Terminal, records: Sequence[Record]) -> None:
    """Show on stderr how many pictures of each label got which verdict."""
    if len(records) == 1:
        (record,) = records
        shown.blank()
        shown.note(f"{record.path}: {record.verdict.value}")
        for reason in record.reasons:
            shown.note(f"  {reason}")
        return
    shown.blank()
    shown.show(verdict_table(records))


def verdict_table(records: Sequence[Record]) -> Any:
    """Count verdicts by label.

    Args:
        records: Any number.

    Returns:
        A table, good parts first, wrong inputs last.
    """
    counted = Counter((record.label or "unlabelled", record.verdict.value) for record in records)
    labels = sorted({label for label, _ in counted}, key=_label_order)
    rows = [(label, *(_count(counted[label, verdict]) for verdict in VERDICT_COLUMNS)) for label in labels]
    if len(labels) > 1:
        totals = Counter(record.verdict.value for record in records)
        rows.append(("all", *(_count(totals[verdict]) for verdict in VERDICT_COLUMNS)))
    return plain_table(("label", *VERDICT_COLUMNS), rows, numbers=len(VERDICT_COLUMNS))


def _label_order(label: str) -> tuple[int, str]:
    return (0 if label == "good" else 2 if label.startswith("wrong_inputs") else 1), label


def _count(number: int) -> str:
    return f"{number:,}" if number else "."


def exit_code(records: Iterable[Record], fail_on: Iterable[FailOn]) -> ExitCode:
    """Choose how an inspection ends: the asked-for condition outranks quarantined files."""
    found = {record.verdict.value for record in records}
    if any(FAILING[condition] & found for condition in fail_on):
        return ExitCode.FAIL_ON
    return ExitCode.QUARANTINED if "INVALID" in found else ExitCode.OK
