"""Several processes train one model, the one that a single process makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from differnet.detection import Detector
from differnet.detection.team import Team, TeamError, joined_team
from differnet.images.reading import write_png
from differnet.images.synthetic import render_part

PROGRAM = """
import json, sys
from pathlib import Path
from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.detection.team import joined_team

good, out = sorted(Path(sys.argv[1]).iterdir()), Path(sys.argv[2])
settings = DetectorSettings(
    image_size=64, folds=3, density=DensitySettings(steps=20, couplings=2, hidden=16), device="cpu"
)
with joined_team() as team:
    detector = Detector(settings).fit(good).calibrate()
    told = {
        "model": detector.model_id,
        "calibration": detector.facts()["calibration_id"],
        "skipped": [Path(path).name for path, _ in detector.skipped],
        "size": team.size,
    }
    (out / f"{team.rank}.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team") / "good"
    folder.mkdir()
    # Not a whole number of batches for two, and one file that cannot be read.
    for seed in range(37):
        write_png(folder / f"{seed:03d}.png", render_part(seed, size=64).pixels)
    (folder / "020.png").write_bytes(b"no picture")
    return folder


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DIFFERNET_")}
    # The network's last bits depend on its threads.
    environment |= {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=300, check=False, env=environment
    )


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words)


def test_two_processes_make_the_model_of_one(good: Path, tmp_path: Path) -> None:
    program, together, alone = tmp_path / "program.py", tmp_path / "together", tmp_path / "alone"
    program.write_text(PROGRAM)
    for starts, out in ((torchrun, together), (run, alone)):
        out.mkdir()
        done = starts(str(program), str(good), str(out))
        assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads((together / f"{rank}.json").read_text()) for rank in range(2)]
    expected = json.loads((alone / "0.json").read_text())
    assert expected["skipped"] == ["020.png"]
    assert told == [expected | {"size": 2}] * 2
    assert expected["size"] == 1


def test_the_command_writes_one_model(good: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    words = ("train", str(good), "--out", str(model), "--image-size", "64", "--runtime", "torch", "--quiet")
    done = torchrun("-m", "differnet", *words)
    assert done.stdout.strip().splitlines() == [str(model)], done.stderr[-3000:]
    assert Detector.load(model).facts()["training_parts"] == 36


def test_alone_it_is_a_team_of_one() -> None:
    with joined_team() as team:
        assert team == Team.current() == Team(0, 1)
    assert Team().exchanged("found") == ["found"]
    assert Team().merged([1, 2, 3]) == [1, 2, 3]


def test_shares_are_put_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = list(range(5))
    teams = [Team(rank, 2) for rank in range(2)]
    shares = [team.share(numbers) for team in teams]
    assert sorted([*shares[0], *shares[1]]) == numbers
    monkeypatch.setattr(Team, "exchanged", lambda _, own: shares)
    assert teams[0].merged(shares[0]) == numbers


def test_variables_that_make_no_sense_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(TeamError, match="torchrun"), joined_team():
        pytest.fail("a team of nobody")
