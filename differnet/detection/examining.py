"""What a model bundle's self-test finds, check by check, for a person to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from differnet.detection.bundle import LOADING_CHECKS, load_bundle
from differnet.detection.detector import Detector
from differnet.detection.manifest import BundleError
from differnet.records import DiffernetError


@dataclass(frozen=True)
class ModelCheck:
    """One thing that a bundle has to pass.

    Attributes:
        name: One of `LOADING_CHECKS`.
        passed: ``None`` where one before it failed.
        found: In words.
    """

    name: str
    passed: bool | None
    found: str


@dataclass(frozen=True)
class Examined:
    """A bundle that was examined.

    Attributes:
        checks: All of `LOADING_CHECKS`, in their order.
        detector: Loaded; ``None`` where a check failed.
        error: Why, else ``None``.
    """

    checks: tuple[ModelCheck, ...]
    detector: Detector | None
    error: DiffernetError | None = None

    @property
    def sound(self) -> bool:
        """Whether every check was passed."""
        return self.detector is not None

    @property
    def sound_detector(self) -> Detector:
        """The detector of a sound bundle.

        Raises:
            DiffernetError: It is not sound; what its self-test found.
        """
        if self.error is not None or self.detector is None:
            raise self.error or BundleError(
                expected="a sound model", found="none", remedy="Examine its bundle again."
            )
        return self.detector


def examine_bundle(folder: Path, device: str = "auto") -> Examined:
    """Load a bundle, and tell what each check found; never raises for a bundle that is not sound.

    Args:
        folder: Of the bundle.
        device: Where it is to judge.

    Raises:
        BackboneError: The device is not there.
    """
    passed: dict[str, str] = {}
    try:
        detector = load_bundle(folder, device, passed.__setitem__)
    except BundleError as error:
        failed = next(name for name in LOADING_CHECKS if name not in passed)
        checks = [
            ModelCheck(name, True, passed[name])
            if name in passed
            else ModelCheck(name, False, f"expected {error.expected}; found {error.found}")
            if name == failed
            else ModelCheck(name, None, "not reached")
            for name in LOADING_CHECKS
        ]
        return Examined(tuple(checks), None, error)
    return Examined(tuple(ModelCheck(name, True, passed[name]) for name in LOADING_CHECKS), detector)
