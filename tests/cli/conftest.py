from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from differnet.cli import app
from differnet.detection import DensitySettings, DetectorSettings
from differnet.images.reading import write_png
from differnet.images.synthetic import make_sample_product

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run the program as a shell would, in this process, with a plain terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
        words: Sequence[str] = [str(argument) for argument in arguments]
        return CliRunner(env=env).invoke(app, words)

    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A plain folder of pictures that all differ: 8 good parts and 3 with a scratch."""
    root = tmp_path / "plates"
    noise = np.random.default_rng(0)
    for kind, number in (("good", 8), ("scratch", 3)):
        (root / kind).mkdir(parents=True)
        for index in range(number):
            write_png(root / kind / f"{index}.png", noise.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    return root


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample product in small: 24 good parts, one of each kind of defect and wrong input."""
    folder = tmp_path_factory.mktemp("cli") / "product"
    return make_sample_product(folder, train=24, good_test=3, per_defect=1, per_wrong=1)


@contextmanager
def short_trainings() -> Iterator[None]:
    """Let every training be short: the command line is tested here, not the densities."""
    density = DensitySettings(steps=10, hidden=16, couplings=2)

    class Short(DetectorSettings):
        def __init__(self, **chosen: Any) -> None:
            super().__init__(**{"density": density, "folds": 2, **chosen})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("differnet.detection.DetectorSettings", Short)
        # Exporting takes longer than such a training.
        patch.setenv("DIFFERNET_RUNTIME", "torch")
        yield


@pytest.fixture
def quick_training() -> Iterator[None]:
    """`short_trainings` for one test."""
    with short_trainings():
        yield


@pytest.fixture(scope="session")
def model(product: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the sample product, made by the program itself."""
    folder = tmp_path_factory.mktemp("cli-model") / "model"
    words = ["train", str(product), "--out", str(folder), "--image-size", "96", "--product", "flange"]
    with short_trainings():
        ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout == f"{folder}\n"
    return folder
