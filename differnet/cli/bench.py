"""`differnet bench`: how fast a model inspects here, beside its bare network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differnet.cli.data import JsonOption, LayoutOption
from differnet.cli.inspect import expand
from differnet.cli.terminal import plain_table, terminal
from differnet.cli.train import require_model

if TYPE_CHECKING:
    from rich.table import Table

    from differnet.runtime.bench import Speed


def bench(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `differnet train` wrote.")],
    pictures: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Pictures, or folders of them.")
    ],
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            metavar="NAME",
            help="torch, openvino, onnxruntime or cuda; may be given again. Default: all that can run.",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="NUMBER", min=3, help="How often single pictures are timed.")
    ] = 50,
    limit: Annotated[
        int, typer.Option("--limit", metavar="NUMBER", min=1, help="Pictures that are taken at most.")
    ] = 64,
    layout: LayoutOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure latency, throughput, start-up and memory for every runtime, against the bare network.

    Compare ratios, not milliseconds: the machine may be busy. Prints nothing but the table, or JSON.
    """
    shown = terminal()
    require_model(model)
    wanted = [each.path for each in expand(shown, pictures, layout)][:limit]
    with shown.waiting("loading torch"):
        from differnet.runtime.bench import machine, measure
    with shown.steps() as steps:
        found = measure(model, wanted, runtime or (), rounds=rounds, told=steps)
    shown.blank()
    shown.show(speed_table(found))
    facts = machine()
    shown.note(
        f"{len(wanted):,} pictures, {rounds} rounds, {facts['processors']} processors "
        f"({facts['processor']}), load {facts['load']:.1f}. Bare is {bare_in_words(found)} alone in the same "
        "runtime: how many times that a decoded picture takes, how many times a file, and which share of its "
        "pictures a second is reached. Ratios are medians over rounds, in which all run in turn."
    )
    if as_json:
        shown.write_json({"machine": facts, "pictures": len(wanted), "speeds": [s.to_json() for s in found]})


def bare_in_words(found: list[Speed]) -> str:
    """Say what the bare network is that was measured.

    Args:
        found: Of each runtime.
    """
    if all(speed.whole for speed in found):
        return "the whole network"
    return "the network as far as the model looks (the weights of the rest are not installed here)"


def speed_table(found: list[Speed]) -> Table:
    """Lay out what was measured, one row a runtime.

    Args:
        found: Of each runtime.
    """
    rows = [
        (
            speed.runtime,
            f"{speed.bare.p50:.1f}",
            f"{speed.picture.p50:.1f}",
            f"{speed.picture.p95:.1f}",
            f"{speed.picture.p99:.1f}",
            f"{speed.picture_ratio:.2f}",
            f"{speed.file_ratio:.2f}",
            f"{speed.rate:.1f}",
            f"{speed.rate_share:.2f}",
            "" if speed.cold is None else f"{speed.cold.seconds:.1f}",
            "" if speed.cold is None else f"{speed.cold.megabytes:.0f}",
        )
        for speed in found
    ]
    columns = (
        *("runtime", "bare ms", "p50 ms", "p95", "p99", "of bare", "file"),
        *("a second", "share", "cold s", "MB"),
    )
    return plain_table(columns, rows, numbers=len(columns) - 1)
