"""Read a whole folder once and say what a model would be trained and judged on.

Everything that spoils an accuracy figure in silence is looked for here: files that do not decode, the
same picture twice, the same picture in train and test, mixed sizes and depths, masks that do not fit.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from differnet.images.layouts import GOOD, Dataset, Part, read_layout
from differnet.images.quality import measure_quality, quality_flags
from differnet.images.reading import ImageError, ReadingRule, read_image, read_mask
from differnet.records import Picture

# Fewer good parts than this cannot state a false-alarm rate of 5 % (alpha >= 1 / (n + 1)) and still
# leave parts to train on.
_FEW_GOOD = 20
# Bit depths that industrial cameras have; 16 needs no setting.
_CAMERA_BITS = (10, 12, 14)


@dataclass(frozen=True)
class Refused:
    """A file that could not be used.

    Attributes:
        path: The file.
        reason: The code of :class:`differnet.images.headers.Refusal`.
        message: The whole sentence, with the remedy.
    """

    path: Path
    reason: str
    message: str


@dataclass(frozen=True)
class Leak:
    """A picture that stands in train and in test.

    Attributes:
        train, test: The two files.
        same: ``bytes`` for copies of a file, ``pixels`` for the same picture saved differently.
    """

    train: Path
    test: Path
    same: str


@dataclass(frozen=True)
class ScanReport:
    """What a folder holds.

    Attributes:
        root: The folder.
        layout: Its layout's name.
        products: Products found.
        counts: Parts by split and label.
        masks: Pictures with ground-truth masks that all fit.
        readable: Pictures that decode.
        unreadable: Pictures and masks that do not, with reasons.
        duplicates: Groups of files with the same bytes.
        leaks: Pictures in train and in test.
        flagged: Readable pictures that show nothing, by flag.
        sizes, modes, depths: How many pictures have each ``width x height``, colour model, bit depth.
        suggested_white_level: Setting for pictures of more than 8 bits that leave the top of their
            range empty; ``None`` where nothing needs to be set.
        warnings: What to look at before training, in sentences.
    """

    root: Path
    layout: str
    products: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    masks: int
    readable: int
    unreadable: tuple[Refused, ...]
    duplicates: tuple[tuple[Path, ...], ...]
    leaks: tuple[Leak, ...]
    flagged: Mapping[str, tuple[Path, ...]]
    sizes: Mapping[str, int]
    modes: Mapping[str, int]
    depths: Mapping[int, int]
    suggested_white_level: int | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; paths are relative to ``root``."""
        return {
            "root": str(self.root),
            "layout": self.layout,
            "products": list(self.products),
            "counts": {split: dict(labels) for split, labels in self.counts.items()},
            "masks": self.masks,
            "readable": self.readable,
            "unreadable": [
                {"path": self._short(file.path), "reason": file.reason, "message": file.message}
                for file in self.unreadable
            ],
            "duplicates": [[self._short(path) for path in group] for group in self.duplicates],
            "leaks": [
                {"train": self._short(leak.train), "test": self._short(leak.test), "same": leak.same}
                for leak in self.leaks
            ],
            "flagged": {flag: [self._short(path) for path in paths] for flag, paths in self.flagged.items()},
            "sizes": dict(self.sizes),
            "modes": dict(self.modes),
            "depths": {str(depth): n for depth, n in self.depths.items()},
            "suggested_white_level": self.suggested_white_level,
            "warnings": list(self.warnings),
        }

    def _short(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


@dataclass
class _Tally:
    """What is remembered of the pictures while they pass by, one at a time."""

    readable: int = 0
    masks: int = 0
    refused: list[Refused] = field(default_factory=list)
    by_bytes: dict[str, list[Part]] = field(default_factory=lambda: defaultdict(list))
    by_pixels: dict[str, list[Part]] = field(default_factory=lambda: defaultdict(list))
    flagged: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    sizes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    depths: Counter[int] = field(default_factory=Counter)
    undeclared_peak: int = 0

    def add(self, part: Part, rule: ReadingRule) -> None:
        try:
            picture = read_image(part.path, rule)
        except ImageError as error:
            self.refused.append(Refused(part.path, error.reason.value, str(error)))
            return
        self._describe(part, picture)
        shape = picture.height, picture.width
        # Every mask is read: each file that does not fit is to be named.
        fitting = [self._fits(mask, shape) for mask in part.mask_paths]
        self.masks += bool(fitting) and all(fitting)

    def _describe(self, part: Part, picture: Picture) -> None:
        self.readable += 1
        self.by_bytes[picture.sha256].append(part)
        self.by_pixels[_pixel_hash(picture)].append(part)
        self.sizes[f"{picture.width} x {picture.height}"] += 1
        self.modes[picture.source_mode] += 1
        self.depths[picture.bit_depth] += 1
        for flag in quality_flags(measure_quality(picture.pixels)):
            self.flagged[flag].append(part.path)
        if picture.bit_depth == 16:
            self.undeclared_peak = max(self.undeclared_peak, int(picture.pixels.max()))

    def _fits(self, mask: Path, shape: tuple[int, int]) -> bool:
        try:
            read_mask(mask, shape)
        except ImageError as error:
            self.refused.append(Refused(mask, error.reason.value, str(error)))
            return False
        return True


def scan(
    root: Path | str,
    layout: str = "auto",
    rule: ReadingRule | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ScanReport:
    """Read every picture of a folder and report what is there.

    Args:
        root: The folder.
        layout: As for :func:`differnet.images.layouts.read_layout`.
        rule: How pictures are read.
        progress: Called with (done, total) after each picture.

    Returns:
        The report. Files that cannot be read are in it; they stop nothing.

    Raises:
        LayoutError: The folder as a whole is not understood.
    """
    rule = rule or ReadingRule()
    dataset = read_layout(root, layout)
    tally = _Tally()
    for done, part in enumerate(dataset.parts, 1):
        tally.add(part, rule)
        if progress is not None:
            progress(done, len(dataset.parts))
    duplicates = tuple(
        tuple(part.path for part in group) for group in tally.by_bytes.values() if len(group) > 1
    )
    leaks = _leaks(tally)
    white = _suggested_white_level(tally.undeclared_peak) if rule.white_level is None else None
    return ScanReport(
        root=dataset.root,
        layout=dataset.layout,
        products=dataset.products,
        counts=dataset.counts,
        masks=tally.masks,
        readable=tally.readable,
        unreadable=tuple(tally.refused),
        duplicates=duplicates,
        leaks=leaks,
        flagged={flag: tuple(paths) for flag, paths in tally.flagged.items()},
        sizes=dict(tally.sizes.most_common()),
        modes=dict(tally.modes.most_common()),
        depths=dict(sorted(tally.depths.items())),
        suggested_white_level=white,
        warnings=tuple(_warnings(dataset, tally, duplicates, leaks, white)),
    )


def _pixel_hash(picture: Picture) -> str:
    digest = hashlib.sha256(repr((picture.pixels.shape, picture.pixels.dtype.str)).encode())
    digest.update(np.ascontiguousarray(picture.pixels).data)
    return digest.hexdigest()


def _leaks(tally: _Tally) -> tuple[Leak, ...]:
    found: dict[tuple[Path, Path], Leak] = {}
    for same, groups in (("bytes", tally.by_bytes), ("pixels", tally.by_pixels)):
        for group in groups.values():
            train = next((part.path for part in group if part.split == "train"), None)
            for part in group:
                if train is not None and part.split == "test":
                    found.setdefault((train, part.path), Leak(train, part.path, same))
    return tuple(found.values())


def _suggested_white_level(peak: int) -> int | None:
    """Round the largest value of the whole folder up to a camera's full scale."""
    if peak <= 255:
        return None
    return next((2**bits - 1 for bits in _CAMERA_BITS if peak < 2**bits), None)


def _warnings(
    dataset: Dataset,
    tally: _Tally,
    duplicates: tuple[tuple[Path, ...], ...],
    leaks: tuple[Leak, ...],
    white: int | None,
) -> Iterable[str]:
    yield from dataset.notes
    if tally.refused:
        yield f"{_files(len(tally.refused))} cannot be read and will be INVALID."
    if leaks:
        yield (
            f"{_files(len(leaks))} of the test split are in the train split too: "
            "every accuracy figure from them is too good."
        )
    if duplicates:
        surplus = sum(len(group) - 1 for group in duplicates)
        yield f"{_files(surplus)} are exact copies of others: error rates look surer than they are."
    for flag, paths in tally.flagged.items():
        yield f"{_files(len(paths))} show nothing ({flag}), first {paths[0].name}."
    if white is not None:
        yield (
            f"No 16-bit picture here exceeds {tally.undeclared_peak}: set the white level to {white}, "
            "or the parts stay nearly black."
        )
    yield from _mix_warnings(tally)
    yield from _split_warnings(dataset)


def _mix_warnings(tally: _Tally) -> Iterable[str]:
    if len(tally.depths) > 1:
        yield f"Bit depths are mixed ({_listing(tally.depths)}): one camera setting gives one depth."
    if len({mode.startswith(("grey", "bilevel")) for mode in tally.modes}) > 1:
        yield f"Grey and colour pictures are mixed ({_listing(tally.modes)})."
    if len(tally.sizes) > 3:
        yield f"{len(tally.sizes)} different sizes: parts are scaled to one, so that their scale varies."


def _split_warnings(dataset: Dataset) -> Iterable[str]:
    good = len(dataset.train_good)
    if good < _FEW_GOOD:
        yield f"Only {good} good parts to learn from; below {_FEW_GOOD} no 5 % error rate can be stated."
    strange = sum(part.split == "train" and part.label != GOOD for part in dataset.parts)
    if strange:
        yield f"{_files(strange)} of the train split are not good parts; they are not trained on."
    test = {part.label == GOOD for part in dataset.test if part.label is not None}
    if dataset.test and not test:
        yield "No test part has a label: nothing can be measured."
    if test == {True}:
        yield "No defective test part: recall cannot be measured."
    if test == {False}:
        yield "No good test part: false alarms cannot be measured."


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _listing(counted: Mapping[Any, int]) -> str:
    return ", ".join(f"{name}: {n}" for name, n in sorted(counted.items(), key=lambda item: -item[1]))
