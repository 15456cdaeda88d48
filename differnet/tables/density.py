"""The density of a table's rows in the table's own units."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from differnet.flows import (
    Flow,
    HeldOutCheck,
    TrainingPlan,
    audit,
    ffjord,
    fit_maximum_likelihood,
    glow,
    iaf,
    maf,
    nice,
    planar,
    radial,
    real_nvp,
    regularised_nll,
    rnode,
    shrinkage_whitening,
    spline_autoregressive,
    spline_coupling,
)
from differnet.flows.training import Objective, negative_log_likelihood
from differnet.tables.reading import TableError, numbers

Rows = NDArray[np.float64]

# With fewer, the standard error itself would be known to worse than 35 % (1 / sqrt(2 (n - 1))).
_LEAST_HELD_OUT = 5
# Glow's mixing then has a million numbers a step; wider rows are no table any more.
MOST_COLUMNS = 1000
# float64 holds 16 digits: of a column that varies by less than this share of its mean, four are left.
_LEAST_SPREAD = 1e-12
# Share of the mean variance that the narrowest direction of standardised columns may have. Below, one
# column follows from the others to within a standard deviation of 3e-5, which rounding to float32
# begins to hide.
_LEAST_VARIANCE = 1e-9
# Of training. The rate lies between what served 150 rows best (1e-3) and 600 rows (3e-3); with 5e-3, the
# rate for features of pictures, few rows are overfitted before the first look. A look costs a third of a step
# a batch: this often, it takes at most a third of all time.
_BATCH = 512
_LEARNING_RATE = 2e-3
_CHECK_EVERY = 25
_PATIENCE = 20
# Rows scored at once: bounds memory, and is large enough that a batch costs no more than its rows.
_CHUNK = 4096


class Family(NamedTuple):
    """How a family is built and trained.

    Attributes:
        build: Its preset.
        depth: What the preset calls its number of layers; ``None`` where it has none.
        wide: Whether it has networks with a hidden width.
        objective: What training makes small.
    """

    build: Callable[..., Flow]
    depth: str | None
    wide: bool
    objective: Objective = negative_log_likelihood


# Of continuous flows, relative and absolute. Training in float32 takes the finest that float32 can give,
# 1.2e-6; in float64 afterwards a round trip is off by some 4e-7, well below what `audit` allows.
_TOLERANCE = 3e-7

# Closed: a name in a file can build nothing else. An augmented flow has no log-density to score rows by.
FAMILIES: dict[str, Family] = {
    "nice": Family(nice, "couplings", True),
    "real_nvp": Family(real_nvp, "couplings", True),
    "glow": Family(glow, "steps", True),
    "maf": Family(maf, "layers", True),
    "iaf": Family(iaf, "layers", True),
    "spline_coupling": Family(spline_coupling, "couplings", True),
    "spline_autoregressive": Family(spline_autoregressive, "layers", True),
    "planar": Family(planar, "layers", False),
    "radial": Family(radial, "layers", False),
    "ffjord": Family(partial(ffjord, rtol=_TOLERANCE, atol=_TOLERANCE), None, True),
    "rnode": Family(partial(rnode, rtol=_TOLERANCE, atol=_TOLERANCE), None, True, regularised_nll()),
}


@dataclass(frozen=True)
class FlowChoice:
    """Which flow: all that is needed to build it again.

    Attributes:
        family: One of `FAMILIES`.
        layers: Its depth; the preset's own when ``None`` is given, and ``None`` where it has none.
        hidden: Width of its networks, likewise.
        seed: Of its starting weights.

    Raises:
        TableError: The family is not known, or has no such setting.
    """

    family: str = "real_nvp"
    layers: int | None = None
    hidden: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        family = FAMILIES.get(self.family)
        if family is None:
            raise TableError(
                expected=f"one of {', '.join(FAMILIES)}",
                found=repr(self.family),
                remedy="Choose one of them; docs/flows.md compares them.",
            )
        settings = inspect.signature(family.build).parameters
        for name, given in (("layers", family.depth), ("hidden", "hidden" if family.wide else None)):
            value = getattr(self, name)
            if given is None and value is not None:
                raise TableError(
                    expected=f"no number of {name} for {self.family}",
                    found=f"{name}={value}",
                    remedy=f"Leave {name} out: this family has none.",
                )
            if value is not None and value < 1:
                raise TableError(
                    expected=f"{name} of at least 1",
                    found=f"{name}={value}",
                    remedy="Leave it out for the family's default.",
                )
            if given is not None and value is None:
                object.__setattr__(self, name, settings[given].default)

    def build(self, columns: int, context: int) -> Flow:
        """Return the untrained flow."""
        family = FAMILIES[self.family]
        sizes = {} if family.depth is None else {family.depth: self.layers}
        if family.wide:
            sizes["hidden"] = self.hidden
        return family.build(columns, context, **sizes, seed=self.seed)


@dataclass(frozen=True)
class Column:
    """A column and how it is standardised: ``(value - shift) / scale``.

    Attributes:
        name: In the table.
        shift: Mean of the training rows.
        scale: Their standard deviation, positive.
    """

    name: str
    shift: float
    scale: float


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error.

    Attributes:
        mean: Of the rows.
        error: Standard deviation of the rows, over the square root of their number.
    """

    mean: float
    error: float


@dataclass(frozen=True)
class FitFigures:
    """How a fit went. The likelihoods are of rows that neither trained nor stopped it.

    Attributes:
        trained: Rows that were trained on.
        stopping: Rows that chose when to stop.
        reported: Rows that the likelihoods below are of.
        steps: Steps taken.
        kept: The step whose weights were kept.
        flow: Log-density a row, nats, in the table's own units.
        gaussian: The same of the closed-form Gaussian with a shrunk covariance; given a context, of the
            Gaussian around a linear function of it.
        gain: The difference row by row, which has no unit.
    """

    trained: int
    stopping: int
    reported: int
    steps: int
    kept: int
    flow: Estimate
    gaussian: Estimate
    gain: Estimate


class TableDensity:
    """A density of some columns of a table, given others or none.

    ``log p(row | context) = log p_flow((row - shift) / scale | standardised context) - sum log scale``: the
    density is per the table's own units. All of it is computed in float64.

    Args:
        flow: On standardised columns, any dtype; it is put into float64 and no longer trained.
        choice: What it was built from.
        columns: What the density is of.
        context: What it is given.
        figures: How the fit went.
    """

    def __init__(
        self,
        flow: Flow,
        choice: FlowChoice,
        columns: Sequence[Column],
        context: Sequence[Column],
        figures: FitFigures,
    ) -> None:
        self.flow = flow.double().eval().requires_grad_(False)
        self.choice = choice
        self.columns = tuple(columns)
        self.context = tuple(context)
        self.figures = figures

    def log_density(self, table: pd.DataFrame) -> Rows:
        """Return the log-density of every row, nats, ``(rows,)``.

        Raises:
            TableError: A column is absent, not of numbers, or has gaps.
        """
        x, context = _standardised(table, self.columns), _standardised(table, self.context)
        densities = []
        with torch.no_grad():
            for start in range(0, len(x), _CHUNK):
                rows = slice(start, start + _CHUNK)
                given = context[rows] if self.context else None
                densities.append(self.flow.log_prob(x[rows], given))
        density: Rows = torch.cat(densities).numpy() - _log_volume(self.columns)
        return density

    def sample(self, rows: int, *, given: Mapping[str, float] | None = None, seed: int = 0) -> pd.DataFrame:
        """Draw rows.

        Args:
            rows: How many.
            given: A number for every column of the context.
            seed: The same seed draws the same rows.

        Returns:
            The context's columns, then the density's.

        Raises:
            TableError: The context is incomplete, or names something else.
        """
        given = dict(given or {})
        if set(given) != {column.name for column in self.context}:
            raise TableError(
                expected=f"a number for {', '.join(c.name for c in self.context) or 'no column: no context'}",
                found=", ".join(given) or "none",
                remedy="Give every column of the context, and no other.",
            )
        generator = torch.Generator().manual_seed(seed)
        fixed = pd.DataFrame({c.name: np.full(rows, float(given[c.name])) for c in self.context})
        context = _standardised(fixed, self.context) if self.context else None
        drawn = self.flow.sample((rows,), context, generator=generator).numpy()
        free = {c.name: drawn[:, i] * c.scale + c.shift for i, c in enumerate(self.columns)}
        return fixed.assign(**free) if self.context else pd.DataFrame(free)


def fit_table(
    table: pd.DataFrame,
    *,
    columns: Sequence[str] = (),
    context: Sequence[str] = (),
    choice: FlowChoice | None = None,
    steps: int = 2000,
    held_out: float = 0.1,
    noise: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> TableDensity:
    """Fit a flow to a table's rows by maximum likelihood, stopped early, and measure it.

    Two shares ``held_out`` of the rows are kept apart: the first chooses when to stop, the second is
    what `FitFigures` is of. Rows that are the same stay together: a copy among the training rows would
    let the flow be praised for remembering. Otherwise the split is random, given by the seed: rows in
    the order of time that drift need a split by time instead, by hand.

    Args:
        table: At least 50 rows for a share of 0.1.
        columns: What the density is of; all but the context's when empty.
        context: What it is given.
        choice: Family, sizes and seed.
        steps: Of training, at most.
        held_out: The share.
        noise: Standard deviation of noise added to training rows, in standard deviations of a column.
            Columns of few different values need it: a flow that puts a spike on each has no bound.
        progress: Called with steps done and steps in all; both are the steps taken at the end.

    Returns:
        The density; its flow has passed `audit` on the reported rows.

    Raises:
        TableError: The table does not fit, or has no density: a column that is constant or follows from
            the others, or too few rows.
        FlowError: Training diverged, or the flow does not invert.

    Example:
        >>> import numpy as np, pandas as pd
        >>> from differnet.tables import FlowChoice, fit_table
        >>> x = np.random.default_rng(0).normal(size=200)
        >>> table = pd.DataFrame({"x": x, "y": x**2 + np.random.default_rng(1).normal(size=200)})
        >>> density = fit_table(table, choice=FlowChoice("maf", layers=2, hidden=8), steps=20)
        >>> density.log_density(table).shape, list(density.sample(3).columns)
        ((200,), ['x', 'y'])
    """
    choice = choice or FlowChoice()
    if steps < 1:
        raise TableError(
            expected="at least one step", found=f"{steps=}", remedy="Leave it out for the default."
        )
    names = list(columns) or [str(name) for name in table.columns if str(name) not in context]
    _check_names(names, context)
    rows = numbers(table, [*names, *context])
    parts = _split(rows, held_out, choice.seed)
    described = _described(rows[parts[0]], [*names, *context])
    of, given = described[: len(names)], described[len(names) :]
    standard = (rows - [c.shift for c in described]) / [c.scale for c in described]
    _check_rank(standard[parts[0]], [*names, *context])

    vectors = [torch.from_numpy(standard[part]) for part in parts]
    x = [v[:, : len(names)] for v in vectors]
    c = [v[:, len(names) :] if context else None for v in vectors]
    # Trained in float32, which is twice as fast, and used in float64.
    training = [(v.float(), None if g is None else g.float()) for v, g in zip(x[:2], c[:2], strict=True)]
    flow = choice.build(len(names), len(context))
    plan = TrainingPlan(
        steps=steps,
        batch=min(_BATCH, len(x[0])),
        learning_rate=_LEARNING_RATE,
        seed=choice.seed,
        check_every=max(_CHECK_EVERY, len(x[1]) // _BATCH),
        patience=_PATIENCE,
    )
    taken = 0
    looks: list[HeldOutCheck] = []

    def count(step: int, _loss: float) -> None:
        nonlocal taken
        taken = step + 1
        if progress is not None:
            progress(taken, steps)

    fit_maximum_likelihood(
        flow,
        *training[0],
        noise=noise,
        plan=plan,
        objective=FAMILIES[choice.family].objective,
        held_out=training[1],
        progress=count,
        on_check=looks.append,
    )
    if progress is not None:
        progress(taken, taken)
    flow.double().requires_grad_(False)
    audit(flow, x[2], c[2])
    with torch.no_grad():
        density: Rows = flow.log_prob(x[2], c[2]).numpy() - _log_volume(of)
    gaussian = _gaussian(standard, parts, len(names)) - _log_volume(of)
    figures = FitFigures(
        trained=len(parts[0]),
        stopping=len(parts[1]),
        reported=len(parts[2]),
        steps=taken,
        kept=max(look.step for look in looks if look.best),
        flow=_estimate(density),
        gaussian=_estimate(gaussian),
        gain=_estimate(density - gaussian),
    )
    return TableDensity(flow, choice, of, given, figures)


def few_values(table: pd.DataFrame, density: TableDensity) -> list[str]:
    """Name the columns of the density in which most values stand more than once.

    A likelihood grows without bound on them: ask for noise, or mind that held-out figures then say how
    sharp the spikes are.
    """
    rows = numbers(table, [column.name for column in density.columns])
    return [
        column.name
        for column, values in zip(density.columns, rows.T, strict=True)
        if 2 * len(np.unique(values)) < len(values)
    ]


def _check_names(columns: Sequence[str], context: Sequence[str]) -> None:
    every = [*columns, *context]
    twice = [name for name in every if every.count(name) > 1]
    if not columns or twice or len(every) > MOST_COLUMNS:
        found = f"{twice[0]!r} twice" if twice else f"{len(columns):,} columns, {len(context):,} of context"
        raise TableError(
            expected=f"1 to {MOST_COLUMNS:,} columns in all, each once, at least one outside of the context",
            found=found,
            remedy="Name the columns, and the context's apart from them.",
        )


def _split(rows: Rows, held_out: float, seed: int) -> tuple[NDArray[np.intp], ...]:
    """Return which rows train, which stop training, and which are reported on; each in table order."""
    if not 0 < held_out < 0.5:
        raise TableError(
            expected="a share to hold out between 0 and 0.5, which is taken twice",
            found=f"{held_out}",
            remedy="Use the default, 0.1.",
        )
    _, group, sizes = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    # How many rows stand in this group and those drawn before it.
    reached = np.empty(len(sizes), dtype=np.intp)
    reached[order] = np.cumsum(sizes[order])
    wanted = round(held_out * len(rows))
    place = reached[group.ravel()]
    reported, stopping = place <= wanted, (place > wanted) & (place <= 2 * wanted)
    masks = (~reported & ~stopping, stopping, reported)
    least = (2 * (rows.shape[1] + 1), _LEAST_HELD_OUT, _LEAST_HELD_OUT)
    counts = tuple(int(mask.sum()) for mask in masks)
    if any(count < needed for count, needed in zip(counts, least, strict=True)):
        raise TableError(
            expected=f"rows enough for {least[0]} that train (two a column and two more), "
            f"{least[1]} that stop training and {least[2]} to report on",
            found=f"{len(rows):,} rows, {len(sizes):,} of them different, dealt "
            f"{counts[0]:,} + {counts[1]:,} + {counts[2]:,}",
            remedy="Give more rows, fewer columns, or another share to hold out.",
        )
    return tuple(np.flatnonzero(mask) for mask in masks)


def _described(rows: Rows, names: Sequence[str]) -> list[Column]:
    """Return each column's mean and standard deviation.

    Raises:
        TableError: A column is constant, or varies by less than float64 can tell.
    """
    shift, scale = rows.mean(0), rows.std(0)
    still = ~np.isfinite(scale) | (scale <= _LEAST_SPREAD * np.abs(shift)) | (np.ptp(rows, axis=0) == 0)
    if still.any():
        name = names[int(np.argmax(still))]
        raise TableError(
            expected="columns that vary, by numbers that float64 can tell apart",
            found=f"{name!r} with mean {shift[int(np.argmax(still))]:.6g} and standard deviation "
            f"{scale[int(np.argmax(still))]:.3g} among the {len(rows):,} rows that train",
            remedy="Leave that column out: what does not vary has no density.",
        )
    return [Column(n, float(m), float(s)) for n, m, s in zip(names, shift, scale, strict=True)]


def _check_rank(standard: Rows, names: Sequence[str]) -> None:
    """Raise where a column follows from the others: the rows then lie on a plane without volume."""
    variances, axes = np.linalg.eigh(standard.T @ standard / len(standard))
    if variances[0] < _LEAST_VARIANCE:
        share = np.abs(axes[:, 0])
        together = [name for name, part in zip(names, share, strict=True) if part > 0.1 * share.max()]
        raise TableError(
            expected="columns none of which follows from the others",
            found=f"{', '.join(map(repr, together))} that do",
            remedy="Leave one of them out: such rows lie on a plane, where no density is.",
        )


def _standardised(table: pd.DataFrame, columns: Sequence[Column]) -> Tensor:
    rows = numbers(table, [c.name for c in columns]) if columns else np.zeros((len(table), 0))
    return torch.from_numpy((rows - [c.shift for c in columns]) / [c.scale for c in columns])


def _log_volume(columns: Sequence[Column]) -> float:
    return sum(float(np.log(column.scale)) for column in columns)


def _gaussian(standard: Rows, parts: Sequence[NDArray[np.intp]], width: int) -> Rows:
    """Return the log-density of the reported rows under the Gaussian around a linear function of the context.

    Mean by least squares, covariance of what that leaves shrunk as of `shrinkage_whitening`; on the rows
    that train, so that it has seen what the flow has seen.
    """
    design = np.column_stack([np.ones(len(standard)), standard[:, width:]])
    weights = np.linalg.lstsq(design[parts[0]], standard[parts[0], :width], rcond=None)[0]
    rest = torch.from_numpy(standard[:, :width] - design @ weights)
    flow = Flow(shrinkage_whitening(rest[parts[0]])).double()
    density: Rows = flow.log_prob(rest[parts[2]]).numpy()
    return density


def _estimate(values: Rows) -> Estimate:
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))
