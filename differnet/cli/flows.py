"""`differnet flows`: the density of a table's rows, fitted, asked and drawn from."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differnet.cli.data import JsonOption
from differnet.cli.exits import VerificationError
from differnet.cli.terminal import Terminal, plain_table, terminal
from differnet.cli.train import MANIFEST, PlaceError, SeedOption, require_unused

if TYPE_CHECKING:
    from differnet.tables import Estimate, FitFigures, TableDensity

# The families of `differnet.tables.FAMILIES`, which takes torch to look at.
FamilyName = StrEnum(
    "FamilyName",
    [
        "nice",
        "real_nvp",
        "glow",
        "maf",
        "iaf",
        "spline_coupling",
        "spline_autoregressive",
        "planar",
        "radial",
        "ffjord",
        "rnode",
    ],
)

_DEFAULT = FamilyName("real_nvp")

app = typer.Typer(no_args_is_help=True, help="Fit a normalizing flow to a table; score rows, draw new ones.")

TableArgument = Annotated[
    Path, typer.Argument(metavar="TABLE", help="A .csv with a header line, .parquet or .npy.")
]
FlowArgument = Annotated[Path, typer.Argument(metavar="FLOW", help="Folder that `flows fit` wrote.")]


@app.callback()
def _flows() -> None:
    """Fit a normalizing flow to a table; score rows, draw new ones."""


@app.command("fit")
def fit(
    table: TableArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FLOW", help="Folder to write the flow into.")],
    family: Annotated[
        FamilyName, typer.Option("--family", metavar="NAME", help=f"One of {', '.join(FamilyName)}.")
    ] = _DEFAULT,
    columns: Annotated[
        str, typer.Option("--columns", metavar="A,B", help="What the density is of; default: all others.")
    ] = "",
    context: Annotated[
        str, typer.Option("--context", metavar="C,D", help="Columns that the density is given.")
    ] = "",
    steps: Annotated[
        int, typer.Option("--steps", metavar="NUMBER", min=1, help="Of training, at most.")
    ] = 2000,
    layers: Annotated[
        int | None,
        typer.Option("--layers", metavar="NUMBER", min=1, max=64, help="Depth; the family's own by default."),
    ] = None,
    hidden: Annotated[
        int | None,
        typer.Option(
            "--hidden",
            metavar="NUMBER",
            min=1,
            max=4096,
            help="Width of networks; the family's own by default.",
        ),
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(
            "--held-out",
            metavar="SHARE",
            min=0.001,
            max=0.45,
            help="Share of rows that stops training, and again as many that are reported on.",
        ),
    ] = 0.1,
    noise: Annotated[
        float,
        typer.Option(
            "--noise", metavar="SIGMA", min=0, help="Smoothing, in standard deviations of a column."
        ),
    ] = 0.0,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Fit a flow to the rows of a table, and compare it with a Gaussian on rows kept apart.

    Prints the flow's folder.
    """
    shown = terminal()
    require_unused(out)
    with shown.waiting("loading torch"):
        from differnet.tables import FlowChoice, fit_table, read_table, save_table_density
        from differnet.tables.density import few_values

    choice = FlowChoice(family.value, layers=layers, hidden=hidden, seed=seed)
    read = read_table(table)
    shown.note(f"{table}: {len(read):,} rows, {read.shape[1]:,} columns.")
    with shown.steps() as progress:
        density = fit_table(
            read,
            columns=_names(columns),
            context=_names(context),
            choice=choice,
            steps=steps,
            held_out=held_out,
            noise=noise,
            progress=progress.named(f"fitting {family.value}"),
        )
    save_table_density(density, out)
    show_fit(shown, density)
    if not noise and (coarse := few_values(read, density)):
        shown.warn(
            f"few different values in {', '.join(coarse)}: likelihood then has no bound. "
            "Fit again with --noise 0.1, or leave out what is no measurement."
        )
    if as_json:
        shown.write_json({"flow": out, **_facts(density)})
    else:
        shown.write(str(out))
    shown.blank()
    shown.note(f"Next: differnet flows score {out} {table} > density.csv")


@app.command("score")
def score(flow: FlowArgument, table: TableArgument) -> None:
    """Write the log-density of every row to stdout, as CSV, in the table's order.

    In nats, for the table's own units: standardisation is accounted for. Higher is more probable.
    """
    shown = terminal()
    density = load_flow(flow)
    from differnet.tables import read_table

    densities = density.log_density(read_table(table))
    # Eight digits: about what the weights, float32, are worth.
    shown.write("\n".join(["log_density", *(f"{value:.8g}" for value in densities)]))
    shown.note(f"{len(densities):,} rows, on average {densities.mean():.4g} nats.")


@app.command("sample")
def sample(
    flow: FlowArgument,
    rows: Annotated[int, typer.Option("--rows", metavar="NUMBER", min=1, help="How many.")] = 10,
    given: Annotated[
        list[str] | None,
        typer.Option("--given", metavar="NAME=NUMBER", help="A column of the context; once for each."),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Draw rows from the density and write them to stdout, as CSV."""
    shown = terminal()
    fixed = _numbers(given or [])
    drawn = load_flow(flow).sample(rows, given=fixed, seed=seed)
    # Twelve digits: seven of the spread below a mean up to 100,000 times as large.
    shown.write(drawn.to_csv(index=False, lineterminator="\n", float_format="%.12g").rstrip("\n"))


def load_flow(folder: Path) -> TableDensity:
    """Load a fitted density; it tests itself.

    Raises:
        PlaceError: There is no flow at all.
        VerificationError: The flow is not as it was saved, or unhealthy.
    """
    if not (folder / MANIFEST).is_file():
        raise PlaceError(
            expected=f"a flow at {folder}",
            found=f"no {MANIFEST} in it" if folder.is_dir() else "no such folder",
            remedy="Make one: differnet flows fit TABLE --out FLOW.",
        )
    with terminal().waiting(f"loading {folder}"):
        from differnet.tables import FlowFolderError, load_table_density

        try:
            return load_table_density(folder)
        except FlowFolderError as error:
            raise VerificationError(error) from error


def show_fit(shown: Terminal, density: TableDensity) -> None:
    """Say on stderr what a fit was made of and how it compares."""
    figures: FitFigures = density.figures
    of = ", ".join(column.name for column in density.columns)
    given = f" given {', '.join(column.name for column in density.context)}" if density.context else ""
    shown.blank()
    shown.note(f"Density of {of}{given}, in nats a row of the table's own units.")
    shown.note(
        f"{figures.trained:,} rows trained it, {figures.stopping:,} chose step {figures.kept:,} of "
        f"{figures.steps:,}, and {figures.reported:,} that did neither say how well it does:"
    )
    shown.blank()
    rows = [
        (density.choice.family, *_cells(figures.flow)),
        ("Gaussian, closed form", *_cells(figures.gaussian)),
        ("difference, row by row", *_cells(figures.gain)),
    ]
    columns = ("held-out log-density", "mean", "standard error")
    shown.show(plain_table(columns, rows, numbers=2))
    if figures.gain.mean < 2 * figures.gain.error:
        shown.warn(
            "the flow is not clearly better than the Gaussian (difference below two standard errors): "
            "the rows are few, or nearly Gaussian. --noise 0.1 helps where they are few."
        )


def _cells(estimate: Estimate) -> tuple[str, str]:
    return f"{estimate.mean:.3f}", f"{estimate.error:.3f}"


def _facts(density: TableDensity) -> dict[str, object]:
    figures = asdict(density.figures)
    likelihoods = {name: figures.pop(name) for name in ("flow", "gaussian", "gain")}
    return {
        **asdict(density.choice),
        "columns": [column.name for column in density.columns],
        "context": [column.name for column in density.context],
        "rows_and_steps": figures,
        "held_out_log_density": likelihoods,
    }


def _names(listed: str) -> list[str]:
    """Split names at commas.

    Example:
        >>> _names("length, width")
        ['length', 'width']
    """
    return [name.strip() for name in listed.split(",") if name.strip()]


def _numbers(pairs: list[str]) -> dict[str, float]:
    fixed = {}
    for pair in pairs:
        # The last sign: a name may hold one, a number does not.
        name, _, number = pair.rpartition("=")
        try:
            fixed[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise typer.BadParameter(f"{pair!r} is not NAME=NUMBER", param_hint="--given")
    return fixed
