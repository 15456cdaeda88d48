"""Normalisation folded into convolutions: the same maps, and nothing where the guess is wrong."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from differnet.features.folding import folded


def network(name: str) -> nn.Module:
    """Return a network of maps with seeded weights, whose normalisations change something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: nn.Module = timm.create_model(name, pretrained=False, features_only=True)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
                module.running_mean.normal_(std=0.1)
                assert module.running_var is not None
                module.running_var.uniform_(0.5, 1.5)
    return made.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_100", "densenet121"]
)
def test_a_folded_network_gives_the_same_maps(name: str) -> None:
    plain = network(name)
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    found = folded(plain)
    assert found is not None
    assert norms(found) < norms(plain)
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for wanted, maps in zip(plain(pixels), found(pixels), strict=True):
            torch.testing.assert_close(maps, wanted, rtol=1e-3, atol=float(wanted.abs().max()) * 1e-4)
    # The network itself stays as it was.
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())


def test_a_network_without_batch_normalisation_is_left_alone() -> None:
    assert folded(network("convnext_atto")) is None


class Crossed(nn.Module):
    """A module that lists its layers in another order than it asks them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3).requires_grad_(False)
        nn.init.constant_(self.norm.weight, 2.0)
        nn.init.constant_(self.norm.bias, 1.0)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Normalise first."""
        return [self.conv(self.norm(pixels))]


def test_a_guess_that_is_wrong_is_noticed() -> None:
    torch.manual_seed(0)
    assert folded(Crossed().eval()) is None
