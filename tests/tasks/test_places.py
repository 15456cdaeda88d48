"""Names stay in the workspace, and paths are of something that is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from trust.path_checks import hostile_names

from differnet.tasks.places import (
    WishError,
    Workspace,
    existing,
    existing_folder,
    folder_of,
    name_from,
    plain_name,
    require_unused,
    roots,
    subfolders,
    unused_name,
)


@pytest.mark.parametrize("name", ["flange", "flange-2", "3mm.v2", "A_b", "x" * 64])
def test_plain_names_pass(name: str) -> None:
    assert plain_name(name) == name


def test_no_hostile_name_becomes_a_path_elsewhere(tmp_path: Path) -> None:
    workspace = Workspace.open(str(tmp_path))
    refused = 0
    for name in hostile_names(200, 3):
        for made in (name_from(name), folder_of(name)):
            # Whatever came in, what comes out is a plain name.
            assert plain_name(made) == made
        try:
            log = workspace.log_of(name)
        except WishError:
            refused += 1
        else:
            assert log.parent == workspace.logs
            assert log.resolve().parent == workspace.logs.resolve()
    assert refused > 180


NO_NAMES = ["", ".", "..", "a/b", "a\\b", "-rf", "a..b", "con", "NUL.txt", "a.", "a b", "x" * 65]
NO_PATHS = ["", " ", "data", "./data", "~", "a\0b", "/" + "x" * 5000, "/no/such/folder"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_are_no_step_of_a_path_are_refused(name: str) -> None:
    with pytest.raises(WishError, match="a name of letters"):
        plain_name(name)


def test_two_texts_get_two_folders() -> None:
    texts = ["line 3/monday", "line 3 monday", "line-3-monday", "\u00e9", "\u00e8", "\udcff", ""]
    assert len({folder_of(text) for text in texts}) == len(texts)
    assert folder_of("monday") == "monday"


def test_names_that_are_taken_get_a_number(tmp_path: Path) -> None:
    (tmp_path / "flange").mkdir()
    (tmp_path / "flange-2").touch()
    assert unused_name(tmp_path, "flange") == "flange-3"
    assert unused_name(tmp_path, "plate") == "plate"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    assert require_unused(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "empty").mkdir()
    assert require_unused(tmp_path / "empty") == tmp_path / "empty"
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model").touch()
    for name in ("file", "link", "full"):
        with pytest.raises(WishError, match="nothing is overwritten"):
            require_unused(tmp_path / name)


@pytest.mark.parametrize("place", NO_PATHS)
def test_paths_that_are_not_there_are_refused(place: str) -> None:
    with pytest.raises(WishError, match="the absolute path of pictures"):
        existing(place, "pictures")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert existing(str(tmp_path / "a.png"), "a mask") == tmp_path / "a.png"
    with pytest.raises(WishError, match="a folder; found a file"):
        existing_folder(str(tmp_path / "a.png"), "a workspace")


def test_folders_are_listed_without_hidden_ones_files_and_closed_ones(tmp_path: Path) -> None:
    for name in ("b", "A", "c", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    assert subfolders(tmp_path) == ["A", "b", "c"]
    assert subfolders(tmp_path / "file") == []
    assert subfolders(tmp_path / "absent") == []


def test_looking_begins_at_the_workspace_what_was_given_and_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("workspace", "shared", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    given = (str(tmp_path / "shared"), str(tmp_path / "absent"), "", str(tmp_path / "workspace"))
    found = roots(tmp_path / "workspace", given)
    assert found == [tmp_path / "workspace", tmp_path / "shared", tmp_path / "home"]
