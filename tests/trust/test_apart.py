"""What a process that runs cases says of its own memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trust.apart import MIB, peak


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="elsewhere the peak is what `resource` says"
)
def test_a_peak_is_not_that_of_whoever_started_the_process() -> None:
    held = np.ones(700 * MIB, np.uint8)
    assert peak() > held.nbytes
    code = f"import sys; sys.path.append({str(Path(__file__).parents[1])!r}); from trust.apart import peak"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(peak())"], capture_output=True, text=True, check=True
    )
    assert 2 * MIB < int(done.stdout) < 400 * MIB
