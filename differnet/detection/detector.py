"""The detector: fit on good parts, calibrate on good parts it has not seen, inspect."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from differnet.calibration import suspects
from differnet.detection.cross_fitting import cross_fit
from differnet.detection.densities import Losses, left_out_evidence
from differnet.detection.ensemble import Ensemble, Member, deal, held_out, plain_local
from differnet.detection.evidence import RawEvidence
from differnet.detection.gathering import Features, Gathering
from differnet.detection.ignoring import IgnoreMask
from differnet.detection.inspector import Inspector, Looked, Progress
from differnet.detection.judging import (
    Calibration,
    SpoiltParts,
)
from differnet.detection.kept_features import FeatureFolder
from differnet.detection.references import References, spread_out, thumbnail_of
from differnet.detection.settings import DetectorError, DetectorSettings
from differnet.detection.side_by_side import Say, in_lanes, one_thread, side_by_side
from differnet.detection.sources import (
    BATCH,
    Batch,
    Seen,
    Source,
    as_picture,
    decode,
    decoded,
    fingerprint,
    in_batches,
    processors,
)
from differnet.detection.spoiling import broken_parts, reduced, wrong_inputs
from differnet.detection.statistics import patch_vectors, pooled_statistics
from differnet.detection.team import Team
from differnet.detection.variations import fold_names, strength_for, variations_for, vary
from differnet.features import (
    Backbone,
    Preprocessing,
    choose_device,
    find_weights,
    prepare_batch,
    tiled_maps,
)
from differnet.records import Picture

# Of pictures that go through the network together: a batch at 512 x 512. Larger ones go in smaller groups.
_PIXELS_A_PASS = BATCH * 512 * 512
# Pictures that a lane looks at before it takes the next ones: as many as go through the network together.
_LANE = 4
# Pictures in all lanes together, more or less: they lie in memory as large as they are.
_HELD = 32
# With fewer good parts there is nothing to hold out, and variations of them stand in for calibration too.
_LEAST_PARTS = 4
# Good parts that are spoilt to learn what tells defects from wrong inputs, 23 pictures each; fewer are
# taken several times, with other defects.
_SPOILT_PARTS, _LEAST_SPOILT_PARTS = 16, 8
# Pictures from which on a quicker look saves more than it takes to make ready.
_LEAST_QUICKENED = 100
# Looks at the training parts: more find hardly one further part.
_LOOKS = 3


class Looking(Protocol):
    """What looks at pictures in a backbone's place, with the same maps but for rounding."""

    name: str

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Return maps as `differnet.features.Backbone` does; called by several threads at once."""


Quicken = Callable[[Backbone, Sequence[int]], Looking | None]
"""From a backbone on the processor, and sides of pictures, to what looks at them quicker, if anything."""


class _Taken(NamedTuple):
    """What came of a batch of pictures.

    Attributes:
        pictures: How many they were.
        features: Of those that could be read; ``None`` where none could.
        seen: What else is known of them.
        skipped: The others, with the reason.
    """

    pictures: int
    features: Features | None
    seen: Seen
    skipped: list[tuple[str, str]]


class Detector(Inspector):
    """Tell good parts from defects and wrong inputs, having seen good parts only.

    Example:
        ``Detector(DetectorSettings()).fit(good).calibrate().inspect("part.png").record.verdict``

    Attributes:
        skipped: Files that fitting left out, with the reason.
        suspects: Pictures that fitting left out because they are probably not good.
        seconds: Time of each stage of fitting.
    """

    def __init__(self, settings: DetectorSettings | None = None) -> None:
        super().__init__(settings or DetectorSettings())
        self.suspects: list[str] = []
        self.seconds: dict[str, float] = {}
        self.backbone_: Backbone | None = None
        self.ensemble_: Ensemble | None = None
        self.references_: References | None = None
        self._held_out: RawEvidence | None = None
        self._held_quality: NDArray[np.float64] | None = None
        self._spoilt: SpoiltParts | None = None
        self._varied: int | None = None
        self._kept_features: FeatureFolder | None = None
        self._quick: Looking | None = None
        self._device = choose_device(self.settings.device)

    def fit(
        self,
        pictures: Sequence[Source],
        progress: Progress | None = None,
        losses: Losses | None = None,
        quicken: Quicken | None = None,
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
            quicken: Finds a quicker look at pictures, such as `differnet.runtime.quick_maps`: asked where a
                processor has many to look at. The model learns from the same maps then, but for rounding.

        Raises:
            DetectorError: No readable part, or an unfit mask of what to ignore.
            WeightsError: The backbone has no verified weights here.
        """
        try:
            return self._fit(pictures, progress, losses, quicken)
        finally:
            # Torch answers what is asked of the model later: exports are compared with that.
            self._quick = None

    def _fit(
        self,
        pictures: Sequence[Source],
        progress: Progress | None,
        losses: Losses | None,
        quicken: Quicken | None,
    ) -> Self:
        settings = self.settings
        ignore = settings.ignore
        ignored = None if ignore is None else IgnoreMask.read(Path(ignore), settings.sizes, settings.reading)
        weights = find_weights(settings.backbone, settings.weights, allow_download=settings.allow_download)
        self.backbone_ = Backbone(settings.backbone, weights, settings.strides).to(self._device)
        self.preprocessing_ = tuple(
            Preprocessing(size, weights.mean, weights.std, halving=True) for size in settings.sizes
        )
        self.ensemble_, self.calibration_, self._judge_, self.skipped = None, None, None, []
        self.references_ = None
        self._held_out, self._varied, self._trained_on, self.suspects = None, None, (), []
        self._spoilt, self._held_quality = None, None
        self.ignored_ = ignored
        started = time.perf_counter()
        if quicken is not None and self._device.type == "cpu" and len(pictures) >= _LEAST_QUICKENED:
            quick = quicken(self.backbone_, settings.sizes)
            # All processes of a team look alike.
            self._quick = quick if all(Team.current().exchanged(quick is not None)) else None
        self._kept_features = self._open_kept_features(settings.features, weights.sha256)
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
            if doubtful.any() and len({hashes[i] for i in kept}) >= _LEAST_PARTS:
                self.suspects = [names[i] for i in np.flatnonzero(doubtful)]
                features, hashes = features.keep(kept.tolist()), [hashes[i] for i in kept]
                dealt, sources, quality = hashes, [sources[i] for i in kept], quality[kept]
        different = len(set(hashes))
        steps = None if progress is None else partial(progress, "densities")
        told = None if losses is None else self._in_words(losses)
        self.ensemble_, held = cross_fit(features, dealt, different, settings, steps, told)
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
            "versions": _versions(() if self._quick is None else (self._quick.name,)),
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

    @property
    def model_id(self) -> str:
        """Sixteen digits that name these densities."""
        digest = hashlib.sha256()
        for prefix, density in sorted(self._fitted().judging, key=lambda named: named[0]):
            for name, tensor in sorted(density.state_dict().items()):
                digest.update(f"{prefix}.{name}".encode())
                digest.update(tensor.contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def device(self) -> str:
        """Where evidence is computed, as records say it."""
        return str(self._device)

    def _lacking(self) -> str:
        return "one that was not fitted" if self.ensemble_ is None else super()._lacking()

    def _widths(self) -> tuple[int, ...]:
        complete = self._fitted().complete
        return (complete.wholes[0].shape.features, *(p.shape.features for p in complete.patches))

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
        for batch in decoded(pictures, self.settings.reading):
            for _, picture in batch:
                if isinstance(picture, Picture):
                    different.setdefault(picture.sha256, picture)
        each = 1 + variations_for(len(different))
        strength = strength_for(len(different))
        side, ignored = max(self.settings.sizes), self.ignored_
        gathered = Gathering(len(different) * each)
        seen = Seen()
        for done, part in enumerate(different.values()):
            if ignored is not None:
                # Else contrast and blur would carry something of what is ignored into the rest.
                part = replace(part, pixels=ignored.paint(part.pixels, self.preprocessing_[0].mean))
            for start in range(0, each, BATCH):
                numbers = range(start, min(start + BATCH, each))
                some = [
                    vary(part, i, self.settings.seed, side, strength, move=ignored is None) for i in numbers
                ]
                gathered.add(self._features(some))
                seen.quality += [self._quality(picture) for picture in some]
                if progress is not None:
                    progress("variations", done * each + numbers.stop, len(different) * each)
        features = gathered.features
        if features is None:
            raise self._nothing_readable(len(pictures))
        return features, fold_names(list(different), each), seen.figures

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
            found = self._stand_out(features, torch.from_numpy(kept))
            kept = kept[~found]
            if not found.any():
                break
        trusted = {hashes[i] for i in kept}
        return np.array([sha256 not in trusted for sha256 in hashes])

    def _stand_out(self, features: Features, parts: Tensor) -> NDArray[np.bool_]:
        """Tell which of some parts stand out among them."""

        def by_patches(_: Say) -> NDArray[np.float64]:
            return plain_local(features, self.settings.density, parts)

        def by_statistics(statistics: Tensor, _: Say) -> NDArray[np.float64]:
            return left_out_evidence(statistics[parts])

        jobs: list[Callable[[Say], NDArray[np.float64]]] = [by_patches]
        jobs += [partial(by_statistics, statistics) for statistics in features.statistics]
        local, *wholes = side_by_side(jobs)
        return suspects(np.hstack(wholes), local)

    def _in_words(self, losses: Losses) -> Losses:
        """Say of what a density is that goes by its name in a model."""

        def words(name: str) -> str:
            if name.startswith("patches"):
                return f"{self.settings.scales[int(name.removeprefix('patches'))].name} patches"
            zoom = int(name.removeprefix("whole"))
            return "whole part" if zoom == 0 else f"whole part, look {zoom + 1}"

        return lambda loss: losses(replace(loss, density=words(loss.density)))

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
        kinds: list[str] = []

        def spoilt() -> Iterator[tuple[Member, list[Picture], list[Picture]]]:
            # One after another, whoever judges them: all draw from the same randomness.
            for place, (index, part) in enumerate(zip(chosen, parts, strict=True)):
                pictures = broken_parts(part, parts[(place + 1) % len(parts)], rng)
                inputs = wrong_inputs(part, rng)
                kinds.extend(inputs)
                yield ensemble.members[fold_by_name[dealt[index * each]]], pictures, list(inputs.values())

        def judged(some: tuple[Member, list[Picture], list[Picture]]) -> tuple[RawEvidence, RawEvidence]:
            member, pictures, inputs = some
            return self._judged_by(member, pictures), self._judged_by(member, inputs)

        broken: list[RawEvidence] = []
        wrong: list[RawEvidence] = []
        on_processors = self._device.type == "cpu"
        for done, found in enumerate(in_lanes(judged, spoilt()) if on_processors else map(judged, spoilt())):
            broken.append(found[0])
            wrong.append(found[1])
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
        for batch in decoded([sources[different[place]] for place in chosen], self.settings.reading):
            for (_, picture), place in zip(batch, waiting, strict=False):
                sha256 = hashes[different[place]]
                # A file that has changed or gone since it was learned from is not shown.
                if isinstance(picture, Picture) and picture.sha256 == sha256:
                    rows.append(standardised[place])
                    thumbnails.append(thumbnail_of(self._seen(picture)))
                    kept.append(sha256)
        return References.of(np.reshape(rows, (len(rows), standardised.shape[1])), thumbnails, kept)

    def _judged_by(self, member: Member, pictures: list[Picture]) -> RawEvidence:
        """Return evidence of pictures by a member that has not seen their parts."""
        ensemble, found = self._fitted(), []
        for start in range(0, len(pictures), BATCH):
            features = self._features(pictures[start : start + BATCH])
            with one_thread():
                found.append(replace(held_out(member, features), kinds=ensemble.kinds(features)))
        return RawEvidence.joined(found)

    def _extract(
        self,
        pictures: Sequence[Source],
        stage: str,
        progress: Progress | None,
        seen: Seen,
    ) -> Features:
        gathered, team = Gathering(len(pictures)), Team.current()
        size = _LANE if self._device.type == "cpu" else BATCH
        starts = range(0, len(pictures), size)
        own = self._looked_at([pictures[start : start + size] for start in team.share(starts)])
        done = 0
        for _ in range(0, len(starts), team.size):
            for found in team.exchanged(next(own, None)):
                if found.features is not None:
                    gathered.add(found.features)
                seen.add(found.seen)
                self.skipped += found.skipped
                done += found.pictures
            if progress is not None:
                progress(stage, done, len(pictures))
        if gathered.features is None:
            raise self._nothing_readable(len(pictures))
        return gathered.features

    def _looked_at(self, batches: Sequence[Sequence[Source]]) -> Iterator[_Taken]:
        """Decode and look at batches; on a processor several at once."""
        reading = self.settings.reading
        if self._device.type == "cpu":
            yield from in_lanes(lambda some: self._taken([decode(s, reading) for s in some]), batches)
        else:
            yield from map(self._taken, decoded([s for some in batches for s in some], reading))

    def _taken(self, batch: Batch) -> _Taken:
        seen, skipped = Seen(), list[tuple[str, str]]()
        some = self._take(batch, seen, skipped)
        return _Taken(len(batch), self._features_kept(some) if some else None, seen, skipped)

    def _open_kept_features(self, folder: Path | None, weights: str) -> FeatureFolder | None:
        if folder is None:
            return None
        settings, ignored = self.settings, self.ignored_
        depends = {
            "backbone": settings.backbone,
            "weights": weights,
            "strides": settings.strides,
            "preprocessing": [asdict(of) for of in self.preprocessing_],
            "scales": [asdict(scale) for scale in settings.scales],
            "reading": asdict(settings.reading),
            "ignored": None if ignored is None else hashlib.sha256(ignored.cells.tobytes()).hexdigest(),
            "device": self.device if self._quick is None else _versions((self._quick.name,), common=False),
        }
        blank = as_picture(np.zeros((8, 8, 3), np.uint8), settings.reading)
        shapes = [(tuple(t.shape[1:]), t.dtype) for t in self._features([blank]).tensors]
        return FeatureFolder(Path(folder), depends, shapes)

    def _features_kept(self, pictures: list[Picture]) -> Features:
        """Return features of a batch, from the folder that keeps them where all are there."""
        folder = self._kept_features
        if folder is None:
            return self._features(pictures)
        known = [folder.get(picture.sha256) for picture in pictures]
        there = [tensors for tensors in known if tensors is not None]
        if len(there) == len(pictures):
            return self._assembled([torch.stack(column) for column in zip(*there, strict=True)])
        # All of the batch once more: a picture's last bits may depend on the company it is computed in.
        features = self._features(pictures)
        for number, (picture, tensors) in enumerate(zip(pictures, known, strict=True)):
            if tensors is None:
                folder.put(picture.sha256, [tensor[number] for tensor in features.tensors])
        return features

    def _looked(self, pictures: Iterable[Source]) -> Iterator[Looked]:
        """Decode and look at pictures; on a processor several of them at once."""
        lanes, reading = processors(), self.settings.reading
        # Nobody knows how many an iterator has.
        most = len(pictures) if isinstance(pictures, Sequence) else max(_HELD, lanes)
        # Of fewer pictures than processors each is shared by several.
        if self._device.type != "cpu" or most < lanes or lanes == 1:
            yield from super()._looked(pictures)
            return
        size = max(1, min(_LANE, _HELD // lanes, math.ceil(most / lanes)))

        def look(some: Sequence[Source]) -> Looked:
            batch = [decode(source, reading) for source in some]
            return self._look_at(batch)

        yield from in_lanes(look, in_batches(pictures, size))

    def _evidence(self, pictures: list[Picture]) -> RawEvidence:
        return self._fitted().evidence(self._features(pictures))

    def _features(self, pictures: list[Picture]) -> Features:
        network = self._network()
        looking = network if self._quick is None else self._quick
        ignored = self.ignored_
        if ignored is not None:
            colour = self.preprocessing_[0].mean
            pictures = [replace(p, pixels=ignored.paint(p.pixels, colour)) for p in pictures]
        statistics: list[Tensor] = []
        patches: dict[int, Tensor] = {}
        fields: list[tuple[Tensor, ...]] = []
        for zoom, preprocessing in enumerate(self.preprocessing_):
            pooled, cut, maps = self._look(looking, network.strides, preprocessing, pictures, zoom)
            statistics.append(pooled)
            patches |= cut
            fields.append(maps)
        cuts = [patches[i] for i in range(len(patches))]
        return self._assembled([*statistics, *cuts, *(m for maps in fields for m in maps)])

    def _assembled(self, tensors: Sequence[Tensor]) -> Features:
        """Return features of `Features.tensors`, and which of them count."""
        zooms, scales, ignored = len(self.preprocessing_), len(self.settings.scales), self.ignored_
        statistics, cuts, maps = tensors[:zooms], tensors[zooms : zooms + scales], tensors[zooms + scales :]
        each = len(maps) // zooms
        fields = [tuple(maps[i : i + each]) for i in range(0, len(maps), each)]
        grids = [tuple(cut.shape[1:3]) for cut in cuts]
        kept = [_ones(*grid) if ignored is None else torch.from_numpy(ignored.kept(*grid)) for grid in grids]
        shares = [None if ignored is None else tuple(_kept_shares(ignored, of)) for of in fields]
        return Features(tuple(statistics), tuple(cuts), tuple(kept), tuple(fields), tuple(shares))

    def _network(self) -> Backbone:
        if self.backbone_ is None:
            raise DetectorError(
                expected="a fitted detector", found="one without a backbone", remedy="Call fit first."
            )
        return self.backbone_

    def _look(
        self,
        looking: Callable[[Tensor], list[Tensor]],
        strides: Sequence[int],
        preprocessing: Preprocessing,
        pictures: list[Picture],
        zoom: int,
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
            maps = tiled_maps(looking, strides, pixels)
            shares = None if ignored is None else _kept_shares(ignored, maps)
            pooled.append(pooled_statistics(maps, shares).cpu().clone())
            for i, scale in scales.items():
                patches[i].append(patch_vectors(maps, strides, scale).cpu().clone())
            fields.append([m.half().cpu() for m in maps])
        joined = tuple(torch.cat(maps) for maps in zip(*fields, strict=True))
        return torch.cat(pooled), {i: torch.cat(cut) for i, cut in patches.items()}, joined


def _ones(rows: int, columns: int) -> Tensor:
    return torch.ones(rows, columns, dtype=torch.bool)


def _kept_shares(ignored: IgnoreMask, maps: Sequence[Tensor]) -> list[Tensor]:
    """Return how much of each cell of a zoom's maps counts."""
    return [torch.from_numpy(ignored.kept_share(*m.shape[2:])) for m in maps]


def _versions(also: Sequence[str] = (), *, common: bool = True) -> dict[str, str]:
    names = ("differnet", "torch", "timm", "numpy", "opencv-python-headless", "pillow") if common else ()
    found: dict[str, str] = {}
    for name in (*names, *also):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # The desktop build of OpenCV serves as well as the headless one.
            found[name] = "not installed under this name"
    return found
