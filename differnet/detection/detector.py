"""The detector: fit on good parts, calibrate on good parts it has not seen, inspect."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from differnet.calibration import BatchDrift, Thresholds, smallest_alpha, suspects
from differnet.detection.densities import DensitySettings, Losses, TrainingLoss, left_out_evidence
from differnet.detection.ensemble import (
    Ensemble,
    Features,
    Member,
    RawEvidence,
    deal,
    held_out,
    one_thread,
    plain_local,
)
from differnet.detection.ignoring import IgnoreMask
from differnet.detection.judging import (
    Calibration,
    DriftFigures,
    Identity,
    Judge,
    SpoiltParts,
    picture_quality,
)
from differnet.detection.references import References, spread_out, thumbnail_of
from differnet.detection.settings import DetectorError, DetectorSettings
from differnet.detection.spoiling import broken_parts, reduced, wrong_inputs
from differnet.detection.statistics import patch_vectors, pooled_statistics
from differnet.detection.usual import QUALITY_FIGURES
from differnet.detection.variations import fold_names, strength_for, variations_for, vary
from differnet.features import (
    Backbone,
    Preprocessing,
    choose_device,
    find_weights,
    prepare_batch,
    tiled_maps,
)
from differnet.images.decoders import Refused
from differnet.images.reading import ImageError, ReadingRule, file_hash, read_image
from differnet.records import Inspection, Picture

Source = Path | str | Picture | Refused | NDArray[Any]
Progress = Callable[[str, int, int], None]

_BATCH = 16
# Of pictures that go through the network together: a batch at 512 x 512. Larger ones go in smaller groups.
_PIXELS_A_PASS = _BATCH * 512 * 512
# With fewer good parts there is nothing to hold out, and variations of them stand in for calibration too.
_LEAST_PARTS = 4
# Good parts that are spoilt to learn what tells defects from wrong inputs, 23 pictures each; fewer are
# taken several times, with other defects.
_SPOILT_PARTS, _LEAST_SPOILT_PARTS = 16, 8
# Looks at the training parts: more find hardly one further part.
_LOOKS = 3


@dataclass
class Seen:
    """What is known of pictures beside their features, one entry a readable picture."""

    hashes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    quality: list[list[float]] = field(default_factory=list)

    @property
    def figures(self) -> NDArray[np.float64]:
        """``(pictures, 4)`` quality figures."""
        return np.array(self.quality, dtype=np.float64).reshape(-1, len(QUALITY_FIGURES))


class Detector:
    """Tell good parts from defects and wrong inputs, having seen good parts only.

    Example:
        ``Detector(DetectorSettings()).fit(good).calibrate().inspect("part.png").record.verdict``

    Attributes:
        skipped: Files that fitting left out, with the reason.
        suspects: Pictures that fitting left out because they are probably not good.
        seconds: Time of each stage of fitting.
    """

    def __init__(self, settings: DetectorSettings | None = None) -> None:
        self.settings = settings or DetectorSettings()
        self.skipped: list[tuple[str, str]] = []
        self.suspects: list[str] = []
        self.seconds: dict[str, float] = {}
        self.backbone_: Backbone | None = None
        self.preprocessing_: tuple[Preprocessing, ...] = ()
        self.ensemble_: Ensemble | None = None
        self.ignored_: IgnoreMask | None = None
        self.calibration_: Calibration | None = None
        self.references_: References | None = None
        self.provenance_: dict[str, Any] = {}
        self._held_out: RawEvidence | None = None
        self._held_quality: NDArray[np.float64] | None = None
        self._spoilt: SpoiltParts | None = None
        self._varied: int | None = None
        # sha256 of every training part, sorted; a picture that was given twice stands here twice.
        self._trained_on: tuple[str, ...] = ()
        self._judge_: Judge | None = None
        self._device = choose_device(self.settings.device)

    def fit(
        self,
        pictures: Sequence[Source],
        progress: Progress | None = None,
        losses: Losses | None = None,
    ) -> Self:
        """Learn the densities of good parts.

        Fewer than 32 different parts are joined by variations of themselves, see
        `differnet.detection.variations`. From four parts on those are only learned from; with one, two or
        three they are calibrated on as well, and nothing is promised, see `calibrate`.

        Args:
            pictures: Good parts. Files that cannot be read are left out and listed in ``skipped``; parts
                that stand out so far that they are probably not good in ``suspects``.
            progress: Called with (stage, done, total).
            losses: Told how the training of each density goes. The model is the same, told or not.

        Raises:
            DetectorError: No readable part, or an unfit mask of what to ignore.
            WeightsError: The backbone has no verified weights here.
        """
        settings = self.settings
        ignore = settings.ignore
        ignored = None if ignore is None else IgnoreMask.read(Path(ignore), settings.sizes, settings.reading)
        weights = find_weights(settings.backbone, settings.weights, allow_download=settings.allow_download)
        self.backbone_ = Backbone(settings.backbone, weights).to(self._device)
        self.preprocessing_ = tuple(Preprocessing(s, weights.mean, weights.std) for s in settings.sizes)
        self.ensemble_, self.calibration_, self._judge_, self.skipped = None, None, None, []
        self.references_ = None
        self._held_out, self._varied, self._trained_on, self.suspects = None, None, (), []
        self._spoilt, self._held_quality = None, None
        self.ignored_ = ignored
        started = time.perf_counter()
        seen = Seen()
        features = self._extract(pictures, "features", progress, seen)
        hashes, names, sources, quality = seen.hashes, seen.names, seen.sources, seen.figures
        dealt, each = hashes, 1 + variations_for(len(set(hashes)))
        if each > 1:
            features, dealt, quality = self._join_variations(pictures, progress)
            sources = [sources[hashes.index(sha256)] for sha256 in dict.fromkeys(hashes)]
            hashes = list(dict.fromkeys(hashes))
            self._varied = len(hashes) if len(hashes) < _LEAST_PARTS else None
        self.seconds["features"] = time.perf_counter() - started
        started = time.perf_counter()
        if each == 1 and not settings.keep_suspects:
            doubtful = self._suspected(features, hashes)
            kept = np.flatnonzero(~doubtful)
            # The strangest of very few are all there is to learn from.
            if len({hashes[i] for i in kept}) >= _LEAST_PARTS:
                self.suspects = [names[i] for i in np.flatnonzero(doubtful)]
                features, hashes = features[torch.from_numpy(kept)], [hashes[i] for i in kept]
                dealt, sources, quality = hashes, [sources[i] for i in kept], quality[kept]
        different = len(set(hashes))
        members, held = self._cross_fit(features, dealt, different, settings.density, progress, losses)
        with one_thread():
            complete = self._fit_member(
                features, settings.density, len(members), len(members), progress, different, losses
            )
        self.ensemble_ = Ensemble(members, complete)
        held = replace(held, kinds=self.ensemble_.kinds(features))
        # A promise rests on parts alone: variations of a part are not exchangeable with other parts.
        rows = slice(None) if self._varied is not None else slice(None, None, each)
        self._held_out, self._held_quality = held[rows], quality[rows]
        self._spoilt = self._spoil(sources, dealt, each, progress)
        self._trained_on = tuple(sorted(hashes))
        self.seconds["densities"] = time.perf_counter() - started
        started = time.perf_counter()
        parts = features.statistics[0][slice(None, None, each)]
        self.references_ = self._keep_references(parts, sources, hashes)
        self.seconds["references"] = time.perf_counter() - started
        self.provenance_ = {
            "backbone": {
                "name": settings.backbone,
                "origin": weights.origin,
                "sha256": weights.sha256,
                "licence": weights.licence,
            },
            "training_parts": len(hashes),
            "variations": len(features) - len(hashes),
            "suspects_left_out": len(self.suspects),
            "training_fingerprint": fingerprint(self._trained_on),
            "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
        }
        return self

    def calibrate(self, pictures: Sequence[Source] | None = None, progress: Progress | None = None) -> Self:
        """Learn what is usual for good parts that were not trained on.

        Args:
            pictures: Further good parts, none of which was trained on; ``None`` uses the training parts,
                each judged by the member that has not seen it. Of fewer than four training parts it uses
                their variations as well, and the scheme is then ``variations``: thresholds are provisional,
                nothing is promised, and `facts` says ``promised: False``.
            progress: Called with (stage, done, total).

        Raises:
            DetectorError: Nothing was fitted, some parts were trained on, or the detector was loaded and no
                parts were given.
            CalibrationError: Too few parts.
        """
        ensemble = self._fitted()
        started = time.perf_counter()
        if pictures is not None:
            seen = Seen()
            features = self._extract(pictures, "calibration", progress, seen)
            known = sum(sha256 in self.trained_on for sha256 in seen.hashes)
            if known:
                raise DetectorError(
                    expected="good parts that were not trained on",
                    found=f"{known} of {len(seen.hashes)} pictures that were",
                    remedy="Hold parts out before fitting, or calibrate without parts (cross-fitting).",
                )
            evidence = ensemble.evidence(features)
            quality: NDArray[np.float64] | None = seen.figures
            scheme = "split"
        elif self._held_out is not None:
            evidence, quality = self._held_out, self._held_quality
            scheme = "cross-fitted" if self._varied is None else "variations"
        else:
            raise DetectorError(
                expected="good parts to calibrate on",
                found="none: a loaded model keeps no training features",
                remedy="Give good parts that were not trained on.",
            )
        chosen = self.settings
        origin = self._spoilt or (None if self.calibration_ is None else self.calibration_.origin)
        if origin is None:
            raise DetectorError(
                expected="a boundary between defects and wrong inputs",
                found="none: the detector was neither fitted nor loaded",
                remedy="Call fit first.",
            )
        calibration = Calibration.of(
            evidence,
            chosen.alpha_review,
            chosen.alpha_defect,
            scheme,
            origin,
            self.ignored_,
            self._varied if scheme == "variations" else None,
            quality,
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
            pictures: Files, decoded pictures, files that were refused elsewhere, or RGB arrays of shape
                ``(height, width, 3)``.
            progress: Called with ("inspect", done, total).
        """
        judge, ensemble = self._judge(), self._fitted()
        sources = list(pictures)
        done = 0
        for batch in self._decoded(sources):
            readable = [(source, p) for source, p in batch if isinstance(p, Picture)]
            started = time.perf_counter()
            judged: Iterator[Inspection] = iter(())
            if readable:
                features = self._features([p for _, p in readable])
                evidence = ensemble.evidence(features)
                each = 1000 * (time.perf_counter() - started) / len(readable)
                judged = judge.judge_all(evidence, [p for _, p in readable], each)
            for source, picture in batch:
                yield next(judged) if isinstance(picture, Picture) else self._refuse(judge, source, picture)
                done += 1
                if progress is not None:
                    progress("inspect", done, len(sources))

    def drift(
        self, pictures: Sequence[Source], alpha: float = 0.01, progress: Progress | None = None
    ) -> BatchDrift:
        """Test whether a batch is still what the model was calibrated on, at a false-alarm rate.

        Compared are how the pictures look and the raw evidence. With calibration parts of their own (scheme
        ``split``) the rate is exact. Cross-fitted ones were judged by members that had seen fewer parts than
        judge the batch: it is a close approximation then, and strangest patches are not compared, see
        `Calibration.drift_figures`. Defects in the batch count as a change.

        Args:
            pictures: A batch of parts. Files that cannot be read are left out and listed in ``skipped``.
            alpha: Chance of an alarm though nothing changed.
            progress: Called with ("drift", done, total).

        Raises:
            DetectorError: Nothing can be read, or the model was calibrated on variations of very few parts.
            CalibrationError: The parts are too few for ``alpha``.
        """
        return self.drift_figures(pictures, progress).test(alpha)

    def drift_figures(self, pictures: Sequence[Source], progress: Progress | None = None) -> DriftFigures:
        """Measure a batch as `drift` compares it, to look at its figures part by part.

        Args:
            pictures: A batch of parts. Files that cannot be read are left out and listed in ``skipped``.
            progress: Called with ("drift", done, total).

        Raises:
            DetectorError: Nothing can be read, or the model was calibrated on variations of very few parts.
        """
        calibration = self._judge().calibration
        if not calibration.promised:
            raise DetectorError(
                expected="a model that was calibrated on good parts",
                found=f"one of variations of {calibration.parts}, which no batch resembles",
                remedy="Calibrate it on further good parts: differnet calibrate MODEL GOOD.",
            )
        self.skipped = []
        seen = Seen()
        features = self._extract(pictures, "drift", progress, seen)
        return calibration.drift_figures(self._fitted().evidence(features), seen.figures, seen.names)

    @property
    def trained_on(self) -> frozenset[str]:
        """sha256 of every training part."""
        return frozenset(self._trained_on)

    @property
    def good_strangeness(self) -> NDArray[np.float64]:
        """``(parts,)`` strangeness of the calibration parts, each left out of what is usual."""
        return self._judge().good["total"].copy()

    @property
    def thresholds(self) -> Thresholds:
        """The limits on strangeness that are in force."""
        return self._judge().thresholds

    @property
    def threshold_revision(self) -> int:
        """Number of the thresholds in force; 0 for the calibration's own."""
        return self._judge().revision

    def adopt_thresholds(self, review: float, defect: float, revision: int) -> Self:
        """Put thresholds in force that a person set, until the next calibration or change of rates.

        They are not part of the model: who keeps them are `differnet.calibration.Revisions`. Regions and
        p-values stay as they are.

        Args:
            review: Strangeness from which a person looks.
            defect: Strangeness from which a part is rejected.
            revision: Number that records carry, from 1.

        Raises:
            DetectorError: Not ``0 <= review <= defect``, or one is not finite; nothing is changed then.
        """
        self._judge().adopt(review, defect, revision)
        return self

    @property
    def model_id(self) -> str:
        """Sixteen digits that name these densities."""
        digest = hashlib.sha256()
        for prefix, density in sorted(self._fitted().judging, key=lambda named: named[0]):
            for name, tensor in sorted(density.state_dict().items()):
                digest.update(f"{prefix}.{name}".encode())
                digest.update(tensor.contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        """Return what a report says of the model and its calibration, JSON-able.

        ``calibration["parts"]`` counts different parts, never variations of them. Without a promise
        (``promised`` is False) the rates are shares of variations, and the intervals are 0 to 1. Rates and
        intervals are those of the thresholds in force, see `Judge.rates`.
        """
        judge = self._judge()
        calibration = judge.calibration
        rates, intervals = judge.rates, [list(interval) for interval in judge.intervals]
        return {
            **self.provenance_,
            "model_id": judge.identity.model_id,
            "calibration_id": judge.calibration_id,
            "product": self.settings.product,
            "image_size": self.settings.image_size,
            "ignored": 0.0 if self.ignored_ is None else self.ignored_.share,
            "seed": self.settings.seed,
            "t_review": judge.thresholds.review,
            "t_defect": judge.thresholds.defect,
            "threshold_revision": judge.revision,
            "calibration": {
                "parts": calibration.parts,
                "alpha_review": rates[0],
                "alpha_defect": rates[1],
                "smallest_alpha": smallest_alpha(calibration.parts),
                "interval_review": intervals[0],
                "interval_defect": intervals[1],
                "scheme": calibration.scheme,
                "promised": calibration.promised,
            },
            "couplings_kept": self._couplings_kept(),
        }

    def _couplings_kept(self) -> dict[str, int]:
        ensemble = self._fitted()
        wholes = [w for m in ensemble.members for w in m.wholes]
        kept = {"whole": sum(w.shape.couplings > 0 for w in wholes), "of": len(wholes)}
        local = zip(self.settings.scales, ensemble.complete.patches, strict=True)
        return kept | {scale.name: int(density.shape.couplings > 0) for scale, density in local}

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

    def _adopt(self, calibration: Calibration) -> Judge:
        """Take a calibration that can judge; one that cannot changes nothing."""
        complete = self._fitted().complete
        dimensions = (complete.wholes[0].shape.features, *(p.shape.features for p in complete.patches))
        identity = Identity(
            self.model_id, str(self._device), self.settings.product, dimensions, self.trained_on
        )
        judge = Judge(calibration, identity)
        self.calibration_, self._judge_ = calibration, judge
        return judge

    def _judge(self) -> Judge:
        if self._judge_ is None:
            if self.calibration_ is None:
                raise DetectorError(
                    expected="a calibrated detector",
                    found="one that was not fitted" if self.ensemble_ is None else "one without calibration",
                    remedy="Call fit, then calibrate.",
                )
            return self._adopt(self.calibration_)
        return self._judge_

    def _fitted(self) -> Ensemble:
        if self.ensemble_ is None:
            raise DetectorError(
                expected="a fitted detector", found="one without densities", remedy="Call fit first."
            )
        return self.ensemble_

    def _join_variations(
        self, pictures: Sequence[Source], progress: Progress | None
    ) -> tuple[Features, list[str], NDArray[np.float64]]:
        """Return features of each part and its variations, names to deal into folds by, and quality."""
        different: dict[str, Picture] = {}
        for batch in self._decoded(list(pictures)):
            for _, picture in batch:
                if isinstance(picture, Picture):
                    different.setdefault(picture.sha256, picture)
        each = 1 + variations_for(len(different))
        strength = strength_for(len(different))
        side, ignored = max(self.settings.sizes), self.ignored_
        gathered: list[Features] = []
        seen = Seen()
        for done, part in enumerate(different.values()):
            if ignored is not None:
                # Else contrast and blur would carry something of what is ignored into the rest.
                part = replace(part, pixels=ignored.paint(part.pixels, self.preprocessing_[0].mean))
            for start in range(0, each, _BATCH):
                numbers = range(start, min(start + _BATCH, each))
                some = [
                    vary(part, i, self.settings.seed, side, strength, move=ignored is None) for i in numbers
                ]
                gathered.append(self._features(some))
                seen.quality += [self._quality(picture) for picture in some]
                if progress is not None:
                    progress("variations", done * each + numbers.stop, len(different) * each)
        return Features.joined(gathered), fold_names(list(different), each), seen.figures

    def _suspected(self, features: Features, hashes: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which parts stand out, ``(parts,)``; copies of a picture share its lot.

        By Gaussians, which take seconds instead of minutes: of the pooled statistics, each part left out of
        its own in closed form, and of all parts' coarsest patches, of which one part is too small a share to
        matter.
        What is left is looked at again, because defects of a kind hide one another.
        """
        first = {sha256: i for i, sha256 in reversed(list(enumerate(hashes)))}
        kept = np.array(sorted(first.values()))
        for _ in range(_LOOKS):
            if len(kept) < _LEAST_PARTS:
                break
            left = torch.from_numpy(kept)
            some = features[left]
            wholes = np.hstack([left_out_evidence(s) for s in some.statistics])
            found = suspects(wholes, plain_local(some, self.settings.density))
            kept = kept[~found]
            if not found.any():
                break
        trusted = {hashes[i] for i in kept}
        return np.array([sha256 not in trusted for sha256 in hashes])

    def _cross_fit(
        self,
        features: Features,
        names: Sequence[str],
        different: int,
        density: DensitySettings,
        progress: Progress | None,
        losses: Losses | None,
    ) -> tuple[tuple[Member, ...], RawEvidence]:
        """Fit the members, and judge every picture by the one that has missed it.

        Pictures of a name go into one fold; ``different`` parts are on them.
        """
        folds = min(self.settings.folds, len(set(names)))
        fold_of = deal(names, folds, self.settings.seed)
        members: list[Member] = []
        held: list[RawEvidence] = []
        with one_thread():
            for fold in range(folds):
                seen = fold_of != fold
                # Of one part its pictures are dealt, of several the parts.
                given = min(different, len({name for name, of in zip(names, seen, strict=True) if of}))
                member = self._fit_member(features[seen], density, fold, folds, progress, given, losses)
                members.append(member)
                held.append(held_out(members[-1], features[fold_of == fold]))
        index = torch.cat([torch.nonzero(fold_of == fold)[:, 0] for fold in range(folds)])
        return tuple(members), RawEvidence.joined(held)[np.argsort(index.numpy())]

    def _fit_member(
        self,
        features: Features,
        density: DensitySettings,
        number: int,
        folds: int,
        progress: Progress | None,
        different: int,
        losses: Losses | None,
    ) -> Member:
        def told(done: int, of: int) -> None:
            if progress is not None:
                progress("densities", number * of + done, (folds + 1) * of)

        def named(loss: TrainingLoss) -> None:
            if losses is not None:
                member = "all parts" if number == folds else f"without fold {number + 1} of {folds}"
                losses(replace(loss, member=member, density=self._in_words(loss.density)))

        seed = 1000 * self.settings.seed + 10 * number
        return Member.fit(features, density, seed, told, different, None if losses is None else named)

    def _in_words(self, density: str) -> str:
        """Say what a density is of, by its name in a model."""
        if density.startswith("patches"):
            return f"{self.settings.scales[int(density.removeprefix('patches'))].name} patches"
        zoom = int(density.removeprefix("whole"))
        return "whole part" if zoom == 0 else f"whole part, look {zoom + 1}"

    def _spoil(
        self, sources: Sequence[Source], dealt: Sequence[str], each: int, progress: Progress | None
    ) -> SpoiltParts:
        """Spoil some good parts in every way, and judge them by the members that have missed these parts.

        Args:
            sources: Of the parts.
            dealt: By which name every picture was dealt into folds, variations included.
            each: Pictures of a part, itself first.
            progress: Called with ("boundary", done, total).
        """
        ensemble, seed = self._fitted(), self.settings.seed
        fold_by_name = dict(zip(dealt, deal(dealt, len(ensemble.members), seed).tolist(), strict=True))
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(sources))[:_SPOILT_PARTS]
        chosen = [int(i) for i in np.resize(order, max(len(order), _LEAST_SPOILT_PARTS))]
        most = 2 * max(self.settings.sizes)
        parts = [as_picture(sources[i], self.settings.reading) for i in chosen]
        if (ignored := self.ignored_) is not None:
            # Else contrast, blur and pasted patches would carry something of what is ignored into the rest.
            colour = self.preprocessing_[0].mean
            parts = [replace(part, pixels=ignored.paint(part.pixels, colour)) for part in parts]
        parts = [reduced(part, most) for part in parts]
        broken: list[RawEvidence] = []
        wrong: list[RawEvidence] = []
        kinds: list[str] = []
        for done, (index, part) in enumerate(zip(chosen, parts, strict=True)):
            member = ensemble.members[fold_by_name[dealt[index * each]]]
            broken.append(self._judged_by(member, broken_parts(part, parts[(done + 1) % len(parts)], rng)))
            pictures = wrong_inputs(part, rng)
            wrong.append(self._judged_by(member, list(pictures.values())))
            kinds += pictures
            if progress is not None:
                progress("boundary", done + 1, len(chosen))
        return SpoiltParts(RawEvidence.joined(broken), RawEvidence.joined(wrong), tuple(kinds))

    def _keep_references(
        self, statistics: Tensor, sources: Sequence[Source], hashes: Sequence[str]
    ) -> References:
        """Keep small pictures of a few parts that every part has a like one among.

        Args:
            statistics: ``(parts, features)`` pooled, of the first zoom.
            sources: Of the parts.
            hashes: Of the parts; of copies the first is meant.
        """
        different = [hashes.index(sha256) for sha256 in dict.fromkeys(hashes)]
        standardised = self._fitted().complete.wholes[0].standardised(statistics[different]).numpy()
        chosen = spread_out(standardised, self.settings.references)
        rows: list[NDArray[np.float32]] = []
        thumbnails: list[bytes] = []
        kept: list[str] = []
        waiting = iter(chosen)
        for batch in self._decoded([sources[different[place]] for place in chosen]):
            for (_, picture), place in zip(batch, waiting, strict=False):
                sha256 = hashes[different[place]]
                # A file that has changed or gone since it was learned from is not shown.
                if isinstance(picture, Picture) and picture.sha256 == sha256:
                    rows.append(standardised[place])
                    thumbnails.append(thumbnail_of(self._seen(picture)))
                    kept.append(sha256)
        return References.of(np.reshape(rows, (len(rows), standardised.shape[1])), thumbnails, kept)

    def _seen(self, picture: Picture) -> NDArray[Any]:
        """Return a picture's pixels as the network sees them: what is ignored is painted over."""
        ignored = self.ignored_
        return (
            picture.pixels if ignored is None else ignored.paint(picture.pixels, self.preprocessing_[0].mean)
        )

    def _judged_by(self, member: Member, pictures: list[Picture]) -> RawEvidence:
        """Return evidence of pictures by a member that has not seen their parts."""
        ensemble, found = self._fitted(), []
        for start in range(0, len(pictures), _BATCH):
            features = self._features(pictures[start : start + _BATCH])
            with one_thread():
                found.append(replace(held_out(member, features), kinds=ensemble.kinds(features)))
        return RawEvidence.joined(found)

    def _refuse(self, judge: Judge, source: Source, error: ImageError) -> Inspection:
        if isinstance(source, Refused):
            known = source.sha256
        elif isinstance(source, Path | str):
            known = file_hash(Path(source), self.settings.reading.max_file_bytes)
        else:
            known = ""
        return judge.refuse(_name(source), known, str(error))

    def _extract(
        self,
        pictures: Sequence[Source],
        stage: str,
        progress: Progress | None,
        seen: Seen,
    ) -> Features:
        gathered: list[Features] = []
        done = 0
        for batch in self._decoded(list(pictures)):
            readable: list[Picture] = []
            for source, picture in batch:
                if isinstance(picture, Picture):
                    readable.append(picture)
                    seen.hashes.append(picture.sha256)
                    seen.names.append(_name(source))
                    seen.sources.append(source)
                    seen.quality.append(self._quality(picture))
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
        return Features.joined(gathered)

    def _quality(self, picture: Picture) -> list[float]:
        """Measure a picture as the network sees it: what is ignored does not count."""
        return picture_quality(self._seen(picture))

    def _features(self, pictures: list[Picture]) -> Features:
        network = self._network()
        ignored = self.ignored_
        if ignored is not None:
            colour = self.preprocessing_[0].mean
            pictures = [replace(p, pixels=ignored.paint(p.pixels, colour)) for p in pictures]
        statistics: list[Tensor] = []
        patches: dict[int, Tensor] = {}
        fields: list[tuple[Tensor, ...]] = []
        for zoom, preprocessing in enumerate(self.preprocessing_):
            pooled, cut, maps = self._look(network, preprocessing, pictures, zoom)
            statistics.append(pooled)
            patches |= cut
            fields.append(maps)
        cuts = [patches[i] for i in range(len(patches))]
        grids = [tuple(cut.shape[1:3]) for cut in cuts]
        kept = [torch.ones(g, dtype=torch.bool) if ignored is None else ignored.kept(*g) for g in grids]
        shares = [
            None if ignored is None else tuple(ignored.kept_share(*m.shape[2:]) for m in maps)
            for maps in fields
        ]
        return Features(tuple(statistics), tuple(cuts), tuple(kept), tuple(fields), tuple(shares))

    def _network(self) -> Backbone:
        if self.backbone_ is None:
            raise DetectorError(
                expected="a fitted detector", found="one without a backbone", remedy="Call fit first."
            )
        return self.backbone_

    def _look(
        self, backbone: Backbone, preprocessing: Preprocessing, pictures: list[Picture], zoom: int
    ) -> tuple[Tensor, dict[int, Tensor], tuple[Tensor, ...]]:
        """Return what one zoom shows: pooled statistics, patches by the number of their scale, and maps."""
        ignored = self.ignored_
        scales = {i: s for i, s in enumerate(self.settings.scales) if s.zoom == zoom}
        together = max(1, _PIXELS_A_PASS // preprocessing.size**2)
        pooled: list[Tensor] = []
        patches: dict[int, list[Tensor]] = {i: [] for i in scales}
        fields: list[list[Tensor]] = []
        for start in range(0, len(pictures), together):
            pixels = prepare_batch(pictures[start : start + together], preprocessing).to(self._device)
            maps = tiled_maps(backbone, backbone.strides, pixels)
            shares = None if ignored is None else [ignored.kept_share(*m.shape[2:]) for m in maps]
            pooled.append(pooled_statistics(maps, shares).cpu().clone())
            for i, scale in scales.items():
                patches[i].append(patch_vectors(maps, backbone.strides, scale).cpu().clone())
            fields.append([m.half().cpu() for m in maps])
        joined = tuple(torch.cat(maps) for maps in zip(*fields, strict=True))
        return torch.cat(pooled), {i: torch.cat(cut) for i, cut in patches.items()}, joined

    def _decoded(self, sources: list[Source]) -> Iterator[list[tuple[Source, Picture | ImageError]]]:
        def decode(source: Source) -> tuple[Source, Picture | ImageError]:
            try:
                return source, as_picture(source, self.settings.reading)
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


def as_picture(source: Source, rule: ReadingRule) -> Picture:
    """Decode a file, or check pixels in memory.

    Raises:
        ImageError: The file cannot be read.
        DetectorError: The array is no picture.
    """
    if isinstance(source, Path | str):
        return read_image(Path(source), rule)
    if isinstance(source, Refused):
        raise source.error
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


def fingerprint(hashes: Sequence[str]) -> str:
    """Return what names a set of training parts, by their sorted sha256."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _name(source: Source) -> str:
    if isinstance(source, Picture):
        return str(source.path or source.sha256)
    if isinstance(source, Refused):
        return str(source.path)
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
