"""Settings show what is in force; what they offer works, and what they explain is there."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from streamlit.testing.v1 import AppTest

from differnet.reporting import serving
from differnet.reporting.machine import Check, State
from differnet.reporting.run_folder import RunFolder
from differnet.reporting.serving import dashboard_app
from differnet.store import Store, StoreError, check

MakeRun = Callable[..., RunFolder]
OpenDashboard = Callable[..., AppTest]


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def words(app: AppTest) -> str:
    return " ".join(str(item.value) for item in (*app.markdown, *app.caption, *app.text)).replace("\\", "")


@pytest.mark.parametrize("runs", [0, 1])
def test_what_is_in_force_is_shown(
    open_dashboard: OpenDashboard, make_run: MakeRun, tmp_path: Path, runs: int
) -> None:
    for _ in range(runs):
        make_run(["good"] * 3)
    app = open_dashboard("settings")
    assert not app.exception
    assert not app.error
    places = app.table[0].value
    assert list(places["what"])[:3] == ["Record", "Workspace", "May be changed"]
    assert str(tmp_path).replace("/", "") in places["is"][1].replace("\\", "").replace("/", "")
    held = ("0 products, 0 models, 0 runs, 0 items", "1 product, 1 model, 1 run, 3 items")[runs]
    assert held in words(app)


def test_a_password_is_not_shown(open_dashboard: OpenDashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_dashboard("settings")
    monkeypatch.setenv("DIFFERNET_DB", "postgresql://ada:secret@127.0.0.1:9/parts")
    app.run()
    shown = [app.title[0].value, words(app), *(str(table.value) for table in app.table)]
    assert not any("secret" in told for told in shown)


def test_the_record_is_checked_and_copied(
    open_dashboard: OpenDashboard, make_run: MakeRun, tmp_path: Path
) -> None:
    make_run(["good"] * 3)
    app = open_dashboard("settings")
    press(app, "Check the record")
    assert not app.exception
    assert "is sound" in app.success[0].value
    press(app, "Make a backup")
    assert not app.exception
    (copy,) = (tmp_path / "backups").iterdir()
    assert copy.name.replace("-", "") in app.success[0].value.replace("\\", "").replace("-", "")
    store = Store.open(copy)
    assert check(store.engine) == []
    assert len(store.table("run")) == 3
    store.close()
    assert copy.name in words(app)


def test_a_record_that_is_not_sound_is_said_to_be_so(
    open_dashboard: OpenDashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_dashboard("settings")
    monkeypatch.setattr("differnet.store.check", lambda engine: ["rows: items 7 refers to nothing in runs"])
    press(app, "Check the record")
    assert not app.exception
    assert "not sound" in app.error[0].value
    assert "items 7 refers to nothing" in words(app)

    def refuse(engine: object) -> list[str]:
        raise StoreError(expected="a record", found="<b>none</b>", remedy="Look.")

    monkeypatch.setattr("differnet.store.check", refuse)
    press(app, "Check the record")
    assert not app.exception
    assert r"\<b\>" in app.error[0].value


def test_a_backup_that_cannot_be_made_says_why(open_dashboard: OpenDashboard, tmp_path: Path) -> None:
    app = open_dashboard("settings")
    (tmp_path / "backups").write_text("a file")
    press(app, "Make a backup")
    assert not app.exception
    assert "to write into" in app.error[0].value.replace("\\", "")


def test_a_record_to_read_only_offers_no_backup(open_dashboard: OpenDashboard) -> None:
    open_dashboard()
    app = open_dashboard("settings", read_only=True)
    assert not app.exception
    assert "Make a backup" not in [button.label for button in app.button]
    assert app.table[0].value["is"][2] == "no"
    press(app, "Check the record")
    assert "is sound" in app.success[0].value


def test_the_machine_is_looked_at_when_asked(
    open_dashboard: OpenDashboard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looked: list[Path] = []

    def looking(folder: Path) -> list[Check]:
        looked.append(folder)
        return [Check("gpu", State.NOTE, "none"), Check("cv2", State.PROBLEM, "[x](http://a)", "Install it.")]

    monkeypatch.setattr("differnet.reporting.machine.machine_checks", looking)
    app = open_dashboard("settings")
    assert not looked
    press(app, "Check this machine")
    assert not app.exception
    assert looked == [tmp_path.resolve()]
    assert "1 in the way, 0 to look at." in words(app)
    table = next(table.value for table in app.table if "state" in table.value)
    assert list(table["state"]) == [":blue[\N{WHITE CIRCLE} note]", ":red[\N{BLACK DIAMOND} problem]"]
    assert "](http" not in table["found"][1]
    # It stays when something else is pressed.
    press(app, "Check the record")
    assert "1 in the way" in words(app)
    assert len(looked) == 1


def test_options_that_are_not_the_safe_ones_are_named(
    open_dashboard: OpenDashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(serving.SAFE_OPTIONS, "server.maxUploadSize", 63)
    app = open_dashboard("settings")
    assert not app.exception
    assert "not those of the dashboard's own command" in app.warning[0].value
    table = next(t.value for t in app.table if any("maxUploadSize" in name for name in t.value["what"]))
    assert "64" in list(table["is"])


def assigned(file: Path, name: str) -> object:
    """Return what a name of a page's file is set to, a literal."""
    for node in ast.parse(file.read_text("utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        if any(getattr(target, "id", "") == name for target in targets):
            return ast.literal_eval(node.value)  # type: ignore[attr-defined]
    raise AssertionError(f"{file.name} has no {name}")


def test_every_shortcut_of_the_pages_is_listed() -> None:
    pages = dashboard_app().parent
    sections = cast(dict[str, tuple[tuple[str, str], ...]], assigned(pages / "app.py", "SECTIONS"))
    titles = {name: title for offered in sections.values() for title, name in offered}
    words = cast(tuple[tuple[str, str], ...], assigned(pages / "cards.py", "WORDS"))
    listed: dict[str, set[str]] = {}
    for title, keys, _ in cast(
        tuple[tuple[str, str, str], ...], assigned(pages / "settings.py", "SHORTCUTS")
    ):
        listed.setdefault(title, set()).update(keys.split(", "))
    found = 0
    for file in sorted(pages.glob("*.py")):
        source = file.read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.keyword) or node.arg != "shortcut":
                continue
            found += 1
            if isinstance(node.value, ast.Constant):
                wanted = {str(node.value.value)}
            elif isinstance(node.value, ast.Call):
                wanted = {"1 to 9"}
            else:
                # A variable, which runs over the words of a review and over what else stands beside it.
                wanted = {key for _, key in words} if "WORDS" in source else {"no such key"}
            assert wanted <= listed[titles[file.stem]], f"{file.name}: {wanted}"
    assert found >= 10
