"""A small model, its pictures, and a record to inspect them into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from trust.batch_checks import make_model, make_parts

from differnet.batch import RunPlan, begin
from differnet.detection import Detector
from differnet.images.reading import encode_png
from differnet.reporting import run_facts
from differnet.store import Store
from differnet.store.queue import Queue, Wanted


@dataclass
class Line:
    """What a batch job needs."""

    model: Path
    pictures: list[Path]
    place: Path
    store: Store
    detector: Detector

    @property
    def folder(self) -> Path:
        return self.place / "monday"

    def begin(self, pictures: list[Path] | None = None, name: str = "monday") -> Queue:
        facts = replace(run_facts(self.detector.facts(), "parts/"), run_id=name)
        wanted = [Wanted(str(path), "good") for path in pictures or self.pictures]
        return begin(self.store, self.detector, RunPlan(facts, self.model, self.place / name, wanted))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    make_parts(folder / "good", 24, 1)
    make_parts(folder / "pictures", 20, 2)
    make_model(folder / "good", folder / "model", 0)
    return folder


@pytest.fixture
def line(trained: Path, tmp_path: Path) -> Iterator[Line]:
    """Twenty pictures of which the last but one is torn; nothing is begun."""
    pictures = sorted((trained / "pictures").iterdir())
    torn = tmp_path / "torn.png"
    torn.write_bytes(pictures[18].read_bytes()[:-30])
    pictures[18] = torn
    store = Store.open(tmp_path / "record.db")
    yield Line(trained / "model", pictures, tmp_path, store, Detector.load(trained / "model", device="cpu"))
    store.close()


def white(path: Path) -> Path:
    """Write a picture that is no part."""
    import numpy as np

    path.write_bytes(encode_png(np.full((48, 48, 3), 255, np.uint8)))
    return path
