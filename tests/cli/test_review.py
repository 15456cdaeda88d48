"""From a person's judgement back to a better model, on the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.conftest import short_trainings
from differnet import reviewing
from differnet.cli import app
from differnet.detection import Detector
from differnet.features import sha256_of
from differnet.images.layouts import read_layout
from differnet.images.synthetic import make_sample_product
from differnet.reviewing import ComparedPart, Plan, set_aside
from differnet.runtime import exports_in
from differnet.store import Asked, Store

Invoke = Callable[..., Result]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def pictures_of(line: Path, *, good: bool) -> list[Path]:
    return [p for p in sorted((line / "test").glob("*/*.png")) if (p.parent.name == "good") == good]


@pytest.fixture(scope="session")
def scene(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a line has made (nine good parts, one of each kind of defect), inspected and kept.

    The record holds the paths as they were given, relative to this folder.
    """
    root = tmp_path_factory.mktemp("line")
    make_sample_product(root / "line", train=0, good_test=9, per_defect=1, per_wrong=0, seed=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        pictures = [*pictures_of(Path("line"), good=True), *pictures_of(Path("line"), good=False)]
        assert run("inspect", model, *pictures, "--out", "monday").exit_code == 0
        assert run("db", "add", "monday", "--db", "record.db").exit_code == 0
    return root


@pytest.fixture(scope="session")
def learned(scene: Path, model: Path, product: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene after every part was reviewed and the model, ``flange``, retrained to ``new``."""
    root = tmp_path_factory.mktemp("learned") / "root"
    shutil.copytree(scene, root)
    shutil.copytree(model, root / "flange")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for judgement in ("good", "defect"):
            pictures = pictures_of(Path("line"), good=judgement == "good")
            words = ["--as", judgement, "--by", "ada", "--db", "record.db"]
            assert run("review", "add", "monday", *pictures, *words).exit_code == 0
        ended = run("retrain", "flange", product, "--out", "new", "--db", "record.db", "--json")
        assert ended.exit_code == 0, ended.stderr
        Path("told.json").write_text(ended.stdout)
    return root


@pytest.fixture
def line(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(scene, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("line")


@pytest.fixture
def place(line: Path) -> Path:
    """A record of one run."""
    return line.with_name("record.db")


@pytest.fixture
def say(invoke: Invoke, place: Path) -> Callable[..., Result]:
    def said(pictures: Sequence[Path], judgement: str, *more: str) -> Result:
        words = ["review", "add", "monday", *pictures, "--as", judgement, "--by", "ada", "--db", place, *more]
        shown = invoke(*words)
        assert shown.exit_code == 0, shown.stderr
        return shown

    return said


@pytest.fixture
def reviewed(say: Callable[..., Result], line: Path) -> list[Path]:
    """Every part of the line, as it is; the good ones are returned."""
    say(good := pictures_of(line, good=True), "good")
    say(pictures_of(line, good=False), "defect")
    return good


@pytest.fixture
def short() -> Iterator[None]:
    with short_trainings():
        yield


def told(shown: Result, code: int = 0) -> Any:
    assert shown.exit_code == code, shown.stderr
    return json.loads(shown.stdout, parse_constant=pytest.fail)


def test_what_a_person_says_is_kept_beside_the_verdict(
    invoke: Invoke, say: Callable[..., Result], place: Path, line: Path
) -> None:
    crack = line / "test" / "crack" / "000.png"
    shown = say([crack], "defect", "--kind", "crack", "--note", "at the rim")
    assert "defect, crack, by ada" in shown.stdout
    shown = invoke("review", "add", "monday", crack, "--as", "unsure", "--by", "bob", "--db", place)
    assert "unsure, by bob. Before: defect, crack, by ada." in " ".join(shown.stdout.split())
    store = Store.open(place)
    ((record, entry),) = store.reviewed(Asked())
    assert [e.author for e in store.reviews("monday", record.item_id)] == ["ada", "bob"]
    store.close()
    assert (record.path, entry.judgement) == (str(crack), "unsure")
    # By item id, too, and whoever is logged in.
    again = told(invoke("review", "add", "monday", record.item_id, "--as", "good", "--db", place, "--json"))
    assert (again[0]["path"], again[0]["said"]) == (str(crack), "good")
    assert again[0]["by"]


def test_an_ambiguous_part_lists_its_candidates_and_nothing_is_kept(
    invoke: Invoke, place: Path, line: Path
) -> None:
    first = line / "test" / "good" / "000.png"
    shown = invoke("review", "add", "monday", first, "000", "--as", "good", "--by", "ada", "--db", place)
    assert shown.exit_code == 1
    assert "good/000.png" in shown.stderr
    assert "crack/000.png" in shown.stderr
    store = Store.open(place)
    assert store.reviewed(Asked()) == []
    store.close()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["monday", "nothing", "--as", "good"], 1),
        (["friday", "000", "--as", "good"], 1),
        (["monday", "008", "--as", "fine"], 2),
        (["monday", "008", "--as", "good", "--kind", "dent"], 2),
        (["monday", "008", "--as", "defect", "--kind", "good"], 1),
    ],
)
def test_what_cannot_be_said_is_refused(invoke: Invoke, place: Path, words: list[str], code: int) -> None:
    shown = invoke("review", "add", *words, "--by", "ada", "--db", place)
    assert shown.exit_code == code, shown.stderr
    assert "bug" not in shown.stderr


def test_no_record_is_made_by_asking(invoke: Invoke, tmp_path: Path) -> None:
    for words in (["list"], ["export", tmp_path / "said.csv"], ["add", "monday", "1", "--as", "good"]):
        shown = invoke("review", *words, "--db", tmp_path / "none.db")
        assert shown.exit_code == 1
        assert "differnet db add" in shown.stderr
    assert not (tmp_path / "none.db").exists()


@pytest.mark.usefixtures("reviewed")
def test_a_list_sets_people_against_verdicts(invoke: Invoke, place: Path) -> None:
    found = told(invoke("review", "list", "--db", place, "--json"))
    assert len(found["reviews"]) == 16
    rows, agreement = found["reviews"], found["agreement"]
    passed = [r for r in rows if r["verdict"] == "PASS"]
    assert agreement["rows"]["passed"] == [
        sum(r["judgement"] == said for r in passed) for said in ("good", "defect", "unsure")
    ]
    assert agreement["escape"]["events"] == sum(r["judgement"] == "defect" for r in passed)
    assert agreement["escape"]["of"] == 7
    shown = invoke("review", "list", "--db", place)
    assert "no random sample" in shown.stdout
    assert "crack/000.png" in shown.stdout
    assert "\\x" not in shown.stdout
    assert invoke("review", "list", "--run", "friday", "--db", place).exit_code == 1
    later = invoke("review", "list", "--since", "2099-01-01", "--db", place)
    assert "Nobody has reviewed" in later.stdout


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.usefixtures("short")
def test_training_reads_exactly_the_reviewed_good_parts(
    invoke: Invoke, place: Path, line: Path, reviewed: list[Path], tmp_path: Path, ending: str
) -> None:
    listing = line / f"said.{ending}"
    shown = invoke("review", "export", listing, "--db", place)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout == f"{listing}\n"
    assert {part.path for part in read_layout(listing).train_good} == set(reviewed)
    words = ["train", listing, "--out", tmp_path / "model", "--image-size", "64"]
    assert invoke(*words).exit_code == 0
    trained = Detector.load(tmp_path / "model", "cpu")
    assert trained.trained_on == {sha256_of(path) for path in reviewed}
    assert trained.settings.product == "flange"


@pytest.mark.usefixtures("reviewed")
def test_calibration_and_evaluation_read_it_too(
    invoke: Invoke, model: Path, place: Path, line: Path, tmp_path: Path
) -> None:
    listing = line / "said.csv"
    assert invoke("review", "export", listing, "--db", place).exit_code == 0
    figures = told(invoke("evaluate", model, listing, "--json"))
    assert figures["parts"] == {"good": 9, "defective": 7}
    words = ["--alpha-review", "0.2", "--alpha-defect", "0.1", "--out", tmp_path / "other", "--json"]
    calibrated = told(invoke("calibrate", model, listing, *words))
    assert calibrated["after"]["calibration"]["parts"] == 9


def test_what_is_gone_changed_or_unsure_is_left_out_and_named(
    invoke: Invoke,
    say: Callable[..., Result],
    place: Path,
    line: Path,
    reviewed: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reviewed[0].unlink()
    reviewed[1].write_bytes(reviewed[2].read_bytes())
    say([reviewed[3]], "unsure")
    listing = line / "said.csv"
    found = told(invoke("review", "export", listing, "--db", place, "--json"), 4)
    assert (found["good"], found["defects"], found["unsure"]) == (6, 7, 1)
    assert {Path(one["path"]).name for one in found["lost"]} == {"000.png", "001.png"}
    listing.unlink()
    shown = invoke("review", "export", listing, "--db", place)
    assert shown.exit_code == 4
    for path in reviewed[:2]:
        assert f"left out {path}" in shown.stderr
    assert "1 that nobody could tell" in shown.stderr
    # From anywhere else, by naming where the record's paths begin.
    (home := Path.cwd()).joinpath("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    shown = invoke("review", "export", home / "all.csv", "--db", home / place)
    assert shown.exit_code == 1
    assert "--root" in shown.stderr
    words = ["--root", home, "--db", home / place, "--json"]
    assert told(invoke("review", "export", home / "all.csv", *words), 4)["good"] == 6
    monkeypatch.chdir(home)
    assert invoke("review", "export", listing, "--db", place).exit_code == 1


@pytest.fixture
def retrained(learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Any]:
    """The model in use, the new one beside it, and what `differnet retrain` told."""
    shutil.copytree(learned, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    told_before = json.loads(Path("told.json").read_text(), parse_constant=pytest.fail)
    return tmp_path / "flange", tmp_path / "new", told_before


@pytest.fixture
def kept(retrained: tuple[Path, Path, Any]) -> Path:
    """The record that people's words and promotions are in."""
    return retrained[1].with_name("record.db")


def test_a_model_learns_what_people_called_good_and_nothing_else(
    retrained: tuple[Path, Path, Any], product: Path
) -> None:
    used, new, found = retrained
    reviewed = pictures_of(Path("line"), good=True)
    old, again = (Detector.load(folder, "cpu") for folder in (used, new))
    hashes = {sha256_of(path) for path in reviewed}
    aside = set_aside(hashes)
    data = {sha256_of(part.path) for part in read_layout(product).train_good}
    learned = data | hashes - aside
    suspects = {sha256_of(Path(name)) for name in again.suspects}
    assert again.trained_on == learned - suspects
    assert again.settings.seed == old.settings.seed
    assert again.settings.image_size == old.settings.image_size == 96
    assert again.settings.density == old.settings.density
    assert (again.settings.product, again.settings.backbone) == ("flange", old.settings.backbone)
    compared = {one["sha256"] for one in found["comparison"]["pictures"]}
    assert aside <= compared
    assert not compared & (again.trained_on | old.trained_on)
    assert (found["comparison"]["held_out"], found["comparison"]["reviewed"]) == (10, 9)
    assert found["comparison"]["old"]["model_id"] == old.model_id
    assert found["comparison"]["new"]["model_id"] == again.model_id
    assert json.loads(new.with_name("new.comparison.json").read_text()) == found["comparison"]


def test_a_picture_that_was_called_a_defect_leaves_the_data(
    invoke: Invoke,
    model: Path,
    product: Path,
    say: Callable[..., Result],
    place: Path,
    line: Path,
    tmp_path: Path,
) -> None:
    bad = product / "train" / "good" / "003.png"
    assert invoke("inspect", model, bad, "--out", tmp_path / "tuesday").exit_code == 0
    assert invoke("db", "add", tmp_path / "tuesday", "--db", place).exit_code == 0
    words = ["review", "add", "tuesday", bad, "--as", "defect", "--by", "ada", "--db", place]
    assert invoke(*words).exit_code == 0
    good = sorted((line / "test" / "good").iterdir())
    say(good, "good")
    good[0].unlink()
    # Only Monday's parts are asked for; what Tuesday says still counts.
    shown = invoke(
        "retrain", model, product, "--out", tmp_path / "new", "--run", "monday", "--seed", "3", "--db", place
    )
    assert shown.exit_code == 4, shown.stderr
    assert f"left out {good[0]}" in shown.stderr
    assert f"{bad} is not learned from" in shown.stderr
    again = Detector.load(tmp_path / "new", "cpu")
    assert sha256_of(bad) not in again.trained_on
    assert again.settings.seed == 3
    assert "What cannot be concluded" in shown.stderr


def test_a_comparison_on_learned_parts_is_caught(
    invoke: Invoke,
    model: Path,
    product: Path,
    place: Path,
    reviewed: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert reviewed
    true = reviewing.plan

    def faulty(*given: Any) -> Plan:
        found = true(*given)
        learned = found.training[-1]
        extra = ComparedPart(learned, sha256_of(learned), "good", "reviewed")
        return replace(found, compared=(*found.compared, extra))

    monkeypatch.setattr(reviewing, "plan", faulty)
    shown = invoke("retrain", model, product, "--out", tmp_path / "new", "--db", place)
    assert shown.exit_code == 1
    assert "pictures that neither model was trained on" in " ".join(shown.stderr.split())
    # The training is kept, and cannot be promoted.
    assert (tmp_path / "new" / "manifest.json").is_file()
    assert not (tmp_path / "new.comparison.json").exists()
    used = Path(shutil.copytree(model, tmp_path / "flange"))
    words = ["promote", tmp_path / "new", used, "--reason", "r", "--by", "ada", "--db", place]
    shown = invoke(*words)
    assert shown.exit_code == 3
    assert "no comparison" in shown.stderr


def test_promotion_back_and_once_more(invoke: Invoke, retrained: tuple[Path, Path, Any], kept: Path) -> None:
    used, new, _ = retrained
    old_id, new_id = (Detector.load(folder, "cpu").model_id for folder in (used, new))
    words = ["--reason", "Monday's parts", "--by", "ada", "--db", kept]
    # Ten steps of training decide by luck which model is better; that is not what is tested here.
    shown = invoke("promote", new, used, *words, "--anyway")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout == f"{used}\n"
    previous = used.with_name("flange.previous")

    def there() -> tuple[str, str]:
        return Detector.load(used, "cpu").model_id, Detector.load(previous, "cpu").model_id

    assert there() == (new_id, old_id)
    # What it was exported to comes with it.
    assert exports_in(used) == exports_in(new) != {}
    assert invoke("promote", new, used, *words, "--anyway").exit_code == 1
    for expected in ((old_id, new_id), (new_id, old_id)):
        back = told(invoke("promote", "--back", used, *words, "--json"))
        assert there() == expected
        assert (back["to"], back["from"]) == expected
    store = Store.open(kept)
    trail = [(note["action"], note["facts"]["to"]) for note in store.audit() if "reason" in note["facts"]]
    noted = next(note for note in store.audit() if note["action"] == "promote")
    store.close()
    assert trail[::-1] == [
        ("begin promotion", new_id),
        ("promote", new_id),
        ("begin return", old_id),
        ("return to previous model", old_id),
        ("begin return", new_id),
        ("return to previous model", new_id),
    ]
    assert (noted["actor"], noted["subject"]) == ("ada", str(used))
    # A model that is damaged is a reason to go back, and hinders nobody; a damaged previous one is not taken.
    (used / "densities.safetensors").write_bytes(b"damaged")
    assert invoke("promote", "--back", used, *words).exit_code == 0
    assert Detector.load(used, "cpu").model_id == old_id
    assert invoke("promote", "--back", used, *words).exit_code == 5
    assert Detector.load(used, "cpu").model_id == old_id
    assert noted["facts"]["reason"] == "Monday's parts"


def test_a_worse_model_is_refused_unless_anyway(
    invoke: Invoke, retrained: tuple[Path, Path, Any], kept: Path
) -> None:
    used, new, _ = retrained
    comparison = new.with_name("new.comparison.json")
    true = json.loads(comparison.read_text())
    before = {path.name: path.read_bytes() for path in used.iterdir()}
    words = ["promote", new, used, "--reason", "r", "--by", "ada", "--db", kept]
    fair = {
        **true,
        "difference": {
            "difference": 0.0,
            "low": -0.1,
            "high": 0.1,
            "standard_error": 0.05,
            "confidence": 0.95,
        },
        "new": true["new"] | {"escape": true["old"]["escape"], "overkill": true["old"]["overkill"]},
    }
    more = true["old"]["escape"] | {"events": true["old"]["escape"]["events"] + 1}
    worse = fair["difference"] | {"difference": -0.2, "low": -0.3, "high": -0.1}
    for changed, why in (
        (fair | {"difference": worse}, "worse"),
        (fair | {"new": fair["new"] | {"escape": more}}, "more defects pass"),
        (fair | {"new": fair["new"] | {"model_id": "0" * 16}}, "its comparison is of new model"),
        (fair | {"schema_version": 9}, "form 9"),
    ):
        comparison.write_text(json.dumps(changed))
        shown = invoke(*words)
        assert shown.exit_code == (1 if why == "form 9" else 3), shown.stderr
        assert why in " ".join(shown.stderr.split())
        assert {path.name: path.read_bytes() for path in used.iterdir()} == before
    comparison.write_text(json.dumps(fair | {"new": fair["new"] | {"escape": more}}))
    shown = invoke(*words, "--anyway")
    assert shown.exit_code == 0
    assert "promoted anyway: more defects pass" in " ".join(shown.stderr.split())
    store = Store.open(kept)
    noted = next(note for note in store.audit() if note["action"] == "promote")
    store.close()
    assert noted["facts"]["anyway"] is True
    assert "more defects pass" in noted["facts"]["against"][0]


def test_thresholds_come_and_go_with_their_model(
    invoke: Invoke, retrained: tuple[Path, Path, Any], kept: Path
) -> None:
    used, new, _ = retrained
    for folder, review, defect in ((used, 1, 2), (new, 3, 4)):
        words = ["--review", review, "--defect", defect, "--reason", "by hand", "--author", "bob"]
        assert invoke("threshold", "set", folder, *words).exit_code == 0

    def in_force(folder: Path) -> tuple[float, float]:
        shown = told(invoke("threshold", "show", folder, "--json"))
        return shown["t_review"], shown["t_defect"]

    words = ["--reason", "r", "--by", "ada", "--db", kept]
    shown = invoke("promote", new, used, *words)
    assert shown.exit_code == 3
    assert "thresholds were changed since the comparison" in " ".join(shown.stderr.split())
    assert invoke("promote", new, used, *words, "--anyway").exit_code == 0
    previous = used.with_name("flange.previous")
    assert (in_force(used), in_force(previous)) == ((3, 4), (1, 2))
    # What is decided while a model is the previous one comes back with it.
    again = ["--review", 1.5, "--defect", 2.5, "--reason", "tighter", "--author", "bob"]
    assert invoke("threshold", "set", previous, *again).exit_code == 0
    assert invoke("promote", "--back", used, *words).exit_code == 0
    assert (in_force(used), in_force(previous)) == ((1.5, 2.5), (3, 4))


def test_usage_of_promotion(invoke: Invoke, tmp_path: Path) -> None:
    model = tmp_path / "model"
    for words in (
        ["promote", model, "--reason", "r"],
        ["promote", model, model, "--reason", "r", "--back"],
        ["promote", model, "--reason", "r", "--back", "--anyway"],
        ["promote", model, model, "--reason", " "],
        ["promote", model, model],
    ):
        assert invoke(*words).exit_code == 2
    shown = invoke("promote", "--back", model, "--reason", "r", "--by", "ada", "--db", tmp_path / "r.db")
    assert shown.exit_code == 1
    assert "model.previous" in shown.stderr
    assert not (tmp_path / "r.db").exists()
