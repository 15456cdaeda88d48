"""What people import from the top."""

from __future__ import annotations

import subprocess
import sys

import pytest

import differnet


def test_every_name_of_the_facade_is_there() -> None:
    for name in differnet.__all__:
        assert getattr(differnet, name) is not None, name
    assert set(differnet._HOMES) == set(differnet.__all__) - {"__version__"}


def test_an_unknown_name_says_so() -> None:
    with pytest.raises(AttributeError, match="Detektor"):
        _ = differnet.Detektor


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, differnet; print(sorted({'torch', 'cv2', 'timm', 'pandas'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_every_error_is_one_of_ours() -> None:
    errors = [n for n in differnet.__all__ if n.endswith("Error")]
    assert len(errors) >= 8
    assert all(issubclass(getattr(differnet, n), differnet.DiffernetError) for n in errors)
