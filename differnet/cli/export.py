"""`differnet export`: a model for the runtimes that inspect quicker than torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from differnet.cli.data import JsonOption, LayoutOption
from differnet.cli.inspect import expand
from differnet.cli.terminal import plain_table, terminal
from differnet.cli.train import load_model


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `differnet train` wrote.")],
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            metavar="NAME",
            help="openvino, onnxruntime or cuda; may be given several times. Default: all that can run here.",
        ),
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(
            "--pictures",
            metavar="IMAGES",
            help="Pictures, or folders of them, that the export has to judge as the model does. Default: "
            "small pictures of good parts that the model keeps, as they are and spoilt.",
        ),
    ] = None,
    layout: LayoutOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Export a model, into its own folder, and prove that the export judges as the model does.

    An export that judges otherwise is not kept. Prints the runtimes, the fastest here first.
    """
    shown = terminal()
    wanted = expand(shown, pictures or [], layout)
    detector = load_model(model, "cpu", adopt=False)
    from differnet.runtime.export import export as export_to

    with shown.waiting("exporting"):
        found = export_to(detector, model, runtime or (), [each.path for each in wanted])
    fastest = sorted(found, key=lambda name: found[name].milliseconds[name])
    rows = [
        (
            name,
            f"{found[name].milliseconds[name]:.1f}",
            f"{found[name].milliseconds['torch']:.1f}",
            f"{found[name].parity.pictures:,}",
            f"{found[name].parity.deviation:.1g}",
        )
        for name in fastest
    ]
    columns = ("runtime", "ms a picture", "torch", "pictures alike", "difference, SD")
    shown.blank()
    shown.show(plain_table(columns, rows, numbers=4))
    if as_json:
        shown.write_json({name: found[name].model_dump(mode="json") for name in fastest})
    else:
        for name in fastest:
            shown.write(name)
