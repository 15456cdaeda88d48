"""The dashboard's frame: which run, which page.

Started by the command that `differnet.reporting.serving.dashboard_command` makes. Pages hold no
mathematics; every figure comes from `differnet.reporting`.
"""

from __future__ import annotations

import streamlit as st
from opened import choose_run, runs_folder

st.set_page_config(page_title="differnet", layout="wide")

# No icons here: Streamlit makes them the tab's icon, and fetches that from a server on the web.
page = st.navigation(
    [
        st.Page("tune.py", title="Tune", default=True),
        st.Page("gallery.py", title="Gallery"),
        st.Page("picture.py", title="Picture"),
    ]
)
choose_run(runs_folder())
page.run()
