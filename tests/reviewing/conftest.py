"""A record of small files and what people said of them; no model is needed for most of this room."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from differnet.records import Record, Verdict
from differnet.store import CalibrationEntry, ModelEntry, ReviewEntry, RunEntry, Store

Keep = Callable[..., Record]


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Line:
    """A store, a folder of files, and short ways to inspect and to review."""

    def __init__(self, root: Path, store: Store) -> None:
        self.root, self.store = root, store
        self._said = 0

    def run(self, run_id: str, product: str = "flange") -> None:
        self.store.add_model(ModelEntry(f"m-{product}", product))
        self.store.add_calibration(CalibrationEntry(f"m-{product}", "c1", parts=99))
        self.store.begin_run(RunEntry(run_id, product, f"m-{product}", "c1", 1.3, 2.0))

    def inspect(
        self,
        run_id: str,
        path: str,
        content: bytes,
        verdict: Verdict = Verdict.PASS,
        product: str = "flange",
        *,
        write: bool = True,
        sha256: str | None = None,
    ) -> Record:
        """Write a file and keep what a model is said to have made of it."""
        if write:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(content)
        digest = sha256_of(content) if sha256 is None else sha256
        record = Record(
            run_id,
            item_id=sha256_of(os.fsencode(f"{path}{digest}"))[:16],
            part_id=Path(path).stem,
            view_id="",
            path=path,
            sha256=digest,
            verdict=verdict,
            reasons=("told",),
            product=product,
            processed_at="2026-11-23T06:00:00.000+00:00",
            strangeness=None if verdict is Verdict.INVALID else 0.5,
            model_id=f"m-{product}",
            calibration_id="c1",
        )
        self.store.add_items([record])
        return record

    def say(self, record: Record, judgement: str, kind: str = "", author: str = "ada") -> None:
        """Say something, a second after whatever was said before."""
        self._said += 1
        moment = f"2026-11-23T06:{self._said // 60:02d}:{self._said % 60:02d}.000+00:00"
        entry = ReviewEntry(judgement, author, kind, made_at=moment)  # type: ignore[arg-type]
        self.store.review(record.run_id, record.item_id, entry)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    store = Store.open(tmp_path / "record.db")
    root = tmp_path / "shots"
    root.mkdir()
    made = Line(root, store)
    made.run("monday")
    made.run("tuesday")
    yield made
    store.close()
