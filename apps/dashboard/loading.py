"""Models that pages load: once for each bundle, and shared by all who look at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from differnet.reporting.browsing import markdown_safe
from differnet.reporting.origins import bundle_digest

if TYPE_CHECKING:
    from differnet.detection import Detector, Examined


# A shape and a word for each outcome.
STATES = {True: ":green[\N{CHECK MARK} passed]", False: ":red[\N{BLACK DIAMOND} failed]", None: "not reached"}


def examined(folder: Path) -> Examined:
    """Load a model and let it test itself; the same bundle is loaded once.

    Args:
        folder: Of the bundle.

    Raises:
        OriginError: There is no bundle.
    """
    return _examined(str(folder), bundle_digest(folder))


def detector_in_force(folder: Path) -> Detector:
    """Load a model, with the thresholds that people set for it in force.

    Args:
        folder: Of the bundle.

    Raises:
        OriginError: There is no bundle.
        BundleError: It is not sound.
        RevisionError: The file of thresholds beside it is damaged.
    """
    from differnet.detection import adopt_current

    detector = examined(folder).sound_detector
    adopt_current(detector, folder)
    return detector


def show_self_test(found: Examined) -> None:
    """Show what each check of a model's self-test found."""
    st.markdown(
        "**\N{CHECK MARK} The model is sound.**"
        if found.sound
        else "**\N{BLACK DIAMOND} The model must not be used.**"
    )
    st.table(
        {
            "check": [check.name for check in found.checks],
            "state": [STATES[check.passed] for check in found.checks],
            "found": [markdown_safe(check.found) for check in found.checks],
        },
        hide_index=True,
        alt="Checks of the model's self-test",
    )


@st.cache_resource(max_entries=2, show_spinner="Loading the model, which tests itself")
def _examined(folder: str, digest: str) -> Examined:
    # The digest is of the manifest, which carries those of all files: another bundle is another key.
    from differnet.detection import examine_bundle

    return examine_bundle(Path(folder))
