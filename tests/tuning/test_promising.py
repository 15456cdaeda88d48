"""What is promised and what is not, and from which good parts; thresholds that are put in force."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.calibration import RevisionError, Suggestion, by_hand, threshold
from differnet.detection import BundleError, DensitySettings, Detector, DetectorSettings, revisions_of
from differnet.images.synthetic import render_part
from differnet.reporting.counts import Truth
from differnet.store import CalibrationEntry, ModelEntry, Store, StoreError
from differnet.tuning import (
    Basis,
    ChangeError,
    Parts,
    Place,
    basis_of,
    drifted,
    history_of,
    limits,
    move,
    promises,
    put_in_force,
    roll_back,
    set_by_hand,
)
from tuning.conftest import DrawParts

Figures = NDArray[np.float64]
GOOD = np.random.default_rng(1).exponential(0.43, 120)
CHOSEN = Suggestion(1.0, 2.0, "by a rule", ("something holds",), ("something does not",))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the sample product."""
    settings = DetectorSettings(image_size=96, device="cpu", density=DensitySettings(steps=20, hidden=16))
    pictures = [render_part(seed, size=96).pixels for seed in range(24)]
    detector = Detector(settings).fit(pictures).calibrate()
    return detector.save(tmp_path_factory.mktemp("tuning") / "model")


@pytest.fixture
def model(built: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(built, tmp_path / "model"))


@pytest.fixture
def store(model: Path, tmp_path: Path) -> Iterator[Store]:
    """A record that knows the model."""
    facts = Detector.load(model, "cpu").facts()
    opened = Store.open(tmp_path / "record.db")
    opened.add_model(ModelEntry(facts["model_id"], "flange"))
    opened.add_calibration(CalibrationEntry(facts["model_id"], facts["calibration_id"], parts=24))
    yield opened
    opened.close()


def basis(good: Figures = GOOD, **told: object) -> Basis:
    usual: dict[str, object] = {
        "of_model": True,
        "parts": len(good),
        "variations": None,
        "t_review": 1.3,
        "t_defect": 2.0,
        "revision": None,
        "last": 0,
        "own": (1.3, 2.0),
        "problem": "",
    }
    return Basis(good, **(usual | told))  # type: ignore[arg-type]


def told(found: Basis, parts: Parts, pair: tuple[float, float] = (1.3, 2.0)) -> str:
    return " ".join(limits(found, parts, move(parts, *pair), drifted(found, parts)))


def test_promises_are_those_of_thresholds_set_by_hand() -> None:
    assert promises(basis(), 0.8, 1.2) == by_hand(GOOD, 0.8, 1.2).promises
    own = promises(basis(of_model=False), 0.8, 1.2)
    assert all(sentence.endswith("labelled good parts of this run.") for sentence in own)
    assert promises(basis(variations=2), 0.8, 1.2) == ()
    assert promises(basis(np.zeros(0)), 0.8, 1.2) == ()


def test_too_few_good_parts_are_named_with_what_they_can_promise(draw_parts: DrawParts) -> None:
    parts = draw_parts()
    beyond = float(GOOD.max()) + 0.1
    assert "An overkill below 0.8 %, which is 1 in 121" in told(basis(), parts, (1.3, beyond))
    assert "An overkill below" not in told(basis(), parts, (1.3, float(GOOD.max())))


@pytest.mark.parametrize(("defects", "said"), [(0, "Any escape rate"), (1, "1 labelled defect."), (29, "29")])
def test_few_labelled_defects_are_named(draw_parts: DrawParts, defects: int, said: str) -> None:
    parts = draw_parts(200, plain=True)
    truth = np.full(200, Truth.GOOD, dtype=np.int8)
    truth[:defects] = Truth.DEFECT
    parts = replace(parts, columns=replace(parts.columns, truth=truth))
    assert said in told(basis(), parts)
    truth[:30] = Truth.DEFECT
    assert "labelled defect" not in told(basis(), parts).replace("the labelled ones", "")


def test_variations_and_a_lost_model_are_named_first(draw_parts: DrawParts) -> None:
    parts = draw_parts()
    variations = basis(variations=2, parts=2)
    assert told(variations, parts).startswith("No error rate can be promised from 2 parts")
    assert "An overkill below" not in told(variations, parts, (9.0, 9.0))
    lost = basis(of_model=False, problem="The model is gone.")
    assert "The model is gone." in told(lost, parts)
    assert "labelled good parts of this run" in told(lost, parts)


def test_chosen_on_the_same_parts_the_rates_are_bounded_for_any_choice(draw_parts: DrawParts) -> None:
    """Four hundred lines each choose the threshold that looks best; the bound is broken in at most 5 %."""
    rng, broken = np.random.default_rng(0), 0
    for _ in range(400):
        good = rng.exponential(0.43, 60)
        parts = draw_parts(60, plain=True)
        truth = np.full(60, Truth.GOOD, dtype=np.int8)
        parts = replace(parts, columns=replace(parts.columns, truth=truth, strangeness=good))
        grid = np.linspace(0.2, 2.0, 40)
        # The choice that flatters most: far fewer good parts beyond it than there should be.
        flattering = max(grid, key=lambda t: 10.0**-t - float((good >= t).mean()))
        said = " ".join(limits(basis(), parts, move(parts, flattering, flattering)))
        bound = float(said.split("overkill of at most ")[1].split(" %")[0]) / 100
        broken += float(np.exp(-flattering / 0.43)) > bound
    assert broken <= 400 * 0.05 + 4 * np.sqrt(400 * 0.05 * 0.95)


def test_drift_is_told_at_its_rate_and_which_way(draw_parts: DrawParts) -> None:
    rng, alarms = np.random.default_rng(2), 0
    parts = draw_parts(300, plain=True)
    truth = np.full(300, Truth.GOOD, dtype=np.int8)

    def shown(strangeness: Figures) -> str | None:
        columns = replace(parts.columns, truth=truth, strangeness=strangeness)
        return drifted(basis(rng.exponential(0.43, 150)), replace(parts, columns=columns))

    for _ in range(400):
        alarms += shown(rng.exponential(0.43, 300)) is not None
    # At 1 % four alarms; four standard errors.
    assert alarms <= 4 + 4 * 2
    stranger, usual = shown(rng.exponential(0.43, 300) + 0.4), shown(rng.exponential(0.43, 300) / 3)
    assert stranger is not None
    assert " stranger than" in stranger
    assert usual is not None
    assert " less strange than" in usual
    assert drifted(basis(of_model=False), parts) is None
    assert drifted(basis(), draw_parts(50, labelled=False)) is None


def test_a_model_that_is_there_tells_its_good_parts_and_what_is_in_force(
    model: Path, draw_parts: DrawParts
) -> None:
    detector, parts = Detector.load(model, "cpu"), draw_parts()
    ids = detector.model_id, str(detector.facts()["calibration_id"])
    found = basis_of(model, *ids, parts, (9.0, 9.0))
    assert found.of_model
    assert found.good.tolist() == detector.good_strangeness.tolist()
    assert (
        (found.t_review, found.t_defect)
        == found.own
        == (
            detector.thresholds.review,
            detector.thresholds.defect,
        )
    )
    names: dict[str, Any] = {"author": "ada", "reason": "r", "model_id": ids[0], "calibration_id": ids[1]}
    kept = revisions_of(model).append(CHOSEN, **names)
    found = basis_of(model, *ids, parts, (9.0, 9.0))
    assert (found.t_review, found.t_defect, found.revision, found.last) == (1.0, 2.0, kept, 1)
    assert found.own is not None
    assert threshold(found.good, 0.05) == found.own[0]


def test_where_the_model_cannot_be_asked_the_runs_good_parts_stand_in(
    model: Path, tmp_path: Path, draw_parts: DrawParts
) -> None:
    detector, parts = Detector.load(model, "cpu"), draw_parts()
    ids = detector.model_id, str(detector.facts()["calibration_id"])
    columns = parts.columns
    usable = (columns.truth == Truth.GOOD) & np.isfinite(columns.strangeness) & ~columns.doubted
    (model / "notes.txt").write_text("x")
    for folder, asked, said in (
        (None, ids, "does not say where"),
        (tmp_path / "gone", ids, "cannot be read"),
        (model, ids, "cannot be read"),
    ):
        found = basis_of(folder, *asked, parts, (1.0, 3.0))
        assert not found.of_model
        assert said in found.problem
        assert found.good.tolist() == columns.strangeness[usable].tolist()
        assert (found.t_review, found.t_defect) == (1.0, 3.0)
    (model / "notes.txt").unlink()
    assert "calibrated again" in basis_of(model, ids[0], "other", parts, (1.0, 3.0)).problem
    assert "replaced by another" in basis_of(model, "other", ids[1], parts, (1.0, 3.0)).problem
    assert "no good parts" in basis_of(None, *ids, draw_parts(labelled=False), (1.0, 3.0)).words


def test_thresholds_come_into_force_and_the_record_knows(model: Path, store: Store) -> None:
    facts = Detector.load(model, "cpu").facts()
    place = Place(model, facts["model_id"], facts["calibration_id"], 0)
    first = put_in_force(store, place, CHOSEN, author=" ada ", reason=" Monday's light ")
    assert (first.number, first.author, first.reason) == (1, "ada", "Monday's light")
    second = put_in_force(
        store, replace(place, last=1), replace(CHOSEN, review=0.5), author="bob", reason="more looks"
    )
    third = roll_back(store, replace(place, last=2), 1, author="ada", reason="drowned")
    assert (third.number, third.review, third.rolled_back_to) == (3, 1.0, 1)
    assert history_of(model, holding=second.sha256) == (third, second, first)
    known = store.revisions(place.model_id, place.calibration_id)
    assert [(r.number, r.t_review, r.author, r.made_at) for r in known] == [
        (r.number, r.review, r.author, r.time) for r in (third, second, first)
    ]
    assert [entry["action"] for entry in store.audit(3)] == [
        "rolled thresholds back",
        "set thresholds",
        "set thresholds",
    ]
    with pytest.raises(RevisionError):
        history_of(model, holding="0" * 64)


def test_of_two_who_decide_at_once_the_second_is_told(model: Path, store: Store) -> None:
    facts = Detector.load(model, "cpu").facts()
    place = Place(model, facts["model_id"], facts["calibration_id"], 0)
    put_in_force(store, place, CHOSEN, author="ada", reason="first")
    with pytest.raises(RevisionError, match="revision 1 by ada"):
        put_in_force(store, place, CHOSEN, author="bob", reason="also")
    with pytest.raises(RevisionError, match="revision 1 by ada"):
        roll_back(store, place, 1, author="bob", reason="back")
    assert len(history_of(model)) == 1


def test_thresholds_of_another_calibration_or_of_nobody_are_refused(model: Path, store: Store) -> None:
    facts = Detector.load(model, "cpu").facts()
    place = Place(model, facts["model_id"], facts["calibration_id"], 0)
    for other in (replace(place, calibration_id="other"), replace(place, model_id="other")):
        with pytest.raises(ChangeError):
            put_in_force(store, other, CHOSEN, author="ada", reason="r")
    for author, reason in ((" ", "r"), ("ada", " ")):
        with pytest.raises(RevisionError):
            put_in_force(store, place, CHOSEN, author=author, reason=reason)
    other_calibration: dict[str, Any] = {"model_id": place.model_id, "calibration_id": "before"}
    revisions_of(model).append(CHOSEN, author="ada", reason="r", **other_calibration)
    with pytest.raises(ChangeError):
        roll_back(store, replace(place, last=1), 1, author="ada", reason="r")
    with pytest.raises(RevisionError):
        roll_back(store, replace(place, last=1), 7, author="ada", reason="r")
    shutil.rmtree(model)
    with pytest.raises(BundleError):
        put_in_force(store, place, CHOSEN, author="ada", reason="r")
    assert not store.revisions(place.model_id, place.calibration_id)


def test_a_record_that_refuses_does_not_take_thresholds_back(
    model: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Detector.load(model, "cpu").facts()
    place = Place(model, facts["model_id"], facts["calibration_id"], 0)

    def refuse(_: object) -> None:
        raise StoreError(expected="room", found="none", remedy="Make some.")

    monkeypatch.setattr(store, "add_revision", refuse)
    with pytest.raises(ChangeError, match="Revision 1 is in force"):
        put_in_force(store, place, CHOSEN, author="ada", reason="r")
    assert [revision.author for revision in history_of(model)] == ["ada"]


def test_of_variations_nothing_is_promised_by_hand_either() -> None:
    assert set_by_hand(GOOD, 120, 1.0, 2.0, promised=True) == by_hand(GOOD, 1.0, 2.0)
    found = set_by_hand(GOOD, 2, 1.0, 2.0, promised=False)
    assert (found.review, found.defect, found.promises) == (1.0, 2.0, ())
    assert found.cannot[1:] == by_hand(GOOD, 1.0, 2.0).cannot


def test_the_history_is_a_chain_that_anybody_can_check(model: Path, store: Store) -> None:
    facts = Detector.load(model, "cpu").facts()
    place = Place(model, facts["model_id"], facts["calibration_id"], 0)
    put_in_force(store, place, CHOSEN, author="ada", reason="one")
    put_in_force(store, replace(place, last=1), CHOSEN, author="ada", reason="two")
    second, first = history_of(model)
    assert second.previous == first.sha256
    told = json.loads(
        json.dumps(vars(first) | {"promises": list(first.promises), "cannot": list(first.cannot)})
    )
    told.pop("sha256")
    assert hashlib.sha256(json.dumps(told).encode()).hexdigest() == first.sha256
