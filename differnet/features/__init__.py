"""Frozen networks as feature extractors. Only this room imports timm."""

from differnet.features.backbone import (
    LARGEST_INPUT,
    SMALLEST_INPUT,
    Backbone,
    BackboneError,
    Preprocessing,
    choose_device,
    gpus,
    network_tensors,
    prepare_batch,
)
from differnet.features.tiling import tiled_maps
from differnet.features.weights import Weights, WeightsError, find_weights, packaged_file, sha256_of

__all__ = [
    "LARGEST_INPUT",
    "SMALLEST_INPUT",
    "Backbone",
    "BackboneError",
    "Preprocessing",
    "Weights",
    "WeightsError",
    "choose_device",
    "find_weights",
    "gpus",
    "network_tensors",
    "packaged_file",
    "prepare_batch",
    "sha256_of",
    "tiled_maps",
]
