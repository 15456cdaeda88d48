"""The detector: fit on good parts, calibrate on good parts it has not seen, inspect.

Fitting is cross-fitting: the good parts are dealt into folds, and each member of the ensemble
learns from all folds but one. Every good part is thus judged by a member that has never seen it,
and no part is spent on calibration alone.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from differnet.calibration import (
    CalibratedEvidence,
    TailScale,
    Thresholds,
    decide,
    false_alarm_interval,
    held_out_strangeness,
    p_values,
    smallest_alpha,
    threshold,
)
from differnet.detection.densities import DensitySettings, PartDensity, PatchDensity
from differnet.detection.regions import strange_regions
from differnet.detection.statistics import PatchScale, patch_vectors, pooled_statistics
from differnet.features import (
    Backbone,
    Preprocessing,
    choose_device,
    find_weights,
    prepare_batch,
    sha256_of,
)
from differnet.images.quality import measure_quality, quality_flags
from differnet.images.reading import ImageError, ReadingRule, read_image
from differnet.records import DiffernetError, Inspection, Picture, Record, Verdict

Source = Path | str | Picture | NDArray[Any]
Progress = Callable[[str, int, int], None]

_BATCH = 16
# With fewer good parts there is nothing to hold out.
_LEAST_PARTS = 4
# Share of a picture's patches whose mean is the part's local evidence: one strange patch alone may
# be noise, and a defect that covers a patch nearly always touches its neighbours.
_STRANGEST_SHARE = 0.01
# A wrong input is strange in most of a 4 x 4 grid, a defect in a few cells; averaging a cell's
# patches first makes good parts so alike in this figure that the two separate.
_EXTENT_CELLS = 4
# Seeds of members and flows are made of 1,000 times this one, and torch takes 64 bits.
_LARGEST_SEED = 2**32 - 1
_MOST_FOLDS = 64
_MOST_SCALES = 8


class DetectorError(DiffernetError):
    """A detector that was asked for something out of its order, or fed too little."""


@dataclass(frozen=True)
class DetectorSettings:
    """What a person may choose. Everything else has one default for every product.

    Attributes:
        backbone: A timm network.
        weights: Its weights; ``None`` finds the installed ones.
        allow_download: Let timm fetch weights.
        image_size: Side of the square that pictures are resized to, pixels.
        seed: Of folds, weights, batches and noise.
        alpha_review: Share of good parts that may be sent to REVIEW or beyond.
        alpha_defect: Share of good parts that may be called DEFECT or OOD (overkill).
        device: ``auto``, ``cpu`` or ``cuda``.
        product: Name that records carry.
        folds: Members of the ensemble.
        density: How the densities are built.
        scales: Grids of the local densities.
        reading: How files become pixels.

    Raises:
        DetectorError: A number is outside its range; said here, before anything is trained.
    """

    backbone: str = "tf_efficientnet_lite0"
    weights: Path | None = None
    allow_download: bool = False
    image_size: int = 256
    seed: int = 0
    alpha_review: float = 0.05
    alpha_defect: float = 0.01
    device: str = "auto"
    product: str = ""
    folds: int = 4
    density: DensitySettings = field(default_factory=DensitySettings)
    scales: tuple[PatchScale, ...] = (PatchScale("patches", 16),)
    reading: ReadingRule = field(default_factory=ReadingRule)

    def __post_init__(self) -> None:
        _check_alphas(self.alpha_review, self.alpha_defect)
        for name, value, least, most in (
            ("seed", self.seed, 0, _LARGEST_SEED),
            ("folds", self.folds, 2, _MOST_FOLDS),
            ("scales", len(self.scales), 1, _MOST_SCALES),
        ):
            if not least <= value <= most:
                raise DetectorError(
                    expected=f"{name} from {least} to {most}", found=str(value), remedy="Use the default."
                )


@dataclass(frozen=True)
class Member:
    """One member of the ensemble: a global density, and a local one a scale."""

    part: PartDensity
    patches: tuple[PatchDensity, ...]


@dataclass(frozen=True)
class Features:
    """What the backbone makes of some parts.

    Attributes:
        statistics: ``(parts, features)`` pooled.
        patches: One ``(parts, rows, columns, channels)`` a scale.
    """

    statistics: Tensor
    patches: tuple[Tensor, ...]

    def __getitem__(self, index: Tensor | slice) -> Features:
        return Features(self.statistics[index], tuple(p[index] for p in self.patches))


@dataclass(frozen=True)
class RawEvidence:
    """Evidence of some parts before calibration, nats.

    Attributes:
        whole: ``(parts,)`` typicality of the pooled statistics.
        nll_whole: ``(parts,)``.
        local: ``(parts, scales)`` mean nll of the patches of highest nll.
        typicality_local: ``(parts, scales)`` mean typicality of the patches of highest typicality: the
            z-only statistic, kept beside the full density for comparison.
        extent: ``(parts, scales)`` typicality of the median cell of a coarse grid: how strange is most of
            the picture?
        maps: One ``(parts, rows, columns)`` typicality map a scale.
    """

    whole: NDArray[np.float64]
    nll_whole: NDArray[np.float64]
    local: NDArray[np.float64]
    typicality_local: NDArray[np.float64]
    extent: NDArray[np.float64]
    maps: tuple[NDArray[np.float32], ...]

    def is_finite(self, index: int) -> bool:
        """Whether everything that is known of one part is a finite number."""
        figures: list[NDArray[Any]] = [self.whole, self.nll_whole, self.local, self.typicality_local]
        figures += [self.extent, *self.maps]
        return all(bool(np.isfinite(f[index]).all()) for f in figures)


@dataclass(frozen=True)
class Calibration:
    """What the good parts showed, out of fold; everything a verdict rests on.

    Attributes:
        whole: ``(parts,)`` raw evidence, likewise ``local`` and ``extent`` ``(parts, scales)``.
        peaks: ``(parts,)`` largest value of each good part's heat map.
        map_mean, map_spread: ``(scales,)`` of a good patch's typicality.
        alpha_review, alpha_defect: Rates in force: the ones asked for, or the smallest that these parts
            can promise.
        scheme: ``cross-fitted`` or ``split``.
    """

    whole: NDArray[np.float64]
    local: NDArray[np.float64]
    extent: NDArray[np.float64]
    peaks: NDArray[np.float64]
    map_mean: NDArray[np.float64]
    map_spread: NDArray[np.float64]
    alpha_review: float
    alpha_defect: float
    scheme: str

    @property
    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Every array by its name."""
        names = ("whole", "local", "extent", "peaks", "map_mean", "map_spread")
        return {name: getattr(self, name) for name in names}

    @property
    def rates(self) -> tuple[float, float, str]:
        """The promised rates, and the scheme they rest on."""
        return self.alpha_review, self.alpha_defect, self.scheme


class Detector:
    """Tell good parts from defects and wrong inputs, having seen good parts only.

    Example:
        ``Detector(DetectorSettings()).fit(good).calibrate().inspect("part.png").record.verdict``

    Attributes:
        skipped: Files that fitting left out, with the reason.
        seconds: Time of each stage of fitting.
    """

    def __init__(self, settings: DetectorSettings | None = None) -> None:
        self.settings = settings or DetectorSettings()
        self.skipped: list[tuple[str, str]] = []
        self.seconds: dict[str, float] = {}
        self.backbone_: Backbone | None = None
        self.preprocessing_: Preprocessing | None = None
        self.members_: list[Member] = []
        self.calibration_: Calibration | None = None
        self.provenance_: dict[str, Any] = {}
        self._held_out: RawEvidence | None = None
        self._trained_on: frozenset[str] = frozenset()
        self._judge_: _Judge | None = None
        self._device = choose_device(self.settings.device)

    def fit(self, pictures: Sequence[Source], progress: Progress | None = None) -> Self:
        """Learn the densities of good parts.

        Args:
            pictures: Good parts. Files that cannot be read are left out and listed in ``skipped``.
            progress: Called with (stage, done, total).

        Raises:
            DetectorError: Fewer than four readable parts.
            WeightsError: The backbone has no verified weights here.
        """
        settings = self.settings
        weights = find_weights(settings.backbone, settings.weights, allow_download=settings.allow_download)
        self.backbone_ = Backbone(settings.backbone, weights).to(self._device)
        self.preprocessing_ = Preprocessing(settings.image_size, weights.mean, weights.std)
        self.members_, self.calibration_, self._judge_, self.skipped = [], None, None, []
        self._held_out, self._trained_on = None, frozenset()
        started = time.perf_counter()
        hashes: list[str] = []
        features = self._extract(pictures, "features", progress, hashes)
        self.seconds["features"] = time.perf_counter() - started
        parts, different = len(features.statistics), len(set(hashes))
        if different < _LEAST_PARTS:
            unread = f" ({len(self.skipped)} could not be read)" if self.skipped else ""
            raise DetectorError(
                expected=f"at least {_LEAST_PARTS} readable, different pictures of good parts",
                found=f"{different}{unread}",
                remedy="Give more pictures of good parts; twenty are a fair start, a hundred are good.",
            )
        started = time.perf_counter()
        folds = min(settings.folds, different)
        fold_of = _deal(hashes, folds, settings.seed)
        held: list[tuple[Tensor, RawEvidence]] = []
        members: list[Member] = []
        with _one_thread():
            for fold in range(folds):
                member = self._fit_member(features[fold_of != fold], fold, folds, progress)
                members.append(member)
                index = torch.nonzero(fold_of == fold)[:, 0]
                held.append((index, _evidence([member], features[index])))
        self.members_, self._held_out = members, _gather(held, parts)
        self._trained_on = frozenset(hashes)
        self.seconds["densities"] = time.perf_counter() - started
        self.provenance_ = {
            "backbone": {
                "name": settings.backbone,
                "origin": weights.origin,
                "sha256": weights.sha256,
                "licence": weights.licence,
            },
            "training_parts": parts,
            "training_fingerprint": hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest(),
            "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
        }
        return self

    def calibrate(self, pictures: Sequence[Source] | None = None, progress: Progress | None = None) -> Self:
        """Learn what is usual for good parts that were not trained on.

        Args:
            pictures: Further good parts, none of which was trained on; ``None`` uses the training parts,
                each judged by the member that has not seen it.
            progress: Called with (stage, done, total).

        Raises:
            DetectorError: Nothing was fitted, some parts were trained on, or the detector was loaded and no
                parts were given.
            CalibrationError: Too few parts.
        """
        if not self.members_:
            raise DetectorError(
                expected="a fitted detector", found="one without densities", remedy="Call fit first."
            )
        started = time.perf_counter()
        if pictures is not None:
            hashes: list[str] = []
            features = self._extract(pictures, "calibration", progress, hashes)
            known = sum(sha256 in self._trained_on for sha256 in hashes)
            if known:
                raise DetectorError(
                    expected="good parts that were not trained on",
                    found=f"{known} of {len(hashes)} pictures that were",
                    remedy="Hold parts out before fitting, or calibrate without parts (cross-fitting).",
                )
            evidence = _evidence(self.members_, features)
            scheme = "split"
        elif self._held_out is not None:
            evidence, scheme = self._held_out, "cross-fitted"
        else:
            raise DetectorError(
                expected="good parts to calibrate on",
                found="none: a loaded model keeps no training features",
                remedy="Give good parts that were not trained on.",
            )
        least = smallest_alpha(len(evidence.whole))
        mean = np.array([m.mean(dtype=np.float64) for m in evidence.maps])
        spread = np.array([max(float(m.std(dtype=np.float64)), 1e-9) for m in evidence.maps])
        heat = _heat(evidence.maps, mean, spread)
        calibration = Calibration(
            whole=evidence.whole,
            local=evidence.local,
            extent=evidence.extent,
            peaks=heat.reshape(len(heat), -1).max(1).astype(np.float64),
            map_mean=mean,
            map_spread=spread,
            alpha_review=max(self.settings.alpha_review, least),
            alpha_defect=max(self.settings.alpha_defect, least),
            scheme=scheme,
        )
        self._adopt(calibration)
        self.seconds["calibration"] = time.perf_counter() - started
        return self

    def inspect(self, picture: Source) -> Inspection:
        """Judge one picture. A picture that cannot be read is INVALID, with its reason."""
        return next(iter(self.inspect_many([picture])))

    def inspect_many(
        self, pictures: Iterable[Source], progress: Progress | None = None
    ) -> Iterator[Inspection]:
        """Judge pictures one after another, in their order, decoding ahead.

        Args:
            pictures: Files, decoded pictures or ``(height, width, 3)`` RGB arrays.
            progress: Called with ("inspect", done, total).
        """
        judge = self._judge()
        sources = list(pictures)
        done = 0
        for batch in self._decoded(sources):
            readable = [(source, p) for source, p in batch if isinstance(p, Picture)]
            started = time.perf_counter()
            judged: Iterator[Inspection] = iter(())
            if readable:
                features = self._features([p for _, p in readable])
                evidence = _evidence(self.members_, features)
                each = 1000 * (time.perf_counter() - started) / len(readable)
                judged = judge.judge_all(evidence, [p for _, p in readable], each)
            for source, picture in batch:
                yield next(judged) if isinstance(picture, Picture) else judge.refuse(source, picture)
                done += 1
                if progress is not None:
                    progress("inspect", done, len(sources))

    @property
    def thresholds(self) -> Thresholds:
        """The limits on strangeness that are in force."""
        return self._judge().thresholds

    @property
    def model_id(self) -> str:
        """Sixteen digits that name these densities."""
        digest = hashlib.sha256()
        for member in self.members_:
            for density in (member.part, *member.patches):
                for name, tensor in sorted(density.state_dict().items()):
                    digest.update(name.encode())
                    digest.update(tensor.contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        """Return what a report says of the model and its calibration, JSON-able."""
        judge = self._judge()
        calibration = judge.calibration
        parts = len(calibration.whole)
        return {
            **self.provenance_,
            "model_id": judge.model_id,
            "calibration_id": judge.calibration_id,
            "product": self.settings.product,
            "image_size": self.settings.image_size,
            "seed": self.settings.seed,
            "t_review": judge.thresholds.review,
            "t_defect": judge.thresholds.defect,
            "calibration": {
                "parts": parts,
                "alpha_review": calibration.alpha_review,
                "alpha_defect": calibration.alpha_defect,
                "smallest_alpha": smallest_alpha(parts),
                "interval_review": list(false_alarm_interval(parts, calibration.alpha_review)),
                "interval_defect": list(false_alarm_interval(parts, calibration.alpha_defect)),
                "scheme": calibration.scheme,
            },
            "couplings_kept": {
                "whole": sum(m.part.shape.couplings > 0 for m in self.members_),
                **{
                    scale.name: sum(m.patches[i].shape.couplings > 0 for m in self.members_)
                    for i, scale in enumerate(self.settings.scales)
                },
                "of": len(self.members_),
            },
        }

    def save(self, folder: Path) -> Path:
        """Write the model bundle; see `differnet.detection.bundle`."""
        from differnet.detection.bundle import save_bundle

        return save_bundle(self, Path(folder))

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Detector:
        """Read and self-test a model bundle.

        Raises:
            BundleError: It is damaged, tampered with, or does not reproduce its golden values.
        """
        from differnet.detection.bundle import load_bundle

        return load_bundle(Path(folder), device)

    def with_alphas(self, alpha_review: float, alpha_defect: float) -> Self:
        """Change the promised rates; thresholds follow from the same calibration parts.

        Raises:
            DetectorError: Not ``0 < alpha_defect <= alpha_review < 1``.
            CalibrationError: The calibration parts cannot carry that promise; the rates stay as they were.
        """
        settings = replace(self.settings, alpha_review=alpha_review, alpha_defect=alpha_defect)
        if self.calibration_ is not None:
            self._adopt(replace(self.calibration_, alpha_review=alpha_review, alpha_defect=alpha_defect))
        self.settings = settings
        return self

    def _adopt(self, calibration: Calibration) -> _Judge:
        """Take a calibration that can judge; one that cannot changes nothing."""
        judge = _Judge(calibration, self.settings, self.members_[0], self.model_id, str(self._device))
        self.calibration_, self._judge_ = calibration, judge
        return judge

    def _judge(self) -> _Judge:
        if self._judge_ is None:
            if self.calibration_ is None:
                raise DetectorError(
                    expected="a calibrated detector",
                    found="one without calibration" if self.members_ else "one that was not fitted",
                    remedy="Call fit, then calibrate.",
                )
            return self._adopt(self.calibration_)
        return self._judge_

    def _fit_member(self, features: Features, fold: int, folds: int, progress: Progress | None) -> Member:
        density, scales = self.settings.density, self.settings.scales
        seed = 1000 * self.settings.seed + 10 * fold
        total = folds * len(scales) * density.steps
        part = PartDensity.fit(features.statistics, density, seed)
        coordinates = part.leading(features.statistics)
        fitted: list[PatchDensity] = []
        for i, patches in enumerate(features.patches):
            before = (fold * len(scales) + i) * density.steps

            def told(step: int, _: int, before: int = before) -> None:
                if progress is not None:
                    progress("densities", before + step, total)

            fitted.append(PatchDensity.fit(patches, coordinates, density, seed + i + 1, told))
            told(density.steps, density.steps)
        return Member(part, tuple(fitted))

    def _extract(
        self, pictures: Sequence[Source], stage: str, progress: Progress | None, hashes: list[str]
    ) -> Features:
        gathered: list[Features] = []
        done = 0
        for batch in self._decoded(list(pictures)):
            readable: list[Picture] = []
            for source, picture in batch:
                if isinstance(picture, Picture):
                    readable.append(picture)
                    hashes.append(picture.sha256)
                else:
                    self.skipped.append((_name(source), str(picture)))
            if readable:
                gathered.append(self._features(readable))
            done += len(batch)
            if progress is not None:
                progress(stage, done, len(pictures))
        if not gathered:
            raise DetectorError(
                expected="pictures of good parts",
                found=f"{len(pictures)} files, none of which can be read",
                remedy=self.skipped[0][1] if self.skipped else "Check the folder.",
            )
        statistics = torch.cat([g.statistics for g in gathered])
        scales = range(len(self.settings.scales))
        return Features(statistics, tuple(torch.cat([g.patches[i] for g in gathered]) for i in scales))

    def _features(self, pictures: list[Picture]) -> Features:
        if self.backbone_ is None or self.preprocessing_ is None:
            raise DetectorError(
                expected="a fitted detector", found="one without a backbone", remedy="Call fit first."
            )
        maps = self.backbone_(prepare_batch(pictures, self.preprocessing_).to(self._device))
        strides = self.backbone_.strides
        return Features(
            pooled_statistics(maps).cpu().clone(),
            tuple(patch_vectors(maps, strides, s).cpu().clone() for s in self.settings.scales),
        )

    def _decoded(self, sources: list[Source]) -> Iterator[list[tuple[Source, Picture | ImageError]]]:
        def decode(source: Source) -> tuple[Source, Picture | ImageError]:
            try:
                return source, _as_picture(source, self.settings.reading)
            except ImageError as error:
                return source, error

        starts = range(0, len(sources), _BATCH)
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            # One batch is decoded while the one before it is in the network.
            waiting = [pool.submit(decode, s) for s in sources[:_BATCH]]
            for start in starts:
                current = waiting
                following = sources[start + _BATCH : start + 2 * _BATCH]
                waiting = [pool.submit(decode, s) for s in following]
                yield [future.result() for future in current]


class _Judge:
    """Turn raw evidence into inspections by one calibration."""

    def __init__(
        self,
        calibration: Calibration,
        settings: DetectorSettings,
        member: Member,
        model_id: str,
        device: str,
    ) -> None:
        self.dimensions = [member.part.shape.features, *(p.shape.features for p in member.patches)]
        self.calibration = calibration
        self.settings = settings
        self.model_id = model_id
        self.device = device
        scales = range(calibration.local.shape[1])
        self.whole = TailScale.fit(calibration.whole)
        self.local = [TailScale.fit(calibration.local[:, i]) for i in scales]
        self.extent = [TailScale.fit(calibration.extent[:, i]) for i in scales]
        self.bland = [TailScale.fit(-calibration.extent[:, i]) for i in scales]
        self.good = _combined(
            held_out_strangeness(calibration.whole),
            [held_out_strangeness(calibration.local[:, i]) for i in scales],
            [held_out_strangeness(calibration.extent[:, i]) for i in scales],
            [held_out_strangeness(-calibration.extent[:, i]) for i in scales],
        )
        self.good_total = np.maximum(self.good["whole"], self.good["local"])
        self.thresholds = Thresholds(
            review=threshold(self.good_total, calibration.alpha_review),
            defect=threshold(self.good_total, calibration.alpha_defect),
        )
        self.region_threshold = threshold(calibration.peaks, calibration.alpha_review)
        digest = hashlib.sha256(repr(calibration.rates).encode())
        for figures in calibration.arrays.values():
            digest.update(np.ascontiguousarray(figures, dtype=np.float64).tobytes())
        self.calibration_id = digest.hexdigest()[:16]

    def _strangeness(
        self, whole: NDArray[np.float64], local: NDArray[np.float64], extent: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        scales = range(local.shape[1])
        return _combined(
            self.whole.strangeness(whole),
            [self.local[i].strangeness(local[:, i]) for i in scales],
            [self.extent[i].strangeness(extent[:, i]) for i in scales],
            [self.bland[i].strangeness(-extent[:, i]) for i in scales],
        )

    def judge_all(
        self, raw: RawEvidence, pictures: Sequence[Picture], milliseconds: float
    ) -> Iterator[Inspection]:
        # One at a time: a heat map is as large as its picture.
        for index, picture in enumerate(pictures):
            yield self.judge(raw, index, picture, milliseconds)

    def judge(self, raw: RawEvidence, index: int, picture: Picture, milliseconds: float) -> Inspection:
        one = slice(index, index + 1)
        strange = self._strangeness(raw.whole[one], raw.local[one], raw.extent[one])
        figures = {name: float(values[0]) for name, values in strange.items()}
        if not raw.is_finite(index):
            # Minus infinity would look like the most usual part of all.
            figures = dict.fromkeys(figures, math.nan)
        total = float(np.maximum(figures["whole"], figures["local"]))
        evidence = CalibratedEvidence(
            whole=figures["whole"],
            local=figures["local"],
            spread=figures["spread"],
            blandness=figures["bland"],
            p_value=_p(self.good_total, total),
            p_value_whole=_p(self.good["whole"], figures["whole"]),
            p_value_local=_p(self.good["local"], figures["local"]),
            p_value_spread=_p(self.good["spread"], figures["spread"]),
            quality_flags=quality_flags(measure_quality(picture.pixels)),
        )
        verdict, reasons = decide(evidence, self.thresholds)
        if verdict is Verdict.INVALID:
            return Inspection(self._record(picture, verdict, reasons, inference_ms=milliseconds))
        maps = tuple(m[one] for m in raw.maps)
        heat = _heat(maps, self.calibration.map_mean, self.calibration.map_spread)[0]
        heat = cv2.resize(heat, (picture.width, picture.height), interpolation=cv2.INTER_LINEAR)
        regions = strange_regions(heat, self.region_threshold, self.calibration.peaks)
        strongest = int(np.argmax([s.strangeness(raw.local[index, i]) for i, s in enumerate(self.local)]))
        record = self._record(
            picture,
            verdict,
            reasons,
            nll_global=float(raw.nll_whole[index]),
            nll_local=float(raw.local[index, strongest]),
            typicality_local=float(raw.typicality_local[index, strongest]),
            bits_per_dim_global=float(raw.nll_whole[index]) / (math.log(2) * self.dimensions[0]),
            bits_per_dim_local=float(raw.local[index, strongest])
            / (math.log(2) * self.dimensions[1 + strongest]),
            strangeness=total,
            p_value=evidence.p_value,
            p_value_global=evidence.p_value_whole,
            p_value_local=evidence.p_value_local,
            p_value_ood=evidence.p_value_spread,
            regions=regions,
            quality_flags=evidence.quality_flags,
            inference_ms=milliseconds,
        )
        return Inspection(record, heat)

    def refuse(self, source: Source, error: Picture | ImageError) -> Inspection:
        path = _name(source)
        known = _file_hash(source, self.settings.reading.max_file_bytes)
        digest = known or hashlib.sha256(path.encode()).hexdigest()
        record = Record(
            run_id="",
            item_id=digest[:16],
            part_id=Path(path).stem,
            view_id="",
            path=path,
            sha256=known,
            verdict=Verdict.INVALID,
            reasons=(str(error),),
            processed_at=_now(),
            t_review=self.thresholds.review,
            t_defect=self.thresholds.defect,
            model_id=self.model_id,
            calibration_id=self.calibration_id,
            device=self.device,
        )
        return Inspection(record)

    def _record(self, picture: Picture, verdict: Verdict, reasons: tuple[str, ...], **figures: Any) -> Record:
        path = "" if picture.path is None else str(picture.path)
        return Record(
            run_id="",
            item_id=picture.sha256[:16],
            part_id=Path(path).stem or picture.sha256[:16],
            view_id="",
            path=path,
            sha256=picture.sha256,
            verdict=verdict,
            reasons=reasons,
            captured_at=picture.captured_at,
            processed_at=_now(),
            t_review=self.thresholds.review,
            t_defect=self.thresholds.defect,
            model_id=self.model_id,
            calibration_id=self.calibration_id,
            device=self.device,
            decode_ms=picture.decode_ms,
            width=picture.width,
            height=picture.height,
            bit_depth=picture.bit_depth,
            **figures,
        )


def _combined(
    whole: NDArray[np.float64],
    local: Sequence[NDArray[np.float64]],
    extent: Sequence[NDArray[np.float64]],
    bland: Sequence[NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """Combine the strangeness at every scale, each ``(parts,)``."""
    return {
        "whole": whole,
        "local": np.max(local, axis=0),
        # A wrong input is strange at every scale; a large defect may fill the coarse one.
        "spread": np.min(extent, axis=0),
        "bland": np.max(bland, axis=0),
    }


def _deal(hashes: Sequence[str], folds: int, seed: int) -> Tensor:
    """Deal parts into folds, ``(parts,)`` whole numbers.

    The same picture twice goes into one fold: a member that learned from one copy has seen the other.
    """
    different = list(dict.fromkeys(hashes))
    order = torch.randperm(len(different), generator=torch.Generator().manual_seed(seed)).tolist()
    fold_of = {different[part]: place % folds for place, part in enumerate(order)}
    return torch.tensor([fold_of[sha256] for sha256 in hashes])


def _evidence(members: Sequence[Member], features: Features) -> RawEvidence:
    """Average the members' evidence; with one member, its own."""
    with _one_thread():
        gathered = [_member_evidence(member, features) for member in members]

    def mean(name: str) -> NDArray[np.float64]:
        return np.asarray(np.mean([getattr(g, name) for g in gathered], axis=0), dtype=np.float64)

    scales = range(len(features.patches))
    return RawEvidence(
        whole=mean("whole"),
        nll_whole=mean("nll_whole"),
        local=mean("local"),
        typicality_local=mean("typicality_local"),
        extent=mean("extent"),
        maps=tuple(np.mean([g.maps[i] for g in gathered], axis=0, dtype=np.float32) for i in scales),
    )


@torch.inference_mode()
def _member_evidence(member: Member, features: Features) -> RawEvidence:
    chunks: list[RawEvidence] = []
    for start in range(0, len(features.statistics), 4 * _BATCH):
        some = features[slice(start, start + 4 * _BATCH)]
        whole = member.part.flow.evidence(some.statistics)
        coordinates = member.part.leading(some.statistics)
        local, typicality_local, extent, maps = [], [], [], []
        for density, patches in zip(member.patches, some.patches, strict=True):
            nll, typicality = density.evidence(patches, coordinates)
            count = max(1, round(_STRANGEST_SHARE * nll[0].numel()))
            local.append(nll.flatten(1).topk(count, dim=1).values.mean(1))
            typicality_local.append(typicality.flatten(1).topk(count, dim=1).values.mean(1))
            cells = functional.adaptive_avg_pool2d(typicality[:, None], _EXTENT_CELLS).flatten(1)
            extent.append(cells.quantile(0.5, dim=1))
            maps.append(typicality.numpy().astype(np.float32))
        chunks.append(
            RawEvidence(
                whole=whole.typicality.double().numpy(),
                nll_whole=whole.nll.double().numpy(),
                local=torch.stack(local, 1).double().numpy(),
                typicality_local=torch.stack(typicality_local, 1).double().numpy(),
                extent=torch.stack(extent, 1).double().numpy(),
                maps=tuple(maps),
            )
        )
    return _joined(chunks)


def _joined(chunks: Sequence[RawEvidence]) -> RawEvidence:
    return RawEvidence(
        whole=np.concatenate([c.whole for c in chunks]),
        nll_whole=np.concatenate([c.nll_whole for c in chunks]),
        local=np.concatenate([c.local for c in chunks]),
        typicality_local=np.concatenate([c.typicality_local for c in chunks]),
        extent=np.concatenate([c.extent for c in chunks]),
        maps=tuple(np.concatenate(maps) for maps in zip(*(c.maps for c in chunks), strict=True)),
    )


def _gather(held: Sequence[tuple[Tensor, RawEvidence]], parts: int) -> RawEvidence:
    """Put out-of-fold evidence back into the order of the parts."""
    joined = _joined([evidence for _, evidence in held])
    back = np.empty(parts, dtype=np.int64)
    back[torch.cat([index for index, _ in held]).numpy()] = np.arange(parts)
    return RawEvidence(
        whole=joined.whole[back],
        nll_whole=joined.nll_whole[back],
        local=joined.local[back],
        typicality_local=joined.typicality_local[back],
        extent=joined.extent[back],
        maps=tuple(m[back] for m in joined.maps),
    )


def _heat(
    maps: Sequence[NDArray[np.float32]], mean: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Average the scales' maps on the finest grid, in standard deviations of a good patch.

    ``maps`` holds one ``(parts, rows, columns)`` a scale, ``mean`` and ``spread`` are ``(scales,)``.
    """
    rows = max(m.shape[1] for m in maps)
    columns = max(m.shape[2] for m in maps)
    total = np.zeros((len(maps[0]), rows, columns), dtype=np.float32)
    for scale, typicality in enumerate(maps):
        standard = ((typicality - mean[scale]) / spread[scale]).astype(np.float32)
        for part, one in enumerate(standard):
            total[part] += cv2.resize(one, (columns, rows), interpolation=cv2.INTER_LINEAR)
    total /= len(maps)
    return total


def _p(good: NDArray[np.float64], strangeness: float) -> float:
    return float(p_values(good, [strangeness])[0])


def _check_alphas(alpha_review: float, alpha_defect: float) -> None:
    if not 0 < alpha_defect <= alpha_review < 1:
        raise DetectorError(
            expected="0 < alpha_defect <= alpha_review < 1",
            found=f"alpha_defect {alpha_defect}, alpha_review {alpha_review}",
            remedy="Usual are 0.01 and 0.05: what is called a defect would be reviewed too.",
        )


def _as_picture(source: Source, rule: ReadingRule) -> Picture:
    if isinstance(source, Path | str):
        return read_image(Path(source), rule)
    pixels = source.pixels if isinstance(source, Picture) else np.ascontiguousarray(source)
    colour = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size > 0
    if not colour or pixels.dtype not in (np.uint8, np.uint16):
        raise DetectorError(
            expected="(height, width, 3) RGB pixels of uint8 or uint16, at least one",
            found=f"shape {pixels.shape} of {pixels.dtype}",
            remedy="Convert the array, or give a file.",
        )
    if isinstance(source, Picture):
        return source
    depth = 8 * pixels.dtype.itemsize
    return Picture(pixels, None, hashlib.sha256(pixels.tobytes()).hexdigest(), bit_depth=depth)


def _file_hash(source: Source, most_bytes: int) -> str:
    """Return the sha256 of a file that could not be decoded, empty when not even its bytes can be read."""
    if not isinstance(source, Path | str):
        return ""
    path = Path(source)
    try:
        readable = path.is_file() and path.stat().st_size <= most_bytes
        return sha256_of(path) if readable else ""
    except OSError:
        return ""


def _name(source: Source) -> str:
    if isinstance(source, Picture):
        return str(source.path or source.sha256)
    return str(source) if isinstance(source, Path | str) else "pixels in memory"


def _versions() -> dict[str, str]:
    names = ("differnet", "torch", "timm", "numpy", "opencv-python-headless", "pillow")
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # The desktop build of OpenCV serves as well as the headless one.
            found[name] = "not installed under this name"
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute densities on one thread.

    Their matrices are small, and handing them round costs more than it saves: four times as long was
    seen on two busy cores. It also makes training repeat bit for bit on other numbers of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
