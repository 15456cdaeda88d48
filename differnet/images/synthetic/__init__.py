"""The sample product: a machined flange, rendered from nothing, with defects whose masks are true.

It exists so that everything can be tried, shown and tested on a machine that holds no pictures: good parts
that vary as real ones do, seven kinds of defects, and six kinds of pictures that are no such part at all.
"""

from differnet.images.synthetic.parts import (
    DEFECT_KINDS,
    MASK_LEVEL,
    WRONG_INPUT_KINDS,
    RenderedPart,
    SyntheticError,
    render_part,
    render_wrong_input,
)
from differnet.images.synthetic.product import (
    GENERATOR_VERSION,
    make_sample_product,
    make_small_sample,
)

__all__ = [
    "DEFECT_KINDS",
    "GENERATOR_VERSION",
    "MASK_LEVEL",
    "WRONG_INPUT_KINDS",
    "RenderedPart",
    "SyntheticError",
    "make_sample_product",
    "make_small_sample",
    "render_part",
    "render_wrong_input",
]
