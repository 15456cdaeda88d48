"""How far people agree, by figures that others have published or that scikit-learn gives."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from differnet.reviewing.agreeing import (
    FEW_PICTURES,
    Kappa,
    cohen_kappa,
    describe_kappa,
    disagreeing,
    krippendorff_alpha,
    people_agreement,
)
from differnet.reviewing.kinds import RENAMED
from differnet.store import ReviewEntry, Said
from reviewing.test_queueing import word

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units,
# of which one has a single value. Nominal alpha 0.743.
OBSERVED = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]


def units_of(rows: list[str]) -> np.ndarray:
    columns = zip(*(row.split() for row in rows), strict=True)
    counted = [[column.count(str(value)) for value in range(1, 6)] for column in columns]
    return np.array([row for row in counted if sum(row) >= 2])


def test_alpha_is_the_published_one() -> None:
    units = units_of(OBSERVED)
    assert len(units) == 11
    found = krippendorff_alpha(units)
    assert found.value == pytest.approx(0.743, abs=5e-4)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.743 < found.high <= 1
    assert (found.pictures, found.same) == (11, 8)


def test_alpha_of_full_agreement_is_one_and_of_chance_about_none() -> None:
    rng = np.random.default_rng(3)
    assert krippendorff_alpha(np.array([[2, 0, 0], [0, 3, 0]] * 20)).value == 1
    by_chance = rng.multinomial(3, [0.5, 0.3, 0.2], size=4000)
    value = krippendorff_alpha(by_chance).value
    assert value is not None
    # Standard error of a mean of 4,000 triples is below 0.015.
    assert abs(value) < 0.06


def test_kappa_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        first = rng.integers(0, 3, 60)
        second = np.where(rng.random(60) < 0.6, first, rng.integers(0, 3, 60))
        table = np.zeros((3, 3), dtype=np.int64)
        np.add.at(table, (first, second), 1)
        found = cohen_kappa(table)
        assert found.value == pytest.approx(cohen_kappa_score(first, second))
        assert found.same == np.count_nonzero(first == second)


def test_the_interval_of_kappa_holds_the_truth_about_as_often_as_it_says() -> None:
    shares = np.array([[0.45, 0.08, 0.02], [0.06, 0.25, 0.02], [0.03, 0.03, 0.06]])
    seen, chance = np.trace(shares), float(shares.sum(axis=1) @ shares.sum(axis=0))
    truth = (seen - chance) / (1 - chance)
    rng = np.random.default_rng(5)
    trials, held = 400, 0
    for seed in range(trials):
        table = rng.multinomial(200, shares.ravel()).reshape(3, 3)
        found = cohen_kappa(table, draws=400, seed=seed)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    # Percentiles of a bootstrap of 200 pictures are a little short of 95 %: 92 % is asked for, less 4 errors.
    assert held / trials >= 0.92 - 4 * np.sqrt(0.92 * 0.08 / trials)


def test_the_same_seed_gives_the_same_interval() -> None:
    table = np.array([[20, 5, 1], [4, 30, 2], [1, 1, 5]])
    assert cohen_kappa(table, seed=2) == cohen_kappa(table, seed=2)
    assert cohen_kappa(table, seed=2) != cohen_kappa(table, seed=3)


def test_where_everybody_says_one_word_chance_gives_as_much() -> None:
    one = np.array([[9, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert cohen_kappa(one) == Kappa(9, 9, None, None, None)
    assert krippendorff_alpha(np.array([[2, 0, 0]] * 4)) == Kappa(4, 4, None, None, None)
    assert cohen_kappa(np.zeros((3, 3), dtype=np.int64)) == Kappa(0, 0, None, None, None)


def test_people_are_compared_on_the_pictures_that_both_judged() -> None:
    said = [word(f"i{n}", "good" if n % 3 else "defect", "ada") for n in range(30)]
    said += [word(f"i{n}", "good" if n % 4 else "defect", "bea") for n in range(20)]
    said += [word("i99", "unsure", "cem")]
    found = people_agreement(said)
    assert found.words == {"ada": (20, 10, 0), "bea": (15, 5, 0), "cem": (0, 0, 1)}
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.kappa.pictures) == ("ada", "bea", 20)
    assert pair.table[:2, :2].tolist() == [[10, 3], [5, 2]]
    assert found.alpha is not None
    assert found.alpha.pictures == 20


def test_the_last_word_of_each_counts_and_a_new_name_for_a_kind_is_no_word() -> None:
    renamed = word("a", "defect", "lead", entry=ReviewEntry("defect", "lead", "dent", f"{RENAMED}ding"))
    said = [word("a", "good", "ada"), word("a", "defect", "bea"), word("a", "defect", "ada"), renamed]
    found = people_agreement(said)
    assert "lead" not in found.words
    assert found.pairs[0].kappa.same == 1
    assert disagreeing(said) == []
    assert [[w.entry.author for w in words] for words in disagreeing(said[:2])] == [["ada", "bea"]]


def test_the_same_picture_in_two_runs_is_one_and_of_two_products_two() -> None:
    said = [word("a", "good", "ada", sha256="x"), word("b", "good", "bea", sha256="x", run_id="s")]
    assert people_agreement(said).pairs[0].kappa.pictures == 1
    other = [said[0], word("b", "good", "bea", sha256="x", product="valve")]
    assert people_agreement(other).pairs == ()
    unread = [word("a", "good", "ada", sha256=""), word("b", "good", "bea", sha256="")]
    assert people_agreement(unread).alpha is None


def test_nobody_said_anything() -> None:
    found = people_agreement(list[Said]())
    assert (found.words, found.pairs, found.alpha) == ({}, (), None)


def test_words_say_when_there_are_too_few_pictures() -> None:
    few = describe_kappa(Kappa(FEW_PICTURES - 1, 3, 0.5, 0.1, 0.9))
    assert few == "0.50, of too few pictures to tell how sure that is (3 of 19 pictures alike)"
    enough = describe_kappa(Kappa(FEW_PICTURES, 3, 0.5, 0.1, 0.9))
    assert enough == "0.50 (95 % interval 0.10 to 0.90; 3 of 20 pictures alike)"
