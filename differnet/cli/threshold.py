"""`differnet threshold`: what a model judges by, what else it could, and who decided so."""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from differnet.cli.data import JsonOption
from differnet.cli.terminal import Terminal, plain_table, terminal
from differnet.cli.train import PlaceError, load_model, thresholds_table
from differnet.records import USUAL_REVIEW

if TYPE_CHECKING:
    from differnet.calibration import Revision, Suggestion
    from differnet.detection import Detector
    from differnet.records import Record

app = typer.Typer(no_args_is_help=True, help="See, suggest and set the two thresholds of a model.")

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `differnet train` wrote.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept.")]
AuthorOption = Annotated[
    str, typer.Option("--author", metavar="NAME", help="Who decides. Default: who is logged in.")
]

# The rules that have an option.
RULES = ("max_overkill", "max_escape", "cost_overkill", "review_budget", "fdr", "no_defects")


@app.callback()
def _threshold() -> None:
    """See, suggest and set the two thresholds of a model."""


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _share(name: str, words: str, metavar: str = "SHARE") -> Any:
    return typer.Option(name, metavar=metavar, min=0.0, max=1.0, help=words)


@app.command("show")
def show(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Show the thresholds in force, what is promised of them, and who set them."""
    shown = terminal()
    detector = load_model(model)
    from differnet.detection import adopt_current

    found, facts = adopt_current(detector, model), detector.facts()
    revision = found.revision
    if as_json:
        names = ("model_id", "calibration_id", "t_review", "t_defect", "threshold_revision", "calibration")
        shown.write_json(
            {
                "model": model,
                **{name: facts[name] for name in names},
                "revision": None if revision is None else asdict(revision),
                "ignored": None if found.ignored is None else asdict(found.ignored),
            }
        )
        return
    shown.write_table(thresholds_table(facts))
    if revision is None:
        shown.tell(f"They follow from the calibration, on {facts['calibration']['parts']:,} good parts.")
        return
    shown.tell(f"Revision {revision.number}, {_when(revision)}, {revision.author}: {revision.reason}")
    shown.tell(f"Rule: {revision.rule}")
    _tell_promises(shown, revision)


@app.command("suggest")
def suggest(
    model: ModelArgument,
    max_overkill: Annotated[
        float | None, _share("--max-overkill", "Largest share of good parts that is rejected.")
    ] = None,
    max_review: Annotated[
        float | None,
        _share("--max-review", f"With --max-overkill: share reviewed or rejected ({USUAL_REVIEW})."),
    ] = None,
    max_escape: Annotated[
        float | None, _share("--max-escape", "Largest share of defects that passes; wants --run.")
    ] = None,
    confidence: Annotated[
        float | None, _share("--confidence", "With --max-escape: that it does not (0.95).")
    ] = None,
    cost_overkill: Annotated[
        float | None,
        typer.Option(
            "--cost-overkill", metavar="COST", min=0.0, help="Of a good part rejected; wants --run."
        ),
    ] = None,
    cost_escape: Annotated[
        float | None,
        typer.Option("--cost-escape", metavar="COST", min=0.0, help="Of a defect that passes, same unit."),
    ] = None,
    cost_review: Annotated[
        float | None,
        typer.Option("--cost-review", metavar="COST", min=0.0, help="Of a look; without it none is taken."),
    ] = None,
    defect_share: Annotated[
        float | None, _share("--defect-share", "With --cost-overkill: share of defects on the line.")
    ] = None,
    review_budget: Annotated[
        float | None, _share("--review-budget", "Largest share of good parts that goes to review.")
    ] = None,
    fdr: Annotated[
        float | None, _share("--fdr", "Share of good parts among the rejected of the batch --run.")
    ] = None,
    no_defects: Annotated[
        bool, typer.Option("--no-defects", help="Near the best F1 without one labelled defect.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="RUN", help="Folder that `differnet inspect --out` wrote."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Put it in force; wants --reason.")] = False,
    reason: ReasonOption = "",
    author: AuthorOption = "",
    as_json: JsonOption = False,
) -> None:
    """Suggest thresholds by one wish, say what they promise and what not, and what would change.

    Give exactly one of --max-overkill, --max-escape, --cost-overkill, --review-budget, --fdr and
    --no-defects. Nothing changes without --apply.
    """
    from differnet.tuning.parts import parts_of_records
    from differnet.tuning.wishes import NEED_PARTS, Evidence, Wish, WishError, suggest

    wish = Wish(
        max_overkill=max_overkill,
        max_review=max_review,
        max_escape=max_escape,
        confidence=confidence,
        cost_overkill=cost_overkill,
        cost_escape=cost_escape,
        cost_review=cost_review,
        defect_share=defect_share,
        review_budget=review_budget,
        fdr=fdr,
        no_defects=no_defects or None,
    )
    try:
        rule = wish.rule_in(_option, RULES)
    except WishError as error:
        raise typer.BadParameter(str(error)) from error
    if rule in NEED_PARTS and run is None:
        raise typer.BadParameter(f"{_option(rule)} wants --run: inspected parts to look at")
    if apply != bool(reason.strip()):
        raise typer.BadParameter("--apply and --reason belong together")
    shown = terminal()
    detector = load_model(model)
    _require_promise(detector)
    records = () if run is None else records_of(detector, run)
    found = suggest(wish, Evidence.of(detector.good_strangeness, parts_of_records(records)))
    before = detector.thresholds.review, detector.thresholds.defect
    flipped = None if run is None else flips(records, before, (found.review, found.defect))
    kept = _keep(detector, model, found, author, reason) if apply else None
    if as_json:
        shown.write_json(_tree(detector, before, found, flipped, len(records), kept))
        return
    limits = zip(("T1", "T2"), ("review", "reject"), before, (found.review, found.defect), strict=True)
    rows = [(name, beyond, f"{now:.2f}", f"{proposed:.2f}") for name, beyond, now, proposed in limits]
    shown.write_table(plain_table(("", "beyond it", "in force", "proposed"), rows, numbers=2))
    shown.tell(f"Rule: {found.rule}")
    _tell_promises(shown, found)
    if flipped is not None:
        shown.tell(f"{sum(flipped.values()):,} of the {len(records):,} pictures of {run} would flip:")
        for (old, new), number in sorted(flipped.items()):
            shown.tell(f"  {number:,} from {old} to {new}")
    if kept is not None:
        _say_kept(shown, kept)
    else:
        shown.note("Nothing was changed. To put it in force: --apply --reason WHY")


@app.command("set")
def set_thresholds(
    model: ModelArgument,
    review: Annotated[
        float,
        typer.Option("--review", metavar="STRANGENESS", min=0.0, help="T1: from here on a person looks."),
    ],
    defect: Annotated[
        float,
        typer.Option("--defect", metavar="STRANGENESS", min=0.0, help="T2: from here on it is rejected."),
    ],
    reason: ReasonOption,
    author: AuthorOption = "",
    as_json: JsonOption = False,
) -> None:
    """Put two thresholds in force, and keep who did so and why."""
    shown = terminal()
    detector = load_model(model)
    from differnet.tuning.changing import set_by_hand

    parts = detector.facts()["calibration"]
    found = set_by_hand(detector.good_strangeness, parts["parts"], review, defect, promised=parts["promised"])
    kept = _keep(detector, model, found, author, reason)
    if as_json:
        shown.write_json(asdict(kept))
        return
    _tell_promises(shown, kept)
    _say_kept(shown, kept)


@app.command("history")
def history(model: ModelArgument, as_json: JsonOption = False) -> None:
    """List every threshold that was ever in force, the last one first; the model is not loaded."""
    shown = terminal()
    from differnet.detection import revisions_of

    if not model.is_dir():
        raise _no_model(model)
    kept = revisions_of(model).history()
    if as_json:
        shown.write_json([asdict(revision) for revision in kept])
        return
    if not kept:
        shown.tell("No thresholds were ever set: those of the calibration are in force.")
        return
    rows = [
        (
            str(revision.number),
            _when(revision),
            revision.author,
            f"{revision.review:.2f}",
            f"{revision.defect:.2f}",
            revision.calibration_id[:8],
            revision.reason
            + ("" if revision.rolled_back_to is None else f" (as revision {revision.rolled_back_to})"),
        )
        for revision in reversed(kept)
    ]
    shown.write_table(plain_table(("", "when, UTC", "who", "T1", "T2", "calibration", "why"), rows))


@app.command("rollback")
def rollback(
    model: ModelArgument,
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="Of an earlier revision.")],
    reason: ReasonOption,
    author: AuthorOption = "",
    as_json: JsonOption = False,
) -> None:
    """Put the thresholds of an earlier revision in force again, as a new revision."""
    shown = terminal()
    detector = load_model(model)
    from differnet.detection import belongs, revisions_of

    kept = revisions_of(model)
    earlier = next((revision for revision in kept.history() if revision.number == number), None)
    if earlier is not None and not belongs(earlier, detector):
        raise PlaceError(
            expected=f"a revision for model {detector.model_id} and its calibration",
            found=f"revision {number} for model {earlier.model_id}, calibration {earlier.calibration_id}",
            remedy="Thresholds of another calibration mean something else here: use suggest or set.",
        )
    revision = kept.rollback(number, author=author or person(), reason=reason)
    if as_json:
        shown.write_json(asdict(revision))
    else:
        _say_kept(shown, revision)


def records_of(detector: Detector, run: Path) -> tuple[Record, ...]:
    """Read a run whose strangeness is measured as the model measures it.

    Raises:
        PlaceError: It is of another model or calibration.
        RunError: There is no run.
    """
    from differnet.reporting import RunFolder

    opened, facts = RunFolder.open(run), detector.facts()
    names = ("model_id", "calibration_id")
    ours, theirs = (tuple(of[name] for name in names) for of in (facts, vars(opened.facts)))
    if ours != theirs:
        raise PlaceError(
            expected=f"a run of model {ours[0]} with calibration {ours[1]}",
            found=f"{run} of model {theirs[0]} with calibration {theirs[1]}",
            remedy="Inspect its pictures again with this model.",
        )
    return opened.records


def flips(
    records: Sequence[Record], before: tuple[float, float], after: tuple[float, float]
) -> Counter[tuple[str, str]]:
    """Count the pictures whose verdict two other thresholds would change; OOD and INVALID stay.

    Args:
        records: Of any number of pictures.
        before: T1 and T2 in force.
        after: T1 and T2 instead.

    Returns:
        How many go from which verdict to which.
    """
    from differnet.reporting.counts import columns_of
    from differnet.tuning.flipping import flips as flipped

    found = flipped(columns_of(records), before, after)
    return Counter({(flip.before.value, flip.after.value): len(flip.rows) for flip in found})


def _require_promise(detector: Detector) -> None:
    calibration = detector.facts()["calibration"]
    if not calibration["promised"]:
        raise PlaceError(
            expected="a model that was calibrated on good parts",
            found=f"one of variations of {calibration['parts']}, from which no rate follows",
            remedy="Calibrate it on further good parts: differnet calibrate MODEL GOOD.",
        )


def _keep(detector: Detector, model: Path, found: Suggestion, author: str, reason: str) -> Revision:
    from differnet.detection import revisions_of

    facts = detector.facts()
    return revisions_of(model).append(
        found,
        author=author or person(),
        reason=reason,
        model_id=facts["model_id"],
        calibration_id=facts["calibration_id"],
    )


def person(option: str = "--author") -> str:
    """Return who is logged in.

    Args:
        option: That names somebody instead.

    Raises:
        BadParameter: Nobody is, by name.
    """
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container's user often has no name.
        raise typer.BadParameter(f"nobody is logged in by name: give {option}") from None


def _no_model(model: Path) -> PlaceError:
    return PlaceError(
        expected=f"a model at {model}",
        found="no such folder",
        remedy="Give the folder that differnet train wrote.",
    )


def _tree(
    detector: Detector,
    before: tuple[float, float],
    found: Suggestion,
    flipped: Counter[tuple[str, str]] | None,
    pictures: int,
    kept: Revision | None,
) -> dict[str, Any]:
    moves = None
    if flipped is not None:
        moves = [{"from": old, "to": new, "pictures": n} for (old, new), n in sorted(flipped.items())]
    return {
        **asdict(found),
        "current": {
            "review": before[0],
            "defect": before[1],
            "threshold_revision": detector.threshold_revision,
        },
        "pictures": pictures,
        "flips": moves,
        "revision": None if kept is None else kept.number,
    }


def _tell_promises(shown: Terminal, of: Suggestion | Revision) -> None:
    for sentence in of.promises:
        shown.tell(f"  promised: {sentence}")
    for sentence in of.cannot:
        shown.tell(f"  not promised: {sentence}")


def _say_kept(shown: Terminal, revision: Revision) -> None:
    shown.tell(
        f"Revision {revision.number} is in force: T1 {revision.review:.2f}, T2 {revision.defect:.2f}, "
        f"by {revision.author}."
    )


def _when(revision: Revision) -> str:
    return revision.time[:16].replace("T", " ")
