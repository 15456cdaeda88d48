"""Explain the judgement of one picture: what was found, where, and what would have to change.

One function, `explain`, for people who look at a part. Verdicts rest on nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from differnet.calibration import TailScale, p_values
from differnet.detection.detector import Detector
from differnet.detection.ensemble import strangest_mean
from differnet.detection.evidence import RawEvidence
from differnet.detection.gathering import Features
from differnet.detection.judging import Judge
from differnet.detection.references import Reference
from differnet.detection.settings import DetectorError
from differnet.detection.side_by_side import one_thread
from differnet.detection.sources import Source, as_picture
from differnet.detection.typical import Moved, RoundTrip, nearest_typical
from differnet.records import Record

# Of good places, the share that is beyond "typical". Twice the share whose mean energy is a part's local
# evidence: a part that was moved shows no more of it than good parts do.
TYPICAL_SHARE = 0.01

# Statistics of the whole, in the order in which `pooled_statistics` lays them out.
POOLED = ("average", "spread", "upper left", "upper right", "lower left", "lower right")

Heat = NDArray[np.float32]


class EvidenceMap(NamedTuple):
    """Where one density finds a picture strange.

    Attributes:
        density: ``patches`` or ``whole``.
        name: Of the scale of patches; of the whole, ``whole`` and then its zoom from 2 on.
        zoom: Which of the detector's input sizes it looks at, from 0.
        strides: Pixels of that input from one place to the next, of each map that patches are made of; of the
            whole, the finest.
        heat: ``(rows, columns)``, ``-log10`` of the share of good places that are as hot: one unit for all.
        weight: What this map is multiplied by where the verdict's heat map adds them up.
    """

    density: Literal["patches", "whole"]
    name: str
    zoom: int
    strides: tuple[int, ...]
    heat: Heat
    weight: float


class Statistic(NamedTuple):
    """What one kind of evidence says of a picture, on the scale of the thresholds.

    Attributes:
        density: ``whole``, ``patches``, or ``all`` for both together.
        name: Of the map it belongs to, as in `EvidenceMap`; empty for several together.
        statistic: ``typicality`` (the latent norm), ``improbability`` (the whole nll), ``together``, or
            ``wrong input`` (of the median cell, at the least strange scale).
        strangeness: ``-log10`` of the smoothed share of good parts that show as much.
        p_value: Conformal, among the calibration's good parts; ``None`` where the model promises nothing.
    """

    density: str
    name: str
    statistic: str
    strangeness: float
    p_value: float | None


class PatchChange(NamedTuple):
    """What would have to change at one scale of patches.

    Attributes:
        name: Of the scale.
        change: ``(rows, columns)``, see `differnet.detection.typical`.
        moved: Share of places that had to move, of those that count.
        share: Of all that changes in patches, by the mean square over places, 0 to 1; the shares of all
            scales sum to 1, or are all 0.
    """

    name: str
    change: Heat
    moved: float
    share: float


class WholeChange(NamedTuple):
    """What would have to change of the whole, at one zoom.

    Attributes:
        name: As in `EvidenceMap`.
        change: Root mean square over all directions, standard deviations; 0 where it is typical.
        strides: Of the network's maps, fine to coarse, pixels of the input.
        shares: ``(maps, 6)`` share of the energy that goes away, by map and by kind of statistic in the order
            of `POOLED`; sums to 1, or is all 0. The Gaussian's energy is divided exactly:
            ``E(x) - E(x') = sum_k (x_k - x'_k) (A (x + x' - 2 m))_k`` with ``A`` its inverse covariance. What
            a feature adds may be negative.
    """

    name: str
    change: float
    strides: tuple[int, ...]
    shares: NDArray[np.float64]


@dataclass(frozen=True)
class Explanation:
    """All there is to show of one judgement.

    Attributes:
        record: As the detector judges the picture now.
        maps: Evidence by density and scale: patches, then wholes.
        statistics: All together, the whole, patches and wrong input, then each statistic alone.
        change: ``(rows, columns)`` on the finest grid of patches, root mean square over the scales.
        patches: What would have to change, scale by scale.
        wholes: Likewise, zoom by zoom.
        strangeness_after: What the detector would say of a part with the moved features.
        round_trip: Whether the picture of changes can be trusted, over all densities.
        nearest: The good part that is most like this one, or ``None`` where the model keeps none.
    """

    record: Record
    maps: tuple[EvidenceMap, ...]
    statistics: tuple[Statistic, ...]
    change: Heat
    patches: tuple[PatchChange, ...]
    wholes: tuple[WholeChange, ...]
    strangeness_after: float
    round_trip: RoundTrip
    nearest: Reference | None


def explain(detector: Detector, picture: Source) -> Explanation:
    """Explain the judgement of one picture.

    Args:
        detector: Fitted and calibrated, or loaded.
        picture: A file, a decoded picture, or ``(height, width, 3)`` RGB.

    Raises:
        DetectorError: The detector is not complete, or what it finds is not finite, which is INVALID.
        ImageError: The picture cannot be read.
    """
    judge, ensemble = detector._judge(), detector._fitted()
    decoded = as_picture(picture, detector.settings.reading)
    features = detector._features([decoded])
    raw = ensemble.evidence(features)
    if not raw.is_finite(0):
        raise DetectorError(
            expected="evidence that is finite",
            found="some that is not: the picture is INVALID, and there is nothing to explain",
            remedy="Test the model itself; train it again if it is damaged.",
        )
    with one_thread():
        moved = _move_patches(detector, features)
        wholes = _move_wholes(detector, features)
    patches = _patch_changes(detector, features, moved)
    statistics = ensemble.complete.wholes[0].standardised(features.statistics[0])[0].numpy()
    references = detector.references_
    return Explanation(
        record=judge.judge(raw, 0, decoded, 0.0).record,
        maps=_maps(detector, judge, raw),
        statistics=_statistics(detector, judge, raw),
        change=_over_scales([one.change for one in patches]),
        patches=patches,
        wholes=tuple(one.change for one in wholes),
        strangeness_after=_strangeness_after(judge, raw, moved, wholes),
        round_trip=RoundTrip.joined([*(m.round_trip for m in moved), *(w.round_trip for w in wholes)]),
        nearest=None if references is None else references.nearest(statistics, but=decoded.sha256),
    )


def _maps(detector: Detector, judge: Judge, raw: RawEvidence) -> tuple[EvidenceMap, ...]:
    calibration, ignored = judge.calibration, detector.ignored_
    scales = detector.settings.scales
    rows = max(m.shape[1] for m in (*raw.maps, *raw.shares))
    columns = max(m.shape[2] for m in (*raw.maps, *raw.shares))
    weights = judge.usual.surprises(raw).shares_of_zooms[:, 0]
    maps = [
        EvidenceMap("patches", scale.name, scale.zoom, scale.strides, heat[0], 1 / len(scales))
        for scale, heat in zip(scales, calibration.heat_of_patches(raw), strict=True)
    ]
    for zoom, heat in enumerate(calibration.heat_of_wholes(raw, rows, columns)):
        finest = detector._network().strides[:1]
        maps.append(EvidenceMap("whole", _whole_name(zoom), zoom, finest, heat[0], float(weights[zoom])))
    if ignored is None:
        return tuple(maps)
    return tuple(m._replace(heat=m.heat * ignored.kept(*m.heat.shape)) for m in maps)


def _statistics(detector: Detector, judge: Judge, raw: RawEvidence) -> tuple[Statistic, ...]:
    promised = judge.calibration.promised

    def p(good: NDArray[np.float64], found: float) -> float | None:
        return float(p_values(good, [found])[0]) if promised else None

    together = {name: float(figures[0]) for name, figures in judge.strangeness(raw).items()}
    found = [
        Statistic(density, "", statistic, together[name], p(judge.good[name], together[name]))
        for name, density, statistic in (
            ("total", "all", "together"),
            ("whole", "whole", "together"),
            ("local", "patches", "together"),
            ("spread", "all", "wrong input"),
        )
    ]
    for said in judge.usual.said(raw):
        whole = said.density == "whole"
        name = _whole_name(said.place) if whole else detector.settings.scales[said.place].name
        surprise = float(said.surprise[0])
        strangeness = float(TailScale.fit(said.held_out).strangeness([surprise])[0])
        found.append(Statistic(said.density, name, said.statistic, strangeness, p(said.held_out, surprise)))
    return tuple(found)


def _move_patches(detector: Detector, features: Features) -> list[Moved]:
    """Move the patches of one part that count, scale by scale."""
    ensemble, judge = detector._fitted(), detector._judge()
    coordinates = ensemble.complete.wholes[0].leading(features.statistics[0])
    moved = []
    for i, density in enumerate(ensemble.complete.patches):
        patches, kept = features.patches[i], features.kept[i]
        context = density.context(patches, coordinates)
        given = None if context is None else context[0, kept]
        limit = judge.calibration.typical_energy(i, TYPICAL_SHARE)
        moved.append(nearest_typical(density.flow, patches[0, kept], given, limit))
    return moved


def _patch_changes(detector: Detector, features: Features, moved: Sequence[Moved]) -> tuple[PatchChange, ...]:
    squares = [float(one.change.square().mean()) for one in moved]
    total = sum(squares) or 1.0
    found = []
    for scale, one, kept, square in zip(detector.settings.scales, moved, features.kept, squares, strict=True):
        change = np.zeros(kept.shape, dtype=np.float32)
        change[kept.numpy()] = one.change.numpy()
        found.append(PatchChange(scale.name, change, float(one.beyond.float().mean()), square / total))
    return tuple(found)


class _MovedWhole(NamedTuple):
    change: WholeChange
    energy: float
    round_trip: RoundTrip


def _move_wholes(detector: Detector, features: Features) -> list[_MovedWhole]:
    """Move the pooled statistics of one part, zoom by zoom, in each member that judges them."""
    ensemble, calibration = detector._fitted(), detector._judge().calibration
    strides, channels = detector._network().strides, detector._network().channels
    found = []
    for zoom, statistics in enumerate(features.statistics):
        # As many good parts are beyond it as may go to review.
        limit = float(np.exp(np.quantile(calibration.whole[:, zoom], 1 - calibration.alpha_review)))
        energies, changes, trips = [], [], []
        shares = np.zeros((len(channels), len(POOLED)))
        for member in ensemble.members:
            density = member.wholes[zoom]
            moved = nearest_typical(density.flow, statistics, None, limit)
            pulls = [density.pull(x) for x in (statistics, moved.features)]
            shares += _by_map(((statistics - moved.features) * (pulls[0] + pulls[1]))[0], channels)
            energies.append(float(moved.energy[0]))
            changes.append(float(moved.change[0]))
            trips.append(moved.round_trip)
        total = float(shares.sum())
        change = WholeChange(
            _whole_name(zoom), float(np.mean(changes)), strides, shares / total if total > 0 else 0 * shares
        )
        found.append(_MovedWhole(change, float(np.mean(energies)), RoundTrip.joined(trips)))
    return found


def _by_map(figures: Tensor, channels: Sequence[int]) -> NDArray[np.float64]:
    """Add up a figure of every pooled statistic, ``(maps, 6)``."""
    cut = torch.split(figures.double(), [len(POOLED) * width for width in channels])
    rows = [of.reshape(len(POOLED), -1).sum(1).numpy() for of in cut]
    return np.asarray(np.nan_to_num(np.stack(rows)), dtype=np.float64)


def _strangeness_after(
    judge: Judge, raw: RawEvidence, moved: Sequence[Moved], wholes: Sequence[_MovedWhole]
) -> float:
    local = [float(strangest_mean(one.energy[None]).log()) for one in moved]
    nll = [float(strangest_mean(one.nll[None])) / one.features.shape[1] for one in moved]
    after = replace(
        raw,
        whole=np.log([[one.energy for one in wholes]]),
        local=np.array([local]),
        nll_local=np.array([nll]),
    )
    return float(judge.strangeness(after)["total"][0])


def _over_scales(maps: Sequence[Heat]) -> Heat:
    """Return the root mean square over maps, on the finest grid."""
    rows, columns = max(m.shape[0] for m in maps), max(m.shape[1] for m in maps)
    squares = [
        cv2.resize(m, (columns, rows), interpolation=cv2.INTER_LINEAR).astype(np.float64) ** 2 for m in maps
    ]
    return np.asarray(np.sqrt(np.mean(squares, axis=0)), dtype=np.float32)


def _whole_name(zoom: int) -> str:
    return "whole" if zoom == 0 else f"whole {zoom + 1}"
