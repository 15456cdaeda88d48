"""What every model does whose evidence is known: judge, compare batches, say what it promises. No torch.

`differnet.Detector` computes evidence with torch, `differnet.runtime.ExportedDetector` by a graph.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from differnet.calibration import Thresholds, smallest_alpha
from differnet.detection.evidence import RawEvidence
from differnet.detection.ignoring import IgnoreMask
from differnet.detection.judging import Calibration, DriftFigures, Identity, Judge, picture_quality
from differnet.detection.settings import DetectorError, DetectorSettings
from differnet.detection.sources import Batch, Seen, Source, decoded, name_of, readable
from differnet.features.preprocessing import Preprocessing
from differnet.images.decoders import Refused
from differnet.images.reading import ImageError, file_hash
from differnet.records import Inspection, Picture

if TYPE_CHECKING:
    from differnet.calibration import BatchDrift

Progress = Callable[[str, int, int], None]


class Looked(NamedTuple):
    """A batch with what a model makes of it.

    Attributes:
        batch: Sources and pictures.
        evidence: Of those that could be read, in their order; ``None`` where none could.
        milliseconds: That a picture of it took, while other processors may have looked at others.
    """

    batch: Batch
    evidence: RawEvidence | None
    milliseconds: float


class Inspector(ABC):
    """Judge pictures by a calibration.

    Args:
        settings: As chosen.

    Attributes:
        skipped: Files that were left out, with the reason.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        self.settings = settings
        self.skipped: list[tuple[str, str]] = []
        self.preprocessing_: tuple[Preprocessing, ...] = ()
        self.ignored_: IgnoreMask | None = None
        self.calibration_: Calibration | None = None
        self.provenance_: dict[str, Any] = {}
        # sha256 of every training part, sorted; a picture that was given twice stands here twice.
        self._trained_on: tuple[str, ...] = ()
        self._judge_: Judge | None = None

    @property
    @abstractmethod
    def model_id(self) -> str:
        """Sixteen digits that name the densities."""

    @property
    @abstractmethod
    def device(self) -> str:
        """Where evidence is computed, as records say it."""

    @abstractmethod
    def _widths(self) -> tuple[int, ...]:
        """Return how many features the global density of the first zoom has, then each local one."""

    @abstractmethod
    def _couplings_kept(self) -> dict[str, int]:
        """Return how many densities kept their couplings, by the kind of density."""

    @abstractmethod
    def _evidence(self, pictures: list[Picture]) -> RawEvidence:
        """Return what speaks against each picture."""

    def _lacking(self) -> str:
        """Say what a detector is that cannot judge."""
        return "one without calibration"

    def inspect(self, picture: Source) -> Inspection:
        """Judge one picture. A picture that cannot be read is INVALID, with its reason."""
        return next(iter(self.inspect_many([picture])))

    def inspect_many(
        self, pictures: Iterable[Source], progress: Progress | None = None
    ) -> Iterator[Inspection]:
        """Judge pictures one after another, in their order, decoding ahead.

        Args:
            pictures: Files, decoded pictures, files that were refused elsewhere, or RGB arrays of shape
                ``(height, width, 3)``. Of an iterator they are drawn as they are needed, a few batches ahead
                of what is judged; all at once where somebody wants to know how many they are.
            progress: Called with ("inspect", done, total).
        """
        judge = self._judge()
        if isinstance(pictures, Iterator) and progress is None:
            yield from self._judged(judge, self._looked(pictures))
            return
        sources = list(pictures)
        for done, inspection in enumerate(self._judged(judge, self._looked(sources)), 1):
            yield inspection
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
        seen, gathered, done = Seen(), list[RawEvidence](), 0
        for batch, evidence, _ in self._looked(pictures):
            self._take(batch, seen, self.skipped)
            if evidence is not None:
                gathered.append(evidence)
            done += len(batch)
            if progress is not None:
                progress("drift", done, len(pictures))
        if not gathered:
            raise self._nothing_readable(len(pictures))
        return calibration.drift_figures(RawEvidence.joined(gathered), seen.figures, seen.names)

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
        identity = Identity(
            self.model_id, self.device, self.settings.product, self._widths(), self.trained_on
        )
        judge = Judge(calibration, identity)
        self.calibration_, self._judge_ = calibration, judge
        return judge

    def _judge(self) -> Judge:
        if self._judge_ is None:
            if self.calibration_ is None:
                raise DetectorError(
                    expected="a calibrated detector",
                    found=self._lacking(),
                    remedy="Call fit, then calibrate.",
                )
            return self._adopt(self.calibration_)
        return self._judge_

    def _judged(self, judge: Judge, looked: Iterator[Looked]) -> Iterator[Inspection]:
        for batch, evidence, each in looked:
            judged: Iterator[Inspection] = iter(())
            if evidence is not None:
                judged = judge.judge_all(evidence, readable(batch), each)
            for source, picture in batch:
                yield next(judged) if isinstance(picture, Picture) else self._refuse(judge, source, picture)

    def _refuse(self, judge: Judge, source: Source, error: ImageError) -> Inspection:
        if isinstance(source, Refused):
            known = source.sha256
        elif isinstance(source, Path | str):
            known = file_hash(Path(source), self.settings.reading.max_file_bytes)
        else:
            known = ""
        return judge.refuse(name_of(source), known, str(error))

    def _looked(self, pictures: Iterable[Source]) -> Iterator[Looked]:
        """Decode pictures batch by batch, drawing them as they are needed, and look at each batch."""
        yield from map(self._look_at, decoded(pictures, self.settings.reading))

    def _look_at(self, batch: Batch) -> Looked:
        started = time.perf_counter()
        some = readable(batch)
        evidence = self._evidence(some) if some else None
        return Looked(batch, evidence, 1000 * (time.perf_counter() - started) / max(1, len(some)))

    def _take(self, batch: Batch, seen: Seen, skipped: list[tuple[str, str]]) -> list[Picture]:
        """Note what is known of a batch's pictures, and why others are skipped; return the readable ones."""
        for source, picture in batch:
            if isinstance(picture, Picture):
                seen.hashes.append(picture.sha256)
                seen.names.append(name_of(source))
                seen.sources.append(source)
                seen.quality.append(self._quality(picture))
            else:
                skipped.append((name_of(source), str(picture)))
        return readable(batch)

    def _nothing_readable(self, pictures: int) -> DetectorError:
        return DetectorError(
            expected="pictures of good parts",
            found=f"{pictures} files, none of which can be read",
            remedy=self.skipped[0][1] if self.skipped else "Check the folder.",
        )

    def _quality(self, picture: Picture) -> list[float]:
        """Measure a picture as the network sees it: what is ignored does not count."""
        return picture_quality(self._seen(picture))

    def _seen(self, picture: Picture) -> NDArray[Any]:
        """Return a picture's pixels as the network sees them: what is ignored is painted over."""
        ignored = self.ignored_
        return (
            picture.pixels if ignored is None else ignored.paint(picture.pixels, self.preprocessing_[0].mean)
        )
