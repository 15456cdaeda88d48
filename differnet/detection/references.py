"""Good parts that a model keeps a small picture of: which of them is most like this one?"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.detection.settings import DetectorError
from differnet.images.headers import ImageError, read_header
from differnet.images.reading import ReadingRule, read_image

THUMBNAIL_SIDE = 256
"""Longest side of a kept picture in pixels: enough to see how a part lies, too little to read it."""

LARGEST_THUMBNAIL = 1 << 17
"""Bytes of a kept picture. The worst, black and white noise, takes five eighths of it."""

_QUALITY = 85
# Bytes of a sha256.
_DIGEST = 32
# What is shown was bounded when it was kept, and is bounded again when it is read.
_RULE = ReadingRule(max_pixels=THUMBNAIL_SIDE**2, max_file_bytes=LARGEST_THUMBNAIL)


class Reference(NamedTuple):
    """A good part that was trained on.

    Attributes:
        sha256: Of its file.
        thumbnail: JPEG of it, at most `THUMBNAIL_SIDE` pixels along a side.
        distance: How far it is from the picture that was asked about: root mean square over all pooled
            statistics, in standard deviations of good parts.
    """

    sha256: str
    thumbnail: bytes
    distance: float

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """``(height, width, 3)`` RGB, or ``None`` where the kept bytes are no picture any more."""
        try:
            return read_image(self.thumbnail, _RULE).pixels.astype(np.uint8, copy=False)
        except ImageError:
            return None


@dataclass(frozen=True)
class References:
    """Some good parts, chosen so that every training part has a like one among them.

    Half precision is enough for what only ranks likeness: standardised statistics of good parts are a few
    units large, and the rounding of a thousand of them averages out.

    Attributes:
        statistics: ``(n, features)`` pooled statistics in standard deviations of good parts, float16.
        thumbnails: Of each a JPEG.
        hashes: Of each the sha256 of its file.
    """

    statistics: NDArray[np.float16]
    thumbnails: tuple[bytes, ...]
    hashes: tuple[str, ...]

    @classmethod
    def none(cls, features: int) -> Self:
        """Return no good parts of so many statistics."""
        return cls(np.zeros((0, features), dtype=np.float16), (), ())

    @classmethod
    def of(
        cls, standardised: NDArray[np.floating[Any]], thumbnails: Sequence[bytes], hashes: Sequence[str]
    ) -> Self:
        """Keep good parts.

        Args:
            standardised: ``(n, features)`` statistics in standard deviations of good parts.
            thumbnails: Of each what `thumbnail_of` makes of it.
            hashes: Of each the sha256 of its file.
        """
        limit = float(np.finfo(np.float16).max)
        statistics = np.clip(standardised, -limit, limit).astype(np.float16)
        return cls(statistics, tuple(thumbnails), tuple(hashes))

    def __len__(self) -> int:
        return len(self.hashes)

    def nearest(self, standardised: NDArray[np.floating[Any]], but: str = "") -> Reference | None:
        """Return the part most like a picture, or ``None`` where there is none to compare with.

        Args:
            standardised: ``(features,)`` statistics of the picture, in standard deviations of good parts.
            but: sha256 of a part that is not meant: a picture is most like itself.
        """
        asked = np.asarray(standardised, dtype=np.float64)
        others = [place for place, sha256 in enumerate(self.hashes) if sha256 != but]
        if not others or not np.isfinite(asked).all():
            return None
        apart = np.sqrt(np.mean((self.statistics[others].astype(np.float64) - asked) ** 2, axis=1))
        found = int(apart.argmin())
        place = others[found]
        return Reference(self.hashes[place], self.thumbnails[place], float(apart[found]))

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays for a file: ``statistics``, ``hashes``, ``lengths`` and ``thumbnails``."""
        digests = b"".join(bytes.fromhex(sha256) for sha256 in self.hashes)
        return {
            "statistics": self.statistics,
            "hashes": np.frombuffer(digests, dtype=np.uint8).reshape(-1, _DIGEST),
            "lengths": np.array([len(blob) for blob in self.thumbnails], dtype=np.int64),
            "thumbnails": np.frombuffer(b"".join(self.thumbnails), dtype=np.uint8),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], learned: Collection[str]) -> Self:
        """Rebuild from `arrays`, whose shapes and types are known to be right.

        Args:
            arrays: By name.
            learned: sha256 of every part that the model was trained on.

        Raises:
            DetectorError: A part that was not trained on or stands there twice, pictures of another length
                than is said, or what is no small JPEG.
        """
        hashes = tuple(row.tobytes().hex() for row in arrays["hashes"])
        lengths, blob = arrays["lengths"].tolist(), arrays["thumbnails"].tobytes()
        if len(set(hashes)) != len(hashes) or not set(hashes) <= set(learned):
            raise _unfit("different parts that the model was trained on", "others")
        if sum(lengths) != len(blob) or not all(0 < n <= LARGEST_THUMBNAIL for n in lengths):
            raise _unfit(f"{len(blob)} bytes of pictures", f"lengths {lengths[:5]}")
        ends = np.cumsum(lengths, dtype=np.int64).tolist()
        thumbnails = tuple(blob[end - n : end] for end, n in zip(ends, lengths, strict=True))
        for thumbnail in thumbnails:
            _require_small(thumbnail)
        return cls(arrays["statistics"], thumbnails, hashes)


def spread_out(vectors: NDArray[np.floating[Any]], most: int) -> list[int]:
    """Choose some vectors so that none of the others is far from all of them.

    Farthest-point traversal: first the one nearest to the mean, then again and again the one that is farthest
    from all chosen before. No choice of as many has less than half its largest distance.

    Args:
        vectors: ``(n, features)``.
        most: How many to choose at most; all where there are no more.

    Returns:
        Their places, in the order they were chosen. The same vectors give the same places.

    Source: Gonzalez 1985, "Clustering to minimize the maximum intercluster distance".

    Example:
        >>> spread_out(np.array([[0.0], [1.0], [1.1], [9.0]]), 2)
        [2, 3]
    """
    points = np.asarray(vectors, dtype=np.float64)
    if not len(points) or most < 1:
        return []
    chosen = [int(_squares(points, points.mean(axis=0)).argmin())]
    apart = _squares(points, points[chosen[0]])
    while len(chosen) < min(most, len(points)):
        # Copies of a vector are as near as can be; each is chosen once all the same.
        apart[chosen] = -1.0
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, _squares(points, points[chosen[-1]]))
    return chosen


def thumbnail_of(pixels: NDArray[Any]) -> bytes:
    """Return a JPEG of a picture, at most `THUMBNAIL_SIDE` pixels along a side; small ones keep their size.

    Args:
        pixels: ``(height, width, 3)`` RGB, uint8 or uint16.
    """
    shown = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    height, width = shown.shape[:2]
    scale = THUMBNAIL_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        shown = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(
        ".jpg", np.ascontiguousarray(shown[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    return bytes(encoded)


def most_bytes(parts: int) -> int:
    """Return how many bytes the pictures of so many parts may take together."""
    return parts * LARGEST_THUMBNAIL


def _squares(points: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(((points - centre) ** 2).sum(axis=1))


def _require_small(thumbnail: bytes) -> None:
    try:
        header = read_header(io.BytesIO(thumbnail), len(thumbnail))
    except ImageError as error:
        raise _unfit("JPEG pictures of good parts", error.found) from error
    if header.kind != "jpeg" or max(header.width, header.height) > THUMBNAIL_SIDE:
        raise _unfit(
            f"JPEG pictures of at most {THUMBNAIL_SIDE} pixels along a side",
            f"a {header.kind} of {header.width} x {header.height}",
        )


def _unfit(expected: str, found: str) -> DetectorError:
    return DetectorError(expected=expected, found=found, remedy="Train the model again.")
