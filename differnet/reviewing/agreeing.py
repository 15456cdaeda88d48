"""How far people agree with each other about the same pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from differnet.evaluation.intervals import CONFIDENCE
from differnet.reviewing.kinds import is_renaming
from differnet.store import Said
from differnet.store.run_table import JUDGEMENTS

Figures = NDArray[np.float64]
Picture = tuple[str, str]

FEW_PICTURES = 20
"""Below it an interval by drawing pictures again is no good, and none is told."""

DRAWS = 2000
"""Of a bootstrap: the 2.5 % tails then rest on 50 draws each."""


@dataclass(frozen=True)
class Kappa:
    """How far agreement exceeds what chance gives, with its interval.

    Attributes:
        pictures: That both, or at least two, judged.
        same: Of them all said the same.
        value: 1 is full agreement, 0 what chance gives; ``None`` where all words are one word, of which
            chance gives as much.
        low, high: 95 % bounds by bootstrap; ``None`` where there is no value.
    """

    pictures: int
    same: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Pair:
    """Two people's words on the pictures that both judged.

    Attributes:
        first, second: Who.
        table: ``(3, 3)`` counts, the first's words by the second's, in the order good, defect, unsure.
        kappa: Cohen's.
    """

    first: str
    second: str
    table: NDArray[np.int64]
    kappa: Kappa


@dataclass(frozen=True)
class PeopleAgreement:
    """Agreement of everybody.

    Attributes:
        words: Person to how many pictures they called good, defect and unsure, most words first.
        pairs: Of people who judged any same picture, most shared pictures first.
        alpha: Krippendorff's, of all; ``None`` where no picture was judged by two.
    """

    words: dict[str, tuple[int, int, int]]
    pairs: tuple[Pair, ...]
    alpha: Kappa | None


def people_agreement(said: Iterable[Said], seed: int = 0) -> PeopleAgreement:
    """Compare people's last words on the same pictures.

    A picture goes by its product and the sha256 of its bytes, whichever runs it was judged in. Who gives a
    kind of defect another name has judged nothing by it.

    Args:
        said: Words that stand, in the order in which they were said.
        seed: Of the bootstrap.
    """
    last = _last_of_each(said)
    codes = {author: _counted(words.values()) for author, words in last.items()}
    people = sorted(codes, key=lambda author: (-sum(codes[author]), author))
    pairs = [
        Pair(first, second, table, cohen_kappa(table, seed=seed))
        for first, second in combinations(people, 2)
        if (table := _cross(last[first], last[second])).any()
    ]
    units = _units(last)
    return PeopleAgreement(
        words={author: codes[author] for author in people},
        pairs=tuple(sorted(pairs, key=lambda pair: (-pair.kappa.pictures, pair.first, pair.second))),
        alpha=krippendorff_alpha(units, seed=seed) if len(units) else None,
    )


def cohen_kappa(table: NDArray[np.int64], *, draws: int = DRAWS, seed: int = 0) -> Kappa:
    """Measure the agreement of two people.

    ``kappa = (p_o - p_e) / (1 - p_e)`` with the share of pictures on which both said the same, and what it
    would be if each gave as many of each word by chance (Cohen 1960, Educational and Psychological
    Measurement 20). The interval takes percentiles of the same over pictures drawn with replacement.

    Args:
        table: ``(k, k)`` counts of the first's words by the second's.
        draws: Of the bootstrap.
        seed: Of the bootstrap.

    Example:
        >>> round(cohen_kappa(np.array([[20, 5], [10, 15]])).value, 3)
        0.4
    """
    pictures, same = int(table.sum()), int(np.trace(table))
    shares = table.ravel() / max(1, pictures)
    drawn = np.random.default_rng(seed).multinomial(pictures, shares, size=draws) if pictures else table[:0]
    return _with_interval(
        pictures, same, _kappas(table[np.newaxis]), _kappas(drawn.reshape(-1, *table.shape))
    )


def krippendorff_alpha(units: NDArray[np.int64], *, draws: int = DRAWS, seed: int = 0) -> Kappa:
    """Measure the agreement of any number of people, each of whom judged some of the pictures.

    ``alpha = 1 - D_o / D_e`` for words without an order, with the disagreement among the words on the same
    picture, each of which counts ``1 / (m_u - 1)`` for the ``m_u`` words on it, and that among all words
    (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", C). The interval takes percentiles of
    the same over pictures drawn with replacement.

    Args:
        units: ``(pictures, k)``, how many gave each word; every picture has at least two words.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
    """
    cases, times = np.unique(units, axis=0, return_counts=True)
    same = int(times[np.count_nonzero(cases, axis=1) == 1].sum())
    shares = times / max(1, len(units))
    drawn = (
        np.random.default_rng(seed).multinomial(len(units), shares, size=draws) if len(units) else times[:0]
    )
    return _with_interval(
        len(units), same, _alphas(cases, times[np.newaxis]), _alphas(cases, drawn.reshape(-1, len(times)))
    )


def words_by_picture(said: Iterable[Said]) -> dict[Picture, dict[str, Said]]:
    """Sort words by the picture that they are on, and of each person keep the last."""
    found: dict[Picture, dict[str, Said]] = {}
    for word in said:
        if not is_renaming(word.entry):
            found.setdefault(picture_of(word), {})[word.entry.author] = word
    return found


def picture_of(word: Said) -> Picture:
    """Name the picture that a word is on: by its product and content, else by run and item."""
    return word.product, word.sha256 or f"{word.run_id}/{word.item_id}"


def _last_of_each(said: Iterable[Said]) -> dict[str, dict[Picture, int]]:
    last: dict[str, dict[Picture, int]] = {}
    for picture, words in words_by_picture(said).items():
        for author, word in words.items():
            last.setdefault(author, {})[picture] = JUDGEMENTS.index(word.entry.judgement)
    return last


def _counted(codes: Iterable[int]) -> tuple[int, int, int]:
    good, defect, unsure = np.bincount(list(codes), minlength=len(JUDGEMENTS)).tolist()
    return good, defect, unsure


def _cross(first: Mapping[Picture, int], second: Mapping[Picture, int]) -> NDArray[np.int64]:
    shared = first.keys() & second.keys()
    if not shared:
        return np.zeros((len(JUDGEMENTS), len(JUDGEMENTS)), dtype=np.int64)
    # Slow to load, and needed by few who review.
    from sklearn.metrics import confusion_matrix

    both = [[words[picture] for picture in shared] for words in (first, second)]
    table: NDArray[np.int64] = confusion_matrix(*both, labels=range(len(JUDGEMENTS)))
    return table


def _units(last: Mapping[str, Mapping[Picture, int]]) -> NDArray[np.int64]:
    counted: dict[Picture, list[int]] = {}
    for words in last.values():
        for picture, code in words.items():
            counted.setdefault(picture, [0] * len(JUDGEMENTS))[code] += 1
    several = [row for row in counted.values() if sum(row) >= 2]
    return np.array(several, dtype=np.int64).reshape(-1, len(JUDGEMENTS))


def _with_interval(pictures: int, same: int, measured: Figures, drawn: Figures) -> Kappa:
    # A draw in which everybody said one word says nothing of agreement.
    known = drawn[np.isfinite(drawn)]
    value = float(measured[0])
    if not known.size or not np.isfinite(value):
        return Kappa(pictures, same, None, None, None)
    low, high = (float(q) for q in np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return Kappa(pictures, same, value, low, high)


def _kappas(tables: NDArray[np.int64]) -> Figures:
    """Return Cohen's kappa of ``(draws, k, k)`` tables, NaN where chance explains all."""
    shares = tables / np.maximum(1, tables.sum(axis=(1, 2), keepdims=True))
    seen = np.trace(shares, axis1=1, axis2=2)
    chance = np.einsum("ij,ij->i", shares.sum(axis=2), shares.sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        kappas: Figures = np.where(chance < 1, (seen - chance) / (1 - chance), np.nan)
    return kappas


def _alphas(cases: NDArray[np.int64], times: NDArray[np.int64]) -> Figures:
    """Return Krippendorff's alpha where each of ``(cases, k)`` counts occurs ``(draws, cases)`` times."""
    words = cases.sum(axis=1)
    differing = (cases * (words[:, np.newaxis] - cases)).sum(axis=1) / np.maximum(1, words - 1)
    of_each, all_words = times @ cases, times @ words
    observed = times @ differing
    expected = (of_each * (all_words[:, np.newaxis] - of_each)).sum(axis=1) / np.maximum(1, all_words - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        alphas: Figures = np.where(expected > 0, 1 - observed / expected, np.nan)
    return alphas


def describe_kappa(kappa: Kappa) -> str:
    """Say an agreement with its interval, and what cannot be said.

    Example:
        >>> describe_kappa(Kappa(3, 3, None, None, None))
        'no value: everybody said the same word throughout (3 of 3 pictures alike)'
    """
    alike = f"{kappa.same:,} of {kappa.pictures:,} pictures alike"
    if kappa.value is None or kappa.low is None or kappa.high is None:
        return f"no value: everybody said the same word throughout ({alike})"
    if kappa.pictures < FEW_PICTURES:
        return f"{kappa.value:.2f}, of too few pictures to tell how sure that is ({alike})"
    return f"{kappa.value:.2f} (95 % interval {kappa.low:.2f} to {kappa.high:.2f}; {alike})"


def disagreeing(said: Sequence[Said]) -> list[list[Said]]:
    """Choose the pictures of which people say different things: their last words, by picture."""
    return [
        list(words.values())
        for words in words_by_picture(said).values()
        if len({word.entry.judgement for word in words.values()}) > 1
    ]
