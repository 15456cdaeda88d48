"""Features that are kept from one training to the next, in a folder of a person's choosing.

Training again with a few further parts, or with another seed, needs the network for the new pictures alone. A
picture's features are found by the sha256 of its content, below a name that says all they depend on: network
and weights, preprocessing, scales and what is ignored. A file that is not as it was written counts as not
there. Nothing in it is trusted beyond its numbers: whoever may write into the folder can spoil a training, as
whoever may write into the folder of good parts can.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

# Of what is computed: to be counted up when features of the same name come out otherwise.
_FORM = 3

Shape = tuple[tuple[int, ...], torch.dtype]


class FeatureFolder:
    """Features of single pictures by their content.

    Args:
        folder: Made where it is not there.
        depends: All that features depend on beside the picture, JSON-able.
        shapes: Shape and type of each of a picture's tensors.

    Raises:
        OSError: The folder cannot be made.
    """

    def __init__(self, folder: Path, depends: Mapping[str, Any], shapes: Sequence[Shape]) -> None:
        told = json.dumps({"form": _FORM, "torch": torch.__version__, **depends}, sort_keys=True)
        self.folder = folder / hashlib.sha256(told.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._shapes = {f"{i:02d}": shape for i, shape in enumerate(shapes)}

    def get(self, sha256: str) -> list[Tensor] | None:
        """Return the tensors of a picture, or ``None`` where they are not there as they were written."""
        try:
            found = load(self._path(sha256).read_bytes())
        except (OSError, SafetensorError, ValueError):
            return None
        shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in found.items()}
        if shapes != self._shapes or not all(bool(t.isfinite().all()) for t in found.values()):
            return None
        return [found[name] for name in self._shapes]

    def put(self, sha256: str, tensors: Sequence[Tensor]) -> None:
        """Keep the tensors of a picture.

        Raises:
            OSError: There is no room, or they may not be written.
        """
        named = {name: tensor.contiguous() for name, tensor in zip(self._shapes, tensors, strict=True)}
        handle, name = tempfile.mkstemp(dir=self.folder, prefix="writing-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(save(named))
            # Another training may read it at any time. What is lost with the power is computed again.
            Path(name).replace(self._path(sha256))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _path(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.safetensors"
