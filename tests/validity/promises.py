"""The promises of calibration as Monte Carlo checks, C1 to C4 of ``design/trust.md``.

Each draws calibrations from laws whose true rates are known in closed form, and raises AssertionError
with what broke. Fixed seeds, and 4 standard errors: a figure of a true promise fails once in 30,000 seeds. A
rate that is too low fails too where theory says what it is, for a promise is easily kept by flagging nothing.
Everything is called through its module, so that a fault planted there is met.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from calibration.checks import require
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from differnet.calibration import conformal, discovery, thresholds

Figures = NDArray[np.float64]


class Seen(NamedTuple):
    """What a check measured: of what, its mean and standard error, and the figure promised."""

    what: str
    mean: float
    error: float
    promised: float

    def __str__(self) -> str:
        return f"{self.what}: {self.mean:.5f} +- {self.error:.5f}, promised {self.promised:.5f}"


def seen(what: str, values: ArrayLike, promised: float, *, exactly: bool) -> Seen:
    """Return mean and standard error of runs, having required that they keep the promise."""
    drawn = np.asarray(values, dtype=np.float64)
    # Runs that all agree are no proof of it: a share is known no better than one run in all.
    error = max(float(drawn.std(ddof=1)) / math.sqrt(len(drawn)), 1 / len(drawn) / 4)
    found = Seen(what, float(drawn.mean()), error, promised)
    require(found.mean <= promised + 4 * error, str(found))
    require(not exactly or found.mean >= promised - 4 * error, f"{found}: too low")
    return found


def overkill_has_its_beta_law(runs: int, n: int, alpha: float) -> list[Seen]:
    """C1. The realised overkill of one calibration is ``Beta(k, n+1-k)``, and 90 % lie in its interval."""
    rng = np.random.default_rng(10)
    fresh = 200
    rates, flagged = np.empty(runs), np.empty(runs)
    for run in range(runs):
        good = rng.exponential(size=n)
        rates[run] = math.exp(-conformal.threshold(good, alpha))
        flagged[run] = np.mean(conformal.p_values(good, rng.exponential(size=fresh)) <= alpha)
    k = math.floor(alpha * (n + 1) + 1e-9)
    law = stats.beta(k, n + 1 - k)
    # 1e-5: a wrong law is refused, an unlucky seed is not.
    fit = stats.kstest(rates, law.cdf).pvalue
    require(bool(fit > 1e-5), f"overkill is not Beta({k}, {n + 1 - k}): Kolmogorov-Smirnov p = {fit:.2g}")
    # Of good parts either tail is uniform: which one it is, only a strange part tells.
    strange = conformal.p_values(good, [1e9])[0]
    require(strange == 1 / (n + 1), f"a part stranger than {n} others has p = {strange}")
    low, high = conformal.false_alarm_interval(n, alpha)
    return [
        seen(f"overkill, n={n}, alpha={alpha}", rates, k / (n + 1), exactly=True),
        seen(f"p <= alpha, n={n}, alpha={alpha}", flagged, k / (n + 1), exactly=True),
        seen(f"in its interval, n={n}, alpha={alpha}", (low <= rates) & (rates <= high), 0.9, exactly=True),
    ]


def p_values_are_super_uniform_in_each_product(runs: int) -> list[Seen]:
    """C2. ``P(p <= u) <= u`` of every product, with ties and without; in one pot only on average."""
    rng = np.random.default_rng(20)
    sizes = {"bolt": 40, "nut": 19, "pin": 99}
    names = [name for name, size in sizes.items() for _ in range(size)]
    told = {name: np.empty(runs) for name in sizes}
    smoothed, pooled = np.empty(runs), np.empty(runs)
    for run in range(runs):
        drawn = {
            "bolt": rng.gamma(3, size=41),
            "nut": 20 + 5 * rng.lognormal(size=20),
            "pin": np.round(rng.normal(size=100)),
        }
        good = np.concatenate([figures[:-1] for figures in drawn.values()])
        asked = np.array([figures[-1] for figures in drawn.values()])
        of_each = conformal.p_values_by_group(good, names, asked, list(sizes))
        for name, p_value in zip(sizes, of_each, strict=True):
            told[name][run] = p_value
        smoothed[run] = conformal.smoothed_p_values(drawn["pin"][:-1], asked[2:], seed=run)[0]
        pooled[run] = conformal.p_values(good, asked)[1]
    strange = conformal.p_values_by_group(good, names, [1e9] * 3, list(sizes))
    require(
        strange.tolist() == [1 / (size + 1) for size in sizes.values()], f"strange parts have p = {strange}"
    )
    fit = stats.kstest(smoothed, "uniform").pvalue
    require(bool(fit > 1e-5), f"smoothed p-values are not uniform: Kolmogorov-Smirnov p = {fit:.2g}")
    found = []
    for u in (0.05, 0.1, 0.25, 0.5, 0.9):
        for name, size in sizes.items():
            # On the grid of k/(n+1) it is exact without ties: too large a p-value is safe and useless.
            step = math.floor(u * (size + 1) + 1e-9) / (size + 1)
            found.append(seen(f"P(p <= {u}) of {name}", told[name] <= u, step, exactly=name != "pin"))
        found.append(seen(f"smoothed P(p <= {u})", smoothed <= u, u, exactly=True))
    require(float(np.mean(pooled <= 0.15)) > 0.3, "products of one pot keep the rate: the check sees nothing")
    return found


def cross_p_values_keep_their_bound(runs: int) -> list[Seen]:
    """Few parts, each used twice: at most `cross_bound` is promised, at most alpha is seen."""
    rng = np.random.default_rng(30)
    n, folds, fresh, alpha = 20, 5, 40, 0.1
    fold = np.arange(n) % folds
    flagged = np.empty(runs)
    for run in range(runs):
        parts, asked = rng.normal(size=(n, 2)), rng.normal(size=(fresh, 2))
        good, judged = np.empty(n), np.empty((fresh, folds))
        for k in range(folds):
            others = parts[fold != k]
            middle, whiten = others.mean(axis=0), np.linalg.inv(np.cov(others.T))
            for figures, of in ((parts[fold == k], good), (asked, judged)):
                away = figures - middle
                distance = np.einsum("ij,jk,ik->i", away, whiten, away)
                if of is good:
                    good[fold == k] = distance
                else:
                    judged[:, k] = distance
        flagged[run] = np.mean(conformal.cross_p_values(good, fold, judged) <= alpha)
    bound = conformal.cross_bound(n, folds, alpha)
    found = seen(f"cross-conformal overkill at {alpha}", flagged, alpha, exactly=False)
    require(alpha < bound < 0.35, f"cross_bound is {bound}")
    # Members of disjoint folds would be far off; those that share 3 of 4 parts are not.
    require(found.mean > 0.7 * alpha, f"{found}: too low")
    return [found]


def discoveries_keep_their_rate(runs: int) -> list[Seen]:
    """C3. Of what is flagged at q = 10 % at most 9 % is good, 9 in 10 parts being good; half is found."""
    rng = np.random.default_rng(40)
    n, m, bad, q = 1000, 200, 20, 0.1
    shares, power, covered = np.empty(runs), np.empty(runs), np.empty(runs)
    surplus, expected, usual = np.empty(runs), np.empty(runs), np.empty(runs)
    for run in range(runs):
        good, batch = rng.normal(size=n), rng.normal(size=m)
        batch[:bad] += 4
        values = conformal.p_values(good, batch)
        found = discovery.benjamini_hochberg(values, q)
        wanted = stats.false_discovery_control(values, method="bh")
        require(bool(np.allclose(found.adjusted, wanted, rtol=1e-12)), "adjusted p-values are not scipy's")
        limit = thresholds.by_fdr(good, batch, q).defect
        require(bool(np.array_equal(batch >= limit, wanted <= q)), "by_fdr flags other parts than scipy")
        shares[run] = found.flagged[bad:].sum() / max(found.flagged.sum(), 1)
        power[run] = found.flagged[:bad].mean()
        told = discovery.good_among_flagged(values, 0.05, n)
        truly = int(np.sum(values[bad:] <= 0.05))
        covered[run] = truly <= told.at_most
        usual[run] = told.share_of_good
        surplus[run] = truly - told.expected
        expected[run] = told.expected
    require(float(power.mean()) > 0.5, f"only {power.mean():.2f} of the defects are found")
    missed = seen("good parts above their upper figure", 1 - covered, 0.05, exactly=False)
    # Storey's estimate errs upwards, by the one part that is counted in addition: 2 in 200 at 0.5.
    share = (m - bad) / m
    pi0 = seen("share of good parts", usual, share + 2 / m, exactly=True)
    error = float(surplus.std()) / math.sqrt(runs)
    require(
        -0.05 * expected.mean() - 4 * error <= surplus.mean() <= 4 * error, f"surplus {surplus.mean():.3f}"
    )
    return [seen("share of good parts among the flagged", shares, q * share, exactly=False), missed, pi0]


def escapes_keep_their_confidence(runs: int, d: int) -> list[Seen]:
    """C4. The true escape rate exceeds 5 % as often as the binomial law says, in 5 % of runs at most."""
    rng = np.random.default_rng(50)
    good, broken = np.arange(99.0), np.empty(runs)
    for run in range(runs):
        broken[run] = stats.norm.cdf(thresholds.by_escape(good, rng.normal(size=d), 0.05, 0.95).review) > 0.05
    # The threshold is the (k+1)-th tamest defect, k the most escapes that the test lets pass.
    law = stats.binom(d, 0.05)
    most = max(k for k in range(d) if law.cdf(k) <= 0.05)
    return [seen(f"guarantee broken, {d} defects", broken, float(law.cdf(most)), exactly=True)]


def review_budget_has_its_beta_law(runs: int) -> list[Seen]:
    """The share of good parts between the thresholds is ``Beta(k, n+1-k)``."""
    rng = np.random.default_rng(60)
    n, share, overkill = 200, 0.1, 0.02
    reviewed = np.empty(runs)
    for run in range(runs):
        found = thresholds.by_review_budget(rng.exponential(size=n), share, overkill)
        reviewed[run] = math.exp(-found.review) - math.exp(-found.defect)
    k = math.floor(share * (n + 1) + 1e-9)
    fit = stats.kstest(reviewed, stats.beta(k, n + 1 - k).cdf).pvalue
    require(bool(fit > 1e-5), f"reviews are not Beta({k}, {n + 1 - k}): Kolmogorov-Smirnov p = {fit:.2g}")
    return [seen("good parts that go to review", reviewed, k / (n + 1), exactly=True)]


def cost_bound_is_kept(runs: int) -> list[Seen]:
    """The true cost of the chosen thresholds exceeds its bound in 5 % of calibrations at most."""
    rng = np.random.default_rng(70)
    good_law, bad_law = stats.norm(0, 1), stats.norm(2, 1)
    look, overkill, escape, share = 0.3, 1.0, 10.0, 0.1
    broken = np.empty(runs)
    optimism = np.empty(runs)
    for run in range(runs):
        good, bad = rng.normal(size=50), rng.normal(2, 1, 50)
        found = thresholds.by_cost(good, bad, overkill, escape, share, look)
        words = found.promises[0].replace(":", "").split()
        most, least = float(words[words.index("most") + 1]), float(words[words.index("defects") + 1])
        (g1, g2), (b1, b2) = (law.sf([found.review, found.defect]) for law in (good_law, bad_law))
        true = (1 - share) * (look * (g1 - g2) + overkill * g2) + share * (
            escape * (1 - b1) + look * (b1 - b2)
        )
        broken[run], optimism[run] = true > most, true - least
    require(
        float(optimism.mean()) > 0, "the least cost on the parts at hand is not optimistic: the check is idle"
    )
    return [seen("cost above its bound", broken, 0.05, exactly=False)]


def overkill_without_defects_is_kept(runs: int) -> list[Seen]:
    """Without labelled defects at most 10 % of good parts are flagged, whatever the batch shows."""
    rng = np.random.default_rng(80)
    n = 60
    flagged = np.empty(runs)
    for run in range(runs):
        batch = np.append(rng.exponential(size=40), 1 + rng.exponential(size=60))
        flagged[run] = math.exp(-thresholds.without_defects(rng.exponential(size=n), batch).review)
    promised = math.floor(0.1 * (n + 1)) / (n + 1)
    return [seen("good parts flagged without defects", flagged, promised, exactly=False)]


PROMISES: dict[str, Callable[[], list[Seen]]] = {
    "overkill": lambda: overkill_has_its_beta_law(400, 100, 0.05),
    "super_uniform": lambda: p_values_are_super_uniform_in_each_product(600),
    "cross": lambda: cross_p_values_keep_their_bound(300),
    "discoveries": lambda: discoveries_keep_their_rate(150),
    "escapes": lambda: [
        *escapes_keep_their_confidence(1000, 100),
        *escapes_keep_their_confidence(1000, 400),
    ],
    "budget": lambda: review_budget_has_its_beta_law(400),
    "cost": lambda: cost_bound_is_kept(100),
    "without_defects": lambda: overkill_without_defects_is_kept(200),
}
"""Short versions, for planted faults."""
