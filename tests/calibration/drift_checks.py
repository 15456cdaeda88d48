"""What must hold of tests of typicality and drift: each check raises AssertionError with what broke.

The tests of this folder call them on the true code, ``tests/mutants`` on code with a planted fault.
Everything is called through its module, so that a fault planted there is met. ``tests/validity`` measures
the same promises on more runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from calibration.checks import require
from differnet.calibration import combination, drift, monitor, permutation, typicality

Values = NDArray[np.float64]

# With 99 exchanged batches rates of 1 % and 5 % are met exactly, not only kept.
DRAWS = 99
_VALID_RULES: tuple[combination.Rule, ...] = ("bonferroni", "mean")


def rate_is_met(alarms: ArrayLike, alpha: float, what: str, exactly: bool = True) -> None:
    """Require a false-alarm rate of ``alpha`` over runs, within 4 standard errors."""
    shares = np.asarray(alarms, dtype=np.float64)
    rate, allowed = float(shares.mean()), 4 * math.sqrt(alpha * (1 - alpha) / len(shares))
    require(rate <= alpha + allowed, f"{what}: false alarms {rate:.4f}, promised {alpha}")
    # A test that never alarms is safe and useless.
    require(not exactly or rate >= alpha - allowed, f"{what}: false alarms only {rate:.4f} of {alpha}")


def a_single_part_is_ranked_by_hand() -> None:
    """Typicality of one part against counting in fractions, with ties."""
    rng = np.random.default_rng(0)
    for n in (2, 5, 19):
        good = rng.integers(0, 6, n)
        for asked in range(-3, 10):
            everybody = [Fraction(int(g)) for g in (*good, asked)]
            entropies = [Fraction(sum(everybody) - own, n) for own in everybody]
            far = [abs(own - entropy) for own, entropy in zip(everybody, entropies, strict=True)]
            wanted = Fraction(sum(f >= far[-1] for f in far), n + 1)
            found = float(typicality.typicality_p_values(good, [[asked]])[0])
            # Ties may be broken by rounding, either way: the value is then that of one more or one less.
            tied = sum(f == far[-1] for f in far)
            near = {float(wanted - Fraction(k, n + 1)) for k in range(tied)}
            require(
                any(math.isclose(found, p) for p in near), f"p of {asked} among {n}: {found}, not {wanted}"
            )


def a_far_batch_gets_the_smallest_p_value() -> None:
    """Never 0: the batch itself is one of those that could have been."""
    good = np.linspace(-1, 1, 50)
    for batch in (2, 7):
        for far in (1e3, -1e3):
            found = typicality.typicality_p_values(good, np.full((1, batch), far), draws=DRAWS)[0]
            require(found == 1 / (DRAWS + 1), f"p of a batch of {batch} at {far}: {found}")
            table = np.full((batch, 2), [far, 0.0])
            together = typicality.several_statistics(np.column_stack([good, good]), table, draws=DRAWS)
            require(together.p_value == 1 / (DRAWS + 1), f"of two statistics: {together.p_value}")
    found = typicality.typicality_p_values(good, [[1e3]])[0]
    require(math.isclose(found, 1 / 51), f"p of a part far out: {found}")


def false_alarms_of_typicality_are_as_stated() -> None:
    rng = np.random.default_rng(1)
    for n, batch, runs in ((99, 1, 1_500), (50, 25, 1_500)):
        drawn = rng.chisquare(5, (runs, n + batch))
        p = np.empty(runs)
        for run, one in enumerate(drawn):
            p[run] = typicality.typicality_p_values(one[:n], one[None, n:], DRAWS, run)[0]
        for alpha in (0.02, 0.1):
            rate_is_met(p <= alpha, alpha, f"batches of {batch}")


def false_alarms_of_several_statistics_are_as_stated() -> None:
    """Whether the statistics say the same or have nothing to do with one another."""
    rng = np.random.default_rng(2)
    for n, batch, correlation, runs in ((99, 1, 0.95, 1_000), (60, 8, 0.0, 500), (60, 8, 0.95, 500)):
        p = np.empty(runs)
        for run in range(runs):
            drawn = math.sqrt(1 - correlation) * rng.normal(size=(n + batch, 4))
            drawn += math.sqrt(correlation) * rng.normal(size=(n + batch, 1))
            p[run] = typicality.several_statistics(drawn[:n], drawn[n:], draws=DRAWS, seed=run).p_value
        for alpha in (0.02, 0.1):
            rate_is_met(p <= alpha, alpha, f"batches of {batch}, correlation {correlation}")


def either_side_is_seen() -> None:
    """Too usual is as untypical as too strange, by every test."""
    rng = np.random.default_rng(3)
    good = rng.normal(size=300)
    for side in (1.5, -1.5):
        batch = rng.normal(side, size=20)
        found = typicality.typicality_p_values(good, batch[None], DRAWS)[0]
        require(found == 1 / (DRAWS + 1), f"typicality of a batch at {side}: {found}")
        several = typicality.several_statistics(good[:, None], batch[:, None], draws=DRAWS)
        require(several.p_value == 1 / (DRAWS + 1), f"a statistic at {side}: {several.p_value}")
        moved = drift.batch_drift(good[:, None], batch[:, None], draws=DRAWS).moved
        require(len(moved) == 1, f"nothing moved at {side}")
        require(moved[0].how == ("higher" if side > 0 else "lower"), f"at {side} it is {moved[0].how}")
        require(
            abs(moved[0].deviations - (batch.mean() - good.mean()) / good.std(ddof=1)) < 1e-12, "deviations"
        )
        watched = monitor.Monitor(good)
        last = [watched.update(s) for s in rng.normal(side, size=60)][-1]
        require(last.alarm, f"the line moved by {side} and the monitor is silent at {last.wealth_log10:.1f}")
        wanted = "stranger" if side > 0 else "more usual"
        require(last.change == wanted, f"the line moved by {side} and is called {last.change}")


def a_change_of_spread_is_seen() -> None:
    """A batch with the usual mean that varies otherwise."""
    rng = np.random.default_rng(4)
    good = rng.normal(size=(300, 2))
    for spread, change in ((4.0, "more varied"), (0.1, "less varied")):
        batch = np.column_stack([rng.normal(size=40), spread * stats.norm.ppf((np.arange(40) + 0.5) / 40)])
        moved = drift.batch_drift(good, batch, names=["nll", "contrast"]).moved
        require([m.name for m in moved] == ["contrast"], f"spread {spread}: {[m.name for m in moved]} moved")
        require(moved[0].how == "otherwise", f"spread {spread} is called {moved[0].how}")
        require(abs(moved[0].spread / spread - 1) < 0.15, f"spread {spread} is measured as {moved[0].spread}")
        watched = monitor.Monitor(good[:, 0])
        last = [watched.update(s) for s in spread * rng.normal(size=100)][-1]
        require(last.alarm and last.change == change, f"spread {spread} on a line is called {last.change}")


def nothing_is_named_in_vain() -> None:
    """Of eight statistics of good batches the chance that any is named is alpha, not eight times that."""
    rng = np.random.default_rng(5)
    runs, alpha = 400, 0.05
    named, alarms = np.empty(runs), np.empty(runs)
    for run in range(runs):
        drawn = rng.normal(size=(70, 8))
        found = drift.batch_drift(drawn[:60], drawn[60:], alpha, draws=DRAWS, seed=run)
        named[run], alarms[run] = bool(found.moved), found.alarm
    rate_is_met(alarms, alpha, "drift of good batches")
    rate_is_met(named, alpha, "statistics named in good batches")


def only_what_moved_is_named() -> None:
    """Where one statistic moved, the others are named with a chance of at most alpha."""
    rng = np.random.default_rng(6)
    runs, alpha = 250, 0.05
    right, in_vain = np.empty(runs), np.empty(runs)
    for run in range(runs):
        good, batch = rng.normal(size=(100, 4)), rng.normal([0, 0, 2, 0], size=(10, 4))
        names = [m.name for m in drift.batch_drift(good, batch, alpha, draws=DRAWS, seed=run).moved]
        right[run], in_vain[run] = "statistic 3" in names, bool(set(names) - {"statistic 3"})
    require(right.mean() > 0.95, f"a shift by 2 is found {right.mean():.2f} of the time")
    rate_is_met(in_vain, alpha, "statistics named beside one that moved", exactly=False)


def distances_are_the_formula() -> None:
    """Anderson and Darling's distance against its double sum, with ties."""
    rng = np.random.default_rng(7)
    for n, batch, ties in ((10, 3, False), (15, 8, False), (12, 6, True)):
        figures = rng.integers(0, 5, n + batch).astype(float) if ties else rng.normal(size=n + batch)
        places = permutation.exchanged(n, batch, 40, seed=0)
        wanted = np.zeros(len(places))
        order, parts = np.sort(figures), n + batch
        for row, place in enumerate(places):
            for i in range(1, parts):
                if order[i] > order[i - 1]:
                    below = int(np.sum(figures[place] < order[i]))
                    wanted[row] += (parts * below - batch * i) ** 2 / (i * (parts - i) * batch * n)
        found = permutation.shape_distances(figures[:, None], places)[:, 0]
        gap = np.abs(found - (wanted - wanted.mean()) / wanted.std()).max()
        require(bool(gap < 1e-9), f"{n} and {batch} parts, ties {ties}: off by {gap:.2g}")


def exchanged_batches_are_fair() -> None:
    """The batch comes first, nobody is in one twice, and everybody is in equally often."""
    for n, batch in ((7, 3), (3, 7), (6, 1)):
        places = permutation.exchanged(n, batch, 4_000, seed=1)
        require(places[0].tolist() == list(range(n, n + batch)), f"first of {n} and {batch}: {places[0]}")
        require(
            all(len(set(place)) == batch for place in places.tolist()), f"{n} and {batch}: somebody twice"
        )
        if batch == 1:
            require(sorted(places.ravel().tolist()) == list(range(n + 1)), "not everybody by turns")
            continue
        share, drawn = batch / (n + batch), len(places) - 1
        counts = np.bincount(places[1:].ravel(), minlength=n + batch) / drawn
        allowed = 5 * math.sqrt(share * (1 - share) / drawn)
        require(bool(np.abs(counts - share).max() < allowed), f"{n} and {batch}: shares {counts.round(3)}")


def rules_are_their_formulas() -> None:
    rng = np.random.default_rng(8)
    p = rng.uniform(0.001, 0.98, (200, 5))
    bonferroni = np.minimum(1, 5 * p.min(axis=1))
    require(np.allclose(combination.combine_p_values(p, "bonferroni"), bonferroni), "bonferroni")
    require(np.allclose(combination.combine_p_values(p, "mean"), np.minimum(1, 2 * p.mean(axis=1))), "mean")
    cauchy = stats.cauchy.sf(np.tan((0.5 - p) * np.pi).mean(axis=1))
    require(np.allclose(combination.combine_p_values(p, "cauchy"), cauchy), "cauchy")
    for rule in ("bonferroni", "mean", "cauchy"):
        alone = p[:, :1]
        found = combination.combine_p_values(alone, rule)
        times = 2 if rule == "mean" else 1
        require(np.allclose(found, np.minimum(1, times * alone[:, 0])), f"{rule} of one p-value")
        require(bool(np.isnan(combination.combine_p_values([math.nan, 0.5], rule))), f"{rule} of NaN")


def rules_are_valid_where_p_values_conspire() -> None:
    """Dependence built to break a rule that takes p-values for independent or alike."""
    rng = np.random.default_rng(9)
    runs = 20_000
    u = rng.random(runs)
    same = np.repeat(u[:, None], 4, axis=1)
    # Whenever one is below 1/4 it is the only one: the smallest of four is uniform on [0, 1/4].
    shifted = (u[:, None] + np.arange(4) / 4) % 1
    for alpha in (0.01, 0.05):
        # Wherever one is below 2 alpha the two have the mean alpha: twice as often as the mean of one.
        meeting = np.stack([u, np.where(u < 2 * alpha, 2 * alpha - u, u)], axis=1)
        for what, p in {"same": same, "shifted": shifted, "meeting": meeting}.items():
            for rule in _VALID_RULES:
                # Rounding alone must not decide where many p-values are alpha exactly.
                found = combination.combine_p_values(p, rule) <= alpha * (1 + 1e-9)
                rate_is_met(found, alpha, f"{rule} of {what} p-values", exactly=False)
    shifted_rate = combination.combine_p_values(shifted, "bonferroni") <= 0.05
    rate_is_met(shifted_rate, 0.05, "bonferroni where it is exact")


def online_p_values_are_counted_exactly() -> None:
    """Against counting by hand, with ties; draws are those of the seed."""
    rng = np.random.default_rng(10)
    good, line = rng.integers(0, 5, 8).astype(float), rng.integers(0, 5, 40).astype(float)
    draws = np.random.default_rng(3).random(40)
    for t, found in enumerate(monitor.online_p_values(good, line, seed=3)):
        before = [*good, *line[:t]]
        stranger = sum(one > line[t] for one in before)
        alike = sum(one == line[t] for one in before) + 1
        wanted = (stranger + draws[t] * alike) / (len(before) + 1)
        require(math.isclose(found, wanted), f"part {t + 1}: {found}, not {wanted}")


def online_p_values_are_independent_and_uniform() -> None:
    rng = np.random.default_rng(11)
    for what in ("ties", "no ties"):
        drawn = rng.exponential(size=(1_500, 30))
        drawn = np.floor(2 * drawn) if what == "ties" else drawn
        p = np.array([monitor.online_p_values(d[:10], d[10:], seed) for seed, d in enumerate(drawn)])
        # The statistic's 1e-5 quantile: a wrong law is refused, an unlucky seed is not.
        for part in (0, 19):
            require(
                bool(stats.kstest(p[:, part], "uniform").pvalue > 1e-5), f"{what}: part {part} not uniform"
            )
        # Of independent uniforms the mean over a line varies as 1 / (12 * 20).
        ratio = p.mean(axis=1).var() * 12 * 20
        allowed = 5 * math.sqrt(2 / len(p))
        require(bool(abs(ratio - 1) < allowed), f"{what}: means vary {ratio:.2f} times as independent ones")


# z = Phi^{-1}(1 - p) over which gains are averaged. Beyond 9 the largest bet has 1e-9 of its mass.
_Z = np.linspace(-8, 9, 20_001)
_AVERAGE = stats.norm.pdf(_Z) * (_Z[1] - _Z[0])


def no_bet_gains_on_average() -> None:
    means = (np.exp(monitor._log_bets(stats.norm.sf(_Z))) * _AVERAGE[:, None]).sum(axis=0)
    require(bool(np.abs(means - 1).max() < 1e-4), f"bets gain {means.round(4)} on average")


def capital_stays_what_it_is_on_average() -> None:
    """Whatever came before, the expected capital after the next part is the capital now."""
    rng = np.random.default_rng(12)
    for parts, shift in ((0, 0.0), (1, 0.0), (30, 0.0), (40, 1.0)):
        before = stats.norm.sf(rng.normal(shift, size=parts))
        now = 10 ** monitor.log10_wealth(before)[-1] if parts else 1.0
        many = np.vstack([np.repeat(before[:, None], len(_Z), axis=1), stats.norm.sf(_Z)])
        later = float((10 ** monitor.log10_wealth(many)[-1] * _AVERAGE).sum())
        require(bool(abs(later / now - 1) < 1e-4), f"after {parts} parts {now:.4g} becomes {later:.4g}")


def monitor_bets_as_stated() -> None:
    """Part by part the same as the capital of the whole line's p-values, and the same after a restart."""
    rng = np.random.default_rng(13)
    good, line = rng.normal(size=50), rng.normal(0.3, size=80)
    wealth = monitor.log10_wealth(monitor.online_p_values(good, line, seed=4))
    watched = monitor.Monitor(good, alpha=0.05, seed=4)
    reached = False
    for part, (strangeness, wanted) in enumerate(zip(line, wealth, strict=True), start=1):
        if part in (1, 2, 40):
            watched = monitor.Monitor.from_dict(json.loads(json.dumps(watched.to_dict(), allow_nan=False)))
        state = watched.update(strangeness)
        reached |= bool(wanted >= -math.log10(0.05))
        require(abs(state.wealth_log10 - wanted) < 1e-9, f"part {part}: {state.wealth_log10}, not {wanted}")
        require(state.parts == part, f"part {part} is counted as {state.parts}")
        require(state.alarm == reached, f"part {part}: alarm {state.alarm} at {wanted:.2f}")


def false_alarms_of_the_monitor_are_rare() -> None:
    """With few calibration parts, on which p-values that share them would soon agree."""
    rng = np.random.default_rng(14)
    streams, alpha = 300, 0.05
    drawn = rng.normal(size=(streams, 650))
    p = np.array([monitor.online_p_values(d[:50], d[50:], seed) for seed, d in enumerate(drawn)])
    alarms = monitor.log10_wealth(p.T).max(axis=0) >= -math.log10(alpha)
    rate_is_met(alarms, alpha, "lines without change", exactly=False)


def a_shift_is_told_soon() -> None:
    """By one standard deviation after 200 quiet parts: what it is, and about when it began."""
    rng = np.random.default_rng(15)
    delays, onsets = [], []
    for stream in range(15):
        watched = monitor.Monitor(rng.normal(size=500), seed=stream)
        line = np.concatenate([rng.normal(size=200), rng.normal(1.0, size=150)])
        states = [watched.update(strangeness) for strangeness in line]
        told = next((state for state in states if state.alarm), states[-1])
        delays.append(told.parts - 200)
        onsets.append(told.since or 0)
    require(bool(np.median(delays) <= 60), f"median delay {np.median(delays)}")
    require(bool(abs(np.median(onsets) - 201) <= 6), f"median onset {np.median(onsets)}, not 201")


def words_say_what_moved() -> None:
    rng = np.random.default_rng(16)
    names = ["brightness", "sharpness", "nll", "latent norm", "black_share"]
    good = np.column_stack([rng.normal(size=(200, 4)), np.zeros(200)])

    def told(column: int, shift: float) -> tuple[str, ...]:
        batch = good[:30].copy()
        batch[:, column] += shift
        return drift.what_drifted(names, good, batch)

    require(told(0, 0.0) == ("nothing in particular",), f"nothing moved, and it says {told(0, 0.0)}")
    for column, shift, words in (
        (0, -3.0, "the pictures are darker (brightness "),
        (0, 3.0, "the pictures are brighter (brightness "),
        (1, -3.0, "the pictures are more blurred (sharpness "),
        (2, 3.0, "the parts are stranger to the model (nll "),
        (3, -3.0, "latent norm is lower (latent norm "),
        (4, 0.1, "more of the pictures is black (black_share was the same in all calibration parts)"),
    ):
        found = told(column, shift)
        require(len(found) == 1 and found[0].startswith(words), f"{found}, not {words}")
        if column < 4:
            side = "above" if shift > 0 else "below"
            deviations = (good[:30, column].mean() + shift - good[:, column].mean()) / good[:, column].std(
                ddof=1
            )
            wanted = f"{abs(deviations):.1f} calibration standard deviations {side} usual)"
            require(found[0].endswith(wanted), f"{found[0]}, not {wanted}")


TYPICALITY_CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        a_single_part_is_ranked_by_hand,
        a_far_batch_gets_the_smallest_p_value,
        false_alarms_of_typicality_are_as_stated,
        false_alarms_of_several_statistics_are_as_stated,
        rules_are_their_formulas,
        rules_are_valid_where_p_values_conspire,
        exchanged_batches_are_fair,
    )
}

DRIFT_CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        either_side_is_seen,
        a_change_of_spread_is_seen,
        nothing_is_named_in_vain,
        only_what_moved_is_named,
        distances_are_the_formula,
        online_p_values_are_counted_exactly,
        online_p_values_are_independent_and_uniform,
        no_bet_gains_on_average,
        capital_stays_what_it_is_on_average,
        monitor_bets_as_stated,
        false_alarms_of_the_monitor_are_rare,
        a_shift_is_told_soon,
        words_say_what_moved,
    )
}
