"""One model of several products: which product a part is follows from the global densities.

The product is a condition of every density, and one that shares nothing between its values: each product
keeps densities, calibration and promises of its own, while all share one pass of one backbone. Without
being told, the product of a part is the one of highest posterior probability, by Bayes' rule with equal
priors from the global log-densities. A part of no known product is strange to whichever it is taken for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from differnet.detection.detector import Detector
from differnet.detection.evidence import RawEvidence
from differnet.detection.gathering import Features
from differnet.detection.inspector import Progress
from differnet.detection.manifest import BundleError
from differnet.detection.settings import DetectorError, DetectorSettings
from differnet.detection.sources import Source, decoded, readable
from differnet.durable import whole_folder
from differnet.images.reading import ImageError
from differnet.records import Inspection, Picture

_MANIFEST = "family.json"
_SCHEMA = 1
_LARGEST_MANIFEST = 1 << 20


class Family:
    """Detectors of several products behind one pass of the network.

    Args:
        detectors: By product, calibrated, of the same backbone, input and reading.

    Raises:
        DetectorError: No detectors, one that is not calibrated, or some that do not see pictures alike: of
            another backbone, input, reading or ignored region.

    Example:
        ``Family.fit({"bolt": bolts, "nut": nuts}).inspect("part.png").record.product``
    """

    def __init__(self, detectors: Mapping[str, Detector]) -> None:
        seen = {name: _sight(d) for name, d in detectors.items()}
        if not seen or len(set(seen.values())) > 1:
            raise DetectorError(
                expected="detectors of at least one product, all of one backbone, input and reading",
                found=", ".join(f"{name}: {sight}" for name, sight in seen.items()) or "none",
                remedy="Train them with the same settings.",
            )
        for detector in detectors.values():
            detector.facts()  # raises, with its reason, unless the detector can judge
        self.detectors = dict(detectors)
        self._first = next(iter(detectors.values()))

    @classmethod
    def fit(
        cls,
        pictures: Mapping[str, Sequence[Source]],
        settings: DetectorSettings | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Fit and calibrate on the good parts of each product.

        Args:
            pictures: Good parts by product.
            settings: For every product; its product's name is replaced.
            progress: Called with (stage, done, total).

        Raises:
            DetectorError: A product has too few parts.
        """
        chosen = settings or DetectorSettings()
        fitted: dict[str, Detector] = {}
        for product, parts in pictures.items():

            def told(stage: str, done: int, of: int, product: str = product) -> None:
                if progress is not None:
                    progress(f"{product}: {stage}", done, of)

            fitted[product] = Detector(replace(chosen, product=product)).fit(parts, told).calibrate()
        return cls(fitted)

    @property
    def products(self) -> tuple[str, ...]:
        """Names of the products, in the order they were given."""
        return tuple(self.detectors)

    def identify(self, pictures: Iterable[Source]) -> Iterator[dict[str, float]]:
        """Yield each picture's posterior probability of every product.

        Raises:
            ImageError: A picture cannot be read.
        """
        for batch in decoded(list(pictures), self._first.settings.reading):
            some: list[Picture] = []
            for _, picture in batch:
                if isinstance(picture, ImageError):
                    raise picture
                some.append(picture)
            for row in self._posterior(self._first._features(some)):
                yield dict(zip(self.products, row.tolist(), strict=True))

    def inspect(self, picture: Source, product: str | None = None) -> Inspection:
        """Judge one picture, as ``product`` or as the product it most probably is."""
        return next(iter(self.inspect_many([picture], product)))

    def inspect_many(
        self, pictures: Iterable[Source], product: str | None = None, progress: Progress | None = None
    ) -> Iterator[Inspection]:
        """Judge pictures one after another, in their order.

        Args:
            pictures: Files, decoded pictures or ``(height, width, 3)`` RGB arrays.
            product: What they are; ``None`` finds out for each.
            progress: Called with ("inspect", done, total).

        Raises:
            DetectorError: There is no such product.
        """
        if product is not None and product not in self.detectors:
            raise DetectorError(
                expected=f"one of the products {', '.join(self.products)}",
                found=repr(product),
                remedy="Leave the product out to have it found.",
            )
        sources = list(pictures)
        done = 0
        for batch in decoded(sources, self._first.settings.reading):
            some = readable(batch)
            judged = iter(self._judged(some, product)) if some else iter(())
            for source, picture in batch:
                if isinstance(picture, Picture):
                    yield next(judged)
                else:
                    first = self.detectors[product] if product else self._first
                    yield first._refuse(first._judge(), source, picture)
                done += 1
                if progress is not None:
                    progress("inspect", done, len(sources))

    def save(self, folder: Path) -> Path:
        """Write every product's bundle below ``folder``, replacing an older family there.

        Raises:
            BundleError: ``folder`` holds something that is not a family.
        """
        folder = Path(folder)
        if _holds_other_files(folder):
            raise BundleError(
                expected="an empty folder, or an older family of models",
                found=f"other files at {folder}",
                remedy="Choose another folder; nothing there was touched.",
            )
        with whole_folder(folder) as building:
            members: dict[str, dict[str, str]] = {}
            for number, (product, detector) in enumerate(self.detectors.items()):
                detector.save(building / f"product-{number}")
                members[product] = {"folder": f"product-{number}", **_ids(detector)}
            text = json.dumps({"schema_version": _SCHEMA, "products": members}, indent=1, sort_keys=True)
            (building / _MANIFEST).write_text(text + "\n", encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read a family back; every bundle is checked and tests itself.

        Raises:
            BundleError: The manifest or a bundle is not as it was written.
        """
        folder = Path(folder)
        members = _read_manifest(folder)
        detectors: dict[str, Detector] = {}
        for product, known in members.items():
            detector = Detector.load(folder / known["folder"], device)
            if detector.settings.product != product or _ids(detector) != {
                k: known[k] for k in _ids(detector)
            }:
                raise _wrong(f"the model of {product}", f"another one in {known['folder']}")
            detectors[product] = detector
        return cls(detectors)

    def _judged(self, pictures: list[Picture], product: str | None) -> list[Inspection]:
        started = time.perf_counter()
        features = self._first._features(pictures)
        posterior = self._posterior(features)
        names = [product or self.products[int(i)] for i in posterior.argmax(1)]
        evidence: dict[str, tuple[list[int], RawEvidence]] = {}
        for name in dict.fromkeys(names):
            index = [i for i, other in enumerate(names) if other == name]
            detector = self.detectors[name]
            evidence[name] = index, detector._fitted().evidence(features[torch.tensor(index)])
        each = 1000 * (time.perf_counter() - started) / len(pictures)
        found: dict[int, Inspection] = {}
        for name, (index, raw) in evidence.items():
            judged = self.detectors[name]._judge().judge_all(raw, [pictures[i] for i in index], each)
            found |= dict(zip(index, judged, strict=True))
        return [found[i] for i in range(len(pictures))]

    def _posterior(self, features: Features) -> NDArray[np.float64]:
        """Return ``(parts, products)``."""
        nll = [
            d._fitted().complete.wholes[0].energy(features.statistics[0])[1] for d in self.detectors.values()
        ]
        # Evidence that is not finite tells nothing of the product; the judge then says INVALID.
        log_density = torch.nan_to_num(-torch.stack(nll, 1).double(), nan=0.0)
        return np.asarray(log_density.softmax(1).numpy())


def _holds_other_files(folder: Path) -> bool:
    """Whether anything lies there that an older family would not have."""
    if not folder.exists():
        return False
    found = {p.name for p in folder.iterdir()} if folder.is_dir() else {folder.name}
    own = {_MANIFEST} | {f"product-{i}" for i in range(len(found))}
    return bool(found) and (_MANIFEST not in found or not found <= own)


def _sight(detector: Detector) -> tuple[Any, ...]:
    """Return everything that decides what a picture's features are."""
    s = detector.settings
    weights = detector.provenance_.get("backbone", {}).get("sha256")
    ignored = detector.ignored_
    painted = None if ignored is None else ignored.cells.tobytes()
    reading = json.dumps(s.reading.to_json(), sort_keys=True)
    return s.backbone, weights, s.strides, s.sizes, s.scales, reading, painted, detector.preprocessing_


def _ids(detector: Detector) -> dict[str, str]:
    judge = detector._judge()
    return {"model_id": judge.identity.model_id, "calibration_id": judge.calibration_id}


def _read_manifest(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / _MANIFEST
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST_MANIFEST:
        raise _wrong(f"a family of models at {folder}", f"no plain {_MANIFEST} there")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        members = fields["products"]
        sound = set(fields) == {"schema_version", "products"} and fields["schema_version"] == _SCHEMA
        sound = (
            sound
            and bool(members)
            and all(
                set(m) == {"folder", "model_id", "calibration_id"}
                and all(isinstance(v, str) for v in m.values())
                for m in members.values()
            )
        )
        folders = [m["folder"] for m in members.values()] if sound else []
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise _wrong(f"a strict {_MANIFEST}", str(error)) from error
    if not sound or sorted(folders) != sorted(f"product-{i}" for i in range(len(folders))):
        raise _wrong(f"a {_MANIFEST} that this version understands", "other fields, or folders outside")
    return dict(members)


def _wrong(expected: str, found: str) -> BundleError:
    return BundleError(
        expected=expected,
        found=found,
        remedy="The family is damaged or was changed; copy it again from its source, or train it again.",
    )
