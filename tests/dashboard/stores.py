"""Records of every kind that a page may meet, filled in bulk: `RECORDS` names them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from differnet.records import Record, Region, Verdict
from differnet.reporting.artefacts import Artefacts
from differnet.store import CalibrationEntry, ModelEntry, ReviewEntry, RunEntry, Store
from differnet.store.connecting import writing
from differnet.store.rows import insert_items

T_REVIEW, T_DEFECT = 1.3, 2.0
_RUN = "monday"
_BEGUN = datetime(2026, 11, 2, 6, tzinfo=UTC)
# Pictures that all items of a filled run share by links, so that pages decode pictures and not their absence.
_DRAWN = 8
_SHOWN = 500
_SIDE = 256


@dataclass(frozen=True)
class Kind:
    """What a record holds.

    Attributes:
        items: How many, of one run; with none there is no run either.
        labels: Chosen among, with these shares.
        judged: Whether items have figures; otherwise all of them are NaN.
        reviewed: How many items people have spoken of.
        read_only: Whether it is opened so.
        pictures: Whether there are previews and heat maps.
    """

    items: int = 400
    labels: tuple[tuple[str | None, float], ...] = (("good", 0.9), ("scratch", 0.06), (None, 0.04))
    judged: bool = True
    reviewed: int = 0
    read_only: bool = False
    pictures: bool = True


RECORDS = {
    "empty": Kind(items=0),
    "one row": Kind(items=1),
    "100,000 rows": Kind(items=100_000, reviewed=500),
    "all NaN": Kind(judged=False),
    "unlabelled": Kind(labels=((None, 1.0),)),
    "one class": Kind(labels=(("good", 1.0),)),
    "read only": Kind(reviewed=10, read_only=True),
}


def fill(place: Path, kind: Kind, seed: int = 0) -> None:
    """Make a record.

    Args:
        place: A new file; the run's folder is put beside it.
        kind: What it holds.
        seed: Of the items.
    """
    store = Store.open(place)
    if kind.items:
        rng = np.random.default_rng(seed)
        store.add_model(ModelEntry("m", "flange"))
        store.add_calibration(CalibrationEntry("m", "c", parts=400))
        folder = place.parent / _RUN
        run = RunEntry(_RUN, "flange", "m", "c", T_REVIEW, T_DEFECT, folder=str(folder), started_at=_text(0))
        store.begin_run(run)
        records = list(_records(rng, kind))
        with writing(store.engine).begin() as connection:
            insert_items(connection, [(record, number) for number, record in enumerate(records)])
        if kind.pictures:
            _draw(rng, folder, records)
        _review(store, rng, records, kind.reviewed)
        store.finish_run(_RUN, _text(kind.items))
    store.close()


def _records(rng: np.random.Generator, kind: Kind) -> Iterator[Record]:
    labels = rng.choice(len(kind.labels), kind.items, p=[share for _, share in kind.labels])
    usual = rng.exponential(0.4343, kind.items)
    for number in range(kind.items):
        label = kind.labels[labels[number]][0]
        strangeness = float(usual[number]) + (1.5 if label not in (None, "good") else 0.0)
        verdict = Verdict.PASS if strangeness < T_REVIEW else Verdict.REVIEW
        verdict = Verdict.DEFECT if strangeness >= T_DEFECT else verdict
        p_value = max(1 / 401, 10**-strangeness)
        figures: dict[str, Any] = {
            **{"strangeness": strangeness, "p_value": p_value, "p_value_local": p_value},
            **{"p_value_global": 0.4, "p_value_ood": 0.6, "nll_global": 800.5, "nll_local": 40.0},
            **{"typicality_global": 1.0, "typicality_local": 1.0},
            **{"bits_per_dim_global": 3.0, "bits_per_dim_local": 2.0},
        }
        if not kind.judged:
            verdict, figures = Verdict.INVALID, dict.fromkeys(figures, float("nan"))
        path = f"line-1/{number:06}.png"
        digest = hashlib.sha256(path.encode()).hexdigest()
        flagged = verdict in (Verdict.REVIEW, Verdict.DEFECT)
        yield Record(
            run_id=_RUN,
            item_id=digest[:16],
            part_id=f"part-{number // 2:06}",
            view_id=("top", "side")[number % 2],
            path=path,
            sha256=digest,
            verdict=verdict,
            reasons=("as probable as good parts" if verdict is Verdict.PASS else "improbable",),
            label=label,
            product="flange",
            processed_at=_text(number),
            t_review=T_REVIEW,
            t_defect=T_DEFECT,
            regions=(Region(90, 80, 40, 30, 900, 5.5, 0.01),) if flagged and number % 3 == 0 else (),
            model_id="m",
            calibration_id="c",
            backend="torch",
            precision="float32",
            device="cpu",
            decode_ms=4.5,
            inference_ms=30.0 + number % 7,
            width=_SIDE,
            height=_SIDE,
            bit_depth=8,
            **figures,
        )


def _text(seconds: int) -> str:
    return (_BEGUN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def _draw(rng: np.random.Generator, folder: Path, records: Sequence[Record]) -> None:
    artefacts = Artefacts(folder)
    artefacts.make()
    rows, columns = np.mgrid[:_SIDE, :_SIDE].astype(np.float32)
    radius = np.hypot(rows - _SIDE / 2, columns - _SIDE / 2)
    drawn = []
    for number in range(min(_DRAWN, len(records))):
        light = (
            60 + 110 * (radius < 0.42 * _SIDE) - 90 * (radius < 0.14 * _SIDE) + rng.normal(0, 4, radius.shape)
        )
        heat = rng.normal(1.0, 0.8, (32, 32)).astype(np.float32)
        if number % 2:
            light[80:84, 90:130] = 230
            heat[10:12, 11:17] = 9.0
        pixels = np.repeat(np.clip(light, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
        record = replace(records[number], regions=())
        artefacts.keep(artefacts.pack(record, cv2.GaussianBlur(heat, (0, 0), 1.0).astype(np.float32), pixels))
        drawn.append(record.item_id)
    # Of a large record those that pages begin with: the strangest and the latest.
    strangest = sorted(records, key=lambda record: record.strangeness or 0.0)[-_SHOWN:]
    for record in {record.item_id: record for record in (*strangest, *records[-_SHOWN:])}.values():
        shown = drawn[(0 if record.verdict is Verdict.PASS else 1) % len(drawn)]
        for name, suffix in (("heat_maps", "npz"), ("pictures", "jpg")):
            with suppress(FileExistsError):
                os.link(folder / name / f"{shown}.{suffix}", folder / name / f"{record.item_id}.{suffix}")


def _review(store: Store, rng: np.random.Generator, records: Sequence[Record], reviewed: int) -> None:
    chosen = [records[i] for i in rng.choice(len(records), min(reviewed, len(records)), replace=False)]
    for said in (ReviewEntry("defect", "Ada", "scratch"), ReviewEntry("good", "Ben")):
        meant = said.judgement == "defect"
        of = [record.item_id for record in chosen if (record.verdict is Verdict.DEFECT) == meant]
        if of:
            store.review_all(_RUN, of, said)
