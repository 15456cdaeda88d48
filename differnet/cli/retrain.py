"""`differnet retrain`: learn again with what people said since, and compare before anything is promoted."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differnet.cli.data import JsonOption, LayoutOption
from differnet.cli.db import (
    USUAL_PLACE,
    PlaceOption,
    RunOption,
    SinceOption,
    UntilOption,
    open_record,
)
from differnet.cli.exits import ExitCode
from differnet.cli.review import RootOption, asked_of, name_lost, words_of
from differnet.cli.terminal import Terminal, plain_table, terminal
from differnet.cli.train import (
    DeviceOption,
    DownloadOption,
    RuntimeOption,
    WeightsOption,
    export_model,
    load_model,
    require_unused,
    show_model,
    train_detector,
    warn_of_few_parts,
)

if TYPE_CHECKING:
    from differnet.reviewing import Comparison, Plan

# Pictures whose verdict changes that are shown; the file beside the model holds every picture.
SHOWN_FLIPS = 20


def retrain(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of the model in use.")],
    folder: Annotated[
        Path, typer.Argument(metavar="DATA", help="What it was trained on, or a newer such folder.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="NEW", help="Folder to write the new model into.")],
    run: RunOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    product: Annotated[
        str,
        typer.Option(
            "--product", metavar="NAME", help="Chooses one where DATA has several. Default: the model's."
        ),
    ] = "",
    layout: LayoutOption = "auto",
    root: RootOption = Path(),
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="NUMBER", min=0, help="Default: the model's.")
    ] = None,
    keep_suspects: Annotated[
        bool,
        typer.Option("--keep-suspects", help="Learn also from parts that are probably not good."),
    ] = False,
    weights: WeightsOption = None,
    allow_download: DownloadOption = False,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Train a model again with the parts that people called good, and compare it with the one in use.

    Learns from DATA's good training parts and the reviewed good parts, without any picture that was last
    called a defect. Compares both models on the same pictures, which neither has learned: DATA's test parts,
    the reviewed defects, and every fourth reviewed good part (by the order of sha256). The comparison is kept
    as NEW.comparison.json. Prints the new model's folder; nothing is replaced.
    """
    from differnet.images.layouts import read_layout

    shown = terminal()
    require_unused(out)
    old = load_model(model, device)
    dataset = read_layout(folder, layout).of_one_product(product or old.settings.product)
    from differnet.detection.rates import rates_for
    from differnet.reviewing import compare, comparison_of, keep, locate, plan, same_settings
    from differnet.store import Asked

    with open_record(place, known=True) as store:
        said = words_of(store, Asked(product=old.settings.product))
        words = words_of(store, asked_of(store, run, old.settings.product, since, until))
        found, lost = locate(store, [word for word in words if word.entry.judgement != "unsure"], root)
    name_lost(shown, lost)
    chosen = plan(dataset, found, said, old.trained_on)
    _tell_plan(shown, chosen)
    review, defect = rates_for(old, None, None)
    from differnet.images.layouts import GOOD, Part

    parts = tuple(Part(path, GOOD, "train") for path in chosen.training)
    with same_settings(
        old,
        seed=old.settings.seed if seed is None else seed,
        alpha_review=review,
        alpha_defect=defect,
        keep_suspects=keep_suspects,
        weights=weights,
        allow_download=allow_download,
    ) as settings:
        new = train_detector(shown, settings, replace(dataset, parts=parts))
    called_good = {str(one.path) for one in found if one.word.entry.judgement == "good"}
    if doubted := [name for name in new.suspects if name in called_good]:
        shown.warn(f"{len(doubted):,} of these a person has called good; --keep-suspects learns from them.")
    # First, so that the work of training is not lost with the comparison; it cannot be promoted without one.
    new.save(out)
    with shown.steps() as steps:
        compared = compare(old, new, chosen.compared, str(folder), progress=steps)
    kept = keep(compared, out)
    show_model(shown, new.facts())
    warn_of_few_parts(shown, new.settings, new.facts())
    show_comparison(shown, compared)
    export_model(shown, new, out, runtime)
    for words_of_one in compared.left_out:
        shown.warn(f"not compared: {words_of_one}")
    if as_json:
        shown.write_json(
            {
                "model": out,
                "comparison_file": kept,
                "training_parts": len(chosen.training),
                "reviewed_parts_added": chosen.added,
                "set_aside": chosen.aside,
                "called_defect": chosen.called_defect,
                "skipped": len(new.skipped),
                "suspects": new.suspects,
                "lost": [asdict(one) for one in lost],
                "comparison": asdict(compared),
            }
        )
    else:
        shown.write(str(out))
    shown.blank()
    shown.note(f"The comparison is kept in {comparison_of(out).name} beside it.")
    shown.note(f"Next: differnet promote {out} {model} --reason WHY")
    if lost or new.skipped or compared.left_out:
        raise typer.Exit(ExitCode.QUARANTINED)


def show_comparison(shown: Terminal, compared: Comparison) -> None:
    """Show two models beside each other on stderr.

    Args:
        shown: Where to.
        compared: On the same pictures.
    """
    from differnet.reviewing import comparison_rows, comparison_words

    first, *rest = comparison_words(compared)
    shown.blank()
    shown.note(first)
    heads = ("", f"present {compared.old.model_id[:8]}", f"new {compared.new.model_id[:8]}")
    shown.show(plain_table(heads, comparison_rows(compared)))
    shown.blank()
    for sentence in rest:
        shown.note(sentence)
    _show_flips(shown, compared)
    if compared.cannot:
        shown.note("What cannot be concluded:")
        for sentence in compared.cannot:
            shown.note(f"  - {sentence}")


def _show_flips(shown: Terminal, compared: Comparison) -> None:
    flips = compared.flips
    if not flips:
        shown.note("No verdict changes.")
        return
    shown.note(f"{len(flips):,} of {len(compared.pictures):,} verdicts change:")
    from differnet.reviewing import flip_rows

    rows = flip_rows(flips[:SHOWN_FLIPS])
    shown.show(plain_table(("picture", "is", "verdict", "strangeness"), rows))
    if len(flips) > SHOWN_FLIPS:
        shown.note(f"and {len(flips) - SHOWN_FLIPS:,} more, in the file beside the model.")


def _tell_plan(shown: Terminal, chosen: Plan) -> None:
    if chosen.added:
        shown.note(f"{chosen.added:,} parts that people called good are learned from.")
    else:
        shown.warn("no part that people called good is new to the data: only the data is learned from.")
    if chosen.aside:
        shown.note(
            f"{chosen.aside:,} more, every fourth by the order of sha256, are set aside for the comparison."
        )
    for path in chosen.called_defect:
        shown.note(f"{path} is not learned from: a person called it a defect.")
    if chosen.overruled:
        shown.note(
            f"{chosen.overruled:,} test parts are compared by a person's word, not by their folder's label."
        )
    if chosen.doubted:
        shown.note(f"{chosen.doubted:,} test parts that nobody could tell are not compared.")
