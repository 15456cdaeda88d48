"""Where a command's words go: data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from differnet.durations import duration

# Of text that goes into a file or a pipe: wide enough for a table of five verdicts.
PLAIN_WIDTH = 100
# Seconds between two lines of a stage that is not shown as a bar.
PLAIN_INTERVAL = 10.0
# Stages shorter than this (seconds) need no line of their own.
WORTH_A_LINE = 2.0

VERDICT_STYLES = {
    "PASS": "green",
    "REVIEW": "yellow",
    "DEFECT": "red",
    "OOD": "magenta",
    "INVALID": "bright_black",
}


class Terminal:
    """The two streams of a process and how a person wants them.

    Attributes:
        quiet: Only data and errors.
        plain: No colour and no bars that move: asked for, or the log is not a terminal.
        debug: Show tracebacks.
        data: Console of stdout.
        log: Console of stderr.
    """

    def __init__(self, *, quiet: bool = False, plain: bool = False, debug: bool = False) -> None:
        plain = plain or bool(os.environ.get("NO_COLOR"))
        self.quiet = quiet
        self.debug = debug
        self.data = _console(plain, stderr=False)
        self.log = _console(plain, stderr=True)
        self.plain = plain or not self.log.is_terminal or self.log.is_dumb_terminal

    def note(self, words: str, style: str = "") -> None:
        """Say something on stderr, unless it shall be quiet."""
        if not self.quiet:
            self.log.print(Text(legible(words), style=style), soft_wrap=self.plain)

    def blank(self) -> None:
        """Leave a line free on stderr, unless it shall be quiet."""
        self.note("")

    def show(self, thing: RenderableType) -> None:
        """Show a table or block of words on stderr, unless it shall be quiet."""
        if not self.quiet:
            self.log.print(thing)

    def warn(self, words: str) -> None:
        """Say on stderr what a person should know even when it shall be quiet."""
        self.log.print(Text(f"warning: {legible(words)}", style="yellow"), soft_wrap=self.plain)

    def waiting(self, words: str) -> AbstractContextManager[object]:
        """Show on a terminal that something goes on whose end cannot be foretold."""
        if self.plain or self.quiet:
            return nullcontext()
        return self.log.status(Text(legible(words)))

    def fail(self, lines: Iterable[tuple[str, str]]) -> None:
        """Show an error on stderr.

        Args:
            lines: Heading and words of each line.
        """
        shown = [(f"{heading}:", legible(" ".join(words.splitlines()))) for heading, words in lines]
        if not self.log.is_terminal:
            # A file or a log collector wants one line each, however long.
            for heading, words in shown:
                self.log.print(Text(f"{heading:<9} {words}"), soft_wrap=True)
            return
        grid = Table.grid(padding=(0, 1))
        for heading, words in shown:
            style = "bold green" if heading.startswith("do") else "bold red"
            grid.add_row(Text(heading, style=style), Text(words, overflow="fold"))
        self.log.print(grid)

    def write(self, line: str) -> None:
        """Write one line of data to stdout, exactly."""
        print(line, file=self.data.file, flush=True)

    def write_json(self, tree: Any) -> None:
        """Write strict JSON to stdout: figures that are not finite become null."""
        self.write(json.dumps(strict(tree), allow_nan=False, indent=2))

    def tell(self, words: str) -> None:
        """Write words for a person to stdout."""
        lines = (legible(line) for line in words.split("\n"))
        self.data.print(Text("\n".join(lines)), soft_wrap=not self.data.is_terminal)

    def write_table(self, thing: RenderableType) -> None:
        """Write a table for a person to stdout."""
        self.data.print(thing)

    def steps(self, *, transient: bool = False) -> Steps:
        """Open a display of progress on stderr; a transient one leaves nothing behind."""
        return Steps(self, transient=transient)


def _console(plain: bool, *, stderr: bool) -> Console:
    console = Console(
        stderr=stderr, highlight=False, markup=False, emoji=False, color_system=None if plain else "auto"
    )
    if not console.is_terminal:
        console.width = max(console.width, PLAIN_WIDTH)
    return console


_terminal: Terminal | None = None


def terminal() -> Terminal:
    """Return the terminal of this process."""
    return _terminal if _terminal is not None else open_terminal()


def open_terminal(*, quiet: bool = False, plain: bool = False, debug: bool = False) -> Terminal:
    """Set how this process speaks, and return its terminal."""
    global _terminal
    _terminal = Terminal(quiet=quiet, plain=plain, debug=debug)
    return _terminal


def legible(words: str) -> str:
    r"""Escape what a terminal would obey instead of print.

    Example:
        >>> legible("part\x1b[31m.png")
        'part\\x1b[31m.png'
    """
    if words.isprintable():
        return words
    # pandas comes with it, which takes half a second: only names that need it pay for it.
    from differnet.reporting.tables import legible as escaped

    return escaped(words)


def strict(tree: Any) -> Any:
    """Turn a tree into one that JSON can hold: not finite becomes ``None``, paths and enums text.

    Example:
        >>> strict({"auroc": float("nan"), "kinds": ("a", 1.5)})
        {'auroc': None, 'kinds': ['a', 1.5]}
    """
    if isinstance(tree, Mapping):
        return {str(key): strict(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [strict(value) for value in tree]
    if isinstance(tree, bool | int | None):
        return tree
    if isinstance(tree, float):
        return float(tree) if math.isfinite(tree) else None
    # numpy's scalars and arrays.
    if callable(to_plain := getattr(tree, "tolist", None)):
        return strict(to_plain())
    return str(tree)


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> Table:
    """Lay out rows without lines, the header underlined by weight alone.

    Args:
        columns: Headings.
        rows: Cells; verdicts get their colour.
        numbers: How many of the last columns are numbers, and stand to the right.

    Returns:
        The table.
    """
    table = Table(
        box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold", show_header=any(columns)
    )
    for place, name in enumerate(columns):
        heading = Text(name, style=VERDICT_STYLES.get(name, ""))
        is_number = place >= len(columns) - numbers
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(legible(cell), style=VERDICT_STYLES.get(cell, "")) for cell in row))
    return table


def remaining(elapsed: float, done: float, total: float) -> float | None:
    """Estimate the seconds that are left, or ``None`` where nothing can be said yet.

    Example:
        >>> remaining(10.0, 25, 100), remaining(10.0, 0, 100)
        (30.0, None)
    """
    return elapsed * (total - done) / done if done > 0 else None


class _Timing(ProgressColumn):
    """Time left while a stage runs, time taken when it is over."""

    def render(self, task: Task) -> Text:
        elapsed = (task.finished_time if task.finished else task.elapsed) or 0.0
        if task.finished:
            return Text(f"took {duration(elapsed)}", style="green")
        left = remaining(elapsed, task.completed, task.total or 0.0)
        return Text("" if left is None else f"about {duration(left)} left", style="cyan")


class Steps:
    """Progress of a command's stages: bars on a terminal, a few plain lines elsewhere.

    Call it with the stage's name, what is done and what there is to do; used in a ``with`` statement.
    """

    def __init__(
        self, owner: Terminal, *, transient: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._terminal = owner
        self._clock = clock
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, float] = {}
        self._over: set[str] = set()
        self._said_at = clock()
        if not owner.plain and not owner.quiet:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TextColumn("{task.completed:.0f} of {task.total:.0f}", justify="right"),
                _Timing(),
                console=owner.log,
                transient=transient,
            )

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note how far a stage is.

        Args:
            stage: In words; a new one begins a new bar.
            done: Steps that are done.
            total: Steps in all.
        """
        if self._bars is not None:
            self._move_bar(self._bars, stage, done, total)
        elif not self._terminal.quiet:
            self._maybe_say(stage, done, total)

    def named(self, stage: str) -> Callable[[int, int], None]:
        """Fix the stage, for callers that only count."""
        return lambda done, total: self(stage, done, total)

    def clear(self) -> None:
        """Take the bars away, so that those of the next job do not pile up under them."""
        if self._bars is not None:
            for task in self._tasks.values():
                self._bars.remove_task(task)
        self._tasks.clear()

    def _move_bar(self, bars: Progress, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = bars.add_task(escape(legible(stage)), total=total)
        bars.update(self._tasks[stage], completed=done, total=total)

    def _maybe_say(self, stage: str, done: int, total: int) -> None:
        now = self._clock()
        begun = self._begun.setdefault(stage, now)
        if stage in self._over:
            return
        if total > 0 and done >= total:
            self._over.add(stage)
            if now - begun >= WORTH_A_LINE:
                self._terminal.note(f"{stage}: {done:,} of {total:,}, took {duration(now - begun)}")
                self._said_at = now
        elif now - self._said_at >= PLAIN_INTERVAL:
            left = remaining(now - begun, done, total)
            eta = "" if left is None else f", about {duration(left)} left"
            self._terminal.note(f"{stage}: {done:,} of {total:,}{eta}")
            self._said_at = now
