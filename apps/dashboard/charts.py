"""Colours that charts of every page share."""

from __future__ import annotations

# Each at least 3:1 against white and against Streamlit's dark ground.
COLOURS = {"good": "#2e9e78", "defect": "#e0533d", "wrong input": "#8f6fd6", "unlabelled": "#8a94a0"}
