"""A frozen timm network as a feature extractor."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from differnet.features.folding import folded
from differnet.features.precision import full_precision
from differnet.features.preprocessing import STRIDES, BackboneError, Preprocessing
from differnet.features.weights import Weights, WeightsError, is_network
from differnet.records import Picture

TO_THE_END = (8, 16, 32)
"""Strides for which a network goes to its end."""
# Of pictures that go through the network together on a processor: four of 256 x 256. What a layer makes of
# them is still in the cache when the next one asks for it; sixteen at once take nearly twice as long each.
_PIXELS_TOGETHER = 4 * 256 * 256


class Backbone(nn.Module):
    """A frozen network that gives one feature map a stride.

    Args:
        name: A timm name.
        weights: Verified weights; there is no way to build a random one.
        strides: Of the maps to give, where the network has such. It ends with the coarsest of them.

    Attributes:
        channels: Width of each map, fine to coarse.
        strides: Picture pixels a map's cell, fine to coarse.

    Raises:
        WeightsError: The weights lack a tensor, or have one of another shape or of another network.
        BackboneError: timm has no such network, or it has no map at the strides that are needed.
    """

    def __init__(self, name: str, weights: Weights, strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        self.name = name
        plan = _plan(name, tuple(strides))
        chosen = self._choose(weights, plan.tensors, (*_names_of_whole(name), *plan.probed))
        self.network = _maps_of(name, plan.indices, tuple(strides))
        self.network.load_state_dict(chosen, strict=True)
        self.channels = tuple(int(c) for c in self.network.feature_info.channels())
        self.strides = tuple(int(r) for r in self.network.feature_info.reduction())
        self.eval()
        self._folded = folded(self.network)
        # Some of timm's networks collect their maps in one place, by hooks: two threads would mix theirs up.
        hooked = any(m._forward_hooks or m._forward_pre_hooks for m in self.network.modules())
        self._alone = threading.Lock() if hooked else nullcontext()
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    @property
    def looking(self) -> nn.Module:
        """The network that `forward` looks with: folded where it could be."""
        return self.network if self._folded is None else self._folded

    def _choose(self, weights: Weights, own: Mapping[str, Tensor], known: Iterable[str]) -> dict[str, Tensor]:
        state = {k.removeprefix("network."): v for k, v in weights.state.items()}
        # features_only flattens nested names ("stages.0" to "stages_0") in some families.
        flat = {k.replace(".", "_"): k for k in state}
        # A larger network of the same family has every tensor of a smaller one, and more.
        strangers = {k.replace(".", "_") for k in state} - {k.replace(".", "_") for k in known}
        if strangers:
            raise WeightsError(
                expected=f"the tensors of {self.name} alone",
                found=f"also {flat[min(strangers)]} in the weights from {weights.origin}",
                remedy="Give the weights of this very network.",
            )
        chosen: dict[str, Tensor] = {}
        for key, tensor in own.items():
            # features_only keeps a transformer whole, as its "model".
            names = (key.replace(".", "_"), key.removeprefix("model.").replace(".", "_"))
            source = key if key in state else next((flat[n] for n in names if n in flat), None)
            if source is None or state[source].shape != tensor.shape:
                found = "no such tensor" if source is None else f"shape {tuple(state[source].shape)}"
                raise WeightsError(
                    expected=f"{key} of shape {tuple(tensor.shape)} for {self.name}",
                    found=f"{found} in the weights from {weights.origin}",
                    remedy="Give the weights of this very network.",
                )
            if tensor.is_floating_point() and not bool(torch.isfinite(state[source]).all()):
                raise WeightsError(
                    expected=f"finite values in {key}",
                    found=f"some that are not, in the weights from {weights.origin}",
                    remedy="The file is damaged; fetch it again.",
                )
            chosen[key] = state[source]
        return chosen

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return one ``(batch, channels, rows, columns)`` map a stride for ``(batch, 3, size, size)``.

        Raises:
            BackboneError: The network takes no pictures of this size.
        """
        together = len(pixels)
        if pixels.device.type == "cpu":
            together = max(1, _PIXELS_TOGETHER // (pixels.shape[2] * pixels.shape[3]))
        passes = [self._maps(self.looking, some) for some in torch.split(pixels, max(1, together))]
        maps = passes[0] if len(passes) == 1 else [torch.cat(of) for of in zip(*passes, strict=True)]
        for features, channels, stride in zip(maps, self.channels, self.strides, strict=True):
            if features.shape[1:] != (channels, pixels.shape[2] // stride, pixels.shape[3] // stride):
                raise self._unfit(pixels, f"a map of shape {tuple(features.shape)} at stride {stride}")
        return maps

    def traced(self, pixels: Tensor) -> list[Tensor]:
        """Return maps as `forward` does, from the network as it is, with gradients to the pixels.

        Sizes that are no multiple of a stride are allowed; their maps are as the network rounds them.

        Raises:
            BackboneError: The network takes no pictures of this size.
        """
        return self._maps(self.network, pixels)

    def _maps(self, network: nn.Module, pixels: Tensor) -> list[Tensor]:
        try:
            with self._alone, full_precision(pixels.device):
                maps: list[Tensor] = network(pixels.to(memory_format=torch.channels_last))
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError) as error:
            raise self._unfit(pixels, next(iter(str(error).splitlines()), type(error).__name__)) from error
        if str(getattr(self.network, "output_fmt", "NCHW")).endswith("NHWC"):
            maps = [m.permute(0, 3, 1, 2) for m in maps]
        return maps

    def _unfit(self, pixels: Tensor, found: str) -> BackboneError:
        return BackboneError(
            expected=f"{self.name} to map pictures of {pixels.shape[3]} x {pixels.shape[2]} pixels",
            found=found,
            remedy="Choose the image size that the network is made for, or a convolutional network.",
        )


@dataclass(frozen=True)
class _Plan:
    """What a network of maps will be.

    Attributes:
        indices: Of the maps at the strides that are needed.
        tensors: Of the network as far as these maps, without memory for numbers.
        probed: Names of the tensors of all maps.
    """

    indices: tuple[int, ...]
    tensors: dict[str, Tensor]
    probed: tuple[str, ...]


def network_tensors(name: str, strides: Sequence[int] = STRIDES) -> Mapping[str, Tensor]:
    """Return the tensors that a backbone of this name has: shapes and types, without memory for numbers.

    Args:
        name: A timm name.
        strides: As of `Backbone`.

    Raises:
        BackboneError: timm has no such network, or it has no map at the strides that are needed.
    """
    return _plan(name, tuple(strides)).tensors


# Some 20 ms to a second a network, the same every time.
@lru_cache(maxsize=8)
def _plan(name: str, strides: tuple[int, ...]) -> _Plan:
    if not is_network(name):
        # Otherwise timm would ask its hub for names such as "hf-hub:somebody/network".
        raise BackboneError(
            expected="the name of a timm network", found=f"{name!r}", remedy="See timm.list_models()."
        )
    # On the meta device a network has shapes but takes no memory.
    with torch.device("meta"):
        probe = _features_of(name)
    reductions = [int(r) for r in probe.feature_info.reduction()]
    indices = [max(i for i, r in enumerate(reductions) if r == s) for s in strides if s in reductions]
    if not indices:
        raise BackboneError(
            expected=f"feature maps at strides {strides}",
            found=f"strides {reductions} in {name}",
            remedy="Choose a convolutional or hierarchical network.",
        )
    with torch.device("meta"):
        shapes = _maps_of(name, indices, strides)
    return _Plan(tuple(indices), shapes.state_dict(), tuple(probe.state_dict()))


@lru_cache(maxsize=8)
def _names_of_whole(name: str) -> tuple[str, ...]:
    with torch.device("meta"):
        return tuple(timm.create_model(name, pretrained=False).state_dict())


def _maps_of(name: str, indices: Sequence[int], strides: tuple[int, ...]) -> Any:
    """Return a network of some of its maps, which ends with the last of them."""
    network = _features_of(name, out_indices=list(indices))
    # Some of timm's networks go on to their end all the same. With the maps that were once the only ones they
    # may: bundles of then hold them to the end.
    holder, _, last = str(network.feature_info.module_name()[-1]).rpartition(".")
    blocks = getattr(network, holder, None)
    if strides != TO_THE_END and isinstance(blocks, nn.Sequential) and last.isdecimal():
        setattr(network, holder, blocks[: int(last) + 1])
    return network


def _features_of(name: str, **settings: Any) -> Any:
    try:
        return timm.create_model(name, pretrained=False, features_only=True, **settings)
    except (AttributeError, RuntimeError) as error:
        raise BackboneError(
            expected=f"feature maps of {name}",
            found=next(iter(str(error).splitlines()), type(error).__name__),
            remedy="Choose a convolutional or hierarchical network.",
        ) from error


def choose_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        BackboneError: CUDA was asked for and is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BackboneError(
            expected="a CUDA device", found="none that PyTorch can use", remedy="Use --device cpu."
        )
    if name != "cpu" and not name.startswith("cuda"):
        raise BackboneError(expected="auto, cpu or cuda", found=repr(name), remedy="Use --device auto.")
    return torch.device(name)


def gpus() -> list[tuple[str, int]]:
    """Return name and memory, in bytes, of each GPU that torch can use here."""
    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    facts = [torch.cuda.get_device_properties(i) for i in range(number)]
    return [(str(each.name), int(each.total_memory)) for each in facts]


def prepare_batch(pictures: list[Picture], preprocessing: Preprocessing) -> Tensor:
    """Stack the network input of several pictures, ``(batch, 3, size, size)``, colours side by side."""
    cells = np.stack([preprocessing.cells(p.pixels) for p in pictures])
    return torch.from_numpy(cells).permute(0, 3, 1, 2)
