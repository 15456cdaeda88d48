from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import Result

from differnet.cli.flows import FamilyName
from differnet.tables import FAMILIES, load_table_density

Invoke = Callable[..., Result]

SMALL = ("--steps", 30, "--layers", 2, "--hidden", 16)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).normal(size=(200, 2))
    rows = {"force": 5000 + 400 * noise[:, 0], "gap": 0.01 * (noise[:, 0] ** 2 + noise[:, 1])}
    pd.DataFrame(rows).to_csv(tmp_path / "parts.csv", index=False)
    return tmp_path / "parts.csv"


@pytest.fixture
def flow(invoke: Invoke, table: Path, tmp_path: Path) -> Path:
    shown = invoke("flows", "fit", table, "--out", tmp_path / "flow", *SMALL)
    assert (shown.exit_code, shown.stdout) == (0, f"{tmp_path / 'flow'}\n"), shown.stderr
    return tmp_path / "flow"


def test_fit_says_what_it_did_and_how_it_compares(invoke: Invoke, table: Path, tmp_path: Path) -> None:
    shown = invoke("flows", "fit", table, "--out", tmp_path / "flow", *SMALL)
    figures = load_table_density(tmp_path / "flow").figures
    assert "200 rows, 2 columns" in shown.stderr
    assert "160 rows trained it, 20 chose step" in shown.stderr
    lines = {line.split("  ")[0]: line.split()[-2:] for line in shown.stderr.splitlines() if line}
    for heading, estimate in (
        ("real_nvp", figures.flow),
        ("Gaussian, closed form", figures.gaussian),
        ("difference, row by row", figures.gain),
    ):
        assert lines[heading] == [f"{estimate.mean:.3f}", f"{estimate.error:.3f}"]


def test_scores_are_the_rows_log_densities(invoke: Invoke, table: Path, flow: Path) -> None:
    shown = invoke("flows", "score", flow, table)
    assert shown.exit_code == 0, shown.stderr
    scored = pd.read_csv(io.StringIO(shown.stdout))
    assert list(scored.columns) == ["log_density"]
    wanted = load_table_density(flow).log_density(pd.read_csv(table))
    # Eight digits are written.
    np.testing.assert_allclose(scored["log_density"], wanted, rtol=1e-7)


def test_samples_can_be_scored_again(invoke: Invoke, flow: Path, tmp_path: Path) -> None:
    shown = invoke("flows", "sample", flow, "--rows", 25, "--seed", 3)
    assert shown.exit_code == 0, shown.stderr
    drawn = pd.read_csv(io.StringIO(shown.stdout))
    assert drawn.shape == (25, 2)
    pd.testing.assert_frame_equal(drawn, load_table_density(flow).sample(25, seed=3))
    (tmp_path / "drawn.csv").write_text(shown.stdout)
    assert len(invoke("flows", "score", flow, tmp_path / "drawn.csv").stdout.splitlines()) == 26
    assert invoke("flows", "sample", flow, "--rows", 25, "--seed", 4).stdout != shown.stdout


def test_a_density_given_a_column(invoke: Invoke, table: Path, tmp_path: Path) -> None:
    words = ("--columns", "gap", "--context", "force", "--family", "maf", "--json")
    shown = invoke("flows", "fit", table, "--out", tmp_path / "flow", *words, *SMALL)
    assert shown.exit_code == 0, shown.stderr
    told = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert (told["columns"], told["context"], told["family"]) == (["gap"], ["force"], "maf")
    assert set(told["held_out_log_density"]) == {"flow", "gaussian", "gain"}
    drawn = invoke("flows", "sample", tmp_path / "flow", "--rows", 2, "--given", "force=5100")
    assert drawn.stdout.splitlines()[0] == "force,gap"
    assert all(line.startswith("5100,") for line in drawn.stdout.splitlines()[1:])
    missing = invoke("flows", "sample", tmp_path / "flow")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "force" in missing.stderr
    assert invoke("flows", "sample", tmp_path / "flow", "--given", "force").exit_code == 2
    assert invoke("flows", "score", tmp_path / "flow", table).exit_code == 0


def test_names_of_families_are_those_of_the_registry(invoke: Invoke, table: Path, tmp_path: Path) -> None:
    assert [name.value for name in FamilyName] == list(FAMILIES)
    assert invoke("flows", "fit", table, "--out", tmp_path / "x", "--family", "pickle").exit_code == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "nothing there"),
        ("a,b\n1,x\n2,y\n", "'b'"),
        ("a,b\n1,2\n2,\n", "row 2"),
        ("a,b\n" + "".join(f"{i},7\n" for i in range(100)), "'b'"),
        ("a,b\n1,2\n2,4\n3,1\n", "3 rows"),
    ],
    ids=["missing file", "words", "gap", "constant", "few rows"],
)
def test_a_table_that_does_not_serve_is_explained(
    invoke: Invoke, tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "bad.csv").write_text(content)
    shown = invoke("flows", "fit", tmp_path / "bad.csv", "--out", tmp_path / "flow", *SMALL)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert said in shown.stderr
    assert "do this:" in shown.stderr
    assert not (tmp_path / "flow").exists()


def test_few_different_values_are_warned_of(invoke: Invoke, table: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(table)
    rows.assign(grade=np.arange(len(rows)) % 3).to_csv(table, index=False)
    warned = invoke("flows", "fit", table, "--out", tmp_path / "raw", *SMALL)
    assert "few different values in grade" in warned.stderr
    smoothed = invoke("flows", "fit", table, "--out", tmp_path / "smooth", "--noise", 0.1, *SMALL)
    assert "few different values" not in smoothed.stderr


def test_a_changed_flow_is_5_and_an_absent_one_is_1(
    invoke: Invoke, flow: Path, table: Path, tmp_path: Path
) -> None:
    for name in ("manifest.json", "weights.safetensors"):
        changed = tmp_path / f"changed-{name}"
        shutil.copytree(flow, changed)
        content = bytearray((changed / name).read_bytes())
        content[len(content) // 2] ^= 1
        (changed / name).write_bytes(bytes(content))
        for words in (("score", changed, table), ("sample", changed)):
            shown = invoke("flows", *words)
            assert (shown.exit_code, shown.stdout) == (5, "")
            assert "do this:" in shown.stderr
    assert invoke("flows", "sample", tmp_path / "absent").exit_code == 1
    assert invoke("flows", "fit", table, "--out", flow).exit_code == 1
