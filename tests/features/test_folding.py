"""Normalisation folded into convolutions: the same maps, and nothing where the guess is wrong."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from differnet.features.folding import EvenConvolution, folded


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


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("sides", [(8, 8), (16, 10), (9, 8), (8, 9), (11, 11)])
def test_a_wider_kernel_convolves_as_a_padded_map_does(kernel: int, sides: tuple[int, int]) -> None:
    torch.manual_seed(kernel)
    conv = Conv2dSame(6, 6, kernel, stride=2, groups=6).requires_grad_(False)
    cells = torch.randn(2, 6, *sides)
    torch.testing.assert_close(EvenConvolution(conv)(cells), conv(cells), rtol=1e-6, atol=1e-6)


def test_only_depthwise_convolutions_of_every_other_cell_are_widened() -> None:
    found = folded(network("tf_efficientnet_lite0"))
    assert found is not None
    widened = [m for m in found.modules() if isinstance(m, EvenConvolution)]
    assert len(widened) == 4
    # The first layer of the network is none: its kernel is quicker than a wider one.
    left = [m for m in found.modules() if isinstance(m, Conv2dSame)]
    assert len(left) - len(widened) == 1
    for other in (
        nn.Conv2d(4, 4, 3, stride=2, groups=4),
        Conv2dSame(4, 4, 3, stride=1, groups=4),
        Conv2dSame(4, 4, 3, stride=2),
        Conv2dSame(4, 4, 4, stride=2, groups=4),
        Conv2dSame(4, 4, 3, stride=2, dilation=2, groups=4),
    ):
        assert not EvenConvolution.suits(other)
