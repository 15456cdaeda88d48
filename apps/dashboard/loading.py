"""Models that pages load: once for each bundle, and shared by all who look at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from differnet.reporting.origins import bundle_digest

if TYPE_CHECKING:
    from differnet.detection import Examined


def examined(folder: Path) -> Examined:
    """Load a model and let it test itself; the same bundle is loaded once.

    Args:
        folder: Of the bundle.

    Raises:
        OriginError: There is no bundle.
    """
    return _examined(str(folder), bundle_digest(folder))


@st.cache_resource(max_entries=2, show_spinner="Loading the model, which tests itself")
def _examined(folder: str, digest: str) -> Examined:
    # The digest is of the manifest, which carries those of all files: another bundle is another key.
    from differnet.detection import examine_bundle

    return examine_bundle(Path(folder))
