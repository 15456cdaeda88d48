from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from differnet.tables import FAMILIES, FlowChoice, FlowFolderError, TableDensity, fit_table
from differnet.tables.folder import MANIFEST, WEIGHTS, load_table_density, save_table_density

Change = Callable[[dict[str, Any]], object]


def table(rows: int = 120, seed: int = 0) -> pd.DataFrame:
    noise = np.random.default_rng(seed).normal(size=(rows, 3))
    return pd.DataFrame(noise + np.array([0, 10, 1000]), columns=["a", "b", "c"])


def fitted(family: str, context: tuple[str, ...] = ()) -> TableDensity:
    hidden = 8 if FAMILIES[family].wide else None
    layers = 2 if FAMILIES[family].depth else None
    return fit_table(table(), context=context, choice=FlowChoice(family, layers, hidden), steps=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_table_density(fitted("real_nvp"), tmp_path / "flow")


def resealed(folder: Path, change: Change) -> None:
    """Change a manifest and seal it again, as somebody who knows how would."""
    tree = json.loads((folder / MANIFEST).read_bytes())
    tree["seal"] = ""
    change(tree)
    tree["weights_sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    tree["seal"] = hashlib.sha256((json.dumps(tree) + "\n").encode("ascii")).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(tree) + "\n")


def nothing(_tree: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_is_what_was_written(family: str, tmp_path: Path) -> None:
    density = fitted(family, ("b",))
    folder = save_table_density(density, tmp_path / "new" / "flow")
    again = load_table_density(folder)
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, WEIGHTS]
    np.testing.assert_array_equal(again.log_density(table()), density.log_density(table()))
    pd.testing.assert_frame_equal(again.sample(3, given={"b": 9}), density.sample(3, given={"b": 9}))
    assert (again.columns, again.context, again.figures) == (
        density.columns,
        density.context,
        density.figures,
    )
    assert again.choice == density.choice


def test_resealing_alone_is_no_change(folder: Path) -> None:
    # What the tests below refuse is their change, not the seal that they make.
    resealed(folder, nothing)
    load_table_density(folder)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_no_byte_may_change(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for place in np.linspace(0, len(content) - 1, 25).astype(int):
        changed = bytearray(content)
        changed[place] ^= 1
        (folder / name).write_bytes(bytes(changed))
        with pytest.raises(FlowFolderError):
            load_table_density(folder)
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(FlowFolderError):
        load_table_density(folder)
    (folder / name).unlink()
    with pytest.raises(FlowFolderError):
        load_table_density(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.update(schema=2),
        lambda tree: tree["choice"].update(family="os.system"),
        lambda tree: tree["choice"].update(family="maf"),
        lambda tree: tree["choice"].update(layers=65),
        lambda tree: tree["choice"].update(hidden=16),
        lambda tree: tree["choice"].update(seed=-1),
        lambda tree: tree["columns"].pop(),
        lambda tree: tree["columns"][0].update(scale=0.0),
        lambda tree: tree["columns"][0].update(name="b"),
        lambda tree: tree["golden"].__setitem__(0, tree["golden"][0] + 0.01),
        lambda tree: tree["golden"].pop(),
        lambda tree: tree.update(more=1),
        lambda tree: tree.pop("versions"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(folder: Path, change: Change) -> None:
    resealed(folder, change)
    with pytest.raises(FlowFolderError):
        load_table_density(folder)


def test_no_flow_is_built_that_its_file_cannot_fill(folder: Path) -> None:
    # It would take 4 GB, which a manifest of a kilobyte must not be able to ask for.
    resealed(folder, lambda tree: tree["choice"].update(hidden=4096, layers=64))
    with pytest.raises(FlowFolderError, match="too few for its sizes"):
        load_table_density(folder)


def test_weights_that_do_not_fit_are_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = min(k for k, v in tensors.items() if v.is_floating_point() and v.dim() == 2)
    nan = tensors[name].clone()
    nan[0, 0] = torch.nan
    for changed in (
        {k: v for k, v in tensors.items() if k != name},
        {**tensors, "another": torch.zeros(1)},
        {**tensors, name: tensors[name].double()},
        {**tensors, name: tensors[name][:1].clone()},
        {**tensors, name: nan},
        {**tensors, name: tensors[name] + 1},
    ):
        save_file(changed, folder / WEIGHTS)
        resealed(folder, nothing)
        with pytest.raises(FlowFolderError):
            load_table_density(folder)


def test_an_unhealthy_flow_is_refused(tmp_path: Path) -> None:
    density = fitted("glow")
    with torch.no_grad():
        for name, weight in density.flow.named_parameters():
            if name.endswith("log_scale"):
                # A channel that is scaled up by e^80, and overflows a hundred sigma out.
                weight[0] += 80
    folder = save_table_density(density, tmp_path / "flow")
    with pytest.raises(FlowFolderError, match="inverts"):
        load_table_density(folder)


def test_nothing_is_overwritten(folder: Path, tmp_path: Path) -> None:
    before = (folder / WEIGHTS).read_bytes()
    with pytest.raises(FlowFolderError, match="overwritten"):
        save_table_density(fitted("planar"), folder)
    assert (folder / WEIGHTS).read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(FlowFolderError, match="overwritten"):
        save_table_density(fitted("planar"), tmp_path / "file")
    with pytest.raises(FlowFolderError, match="no such folder"):
        load_table_density(tmp_path / "absent")


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).rename(tmp_path / "elsewhere")
    (folder / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FlowFolderError, match="plain file"):
        load_table_density(folder)
