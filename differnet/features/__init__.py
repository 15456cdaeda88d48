"""Frozen networks as feature extractors. Only this room imports timm.

Names are loaded when they are first used: what only prepares pictures for an exported network needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from differnet.features.backbone import (
        TO_THE_END,
        Backbone,
        choose_device,
        gpus,
        network_tensors,
        prepare_batch,
    )
    from differnet.features.precision import full_precision
    from differnet.features.preprocessing import (
        KNOWN_STRIDES,
        LARGEST_INPUT,
        SMALLEST_INPUT,
        STRIDES,
        BackboneError,
        Preprocessing,
    )
    from differnet.features.tiling import TILE, tiled_maps
    from differnet.features.weights import (
        Weights,
        WeightsError,
        find_weights,
        packaged_file,
        sha256_of,
    )

_HOMES = {
    "backbone": ("TO_THE_END", "Backbone", "choose_device", "gpus", "network_tensors", "prepare_batch"),
    "precision": ("full_precision",),
    "preprocessing": (
        *("KNOWN_STRIDES", "LARGEST_INPUT", "SMALLEST_INPUT", "STRIDES"),
        *("BackboneError", "Preprocessing"),
    ),
    "tiling": ("TILE", "tiled_maps"),
    "weights": ("Weights", "WeightsError", "find_weights", "packaged_file", "sha256_of"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "KNOWN_STRIDES",
    "LARGEST_INPUT",
    "SMALLEST_INPUT",
    "STRIDES",
    "TILE",
    "TO_THE_END",
    "Backbone",
    "BackboneError",
    "Preprocessing",
    "Weights",
    "WeightsError",
    "choose_device",
    "find_weights",
    "full_precision",
    "gpus",
    "network_tensors",
    "packaged_file",
    "prepare_batch",
    "sha256_of",
    "tiled_maps",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'differnet.features' has no attribute {name!r}")
    return getattr(import_module(f"differnet.features.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
