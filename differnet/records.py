"""Dataclasses that travel between rooms, and the root of every error.

Nothing here computes. A record says what was seen and decided about one picture; the same
fields stand in JSON lines, tables, reports and pages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class DiffernetError(Exception):
    """Base of every error that differnet raises on purpose.

    Args:
        expected: What would have been right.
        found: What was there instead.
        remedy: What the person can do about it.

    Attributes:
        passing: The same may go well a little later.
    """

    passing = False

    def __init__(self, *, expected: str, found: str, remedy: str) -> None:
        self.expected = expected
        self.found = found
        self.remedy = remedy
        super().__init__(f"expected {expected}; found {found}. {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Arguments by keyword are lost by an exception's own pickling, and with them every error
        # that is raised in a worker process.
        return _rebuild_error, (type(self), self.__dict__)


def _rebuild_error(kind: type[DiffernetError], attributes: dict[str, Any]) -> DiffernetError:
    error = kind.__new__(kind)
    error.__dict__.update(attributes)
    error.args = (f"expected {error.expected}; found {error.found}. {error.remedy}",)
    return error


# Shares of good parts that may be reviewed and beyond, and rejected, where nobody asks for others.
USUAL_REVIEW, USUAL_DEFECT = 0.05, 0.01

# Good parts that a model keeps a small picture of, at most: about a megabyte.
MOST_REFERENCES = 64


class Verdict(StrEnum):
    """What is decided about one picture.

    PASS: as probable as good parts. REVIEW: between the two thresholds, a person looks.
    DEFECT: the right part, improbable. OOD: not the kind of picture the model knows.
    INVALID: unreadable, not finite, or judged by an unhealthy model.
    """

    PASS = "PASS"
    REVIEW = "REVIEW"
    DEFECT = "DEFECT"
    OOD = "OOD"
    INVALID = "INVALID"


@dataclass(frozen=True)
class Picture:
    """One decoded picture.

    Attributes:
        pixels: ``(height, width, 3)`` RGB; ``uint8``, or ``uint16`` scaled so that the white
            level of the source is 65535.
        path: Where it came from; ``None`` for pixels handed over in memory.
        sha256: Of the file's bytes (of the pixel buffer when there is no file).
        bit_depth: Bits a channel that the source carries (1, 2, 4, 8, 10, 12, 14 or 16).
        source_mode: Colour model of the source: ``grey``, ``grey+alpha``, ``rgb``, ``rgba``,
            ``palette``, ``cmyk``, ``bilevel``.
        orientation: EXIF orientation (1 to 8) that was applied to reach ``pixels``.
        captured_at: ISO 8601 time from EXIF, or ``None``.
        decode_ms: Time from opening the file to having pixels, in milliseconds.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    path: Path | None
    sha256: str
    bit_depth: int = 8
    source_mode: str = "rgb"
    orientation: int = 1
    captured_at: str | None = None
    decode_ms: float = 0.0

    @property
    def height(self) -> int:
        """Rows of ``pixels``."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of ``pixels``."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True)
class Region:
    """A connected strange area, in pixels of the original picture.

    Attributes:
        x, y, width, height: Bounding box; ``x, y`` is its upper left pixel.
        area: Pixels above the region threshold.
        peak: Largest heat-map value inside, in the heat map's unit.
        p_value: Conformal p-value of ``peak`` among the peaks of good calibration parts. Of a model that
            promises nothing a share among variations, not below ``1/(n+1)`` of its n parts.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float
    p_value: float


@dataclass(frozen=True)
class Record:
    """Everything that is kept about one inspected picture. One record is one row.

    Higher nll and strangeness are stranger; lower p-values are stranger. Figures that could not
    be computed are ``None``, never zero.

    Attributes:
        item_id: ``sha256`` of the picture's bytes shortened to 16 digits, unique within a run.
        part_id: The physical part; the file's stem unless the layout knows better.
        view_id: Which camera or view of that part.
        label: Ground truth where the folder tells it: ``good``, a kind of defect, or ``None``.
        reasons: Sentences a person can read, the strongest evidence first.
        nll_global: Negative log-density of the part's pooled statistics, nats.
        nll_local: Mean negative log-density of the patches where it is highest, nats; summed over the scales
            of patches, so that it is the same sum for every part.
        typicality_global: ``(|z|^2 - D) / 2`` of the pooled statistics, nats: nll with the log-determinant
            left out, the z-only statistic. The verdict rests on it, on the next and on ``nll_local``.
        typicality_local: The same of the patches where it is highest, their mean, summed likewise.
        bits_per_dim_global, bits_per_dim_local: nll in bits over its number of dimensions.
        strangeness: The verdict's statistic: all evidence together on a calibrated scale
            (``-log10`` of a smoothed tail probability). 2 means one good part in a hundred.
        p_value: Conformal p-value of ``strangeness`` among good calibration parts; ``None``, as the next
            three, where the model was calibrated on variations of one to three parts: nothing is promised.
        product: Which product it was judged as.
        p_value_global, p_value_local, p_value_ood: The same for each evidence alone: typicality of the
            whole, of the patches, of the picture's median cell.
        t_review, t_defect: The two thresholds on ``strangeness`` (T1, T2) in force.
        heat_map_path: Relative to the run's folder.
    """

    run_id: str
    item_id: str
    part_id: str
    view_id: str
    path: str
    sha256: str
    verdict: Verdict
    reasons: tuple[str, ...]
    label: str | None = None
    product: str = ""
    captured_at: str | None = None
    processed_at: str | None = None
    nll_global: float | None = None
    nll_local: float | None = None
    typicality_global: float | None = None
    typicality_local: float | None = None
    bits_per_dim_global: float | None = None
    bits_per_dim_local: float | None = None
    strangeness: float | None = None
    p_value: float | None = None
    p_value_global: float | None = None
    p_value_local: float | None = None
    p_value_ood: float | None = None
    t_review: float | None = None
    t_defect: float | None = None
    threshold_revision: int = 0
    regions: tuple[Region, ...] = ()
    heat_map_path: str | None = None
    model_id: str = ""
    calibration_id: str = ""
    backend: str = "torch"
    precision: str = "float32"
    device: str = "cpu"
    decode_ms: float = 0.0
    inference_ms: float = 0.0
    width: int = 0
    height: int = 0
    bit_depth: int = 0
    quality_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """A record with the arrays that a table cannot hold.

    Attributes:
        record: The row.
        heat_map: ``(rows, columns)`` float32 over the whole picture, or ``None`` when INVALID.
            Unit: ``-log10`` of the share of places on good parts that are as hot, the average of the scales,
            plus that of what a place adds to the whole, in proportion to what the whole says. Comparable
            between pictures.
    """

    record: Record
    heat_map: NDArray[np.float32] | None = field(default=None, repr=False)
