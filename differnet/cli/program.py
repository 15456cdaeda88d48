"""The program `differnet`: its commands, the switches that hold for all of them, and how it ends."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from rich.traceback import Traceback
from typer.core import TyperGroup

from differnet import __version__
from differnet.cli import (
    batch,
    bench,
    browse,
    calibrate,
    data,
    db,
    demo,
    doctor,
    drift,
    evaluate,
    export,
    flows,
    inspect,
    promote,
    retrain,
    review,
    threshold,
    train,
)
from differnet.cli.exits import EXIT_CODES_HELP, ExitCode, exit_code_of, explained
from differnet.cli.terminal import open_terminal, terminal
from differnet.records import DiffernetError

SWITCHES = ("--quiet", "--no-color", "--debug")


class DiffernetGroup(TyperGroup):
    """The program as a whole: switches may stand anywhere, and no error ends in a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the switches that hold for every command to the front, where they are declared."""
        return super().parse_args(ctx, switches_first(args))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; put whatever it raises into three lines and an exit code."""
        _never_fail_to_print()
        try:
            return super().main(*args, **kwargs)
        except DiffernetError as error:
            _explain(error)
            sys.exit(exit_code_of(error))
        except KeyboardInterrupt:
            sys.exit(ExitCode.INTERRUPTED)
        except Exception as error:
            _explain(error)
            sys.exit(ExitCode.ERROR)


def switches_first(arguments: list[str]) -> list[str]:
    """Sort the switches to the front; what stands behind ``--`` is left alone.

    Example:
        >>> switches_first(["train", "parts", "--quiet", "--", "--debug"])
        ['--quiet', 'train', 'parts', '--', '--debug']
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    switches = [word for word in arguments[:end] if word in SWITCHES]
    return switches + [word for word in arguments[:end] if word not in SWITCHES] + arguments[end:]


def _never_fail_to_print() -> None:
    """Escape what the terminal's encoding lacks: a file's odd name must not end a run."""
    for stream in (sys.stdout, sys.stderr):
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            reconfigure(errors="backslashreplace")


def _explain(error: Exception) -> None:
    shown = terminal()
    if shown.debug:
        shown.log.print(Traceback.from_exception(type(error), error, error.__traceback__))
    shown.fail(explained(error))


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"differnet {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="differnet",
    cls=DiffernetGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"--quiet, --no-color and --debug may stand anywhere. {EXIT_CODES_HELP}",
)


@app.callback()
def differnet(
    quiet: Annotated[bool, typer.Option("--quiet", help="Only data and errors, no progress.")] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colour and no moving bars; so does NO_COLOR.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Learn what good parts look like, and judge others with a stated error rate.

    Begin with: differnet demo
    """
    if no_color:
        # For what starts from here: usage errors, and processes such as the dashboard.
        os.environ["NO_COLOR"] = "1"
    open_terminal(quiet=quiet, plain=no_color, debug=debug)


app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(threshold.app, name="threshold")
app.command("export")(export.export)
app.command("inspect")(inspect.inspect)
app.add_typer(drift.app, name="drift")
app.command("evaluate")(evaluate.evaluate)
app.command("bench")(bench.bench)
app.command("benchmark")(evaluate.benchmark)
app.add_typer(flows.app, name="flows")
app.command("report")(browse.report)
app.command("dashboard")(browse.dashboard)
app.add_typer(batch.app, name="batch")
app.add_typer(db.app, name="db")
app.add_typer(review.app, name="review")
app.command("retrain")(retrain.retrain)
app.command("promote")(promote.promote)
app.command("doctor")(doctor.doctor)
