"""The named properties of Glow's layers, of flows of pictures and of grey levels."""

from __future__ import annotations

import pytest

from flows.image_checks import IMAGE_CHECKS


@pytest.mark.parametrize("check", IMAGE_CHECKS)
def test_property(check: str) -> None:
    IMAGE_CHECKS[check]()
