"""Understand how a person's folder says which parts are good, which are not, and where the masks are.

A layout is one entry of :data:`LAYOUTS`: what it looks for, whether a folder looks like it, and how
its parts are listed. Nothing is decoded here except masks that tell by being blank.
"""

from differnet.images.layouts.files import PICTURE_SUFFIXES
from differnet.images.layouts.inspecting import WRONG_INPUTS, ToInspect, parts_to_inspect, wrong_inputs
from differnet.images.layouts.parts import GOOD, Dataset, Layout, LayoutError, Part, Split
from differnet.images.layouts.registry import LAYOUTS, list_pictures, read_layout
from differnet.images.layouts.truth import masks_near

__all__ = [
    "GOOD",
    "LAYOUTS",
    "PICTURE_SUFFIXES",
    "WRONG_INPUTS",
    "Dataset",
    "Layout",
    "LayoutError",
    "Part",
    "Split",
    "ToInspect",
    "list_pictures",
    "masks_near",
    "parts_to_inspect",
    "read_layout",
    "wrong_inputs",
]
