"""Watch a running line: bet against the parts still being what the model was calibrated on.

As long as they are, no bet gains on average, and the chance that the capital ever grows a hundredfold is 1 in
100, however long one watches (Ville's inequality). When they change, it grows exponentially.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from differnet.calibration.conformal import CalibrationError

Figures = NDArray[np.float64]

# Shifts betted on, in standard deviations of a good part's strangeness: from what takes a hundred parts to
# notice to what three parts show. A shift between two of them loses less than a tenth of its growth.
_SHIFTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
# Spreads betted on, for one of the calibration parts.
_SPREADS = (2.0, 0.5)
# What each bet is on, in words.
_CHANGES = (
    *("stranger" for _ in _SHIFTS),
    *("more usual" for _ in _SHIFTS),
    *("more varied", "less varied"),
)
_BETS = len(_CHANGES)
_VERSION = 1
_KEYS = {"version", "alpha", "seed", "parts", "alarm", "seen", "stakes", "gains", "starts"}


@dataclass(frozen=True)
class MonitorState:
    """What is known after a part.

    Attributes:
        wealth_log10: Decimal logarithm of the capital, 1 at the beginning.
        alarm: Whether the capital has ever reached ``1 / alpha``; it stays on until calibrated anew.
        parts: Parts seen since calibration.
        change: At an alarm what the parts are, by the bet that gained most: ``stranger``, ``more usual``,
            ``more varied`` or ``less varied``; else ``None``.
        since: At an alarm the number of the first part that most probably was changed; else ``None``.
    """

    wealth_log10: float
    alarm: bool
    parts: int
    change: str | None = None
    since: int | None = None


class Monitor:
    """Sound an alarm when parts stop being exchangeable with the calibration parts.

    Each part's strangeness becomes a smoothed conformal p-value among all parts so far, calibration parts and
    line together, ``p_t = (#{stranger} + U_t #{as strange, itself included}) / (n + t)``. Under
    exchangeability these are independent and uniform. Bets on ``z_t = Phi^{-1}(1 - p_t)`` are densities
    of shifts and spreads in place of the standard normal's, ``e_t = exp(d z_t - d^2 / 2)`` and
    ``exp(z_t^2 (1 - 1/s^2) / 2) / s``, so that each is 1 on average.

    A bet that began long ago has lost much by the time something happens. So a share of the capital is kept
    back and goes to new bets part by part, ``w_t = R_t - R_{t+1}``, ``R_t = 1 / log2(t + 2)``:
    ``S_t = (S_{t-1} + w_{t-1} / bets) e_t``, and the capital is ``sum of S_t + R_t``. It is a test
    martingale, and ``P(it ever reaches 1 / alpha) <= alpha``.

    With 500 calibration parts a shift by one standard deviation is told after 29 parts (median) when it
    comes after 200 quiet parts, after 35 when it comes after 2,000. A mixture of the same bets that all began
    at once takes 65 and 370, the Simple Jumper (J = 0.01) 39 and 75. A trend of one standard deviation
    over 500 parts is told after 280.

    It keeps one number a part (8 MB a million), and its guarantee is for one run: begin anew when the
    model is calibrated anew. To watch k statistics give each of k monitors ``alpha / k``.

    Args:
        calibration: ``(n,)`` strangeness of good parts that were not trained on.
        alpha: Chance of a false alarm, ever.
        seed: Of the draws that break ties; with it, a run is repeatable.

    Raises:
        CalibrationError: No calibration parts, some that are not finite, or an alpha not between 0 and 1.

    Source: Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman 2021, "Retrain or not retrain: conformal
    test martingales for change-point detection"; Shin, Ramdas, Rinaldo 2023, "E-detectors" (mixtures over
    when the change began).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> monitor = Monitor(rng.normal(size=500))
        >>> any(monitor.update(strangeness).alarm for strangeness in rng.normal(size=200))
        False
        >>> states = [monitor.update(strangeness) for strangeness in rng.normal(1.0, size=100)]
        >>> states[-1].alarm, states[-1].change, 195 < states[-1].since < 215
        (True, 'stranger', True)
    """

    def __init__(self, calibration: ArrayLike, alpha: float = 0.01, seed: int = 0) -> None:
        self.alpha = _rate(alpha)
        self.seed = seed
        self._seen = array("d", np.sort(_finite(calibration, least=1)))
        self._draws = np.random.default_rng(seed)
        self._parts = 0
        self._alarm = False
        self._stakes = np.full(_BETS, _log_stake(0))
        # Of each bet the start that has gained most: its log gain and the part it began with.
        self._gains = np.full(_BETS, _log_stake(0))
        self._starts = np.ones(_BETS, dtype=np.int64)

    @property
    def state(self) -> MonitorState:
        """What is known after the last part."""
        wealth = float(_log_wealth(self._stakes, self._parts))
        best = int(np.argmax(self._gains))
        return MonitorState(
            wealth_log10=wealth / math.log(10),
            alarm=self._alarm,
            parts=self._parts,
            change=_CHANGES[best] if self._alarm else None,
            since=int(self._starts[best]) if self._alarm else None,
        )

    def update(self, strangeness: float) -> MonitorState:
        """Take the next part of the line into account.

        Args:
            strangeness: Measured as the calibration parts' was; of good and bad parts alike.

        Raises:
            CalibrationError: It is not finite. The part is INVALID, and the monitor is as before.
        """
        figure = float(strangeness)
        if not math.isfinite(figure):
            raise CalibrationError(
                expected="a finite strangeness",
                found=f"{figure}",
                remedy="Such a part is INVALID: count it, but leave it out of the monitor.",
            )
        gained = _log_bets(np.float64(_smoothed(self._seen, figure, self._draws.random())))
        insort(self._seen, figure)
        self._parts += 1
        fresh = _log_stake(self._parts)
        self._stakes = np.logaddexp(self._stakes + gained, fresh)
        self._gains = self._gains + gained
        later = self._gains < fresh
        self._gains[later], self._starts[later] = fresh, self._parts + 1
        self._alarm |= bool(_log_wealth(self._stakes, self._parts) >= -math.log(self.alpha))
        return self.state

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, for JSON: a line that restarts goes on where it stopped."""
        return {
            "version": _VERSION,
            "alpha": self.alpha,
            "seed": self.seed,
            "parts": self._parts,
            "alarm": self._alarm,
            "seen": self._seen.tolist(),
            "stakes": self._stakes.tolist(),
            "gains": self._gains.tolist(),
            "starts": self._starts.tolist(),
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """Return the monitor that ``to_dict`` was asked of.

        Raises:
            CalibrationError: Not what ``to_dict`` returns: keys, numbers or lengths are wrong.

        Example:
            >>> monitor = Monitor([1.0, 2.0, 3.0])
            >>> state = monitor.update(9.0)
            >>> Monitor.from_dict(monitor.to_dict()).state == state
            True
        """
        try:
            if kept["version"] != _VERSION or set(kept) != _KEYS:
                raise _not_kept(f"version {kept['version']!r} with keys {sorted(kept)}")
            seed, parts, alarm = kept["seed"], kept["parts"], kept["alarm"]
            seen = np.array(kept["seen"], dtype=np.float64)
            bets = np.array([kept["stakes"], kept["gains"], kept["starts"]], dtype=np.float64)
            monitor = cls(seen, kept["alpha"], seed)
        except (KeyError, TypeError, ValueError) as error:
            raise _not_kept(f"{type(error).__name__}: {error}") from error
        whole = type(parts) is int and type(seed) is int and type(alarm) is bool
        if not whole or not 0 <= parts < len(seen) or bets.shape != (3, _BETS) or not np.isfinite(bets).all():
            raise _not_kept(f"{parts!r} of {len(seen)} parts, bets {bets.shape}, not all whole or finite")
        monitor._parts, monitor._alarm = parts, alarm
        monitor._stakes, monitor._gains = bets[0], bets[1]
        monitor._starts = bets[2].astype(np.int64)
        # The draws go on behind those already used.
        monitor._draws.random(parts)
        return monitor


def online_p_values(calibration: ArrayLike, strangeness: ArrayLike, seed: int = 0) -> Figures:
    """Return each part's smoothed conformal p-value among all before it: those that ``Monitor`` bets on.

    Independent and uniform as long as the parts are exchangeable with the calibration parts, which p-values
    of ``p_values`` are not: those share their calibration parts.

    Args:
        calibration: ``(n,)`` strangeness of good parts that were not trained on.
        strangeness: ``(t,)`` of the line's parts in their order.
        seed: Of the draws that break ties.

    Returns:
        ``(t,)`` in [0, 1), lower is stranger.

    Raises:
        CalibrationError: No calibration parts, or figures that are not finite.

    Source: Vovk, Gammerman, Shafer 2005, "Algorithmic learning in a random world", Theorem 8.1.

    Example:
        >>> online_p_values([1.0, 2.0, 3.0], [9.0, 0.0]).round(2).tolist()
        [0.16, 0.85]
    """
    seen, draws = array("d", np.sort(_finite(calibration, least=1))), np.random.default_rng(seed)

    def each() -> Iterator[float]:
        for figure in _finite(strangeness, least=0).tolist():
            yield _smoothed(seen, figure, draws.random())
            insort(seen, figure)

    return np.fromiter(each(), dtype=np.float64)


def log10_wealth(p_values: ArrayLike) -> Figures:
    """Return the decimal logarithm of the capital of a ``Monitor`` after each part.

    Args:
        p_values: ``(t, ...)`` of ``online_p_values``, one or many lines.

    Returns:
        ``(t, ...)``.

    Raises:
        CalibrationError: Some are not between 0 and 1.

    Example:
        >>> bool(log10_wealth(np.full(30, 0.02))[-1] > 2)
        True
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise CalibrationError(
            expected="p-values between 0 and 1", found="others", remedy="Pass those of online_p_values."
        )
    stakes = np.full((*p.shape[1:], _BETS), _log_stake(0))
    wealth = np.empty(p.shape)
    for part, now in enumerate(p, start=1):
        stakes = np.logaddexp(stakes + _log_bets(now), _log_stake(part))
        wealth[part - 1] = _log_wealth(stakes, part)
    return wealth / math.log(10)


def _smoothed(seen: array[float], figure: float, share: float) -> float:
    """Return ``(#{stranger} + share #{as strange, itself included}) / all`` among ascending ``seen``."""
    above = bisect_right(seen, figure)
    equal = above - bisect_left(seen, figure) + 1
    return (len(seen) - above + share * equal) / (len(seen) + 1)


def _log_bets(p_values: NDArray[np.float64] | np.float64) -> Figures:
    """Return the log gain of each bet, ``(..., bets)``: densities on [0, 1], so no bet gains on average."""
    # A draw of exactly 0 or 1 would be infinitely strange.
    z = -ndtri(np.clip(p_values, 1e-300, 1 - 1e-16))[..., None]
    shifts, spreads = np.array([*_SHIFTS, *(-d for d in _SHIFTS)]), np.array(_SPREADS)
    shifted = shifts * z - shifts**2 / 2
    spread = 0.5 * z**2 * (1 - spreads**-2.0) - np.log(spreads)
    return np.concatenate([shifted, spread], axis=-1)


def _log_kept_back(part: int) -> float:
    """Return log R of the capital not yet at stake when ``part`` parts have been seen."""
    return -math.log(math.log2(part + 2))


def _log_stake(part: int) -> float:
    """Return log of what each bet gets for the part after ``part``: an equal share of ``R_t - R_{t+1}``."""
    # 1/a - 1/b = (b - a) / (a b), with b - a = log2(1 + 1 / (t + 2)): exact where both are nearly equal.
    step = math.log(math.log1p(1 / (part + 2)) / math.log(2))
    return step + _log_kept_back(part) + _log_kept_back(part + 1) - math.log(_BETS)


def _log_wealth(stakes: Figures, part: int) -> Figures:
    # The next part's stakes are already set.
    at_stake = np.logaddexp.reduce(stakes, axis=-1)
    return np.asarray(np.logaddexp(at_stake, _log_kept_back(part + 1)))


def _rate(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise CalibrationError(
            expected="a false-alarm rate above 0 and below 1",
            found=f"{alpha}",
            remedy="A rate of 0.01 is usual.",
        )
    return float(alpha)


def _finite(strangeness: ArrayLike, least: int) -> Figures:
    figures = np.asarray(strangeness, dtype=np.float64).ravel()
    if len(figures) < least or not np.isfinite(figures).all():
        raise CalibrationError(
            expected=f"at least {least} parts, all of finite strangeness",
            found=f"{len(figures)} parts, {int((~np.isfinite(figures)).sum())} of them not finite",
            remedy="Look for unreadable or blank pictures; they are INVALID and belong to no test.",
        )
    return figures


def _not_kept(found: str) -> CalibrationError:
    return CalibrationError(
        expected="what Monitor.to_dict returned",
        found=found,
        remedy="Begin a new monitor on the calibration parts.",
    )
