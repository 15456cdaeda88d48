"""A small drawing of the server's in the page's own colours and type."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from markupsafe import Markup

_HERE = Path(__file__).parent
_MOUNT = st.components.v2.component(
    "drawing",
    css=".drawing { color: var(--st-text-color); } .drawing svg { display: block; max-width: 100%; }",
    js=(_HERE / "drawing.js").read_text("utf-8"),
)


def drawing(svg: Markup, *, key: str) -> None:
    """Show an SVG whose strokes and words are in ``currentColor``.

    Args:
        svg: Made by a function of `differnet.reporting`, which escapes what comes from outside.
        key: Of the place on the page.
    """
    _MOUNT(key=key, data={"svg": str(svg)})
