"""What is usual for the good parts of a calibration, and what follows from that alone. No torch.

The detector judges by it; `differnet.detection.good_parts` reads it off a bundle, to say what other
thresholds would promise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from differnet.calibration import (
    OOD_STRANGENESS,
    Expectation,
    Kernel,
    TailScale,
    surprise,
    threshold,
    together,
)

if TYPE_CHECKING:
    from differnet.detection.evidence import RawEvidence

Figures = NDArray[np.float64]

# The arrays of a calibration, by the names of its attributes.
CALIBRATION_ARRAYS = (
    *("whole", "local", "nll_local", "extent", "cells", "kinds"),
    *("peaks", "heat", "kernels", "origin", "quality"),
)
# What is kept of how a calibration part's picture looks, of `QualityFigures`. The others are 0 of nearly
# every good picture, or follow from these.
QUALITY_FIGURES = ("brightness", "contrast", "sharpness", "colour_cast")


@dataclass(frozen=True)
class _Usual:
    """What one evidence usually is: without regard to the kind of part, and for its kind where that helps.

    The global evidence is asked both ways. A part that is strange among parts of its own kind may hide
    among all kinds, and one whose very kind is strange may look usual for it.
    """

    plain: Expectation
    kind: Expectation | None = field(default=None)

    @classmethod
    def fit(cls, figures: Figures, kinds: Figures, kernel: Figures, *, both: bool) -> Self:
        length, signal = (float(v) for v in kernel)
        plain = Expectation.fit(figures, kinds[:, :0], Kernel(1.0, 0.0))
        if not signal:
            return cls(plain)
        known = Expectation.fit(figures, kinds, Kernel(length, signal))
        return cls(plain, known) if both else cls(known)

    @property
    def asked(self) -> list[Expectation]:
        return [self.plain] if self.kind is None else [self.plain, self.kind]

    @property
    def held_out(self) -> Figures:
        return together([surprise(e.held_out) for e in self.asked])

    def surprise(self, figures: Figures, kinds: Figures) -> Figures:
        # An expectation that learned no kinds takes none.
        return together([surprise(e.surplus(figures, kinds[:, : e.kinds.shape[1]])) for e in self.asked])


@dataclass(frozen=True)
class Surprises:
    """Surprise ``(parts,)`` of each kind of evidence: one a zoom of the whole, and one a scale of patches.

    Of patches the strangest scale counts. A defect has a size, and the scales that do not fit it would only
    add what is usual for good parts.
    """

    whole: list[Figures]
    local: list[Figures]

    @property
    def patches(self) -> Figures:
        """Of patches, at the strangest scale."""
        return np.asarray(np.max(self.local, axis=0))

    @property
    def sums(self) -> dict[str, Figures]:
        """Of everything, of the whole and of patches."""
        return {
            "total": together([*self.whole, self.patches]),
            "whole": together(self.whole),
            "local": self.patches,
        }

    @property
    def shares_of_zooms(self) -> Figures:
        """How much of all that is said of a part each zoom's whole says, ``(zooms, parts)``."""
        by_zoom = np.stack(self.whole)
        shares: Figures = by_zoom / np.maximum(by_zoom.sum(0) + self.patches, 1e-300)
        return shares


class Said(NamedTuple):
    """What one statistic says of parts, beside what it says of the calibration's own.

    Attributes:
        density: ``whole`` or ``patches``.
        place: Number of the zoom of the whole, or of the scale of patches.
        statistic: ``typicality`` or ``improbability``, see `Usual`.
        surprise: ``(parts,)``.
        held_out: ``(n,)`` surprise of each good part, left out of what is usual.
    """

    density: Literal["whole", "patches"]
    place: int
    statistic: str
    surprise: Figures
    held_out: Figures


@dataclass(frozen=True)
class Usual:
    """What every kind of evidence usually is.

    Patches are judged by whichever of the two statistics of their density is the stranger. *Typicality*, the
    latent norm, compares a patch with others of its own local volume: what is strange for a smooth place
    need not be improbable at all. *Improbability*, the whole nll, counts that volume: it tells a place that
    has become rougher than any good one, to which typicality is blind. The whole of a part has no places.

    Attributes:
        whole: One a zoom.
        local: One a scale, by the name of the statistic; those that are left out do not count.
        typical: ``(scales,)`` nll of a middling good part, from which improbability counts.
    """

    whole: list[_Usual]
    local: Mapping[str, list[_Usual]]
    typical: Figures

    @classmethod
    def of(cls, arrays: Mapping[str, Figures]) -> Self:
        """Learn from the arrays of a calibration, by their names in `CALIBRATION_ARRAYS`."""
        whole_figures, local_figures, nll_local = (arrays[name] for name in ("whole", "local", "nll_local"))
        zooms, scales = whole_figures.shape[1], local_figures.shape[1]
        whole, typicality, improbability = np.split(arrays["kernels"], [zooms, zooms + scales])
        typical = middling(nll_local)

        def fit(columns: Figures, kernels: Figures, *, both: bool) -> list[_Usual]:
            pairs = zip(columns.T, kernels, strict=True)
            return [_Usual.fit(column, arrays["kinds"], kernel, both=both) for column, kernel in pairs]

        return cls(
            fit(whole_figures, whole, both=True),
            {
                "typicality": fit(local_figures, typicality, both=False),
                "improbability": fit(improbability_of(nll_local, typical), improbability, both=False),
            },
            typical,
        )

    @property
    def held_out(self) -> Surprises:
        """Of the good parts themselves, each left out of what is usual."""
        local = [[u.held_out for u in of] for of in self.local.values()]
        return Surprises([u.held_out for u in self.whole], list(np.max(local, axis=0)))

    def surprises(self, raw: RawEvidence) -> Surprises:
        """Of parts that nobody has seen."""
        local = [
            [u.surprise(figures, raw.kinds) for figures, u in zip(raw_of.T, of, strict=True)]
            for raw_of, of in self._patches(raw)
        ]
        whole = [u.surprise(raw.whole[:, i], raw.kinds) for i, u in enumerate(self.whole)]
        return Surprises(whole, list(np.max(local, axis=0)))

    def said(self, raw: RawEvidence) -> list[Said]:
        """Of parts that nobody has seen, statistic by statistic: first of the whole, then of patches."""
        found = [
            Said("whole", i, "typicality", u.surprise(raw.whole[:, i], raw.kinds), u.held_out)
            for i, u in enumerate(self.whole)
        ]
        for name, (raw_of, of) in zip(self.local, self._patches(raw), strict=True):
            found += [
                Said("patches", i, name, u.surprise(raw_of[:, i], raw.kinds), u.held_out)
                for i, u in enumerate(of)
            ]
        return found

    def _patches(self, raw: RawEvidence) -> list[tuple[Figures, list[_Usual]]]:
        """Return ``(parts, scales)`` of each statistic of patches that counts, and what is usual of it."""
        figures = {"typicality": raw.local, "improbability": improbability_of(raw.nll_local, self.typical)}
        return [(figures[name], of) for name, of in self.local.items()]


def middling(nll: Figures) -> Figures:
    """Return nll ``(scales,)`` of a middling good part, of ``(parts, scales)``."""
    return np.asarray(np.median(nll, axis=0), dtype=np.float64)


def improbability_of(nll: Figures, typical: Figures) -> Figures:
    """Bring nll, ``(parts, scales)`` nats a feature, to the scale of a log energy.

    Twice the excess is the excess of an energy where the volume is as usual; like its logarithm it grows
    slowly far out, and unlike it stays defined where a patch is more probable than any.
    """
    return np.arcsinh(2 * (nll - typical))


def good_strangeness(sums: Mapping[str, Figures]) -> dict[str, Figures]:
    """Return the strangeness ``(parts,)`` of the good parts themselves, by the names of `Surprises.sums`."""
    return {name: TailScale.fit(figures).strangeness(figures) for name, figures in sums.items()}


def own_thresholds(
    good: Figures, alpha_review: float, alpha_defect: float, *, promised: bool
) -> tuple[float, float]:
    """Return T1 and T2 that follow from a calibration alone.

    Args:
        good: ``(parts,)`` strangeness of the good parts.
        alpha_review: Share of good parts that T1 may flag.
        alpha_defect: Share of good parts that T2 may flag.
        promised: Whether the rates hold for new good parts.

    Raises:
        CalibrationError: A rate is smaller than the parts can promise.
    """
    review, defect = threshold(good, alpha_review), threshold(good, alpha_defect)
    # Another good part may be stranger than every variation. A person looks at what is, and only what none
    # comes near, by the measure of pictures that are no parts, is rejected.
    return review, defect if promised else max(defect, OOD_STRANGENESS)


def calibration_name(
    rates: Sequence[float | int | str], arrays: Mapping[str, Figures], ignored: NDArray[np.bool_] | None
) -> str:
    """Return the sixteen digits that name a calibration.

    Args:
        rates: The promised rates, and the scheme they rest on.
        arrays: By their names, in the order of `CALIBRATION_ARRAYS`.
        ignored: Cells that count for nothing, if any.
    """
    digest = hashlib.sha256(repr(tuple(rates)).encode())
    for name in CALIBRATION_ARRAYS:
        digest.update(np.ascontiguousarray(arrays[name], dtype=np.float64).tobytes())
    if ignored is not None:
        digest.update(ignored.tobytes())
    return digest.hexdigest()[:16]


def rates_of(
    alpha_review: float, alpha_defect: float, scheme: str, real_parts: int | None
) -> tuple[float | int | str, ...]:
    """Return the rates of a calibration, and the scheme they rest on."""
    rates = (alpha_review, alpha_defect, scheme)
    return rates if real_parts is None else (*rates, real_parts)
