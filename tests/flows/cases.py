"""Every case of every family: what the property tests and the planted faults run on."""

from __future__ import annotations

from flows.continuous_cases import CONTINUOUS_CASES
from flows.image_cases import IMAGE_CASES
from flows.registry import DISCRETE_CASES, Case

CASES: tuple[Case, ...] = (*DISCRETE_CASES, *IMAGE_CASES, *CONTINUOUS_CASES)
BY_NAME = {case.name: case for case in CASES}
