"""A picture with heat, regions and ground truth over it, zoomed with the nearest good part beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent
_MOUNT = st.components.v2.component(
    "picture_viewer",
    css=(_HERE / "viewer.css").read_text("utf-8"),
    js=(_HERE / "viewer.js").read_text("utf-8"),
)


def picture_viewer(shown: Mapping[str, Any], *, version: Sequence[object]) -> None:
    """Show the viewer. What a person does in it stays in the browser.

    Args:
        shown: From `differnet.reporting.viewing.view_data`.
        version: Names what is shown: the viewer is built anew where it differs.
    """
    _MOUNT(key="picture_viewer", data={**shown, "version": repr(tuple(version))})
