"""What whitening gives beside the whitened vectors."""

from __future__ import annotations

import pytest
import torch

from differnet.flows import LowRankWhitening, Whitening, shrinkage_whitening


@pytest.mark.parametrize("vectors", [12, 200])
def test_precision_and_leading_coordinates_are_those_of_the_covariance(vectors: int) -> None:
    """Fewer and more vectors than features."""
    generator = torch.Generator().manual_seed(vectors)
    x = torch.randn(vectors, 30, generator=generator) @ torch.randn(30, 30, generator=generator) + 3
    whitening = shrinkage_whitening(x)
    assert isinstance(whitening, LowRankWhitening if vectors < 30 else Whitening)
    whitening = whitening.double()
    asked = x[:5].double() + torch.randn(5, 30, generator=generator, dtype=torch.float64)
    z = whitening(asked)[0]
    # Whitening is linear: its matrix gives the inverse covariance.
    matrix = whitening(torch.eye(30, dtype=torch.float64) + whitening.mean)[0]
    expected = (asked - whitening.mean) @ matrix @ matrix.T
    torch.testing.assert_close(whitening.precision(asked, z), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close((asked - whitening.mean) @ matrix, z, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(whitening.leading(asked, 4), z[:, :4], rtol=1e-6, atol=1e-8)
