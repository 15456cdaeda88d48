"""The dashboard's frame: which record, which run, which page.

Started by the command that `differnet.reporting.serving.dashboard_command` makes. Pages hold no
mathematics; every figure comes from a function in `differnet` that is tested without a page.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from opened import choose_person, choose_run, has_runs, require_record

st.set_page_config(page_title="differnet", layout="wide")

# Title and file of each page, in the order of the menu. A page whose file is not there is not offered.
SECTIONS = {
    "Look": (
        ("Overview", "overview"),
        ("Inspect", "inspection"),
        ("Gallery", "gallery"),
        ("Image", "picture"),
    ),
    "Decide": (
        ("Tune thresholds", "tune"),
        ("Review queue", "review"),
        ("Labels", "labels"),
        ("Drift and health", "drift"),
    ),
    "Work": (
        ("Start", "start"),
        ("Batches and reports", "batches"),
        ("Models", "models"),
        ("Train", "train"),
        ("Settings", "settings"),
    ),
}

# Streamlit writes white on every primary button: on the light blue of the dark theme too faint to read.
BUTTON_STYLE = """<style>
[data-testid="stBaseButton-primary"]:enabled, [data-testid="stBaseButton-primaryFormSubmit"]:enabled,
a[data-testid="stBaseLinkButton-primary"] { color: light-dark(#fff, #14171f) !important; }
</style>"""

st.html(BUTTON_STYLE)
require_record()
here = Path(__file__).parent
first = "overview" if has_runs() else "start"
if not (here / f"{first}.py").is_file():
    first = "tune"
# No icons here: Streamlit makes them the tab's icon, and fetches that from a server on the web.
menu = {
    section: [
        st.Page(f"{name}.py", title=title, default=name == first)
        for title, name in pages
        if (here / f"{name}.py").is_file()
    ]
    for section, pages in SECTIONS.items()
}
page = st.navigation(menu, position="hidden")
# Streamlit's own menu folds its last pages away, and its lists with sections are none to a screen reader.
for section, offered in menu.items():
    if offered:
        with st.sidebar.container(gap="xxsmall", key=f"menu-{section.lower()}"):
            st.caption(section)
            for each in offered:
                st.page_link(each)
choose_run()
choose_person()
page.run()
