"""What this machine has, and whether it can do the work: for `differnet doctor` and the page Settings."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from differnet import __version__

# All four put their files into the folder cv2: the one that was installed last wins, in parts.
OPENCV_WHEELS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
# A run of 1,000 pictures takes about 0.1 GB, a model 0.05 GB.
ENOUGH_DISK = 2 * 2**30
TOO_LITTLE_DISK = 200 * 2**20


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: Whether it is as it should be.
        found: What is there.
        remedy: What to do where it is not as it should be.
    """

    name: str
    state: State
    found: str
    remedy: str = ""


def machine_checks(folder: Path, progress: Callable[[str, int, int], None] | None = None) -> list[Check]:
    """Look at this machine.

    Args:
        folder: Where runs and models will be written.
        progress: Called with (stage, done, total): torch and the weights take seconds.

    Returns:
        Every check, in the order in which a person should read them.
    """
    groups: list[Callable[[], Iterator[Check]]] = [
        check_python,
        check_libraries,
        check_opencv,
        check_processor,
        check_gpu,
        check_weights,
        lambda: check_folder(folder),
        check_telemetry,
    ]
    found: list[Check] = []
    for done, group in enumerate(groups):
        if progress is not None:
            progress("looking at this machine", done, len(groups))
        found += group()
    if progress is not None:
        progress("looking at this machine", len(groups), len(groups))
    return found


def summary(checks: list[Check]) -> str:
    """Say how a machine's checks came out.

    Example:
        >>> summary([Check("gpu", State.NOTE, "none"), Check("cv2", State.WARNING, "two wheels")])
        '0 in the way, 1 to look at.'
    """
    problems = sum(check.state is State.PROBLEM for check in checks)
    warnings = sum(check.state is State.WARNING for check in checks)
    return f"{problems} in the way, {warnings} to look at." if problems or warnings else "All well."


def check_python() -> Iterator[Check]:
    """Look at the interpreter and the operating system."""
    supported = sys.version_info >= (3, 11)
    yield Check(
        "python",
        State.OK if supported else State.PROBLEM,
        f"{platform.python_version()}, {platform.system()} {platform.machine()}, differnet {__version__}",
        "" if supported else "Use Python 3.11 or later.",
    )


def library_versions() -> dict[str, str | None]:
    """Return the version of every library that differnet itself asks for; ``None`` where it is missing."""
    try:
        required = importlib.metadata.requires("differnet") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required if "extra ==" not in line]
    return {name: _version(name) for name in sorted(names, key=str.lower)}


def check_libraries() -> Iterator[Check]:
    """Look at what differnet needs."""
    versions = library_versions()
    if not versions:
        yield Check(
            "libraries", State.WARNING, "differnet is not installed, only imported", "Run: pip install -e ."
        )
        return
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        yield Check("libraries", State.PROBLEM, f"missing: {', '.join(missing)}", "Install differnet again.")
        return
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield Check("libraries", State.OK, listed)


def check_opencv() -> Iterator[Check]:
    """Look for several wheels in one folder: they overwrite each other's files."""
    found = {name: version for name in OPENCV_WHEELS if (version := _version(name)) is not None}
    listed = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        yield Check(
            "cv2",
            State.WARNING,
            f"{len(found)} wheels share one folder: {listed}",
            f"pip uninstall -y {' '.join(found)}, then install one of them again.",
        )
    elif found:
        yield Check("cv2", State.OK, listed)
    else:
        yield Check("cv2", State.PROBLEM, "no OpenCV wheel", "pip install opencv-python-headless")


def check_processor() -> Iterator[Check]:
    """Look at the processor and the memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = _memory()
    words = f"{_processor_name()}, {cores} cores" + (f", {memory / 2**30:.1f} GB memory" if memory else "")
    enough = memory is None or memory >= 4 * 2**30
    yield Check(
        "processor",
        State.OK if enough else State.WARNING,
        words,
        "" if enough else "Training needs about 4 GB; choose a smaller --image-size.",
    )


def _processor_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_gpu() -> Iterator[Check]:
    """Look for a GPU that torch can use."""
    from differnet.features import gpus

    build = _version("torch")
    found = gpus()
    if not found:
        yield Check("gpu", State.NOTE, f"none that torch {build} can use; everything works without one")
    for name, memory in found:
        yield Check("gpu", State.OK, f"{name}, {memory / 2**30:.0f} GB, torch {build}")


def check_weights() -> Iterator[Check]:
    """Look for ImageNet weights that work offline, and verify each file's sha256."""
    from differnet.features.weights import PACKAGED, packaged_file, sha256_of

    for backbone, packaged in PACKAGED.items():
        file = packaged_file(backbone)
        name = f"weights {backbone.removeprefix('tf_')}"
        if file is None:
            extra = f"differnet[{packaged.extra}]" if packaged.extra else packaged.package
            state = State.NOTE if packaged.extra else State.PROBLEM
            yield Check(name, state, "not installed", f'pip install "{extra}"')
        elif (found := sha256_of(file)) != packaged.sha256:
            remedy = f"pip install --force-reinstall {packaged.package}"
            yield Check(name, State.PROBLEM, f"sha256 {found}, not {packaged.sha256}", remedy)
        else:
            yield Check(name, State.OK, f"{file.name}, sha256 {found[:16]}... verified")


def check_folder(folder: Path) -> Iterator[Check]:
    """Write, rename and read a file where runs will be, and look at the free space."""
    from differnet.reporting.artefacts import RunError, write_atomically

    shown = folder.resolve()
    try:
        with tempfile.TemporaryDirectory(prefix=".differnet-", dir=folder) as place:
            file = Path(place) / "probe"
            write_atomically(file, b"before")
            write_atomically(file, b"after")
            kept = file.read_bytes() == b"after"
        free = shutil.disk_usage(folder).free
    except (OSError, RunError) as error:
        yield Check("write and rename", State.PROBLEM, f"{shown}: {error}", "Choose another --folder.")
        return
    state, remedy = (State.OK, "") if kept else (State.PROBLEM, "Choose a folder on a local disk.")
    yield Check("write and rename", state, str(shown), remedy)
    state = State.OK if free >= ENOUGH_DISK else State.WARNING if free >= TOO_LITTLE_DISK else State.PROBLEM
    yield Check("free disk", state, f"{free / 2**30:.1f} GB", "" if state is State.OK else "Make room.")


def check_telemetry() -> Iterator[Check]:
    """Look at whether anything here would report to someone."""
    from differnet.reporting.serving import SAFE_OPTIONS

    off = SAFE_OPTIONS["browser.gatherUsageStats"] is False
    if off:
        words = "off: the dashboard reports no usage, and nothing is fetched without --allow-download"
        yield Check("telemetry", State.OK, words)
    else:
        yield Check(
            "telemetry", State.PROBLEM, "the dashboard would report usage", "Install differnet again."
        )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
