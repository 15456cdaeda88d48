"""What can go wrong with a photograph of a good part, made from the photograph: defects, and wrong inputs.

Designs can then be compared, and chosen, before anybody has seen one real defect. A simulated defect is no
real one: it says which of two designs sees more of a kind of change, never how many real ones would escape.
"""

from differnet.images.disturbances.defects import (
    DEFAULT_SIZES,
    DEFECT_SIMULATIONS,
    LEAST_CHANGE,
    simulate_defect,
    soft_margin,
)
from differnet.images.disturbances.pictures import FAINTEST_CONTRAST, LEAST_SIDE, DisturbanceError
from differnet.images.disturbances.wrong_inputs import (
    GRADED_WRONG_INPUTS,
    WRONG_INPUT_SIMULATIONS,
    simulate_wrong_input,
)

__all__ = [
    "DEFAULT_SIZES",
    "DEFECT_SIMULATIONS",
    "FAINTEST_CONTRAST",
    "GRADED_WRONG_INPUTS",
    "LEAST_CHANGE",
    "LEAST_SIDE",
    "WRONG_INPUT_SIMULATIONS",
    "DisturbanceError",
    "simulate_defect",
    "simulate_wrong_input",
    "soft_margin",
]
