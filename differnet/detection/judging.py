"""From raw evidence to records: everything a verdict rests on, and the judge who says it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.calibration import (
    CalibratedEvidence,
    Expectation,
    GoodFigures,
    HeatScale,
    OriginRule,
    Ranks,
    Spectra,
    TailScale,
    Thresholds,
    decide,
    false_alarm_interval,
    held_out_strangeness,
    p_values,
    smallest_alpha,
    threshold,
)
from differnet.detection.evidence import RawEvidence
from differnet.detection.ignoring import IgnoreMask
from differnet.detection.regions import strange_regions
from differnet.detection.settings import DetectorError
from differnet.detection.usual import (
    CALIBRATION_ARRAYS,
    QUALITY_FIGURES,
    Surprises,
    Usual,
    calibration_name,
    good_strangeness,
    improbability_of,
    middling,
    own_thresholds,
    rates_of,
)
from differnet.images.quality import picture_flags, principal_figures
from differnet.records import Inspection, Picture, Record, Verdict

if TYPE_CHECKING:
    from differnet.calibration import BatchDrift

Figures = NDArray[np.float64]

# Blur of heat, shares of the map's side. Half a cell of a 32 x 32 grid, the customary 4 pixels of 256, takes
# the grid's own noise from the patches; what a cell adds to the whole is noisier, and takes a cell.
_LOCAL_BLUR = 1 / 64
_WHOLE_BLUR = 1 / 32
# Of a threshold: far more below it than interpolation rounds.
_SURELY = 0.999


# Spoilt pictures of a kind that a boundary is learned from at least.
_LEAST_SPOILT = 20


@dataclass(frozen=True)
class SpoiltParts:
    """Evidence of good parts that a member has not seen, spoilt.

    Attributes:
        defects: With simulated defects.
        wrong: As wrong inputs.
        kinds: Of each of those, its kind.
    """

    defects: RawEvidence
    wrong: RawEvidence
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class DriftFigures:
    """A batch beside the calibration parts, in figures that can be compared.

    Attributes:
        names: Of the k figures: how the pictures look, then how improbable they are.
        calibration: ``(n, k)`` of the calibration parts.
        batch: ``(M, k)`` of the batch.
        pictures: Names of the M pictures, in their order; none where nobody asked.
    """

    names: tuple[str, ...]
    calibration: Figures
    batch: Figures
    pictures: tuple[str, ...]

    def test(self, alpha: float) -> BatchDrift:
        """Test whether the batch is exchangeable with the calibration parts.

        Args:
            alpha: False-alarm rate.

        Raises:
            CalibrationError: As `batch_drift`.
        """
        from differnet.calibration import batch_drift

        return batch_drift(self.calibration, self.batch, alpha, self.names)


@dataclass(frozen=True)
class Calibration:
    """What the good parts showed, out of fold; everything a verdict rests on.

    Attributes:
        whole: ``(parts, zooms)`` raw evidence, likewise ``local``, ``nll_local`` and ``extent``
            ``(parts, scales)``, ``cells`` ``(parts, 4 scales)`` and ``kinds`` ``(parts, k)``.
        peaks: ``(parts,)`` largest value of each good part's heat map.
        heat: ``(scales + zooms, 33)`` how hot good cells are, a `HeatScale` a map of energies and then a map
            of shares.
        kernels: ``(zooms + 2 scales, 2)`` length and signal of what is usual for a kind of part: for the
            global evidence, the patches' typicality, and their improbability.
        origin: ``(6 scales + zooms + 1,)`` an `OriginRule`, on the distances from good parts of ``cells``,
            ``whole``, ``local`` and ``nll_local``.
        quality: ``(parts, 4)`` the `QUALITY_FIGURES` of each picture; no columns where nobody measured.
        alpha_review, alpha_defect: Rates in force: the ones asked for, or the smallest that these parts
            can promise.
        scheme: ``cross-fitted``, ``split``, or ``variations``: of very few parts and of variations of them,
            which are no parts, so that thresholds are provisional: the rates are shares of variations, and
            what is stranger than them is DEFECT or OOD only from `OOD_STRANGENESS`, otherwise REVIEW.
        ignored: Regions that count for nothing.
        real_parts: With ``variations``, how many different parts there were; else each row is a part.
    """

    whole: Figures
    local: Figures
    nll_local: Figures
    extent: Figures
    cells: Figures
    kinds: Figures
    peaks: Figures
    heat: Figures
    kernels: Figures
    origin: Figures
    quality: Figures
    alpha_review: float
    alpha_defect: float
    scheme: str
    ignored: IgnoreMask | None = None
    real_parts: int | None = None

    @classmethod
    def of(
        cls,
        evidence: RawEvidence,
        alpha_review: float,
        alpha_defect: float,
        scheme: str,
        origin: SpoiltParts | Figures,
        ignored: IgnoreMask | None = None,
        real_parts: int | None = None,
        quality: Figures | None = None,
    ) -> Self:
        """Learn what is usual from good parts that were not trained on.

        Args:
            evidence: Of the good parts.
            alpha_review: Rate of REVIEW and beyond to promise; too small a one becomes the smallest possible.
            alpha_defect: Likewise of DEFECT and OOD.
            scheme: See the attributes.
            origin: Simulated defects and wrong inputs to learn the boundary between them from, or an earlier
                calibration's ``origin``.
            ignored: Regions that count for nothing.
            real_parts: With the scheme ``variations``.
            quality: ``(parts, 4)`` `QUALITY_FIGURES` of their pictures, where somebody measured.

        Raises:
            CalibrationError: Too few parts, or some whose evidence is not finite.
        """
        least = smallest_alpha(len(evidence.whole))
        scales = [HeatScale.fit(_counted(m, ignored)) for m in (*evidence.maps, *evidence.shares)]
        improbable = improbability_of(evidence.nll_local, middling(evidence.nll_local))
        columns, known = [*evidence.whole.T, *evidence.local.T, *improbable.T], Spectra(evidence.kinds)
        found = cls(
            whole=evidence.whole,
            local=evidence.local,
            nll_local=evidence.nll_local,
            extent=evidence.extent,
            cells=evidence.cells,
            kinds=evidence.kinds,
            peaks=np.zeros(len(evidence.whole)),
            heat=np.stack([scale.row for scale in scales]),
            kernels=np.array([Expectation.fit(c, evidence.kinds, spectra=known).kernel for c in columns]),
            origin=np.zeros(0) if isinstance(origin, SpoiltParts) else origin,
            quality=np.zeros((len(evidence.whole), 0)) if quality is None else quality,
            alpha_review=max(alpha_review, least),
            alpha_defect=max(alpha_defect, least),
            scheme=scheme,
            ignored=ignored,
            real_parts=real_parts,
        )
        if isinstance(origin, SpoiltParts):
            found = found._with(replace(found, origin=found.boundary(origin).row))
        heat = found.heat_maps(evidence, found.usual.held_out)
        peaks = heat.reshape(len(heat), -1).max(1).astype(np.float64)
        return found._with(replace(found, peaks=peaks))

    def _with(self, changed: Self) -> Self:
        """Let a calibration that differs in nothing that it takes to learn what is usual know it already."""
        changed.__dict__["usual"] = self.usual
        return changed

    @cached_property
    def usual(self) -> Usual:
        """What each kind of evidence usually is."""
        return Usual.of(self.arrays)

    def distances(self, raw: RawEvidence) -> Figures:
        """Return ``(parts, k)`` how far parts are from good ones in what tells defects from wrong inputs."""
        return self._good.distances(np.hstack([raw.cells, raw.whole, raw.local, raw.nll_local]))

    @cached_property
    def _good(self) -> GoodFigures:
        return GoodFigures.fit(np.hstack([self.cells, self.whole, self.local, self.nll_local]))

    def drift_figures(self, raw: RawEvidence, quality: Figures, pictures: Sequence[str] = ()) -> DriftFigures:
        """Lay a batch beside the parts that this calibration was made on.

        How the pictures look stands first, so that of two that moved alike the plainer one is told first.
        Of cross-fitted parts the evidence of the strangest patches is left out: the density that judges a new
        part's patches has seen more parts than the ones that judged these, and spreads it further (1.7 times
        with 80 parts of the sample product). The whole and the median cell are averages, and agree.

        Args:
            raw: Evidence of the batch.
            quality: ``(parts, 4)`` its `QUALITY_FIGURES`.
            pictures: Their names, where anybody wants to know.
        """
        names = list(QUALITY_FIGURES[: self.quality.shape[1]])
        compared = [(self.quality, quality[:, : len(names)])]
        for words, good, asked in (
            ("energy of the whole", self.whole, raw.whole),
            ("energy of the median cell", self.extent, raw.extent),
            ("energy of the strangest patches", self.local, raw.local),
            ("nll of the strangest patches", self.nll_local, raw.nll_local),
        ):
            if self.scheme == "cross-fitted" and words.endswith("patches"):
                continue
            scales = range(1, good.shape[1] + 1)
            names += [words] if len(scales) == 1 else [f"{words}, scale {i}" for i in scales]
            compared.append((good, asked))
        calibrated, batch = (np.hstack(tables) for tables in zip(*compared, strict=True))
        return DriftFigures(tuple(names), calibrated, batch, tuple(pictures))

    def boundary(self, spoilt: SpoiltParts) -> OriginRule:
        """Learn to tell defects from wrong inputs among pictures that are strange enough for the question.

        A kind of wrong input of which most are not rejected is one that the product permits, such as the
        mirror image of a symmetric part: few of its pictures would pull the boundary among the defects.
        """
        usual = self.usual
        good = usual.held_out.sums["total"]
        review, defect = np.quantile(good, [1 - self.alpha_review, 1 - self.alpha_defect])

        def strange(raw: RawEvidence, counted: NDArray[np.bool_]) -> Figures:
            said = np.where(counted, usual.surprises(raw).sums["total"], -np.inf)
            # Where hardly any stand out, the strangest stand for what would.
            least = min(review, float(np.sort(said)[-_LEAST_SPOILT:][0]))
            return self.distances(raw[np.flatnonzero(said >= least)])

        rejected = usual.surprises(spoilt.wrong).sums["total"] >= defect
        kinds = np.array(spoilt.kinds)
        forbidden = [kind for kind in dict.fromkeys(spoilt.kinds) if rejected[kinds == kind].mean() >= 0.5]
        wrong = np.isin(kinds, forbidden) if forbidden else np.ones(len(kinds), dtype=bool)
        broken = np.ones(len(spoilt.defects.whole), dtype=bool)
        return OriginRule.fit(strange(spoilt.defects, broken), strange(spoilt.wrong, wrong))

    def heat_maps(self, raw: RawEvidence, surprises: Surprises) -> NDArray[np.float32]:
        """Return ``(parts, rows, columns)`` heat on the finest grid: how rarely is a good cell as hot?

        The scales' maps of energies are averaged; those of nll locate simulated defects no better. Where the
        energy of the whole says much of what is said of a part, what each cell adds to that energy is added
        in proportion: a small flaw is then where its patches are, and an uneven surface where the unevenness
        is.

        Args:
            raw: Evidence of the parts.
            surprises: Theirs.
        """
        rows = max(m.shape[1] for m in (*raw.maps, *raw.shares))
        columns = max(m.shape[2] for m in (*raw.maps, *raw.shares))
        total = np.mean([_resized(m, rows, columns) for m in self.heat_of_patches(raw)], axis=0)
        total = _blurred(total, _LOCAL_BLUR * rows)
        weights = surprises.shares_of_zooms
        for where, weight in zip(self.heat_of_wholes(raw, rows, columns), weights, strict=True):
            total += weight[:, None, None].astype(np.float32) * where
        if self.ignored is not None:
            total[:, ~self.ignored.kept(rows, columns)] = 0
        return np.asarray(total, dtype=np.float32)

    def heat_of_patches(self, raw: RawEvidence) -> list[NDArray[np.float32]]:
        """Return how rarely a good cell is as hot, ``(parts, rows, columns)`` a scale on its own grid.

        The unit is that of `heat_maps`, which averages these maps.
        """
        return [self._heat_scale(i).surprise(cells) for i, cells in enumerate(raw.maps)]

    def heat_of_wholes(self, raw: RawEvidence, rows: int, columns: int) -> list[NDArray[np.float32]]:
        """Return how rarely a good cell adds as much to the whole, ``(parts, rows, columns)`` a zoom.

        The unit is that of `heat_maps`, which adds these maps, each in proportion to what its whole says.
        """
        return [
            _blurred(
                self._heat_scale(len(raw.maps) + i).surprise(_resized(cells, rows, columns)),
                _WHOLE_BLUR * rows,
            )
            for i, cells in enumerate(raw.shares)
        ]

    def typical_energy(self, scale: int, share: float) -> float:
        """Return the energy of a patch that this share of good places exceed.

        Args:
            scale: Number of the scale.
            share: Above 0, below 1.
        """
        return self._heat_scale(scale).value(share)

    def _heat_scale(self, number: int) -> HeatScale:
        """Return the scale of a map: first of every scale of patches, then of every zoom of the whole."""
        return self._heat_scales[number]

    @cached_property
    def _heat_scales(self) -> list[HeatScale]:
        return [HeatScale.from_row(row) for row in self.heat]

    @property
    def arrays(self) -> dict[str, Figures]:
        """Every array by its name."""
        return {name: getattr(self, name) for name in CALIBRATION_ARRAYS}

    @property
    def rates(self) -> tuple[float | int | str, ...]:
        """The rates, and the scheme they rest on."""
        return rates_of(self.alpha_review, self.alpha_defect, self.scheme, self.real_parts)

    @property
    def parts(self) -> int:
        """Different good parts behind the calibration; variations of a part are no parts."""
        return len(self.whole) if self.real_parts is None else self.real_parts

    @property
    def promised(self) -> bool:
        """Whether the rates hold for new good parts."""
        return self.real_parts is None


@dataclass(frozen=True)
class Identity:
    """What records say of the model that judged.

    Attributes:
        model_id: Of the densities.
        device: Where they ran.
        product: What the parts are.
        dimensions: Features of the global density, then of the local one a scale.
        learned: sha256 of the parts that it was trained on.
    """

    model_id: str
    device: str
    product: str
    dimensions: tuple[int, ...]
    learned: frozenset[str] = frozenset()


class _Weighed(NamedTuple):
    """Raw evidence of some parts, calibrated.

    Attributes:
        raw: As it was.
        figures: ``(parts,)`` strangeness by the name of the evidence; NaN where any evidence is not finite.
        heat: ``(parts, rows, columns)``.
    """

    raw: RawEvidence
    figures: dict[str, Figures]
    heat: NDArray[np.float32]


class Judge:
    """Turn raw evidence into inspections by one calibration.

    Args:
        calibration: What good parts showed.
        identity: Of the model.

    Attributes:
        usual: What every kind of evidence usually is.
        good: Strangeness of the calibration's parts, by the name of the evidence.

    Raises:
        CalibrationError: The calibration cannot keep its promise.
    """

    def __init__(self, calibration: Calibration, identity: Identity) -> None:
        self.calibration = calibration
        self.identity = identity
        scales = calibration.local.shape[1]
        self.usual = calibration.usual
        sums = self.usual.held_out.sums
        self._scales = {name: TailScale.fit(figures) for name, figures in sums.items()}
        extent = calibration.extent
        self._extent = [TailScale.fit(extent[:, i]) for i in range(scales)]
        self._bland = [TailScale.fit(-extent[:, i]) for i in range(scales)]
        self.good = good_strangeness(sums)
        self.good |= _extents(
            [held_out_strangeness(extent[:, i]) for i in range(scales)],
            [held_out_strangeness(-extent[:, i]) for i in range(scales)],
        )
        self._ranks = {name: Ranks.of(figures) for name, figures in self.good.items()}
        review, defect = own_thresholds(
            self.good["total"],
            calibration.alpha_review,
            calibration.alpha_defect,
            promised=calibration.promised,
        )
        self.thresholds = Thresholds(review, defect)
        self.revision = 0
        self._origin = OriginRule.from_row(calibration.origin)
        self.region_threshold = threshold(calibration.peaks, calibration.alpha_review)
        ignored = None if calibration.ignored is None else calibration.ignored.cells
        self.calibration_id = calibration_name(calibration.rates, calibration.arrays, ignored)

    def adopt(self, review: float, defect: float, revision: int) -> None:
        """Judge by thresholds that a person set, from now on.

        Regions and p-values are as before: they follow from the good parts alone.

        Args:
            review: Strangeness from which a person looks.
            defect: Strangeness from which a part is rejected.
            revision: Number that records carry, from 1; 0 stands for the calibration's own thresholds.

        Raises:
            DetectorError: Not ``0 <= review <= defect``, one is not finite, or there is no such number.
        """
        finite = math.isfinite(review) and math.isfinite(defect)
        if not (finite and 0 <= review <= defect):
            raise DetectorError(
                expected="two finite thresholds, 0 <= review <= defect",
                found=f"review {review}, defect {defect}",
                remedy="Set both to the same strangeness to review nothing.",
            )
        if revision < 1:
            raise DetectorError(
                expected="a revision from 1 on", found=str(revision), remedy="Number revisions from 1."
            )
        self.thresholds = Thresholds(float(review), float(defect))
        self.revision = revision

    @property
    def rates(self) -> tuple[float, float]:
        """Shares of good parts that the thresholds in force are allowed to flag and to reject.

        Those of the calibration. Of thresholds that a person set the p-value at each, which is on average no
        less than the share beyond it, whatever the law, unless the calibration parts chose the threshold.
        """
        if not self.revision:
            return self.calibration.alpha_review, self.calibration.alpha_defect
        limits = [self.thresholds.review, self.thresholds.defect]
        review, defect = p_values(self.good["total"], limits)
        return float(review), float(defect)

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where, 90 in 100 times, the shares of `rates` really lie, given this one calibration."""
        review, defect = (self._interval(rate) for rate in self.rates)
        return review, defect

    def _interval(self, rate: float) -> tuple[float, float]:
        parts = self.calibration.parts
        if not self.calibration.promised:
            return 0.0, 1.0
        if rate < 1:
            return false_alarm_interval(parts, rate)
        # Every calibration part is flagged: nothing bounds the share from above.
        return false_alarm_interval(parts, parts / (parts + 1))[0], 1.0

    def strangeness(self, raw: RawEvidence) -> dict[str, Figures]:
        """Return the strangeness ``(parts,)`` of all evidence together and of each kind of evidence."""
        return self._strangeness(raw, self.usual.surprises(raw))

    def wrongness(self, raw: RawEvidence) -> Figures:
        """Return by how much ``(parts,)`` look like wrong inputs rather than defects; from 0 on they do."""
        return self._origin.wrongness(self.calibration.distances(raw))

    def _strangeness(self, raw: RawEvidence, surprises: Surprises) -> dict[str, Figures]:
        scales = range(raw.local.shape[1])
        found = {name: self._scales[name].strangeness(figures) for name, figures in surprises.sums.items()}
        return found | _extents(
            [self._extent[i].strangeness(raw.extent[:, i]) for i in scales],
            [self._bland[i].strangeness(-raw.extent[:, i]) for i in scales],
        )

    def judge_all(
        self, raw: RawEvidence, pictures: Sequence[Picture], milliseconds: float
    ) -> Iterator[Inspection]:
        """Judge pictures by their evidence, one at a time: a heat map is as large as its picture."""
        weighed = self._weighed(raw)
        for index, picture in enumerate(pictures):
            yield self._inspection(weighed, index, picture, milliseconds)

    def judge(self, raw: RawEvidence, index: int, picture: Picture, milliseconds: float) -> Inspection:
        """Judge the picture whose evidence stands at ``index``."""
        return self._inspection(self._weighed(raw[slice(index, index + 1)]), 0, picture, milliseconds)

    def _weighed(self, raw: RawEvidence) -> _Weighed:
        # What is not finite is caught below; it only must not warn on its way there.
        with np.errstate(invalid="ignore", over="ignore"):
            surprises = self.usual.surprises(raw)
            figures = self._strangeness(raw, surprises) | {"wrongness": self.wrongness(raw)}
            heat = self.calibration.heat_maps(raw, surprises)
        finite = np.array([raw.is_finite(i) for i in range(len(raw.whole))])
        # Minus infinity would look like the most usual part of all.
        return _Weighed(raw, {n: np.where(finite, v, math.nan) for n, v in figures.items()}, heat)

    def _inspection(self, weighed: _Weighed, index: int, picture: Picture, milliseconds: float) -> Inspection:
        raw = weighed.raw
        figures = {name: float(of[index]) for name, of in weighed.figures.items()}
        evidence = CalibratedEvidence(
            total=figures["total"],
            whole=figures["whole"],
            local=figures["local"],
            spread=figures["spread"],
            blandness=figures["bland"],
            wrongness=figures["wrongness"],
            p_value=self._p("total", figures),
            p_value_whole=self._p("whole", figures),
            p_value_local=self._p("local", figures),
            p_value_spread=self._p("spread", figures),
            quality_flags=picture_flags(picture.pixels),
            learned=picture.sha256 in self.identity.learned,
            promised=self.calibration.promised,
        )
        verdict, reasons = decide(evidence, self.thresholds)
        if verdict is Verdict.INVALID:
            return Inspection(self._record(picture, verdict, reasons, inference_ms=milliseconds))
        known = self.calibration
        heat = cv2.resize(
            weighed.heat[index], (picture.width, picture.height), interpolation=cv2.INTER_LINEAR
        )
        if known.ignored is not None:
            # Interpolation carries heat half a patch into the region.
            heat[known.ignored.over(*heat.shape)] = 0
        least = 0.0 if known.promised else smallest_alpha(known.parts)
        # Between two cells nothing is hotter than they are, but for rounding: millions of pixels of a picture
        # that is cool everywhere need not be looked through.
        cool = weighed.heat[index].max() < _SURELY * self.region_threshold
        regions = () if cool else strange_regions(heat, self.region_threshold, known.peaks, least)
        dimensions, scales = self.identity.dimensions, np.array(self.identity.dimensions[1:])
        nll_whole, local = float(raw.nll_whole[index]), float(raw.nll_local[index] @ scales)
        record = self._record(
            picture,
            verdict,
            reasons,
            nll_global=nll_whole * dimensions[0],
            nll_local=local,
            typicality_global=_typicality(float(raw.whole[index, 0]), dimensions[0]),
            typicality_local=sum(map(_typicality, raw.local[index].tolist(), scales.tolist())),
            bits_per_dim_global=nll_whole / math.log(2),
            bits_per_dim_local=local / (int(scales.sum()) * math.log(2)),
            strangeness=evidence.total,
            **_conformal(evidence),
            regions=regions,
            quality_flags=evidence.quality_flags,
            inference_ms=milliseconds,
        )
        return Inspection(record, heat)

    def refuse(self, path: str, sha256: str, reason: str) -> Inspection:
        """Return the INVALID inspection of a picture that could not be read."""
        digest = sha256 or hashlib.sha256(path.encode()).hexdigest()
        record = Record(
            run_id="",
            item_id=digest[:16],
            part_id=Path(path).stem,
            view_id="",
            path=path,
            sha256=sha256,
            verdict=Verdict.INVALID,
            reasons=(reason,),
            processed_at=_now(),
            t_review=self.thresholds.review,
            t_defect=self.thresholds.defect,
            threshold_revision=self.revision,
            model_id=self.identity.model_id,
            calibration_id=self.calibration_id,
            device=self.identity.device,
            product=self.identity.product,
        )
        return Inspection(record)

    def _p(self, name: str, figures: dict[str, float]) -> float:
        return float(self._ranks[name].p_values(figures[name]))

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
            threshold_revision=self.revision,
            model_id=self.identity.model_id,
            calibration_id=self.calibration_id,
            device=self.identity.device,
            product=self.identity.product,
            decode_ms=picture.decode_ms,
            width=picture.width,
            height=picture.height,
            bit_depth=picture.bit_depth,
            **figures,
        )


def picture_quality(pixels: NDArray[Any]) -> list[float]:
    """Return the `QUALITY_FIGURES` of a picture."""
    figures = principal_figures(pixels)
    return [figures[name] for name in QUALITY_FIGURES]


def _counted(cells: NDArray[np.float32], ignored: IgnoreMask | None) -> NDArray[np.float32]:
    return cells if ignored is None else cells[:, ignored.kept(*cells.shape[1:])]


def _resized(maps: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    if maps.shape[1:] == (rows, columns):
        return maps
    return np.stack([cv2.resize(m, (columns, rows), interpolation=cv2.INTER_LINEAR) for m in maps])


def _blurred(maps: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.stack([cv2.GaussianBlur(m, (0, 0), sigma) for m in maps])


def _conformal(evidence: CalibratedEvidence) -> dict[str, float]:
    """Return the p-values of a record: none where they would be shares of variations."""
    if not evidence.promised:
        return {}
    return {
        "p_value": evidence.p_value,
        "p_value_global": evidence.p_value_whole,
        "p_value_local": evidence.p_value_local,
        "p_value_ood": evidence.p_value_spread,
    }


def _extents(extent: Sequence[Figures], bland: Sequence[Figures]) -> dict[str, Figures]:
    # A wrong input is strange at every scale; a large defect may fill the coarse one.
    return {"spread": np.min(extent, axis=0), "bland": np.max(bland, axis=0)}


def _typicality(log_energy: float, dimensions: int) -> float:
    return 0.5 * dimensions * (math.exp(log_energy) - 1)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
