"""What tests of pages ask of a page, and do in the place of a task's process."""

from __future__ import annotations

from typing import Any

from streamlit.testing.v1 import AppTest
from tasks.conftest import Shop

from differnet.store.tasks import TaskEntry
from differnet.tasks.working import work_on


def said(app: AppTest) -> str:
    """All words that a page says outside its widgets."""
    headings = ("title", "header", "subheader")
    kinds = (*headings, "markdown", "caption", "text", "info", "warning", "error", "success")
    words = [str(element.value) for kind in kinds for element in getattr(app, kind)]
    return "\n".join(words).replace("\\", "")


def press(app: AppTest, key: str) -> AppTest:
    """Press a button, and run the page."""
    return app.button(key=key).click().run()


def asked_last(shop: Shop) -> TaskEntry:
    """The task that was asked for last."""
    return shop.tasks.latest(1)[0]


def done(shop: Shop, app: AppTest) -> TaskEntry:
    """Do the task that was asked for last, as its process would, and run the page."""
    task = asked_last(shop)
    work_on(shop.store, task.task_id)
    app.run()
    return shop.tasks.get(task.task_id)


def disabled(app: AppTest, key: str) -> bool:
    """Tell whether a button cannot be pressed."""
    return bool(app.button(key=key).proto.disabled)


def keys(app: AppTest) -> set[Any]:
    """Keys of the buttons that there are."""
    return {button.key for button in app.button}
