"""`differnet evaluate` and `differnet benchmark`: how well a model tells good parts from others."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from differnet.cli.data import JsonOption, LayoutOption
from differnet.cli.terminal import Terminal, plain_table, terminal
from differnet.cli.train import (
    BackboneOption,
    DeviceOption,
    DownloadOption,
    IgnoreOption,
    Quality,
    QualityOption,
    SizeOption,
    WeightsOption,
    load_model,
)
from differnet.durations import duration

# What is shown for a person, in this order; --json holds everything.
FIGURES = {
    "image_auroc": "AUROC, part",
    "aupr": "AUPR, part",
    "fpr95": "false alarms at 95 % recall",
    "pixel_auroc": "AUROC, pixel",
    "aupro": "AUPRO, pixel",
    "overkill": "overkill (good parts rejected)",
    "review": "good parts sent to review",
    "escape": "escapes (defects passed)",
}


class Measured(StrEnum):
    """What `differnet benchmark` trains: the detector, or a method that it is compared with."""

    DETECTOR = "detector"
    DIFFERNET = "differnet"
    GAUSSIAN = "gaussian"


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `differnet train` wrote.")],
    folder: Annotated[Path, typer.Argument(metavar="DATA", help="Folder with labelled test parts.")],
    product: Annotated[
        str, typer.Option("--product", metavar="NAME", help="Chooses one where DATA holds several.")
    ] = "",
    layout: LayoutOption = "auto",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure a model on labelled test parts: AUROC, AUPR, AUPRO, FPR95, by kind of defect."""
    from differnet.images.layouts import read_layout

    shown = terminal()
    dataset = read_layout(folder, layout).of_one_product(product)
    detector = load_model(model, device)
    from differnet.evaluation.benchmark import evaluate_detector
    from differnet.evaluation.per_part import without_parts

    with shown.steps() as steps:
        figures = evaluate_detector(detector, dataset, progress=steps)
    if as_json:
        # Of each part `differnet inspect` writes a record.
        shown.write_json(without_parts(figures))
    else:
        show_figures(shown, figures)


def benchmark(
    folder: Annotated[Path, typer.Argument(metavar="DATA", help="Folder with good parts and test parts.")],
    product: Annotated[
        str, typer.Option("--product", metavar="NAME", help="Chooses one where DATA holds several.")
    ] = "",
    layout: LayoutOption = "auto",
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="NUMBER", min=1, help="Trainings: seeds 0, 1, 2 and so on.")
    ] = 1,
    backbone: BackboneOption = "tf_efficientnet_lite0",
    weights: WeightsOption = None,
    allow_download: DownloadOption = False,
    image_size: SizeOption = 256,
    quality: QualityOption = Quality.STANDARD,
    train_parts: Annotated[
        int | None,
        typer.Option("--train-parts", metavar="NUMBER", min=1, help="Train on so many, drawn by seed."),
    ] = None,
    contamination: Annotated[
        float,
        typer.Option(
            "--contamination", metavar="SHARE", min=0.0, max=0.49, help="Spoil the training parts so far."
        ),
    ] = 0.0,
    device: DeviceOption = "auto",
    ignore: IgnoreOption = None,
    method: Annotated[
        Measured,
        typer.Option(
            "--method",
            help="differnet: the DifferNet paper's; gaussian: the closed-form Gaussian of pooled features.",
        ),
    ] = Measured.DETECTOR,
    rotations: Annotated[
        int | None,
        typer.Option(
            "--rotations",
            metavar="NUMBER",
            min=1,
            help="With --method differnet: rotations of each test part (64).",
        ),
    ] = None,
    training_rotations: Annotated[
        int | None,
        typer.Option(
            "--training-rotations",
            metavar="NUMBER",
            min=1,
            help="With --method differnet: rotations of each training part (16).",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train and evaluate from nothing under the stated protocol, once a seed.

    Where DATA holds several products, each gets models of its own, and the figures are their mean.
    """
    from differnet.images.layouts import read_layout

    if method is not Measured.DIFFERNET and (rotations, training_rotations) != (None, None):
        raise typer.BadParameter("rotations belong to --method differnet")
    shown = terminal()
    dataset = read_layout(folder, layout)
    # Every product is measured, unless one is named.
    several = len(dataset.products) > 1 and not product
    if not several:
        dataset = dataset.of_one_product(product)
    chosen: dict[str, Any] = {
        "backbone": backbone,
        "weights": weights,
        "allow_download": allow_download,
        "image_size": image_size,
        "device": device,
    }
    with shown.waiting("loading torch"):
        from differnet.evaluation import benchmark as own
        from differnet.evaluation import methods as named
        from differnet.evaluation.per_part import without_parts

    if method is Measured.DETECTOR:
        from differnet.detection import DetectorSettings

        trial = own.Trial(train_parts, contamination)
        named_as = "" if several else product or dataset.product_name
        settings = DetectorSettings.of_quality(quality.value, **chosen, product=named_as, ignore=ignore)
        one = partial(own.run_benchmark, dataset, settings, seeds, trial=trial)
        each = partial(own.run_benchmark_by_product, dataset, settings, seeds, trial=trial)
    else:
        spoilt_or_few = train_parts is not None or contamination > 0
        if spoilt_or_few or ignore is not None or quality is not Quality.STANDARD:
            raise typer.BadParameter(
                "--train-parts, --contamination, --ignore and --quality are for the detector, "
                f"not for --method {method}"
            )
        turns = {"rotations": rotations, "training_rotations": training_rotations}
        compared = named.make_method(method, **chosen, **turns)
        one = partial(named.run_method_benchmark, dataset, compared, seeds)
        each = partial(named.run_method_benchmark_by_product, dataset, compared, seeds)

    steps = shown.steps()

    def note_product(name: str, measured: Mapping[str, Any]) -> None:
        # A benchmark of many products takes hours; what is known shall not be lost with the last of them.
        steps.clear()
        shown.note(f"{name}: AUROC, part {figure_words(measured['image_auroc'])}")

    with steps:
        figures = each(steps, note_product) if several else one(steps)
    if as_json:
        shown.write_json(without_parts(figures))
        return
    if several:
        show_products(shown, figures)
    else:
        show_figures(shown, figures)
    listed = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in figures["seconds"].items())
    shown.tell(f"\n{seeds} {'seed' if seeds == 1 else 'seeds'}; {listed}")


def show_figures(shown: Terminal, figures: Mapping[str, Any]) -> None:
    """Show measured figures on stdout for a person.

    Args:
        shown: Where to.
        figures: Of `evaluate_detector` or `run_benchmark`.
    """
    rows = [
        (words, figure_words(figures[name]), _interval_words(figures.get(f"{name}_interval")))
        for name, words in FIGURES.items()
        if name in figures
    ]
    shown.write_table(plain_table(("", "", ""), rows))
    if by_defect := figures.get("by_defect"):
        shown.tell("")
        cells = [(label, figure_words(auroc)) for label, auroc in by_defect.items()]
        shown.write_table(plain_table(("kind of defect", "AUROC"), cells, numbers=1))


def show_products(shown: Terminal, figures: Mapping[str, Any]) -> None:
    """Show each product's figures and their mean on stdout for a person.

    Args:
        shown: Where to.
        figures: Of `run_benchmark_by_product`.
    """
    columns = {name: words for name, words in FIGURES.items() if name in figures}
    measured = [*figures["by_product"].items(), ("mean", figures)]
    rows = [(name, *(figure_words(each[column]) for column in columns)) for name, each in measured]
    shown.write_table(plain_table(("product", *columns.values()), rows, numbers=len(columns)))


def figure_words(figure: Any) -> str:
    """Say a figure, and say so where there is none; a rate comes with its interval.

    Example:
        >>> figure_words(0.98765), figure_words(None)
        ('0.9877', 'not measured')
        >>> figure_words({"events": 2, "of": 40, "rate": 0.05, "low": 0.006, "high": 0.169})
        '5.0 % (0.6 % to 16.9 %), 2 of 40'
    """
    from differnet.evaluation import percent

    if figure is None:
        return "not measured"
    if isinstance(figure, Mapping):
        low, share, high = (percent(figure[name]) for name in ("low", "rate", "high"))
        return f"{share} ({low} to {high}), {figure['events']:,} of {figure['of']:,}"
    return f"{figure:.4f}"


def _interval_words(interval: Any) -> str:
    return "" if interval is None else f"95 %: {interval[0]:.4f} to {interval[1]:.4f}"
