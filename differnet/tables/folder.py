"""A fitted density on disk: one folder of two files, nothing in it that can run.

```
weights.safetensors    the flow's tensors
manifest.json          strict JSON: columns, family, figures, the weights' sha256, and a seal of itself
```

The weights are written first, the manifest last: a folder with a manifest is complete. Loading builds
the flow from a closed list of families, and lets it prove itself: its log-densities of a few fixed rows
must be those that were written down, and it must still invert. The hashes tell of accidents,
not of forgery: whoever rewrites both files with their hashes gets another density.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from differnet.flows import Flow, UnhealthyFlow, audit
from differnet.records import DiffernetError
from differnet.reporting.artefacts import write_atomically
from differnet.strict_json import RecordFormatError, from_json, to_json
from differnet.tables.density import (
    MOST_COLUMNS,
    Column,
    FitFigures,
    FlowChoice,
    TableDensity,
)

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
SCHEMA = 1
# A thousand columns' manifest takes a tenth of this; a larger one is an attack or an accident.
_LARGEST_MANIFEST = 1 << 20
# A flow of 64 layers, 1,000 wide, over 100 columns takes a third of this.
_LARGEST_WEIGHTS = 1 << 30
_MOST_LAYERS = 64
_MOST_HIDDEN = 4096
_GOLDEN_ROWS = 8
# Relative. Sums in another order, on another processor, move a float64 log-density by some 1e-12 of its
# size; an adaptive solver that takes other steps by its tolerance, 3e-7, summed over them.
_GOLDEN_TOLERANCE = 1e-5
_AUDITED_ROWS = 64


class FlowFolderError(DiffernetError):
    """A flow's folder that is absent, damaged, changed, or does not reproduce its own figures."""


@dataclass(frozen=True)
class _Manifest:
    """What ``manifest.json`` holds.

    Attributes:
        schema: Of this form.
        choice: Which flow.
        columns: What the density is of.
        context: What it is given.
        figures: How the fit went.
        golden: Log-densities of `_golden_rows`, standardised, nats.
        weights_sha256: Of the other file.
        versions: Of what fitted it.
        seal: sha256 of this manifest with an empty seal.
    """

    schema: int
    choice: FlowChoice
    columns: tuple[Column, ...]
    context: tuple[Column, ...]
    figures: FitFigures
    golden: tuple[float, ...]
    weights_sha256: str
    versions: dict[str, str]
    seal: str = ""


def save_table_density(density: TableDensity, folder: Path) -> Path:
    """Write a density into a new or empty folder.

    Args:
        density: To be kept.
        folder: Made when absent.

    Returns:
        The folder.

    Raises:
        FlowFolderError: Something is there already.
        RunError: The disk refused.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FlowFolderError(
            expected=f"a new or empty folder at {folder}",
            found="files in it" if folder.is_dir() else "a file",
            remedy="Choose another folder: nothing is overwritten.",
        )
    # Trained in float32, so that nothing is lost; whole numbers and signs stay what they are.
    state = density.flow.state_dict().items()
    weights = save({k: (v.float() if v.is_floating_point() else v).contiguous() for k, v in state})
    manifest = _Manifest(
        schema=SCHEMA,
        choice=density.choice,
        columns=density.columns,
        context=density.context,
        figures=density.figures,
        golden=_golden(density.flow),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        versions={name: version(name) for name in ("differnet", "torch")},
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS, weights)
    write_atomically(folder / MANIFEST, _text(replace(manifest, seal=_seal(manifest))))
    return folder


def load_table_density(folder: Path) -> TableDensity:
    """Read a density back, check it, and let it prove itself.

    Args:
        folder: As `save_table_density` wrote it.

    Raises:
        FlowFolderError: Anything at all is not as it was written, or the flow is unhealthy.
    """
    manifest = _read_manifest(folder)
    content = _content(folder / WEIGHTS, _LARGEST_WEIGHTS)
    found = hashlib.sha256(content).hexdigest()
    if found != manifest.weights_sha256:
        _refuse(f"{WEIGHTS} with sha256 {manifest.weights_sha256[:64]}", f"sha256 {found}")
    try:
        tensors = load(content)
        flow = _rebuilt(manifest, tensors)
        golden = np.array(_golden(flow))
        _prove(flow, golden, np.array(manifest.golden))
    except FlowFolderError:
        raise
    except UnhealthyFlow as error:
        _refuse("a flow that inverts", error.found, error)
    except (DiffernetError, SafetensorError, ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        _refuse("a manifest and weights that fit each other", first, error)
    return TableDensity(flow, manifest.choice, manifest.columns, manifest.context, manifest.figures)


def _read_manifest(folder: Path) -> _Manifest:
    if not (folder / MANIFEST).is_file():
        raise FlowFolderError(
            expected=f"a flow at {folder}",
            found=f"no {MANIFEST} in it" if folder.is_dir() else "no such folder",
            remedy="Make one: differnet flows fit TABLE --out FLOW.",
        )
    written = _content(folder / MANIFEST, _LARGEST_MANIFEST)
    try:
        manifest = from_json(_Manifest, written)
    except (RecordFormatError, DiffernetError) as error:
        _refuse(error.expected, error.found, error)
    if written != _text(manifest) or manifest.seal != _seal(manifest):
        _refuse("the manifest as it was written", "a changed one")
    choice, every = manifest.choice, (*manifest.columns, *manifest.context)
    names = [column.name for column in every]
    sound = manifest.schema == SCHEMA and bool(manifest.columns) and len(set(names)) == len(names)
    sound = sound and len(names) <= MOST_COLUMNS and all(column.scale > 0 for column in every)
    sound = sound and 1 <= (choice.layers or 1) <= _MOST_LAYERS and 1 <= (choice.hidden or 1) <= _MOST_HIDDEN
    if not sound or not 0 <= choice.seed < 1 << 63:
        _refuse(f"a manifest of schema {SCHEMA} whose sizes have a meaning", "others")
    return manifest


def _content(path: Path, most: int) -> bytes:
    if path.is_symlink() or not path.is_file():
        _refuse(f"{path.name} in the folder", "no such plain file")
    if path.stat().st_size > most:
        _refuse(f"{path.name} of at most {most:,} bytes", f"{path.stat().st_size:,}")
    return path.read_bytes()


def _rebuilt(manifest: _Manifest, tensors: dict[str, Tensor]) -> Flow:
    choice, columns = manifest.choice, len(manifest.columns)
    # What networks and bends hold at least: no flow is built that its file could not fill.
    least = (choice.layers or 1) * max((choice.hidden or 0) ** 2, columns // 2)
    held = sum(tensor.numel() for tensor in tensors.values())
    if held < least:
        _refuse(f"the weights of {choice.family}", f"{held:,} numbers, too few for its sizes")
    flow = choice.build(columns, len(manifest.context))
    own = flow.state_dict()
    if set(own) != set(tensors):
        _refuse(f"the tensors of {choice.family}", f"others: {min(set(own) ^ set(tensors))}")
    for name, tensor in own.items():
        given = tensors[name]
        if given.shape != tensor.shape or given.dtype != tensor.dtype:
            _refuse(
                f"{name} of shape {tuple(tensor.shape)}, {tensor.dtype}",
                f"{tuple(given.shape)}, {given.dtype}",
            )
        if given.is_floating_point() and not bool(torch.isfinite(given).all()):
            _refuse(f"finite values in {name}", "some that are not")
    flow.load_state_dict(tensors, strict=True)
    return flow.double().eval().requires_grad_(False)


def _prove(flow: Flow, golden: np.ndarray, wanted: np.ndarray) -> None:
    if golden.shape != wanted.shape or not np.allclose(
        golden, wanted, rtol=_GOLDEN_TOLERANCE, atol=_GOLDEN_TOLERANCE
    ):
        gap = float(np.abs(golden - wanted).max()) if golden.shape == wanted.shape else np.inf
        _refuse(f"the golden rows' log-densities to {_GOLDEN_TOLERANCE:g}", f"a difference of {gap:.3g} nats")
    # Its own samples, given contexts as a standardised column has them.
    generator = torch.Generator().manual_seed(0)
    context = None
    if flow.context_features:
        context = torch.randn(_AUDITED_ROWS, flow.context_features, generator=generator, dtype=torch.float64)
    audit(flow, flow.sample((_AUDITED_ROWS,), context, generator=generator), context)


def _golden(flow: Flow) -> tuple[float, ...]:
    """Return log-densities of fixed rows within one standard deviation: nobody's data."""
    width = flow.features + flow.context_features
    rows = torch.linspace(-1, 1, _GOLDEN_ROWS * width, dtype=torch.float64).reshape(_GOLDEN_ROWS, width)
    context = rows[:, flow.features :] if flow.context_features else None
    with torch.no_grad():
        return tuple(flow.log_prob(rows[:, : flow.features], context).tolist())


def _seal(manifest: _Manifest) -> str:
    return hashlib.sha256(_text(replace(manifest, seal=""))).hexdigest()


def _text(manifest: _Manifest) -> bytes:
    return (to_json(manifest) + "\n").encode("ascii")


def _refuse(expected: str, found: str, cause: Exception | None = None) -> NoReturn:
    raise FlowFolderError(
        expected=expected,
        found=found,
        remedy="The folder is damaged or was changed; copy it again from its source, or fit it again.",
    ) from cause
