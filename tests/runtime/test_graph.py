"""The folded model gives the figures of the densities that it was folded from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detection.conftest import SIZE, SMALL
from numpy.typing import NDArray

from differnet.detection import Detector, DetectorSettings, PatchScale
from differnet.detection.evidence import RawEvidence
from differnet.detection.sources import as_picture
from differnet.features import prepare_batch
from differnet.flows import FlowError
from differnet.images.reading import ReadingRule, write_png
from differnet.images.synthetic import render_part
from differnet.records import Picture
from differnet.runtime import graph as graphs
from differnet.runtime.evidence import Grid, evidence_of
from differnet.runtime.graph import LookingGraph, folded_wholes
from differnet.runtime.wholes import FoldedWhole
from runtime.conftest import with_couplings


def folded_evidence(detector: Detector, pictures: list[Picture]) -> RawEvidence:
    """Return evidence by way of the graph, run by torch."""
    ignored = detector.ignored_
    seen = [replace(picture, pixels=detector._seen(picture)) for picture in pictures]
    graph = LookingGraph(detector)
    with torch.inference_mode():
        looked = graph(*[prepare_batch(seen, p).permute(0, 2, 3, 1) for p in detector.preprocessing_])
    grids = []
    for energies, patches in zip(looked.energies, detector._fitted().complete.patches, strict=True):
        shape = tuple(energies.shape[1:])
        kept = np.ones(shape, bool) if ignored is None else ignored.kept(*shape)
        grids.append(Grid.of(kept, patches.shape.features))
    outputs = [tensor.contiguous().numpy() for tensor in looked.flat]
    return evidence_of([outputs], folded_wholes(detector), grids, detector._fitted().kind_features)


def pictures_of(*, broken: bool = True) -> list[Picture]:
    """Good parts, one with a scratch and one of noise."""
    pixels = [render_part(seed, size=SIZE).pixels for seed in (800, 801, 802)]
    if broken:
        scratched = pixels[0].copy()
        scratched[30:34, 10:80] = 255
        noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        pixels += [scratched, noise]
    return [as_picture(each, ReadingRule()) for each in pixels]


def largest_difference(a: RawEvidence, b: RawEvidence) -> float:
    """Return how far figures differ, in units of the larger of 1 and their own size."""
    pairs: list[tuple[NDArray[np.floating], NDArray[np.floating]]] = [
        (figures, b.figures[name]) for name, figures in a.figures.items()
    ]
    pairs += zip((*a.maps, *a.shares), (*b.maps, *b.shares), strict=True)
    return max(float(np.abs(x - y).max() / max(1.0, float(np.abs(x).max()))) for x, y in pairs if x.size)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """A detector that ignores a corner and a whole quadrant's worth of one more."""
    mask = np.zeros((SIZE, SIZE, 3), np.uint8)
    mask[: SIZE // 2, : SIZE // 2] = 255
    mask[-20:, -30:] = 255
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    write_png(path, mask)
    return fitted(replace(SMALL, ignore=path))


def fitted(settings: DetectorSettings, parts: int = 32) -> Detector:
    return Detector(settings).fit([render_part(seed, size=SIZE).pixels for seed in range(parts)]).calibrate()


def test_as_trained(plain: Detector) -> None:
    pictures = pictures_of()
    assert largest_difference(plain._evidence(pictures), folded_evidence(plain, pictures)) < 1e-4


def test_with_couplings_everywhere(plain: Detector) -> None:
    detector, pictures = with_couplings(plain), pictures_of()
    coupled, bare = detector._evidence(pictures), plain._evidence(pictures)
    assert largest_difference(bare, coupled) > 0.01, "the couplings do something"
    assert largest_difference(coupled, folded_evidence(detector, pictures)) < 1e-4


def test_regions_are_ignored_alike(masked: Detector) -> None:
    detector, pictures = with_couplings(masked), pictures_of()
    own = detector._evidence(pictures)
    assert (own.maps[0] == 0).any(), "something is ignored"
    assert largest_difference(own, folded_evidence(detector, pictures)) < 1e-4


def test_two_looks_wide_windows_and_several_strides() -> None:
    scales = (
        PatchScale("fine", (8,)),
        PatchScale("joined", (8, 16), window=3),
        PatchScale("near", (16,), zoom=1),
    )
    detector = with_couplings(fitted(replace(SMALL, zooms=(1.0, 2.0), scales=scales)))
    pictures = pictures_of()
    assert largest_difference(detector._evidence(pictures), folded_evidence(detector, pictures)) < 1e-4


@pytest.mark.parametrize("strides", [(8, 16), (4, 8, 16, 32)])
def test_other_maps_of_the_network(strides: tuple[int, ...]) -> None:
    detector, pictures = with_couplings(fitted(replace(SMALL, strides=strides))), pictures_of()
    assert largest_difference(detector._evidence(pictures), folded_evidence(detector, pictures)) < 1e-4


def test_very_few_parts() -> None:
    detector, pictures = fitted(SMALL, parts=3), pictures_of()
    assert largest_difference(detector._evidence(pictures), folded_evidence(detector, pictures)) < 1e-4


def test_verdicts_and_heat_are_the_same(plain: Detector) -> None:
    pictures = pictures_of()
    judge = plain._judge()
    own = list(judge.judge_all(plain._evidence(pictures), pictures, 0.0))
    folded = list(judge.judge_all(folded_evidence(plain, pictures), pictures, 0.0))
    assert [i.record.verdict for i in own] == [i.record.verdict for i in folded]
    assert len({i.record.verdict for i in own}) > 1
    for mine, other in zip(own, folded, strict=True):
        assert mine.heat_map is not None
        assert other.heat_map is not None
        assert np.abs(mine.heat_map - other.heat_map).max() < 0.01


# What a careless fold would lose, and what it would do to the figures.
FAULTS: dict[str, Callable[[FoldedWhole], None]] = {
    "a member's mean is left away": lambda whole: whole.arrays["slope"].fill(0),
    "directions count once more": lambda whole: np.multiply(
        whole.arrays["weights"], 1.1, out=whole.arrays["weights"]
    ),
    "a coupling says nothing": lambda whole: whole.arrays["coupling1.says_bias"].fill(-50),
    "what is usual is forgotten": lambda whole: whole.arrays["centre"].fill(0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_shows(plain: Detector, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detector, pictures = with_couplings(plain), pictures_of()
    true = graphs.folded_wholes

    def spoilt(of: Detector) -> tuple[FoldedWhole, ...]:
        wholes = true(of)
        for whole in wholes:
            FAULTS[fault](whole)
        return wholes

    monkeypatch.setitem(folded_evidence.__globals__, "folded_wholes", spoilt)
    assert largest_difference(detector._evidence(pictures), folded_evidence(detector, pictures)) > 1e-3


def test_a_detector_that_was_not_fitted_is_refused() -> None:
    with pytest.raises(FlowError, match="fitted"):
        LookingGraph(Detector(SMALL))


def test_a_batch_is_judged_as_its_parts_are(plain: Detector, tmp_path: Path) -> None:
    del tmp_path
    pictures = pictures_of()
    together = folded_evidence(plain, pictures)
    alone = RawEvidence.joined([folded_evidence(plain, [picture]) for picture in pictures])
    assert largest_difference(together, alone) < 1e-4
