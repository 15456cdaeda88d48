"""The pages that the dashboard offers, read from its frame, so that a new one is tested without a change."""

from __future__ import annotations

import ast

from differnet.reporting.serving import dashboard_app


def pages() -> dict[str, str]:
    """Return the title of each page whose file is there, by the name of its file, in the order of the menu.

    Raises:
        AssertionError: The frame does not list its pages as expected.
    """
    frame = dashboard_app()
    for node in ast.parse(frame.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SECTIONS":
            listed = ast.literal_eval(node.value).values()
            known = {name: title for section in listed for title, name in section}
            return {name: title for name, title in known.items() if frame.with_name(f"{name}.py").is_file()}
    raise AssertionError("app.py has no SECTIONS")
