"""What `differnet dashboard` serves: the pages, behind a guard.

`streamlit run` finds the application by its assignment below; the pages' own frame is ``app.py``.
"""

from __future__ import annotations

from pathlib import Path

import streamlit
from starlette.middleware import Middleware
from streamlit.starlette import App

from differnet.reporting.guarding import Guard, content_policy
from differnet.reporting.serving import ALLOWED_HOSTS

_page = Path(streamlit.__file__).parent / "static" / "index.html"

app = App(
    "app.py",
    middleware=[Middleware(Guard, hosts=ALLOWED_HOSTS, policy=content_policy(_page.read_text("utf-8")))],
)
