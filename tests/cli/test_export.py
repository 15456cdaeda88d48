"""`differnet export`, `inspect --runtime` and `bench`, as a person uses them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from runtime.test_exported import rewrite

from cli.conftest import Invoke, short_trainings
from differnet.detection.manifest import EXPORTED
from differnet.runtime import exports_in

RUNTIMES = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was exported by the program."""
    from typer.testing import CliRunner

    from differnet.cli import app

    folder = Path(shutil.copytree(model, tmp_path_factory.mktemp("exported") / "model"))
    ended = CliRunner().invoke(app, ["export", str(folder)])
    assert ended.exit_code == 0, ended.stderr
    assert set(ended.stdout.split()) == set(RUNTIMES)
    assert "pictures alike" in ended.stderr
    return folder


def a_part(product: Path) -> Path:
    return min((product / "test" / "good").iterdir())


def test_inspect_takes_the_runtime_that_is_asked_for(exported: Path, product: Path, invoke: Invoke) -> None:
    devices, strangeness = [], []
    for runtime in ("torch", *RUNTIMES):
        ended = invoke("inspect", exported, a_part(product), "--runtime", runtime)
        assert ended.exit_code == 0, ended.stderr
        record = json.loads(ended.stdout)
        devices.append(record["device"])
        strangeness.append(record["strangeness"])
    assert devices == ["cpu", *RUNTIMES]
    assert strangeness == pytest.approx([strangeness[0]] * 3, abs=2e-3)


def test_inspect_takes_an_export_by_itself(exported: Path, product: Path, invoke: Invoke) -> None:
    ended = invoke("inspect", exported, a_part(product))
    fastest = min(exports_in(exported).items(), key=lambda each: each[1].milliseconds[each[0]])
    if fastest[1].milliseconds[fastest[0]] <= fastest[1].milliseconds["torch"]:
        assert json.loads(ended.stdout)["device"] == fastest[0]
    # A device is one of torch.
    ended = invoke("inspect", exported, a_part(product), "--device", "cpu")
    assert json.loads(ended.stdout)["device"] == "cpu"
    ended = invoke("inspect", exported, a_part(product), "--device", "cpu", "--runtime", "openvino")
    assert ended.exit_code != 0
    assert "Leave one of them away" in ended.stderr


def test_inspect_says_that_an_export_is_of_an_earlier_version(
    exported: Path, product: Path, invoke: Invoke, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "model"))
    for runtime in RUNTIMES:
        rewrite(folder / EXPORTED / runtime, form=1)
    ended = invoke("inspect", folder, a_part(product))
    assert ended.exit_code == 0, ended.stderr
    assert json.loads(ended.stdout)["device"] == "cpu"
    words = " ".join(ended.stderr.split())
    assert "exported to openvino, onnxruntime by an earlier version" in words
    assert "differnet export" in words


def test_a_runtime_that_nobody_knows_is_refused(exported: Path, product: Path, invoke: Invoke) -> None:
    ended = invoke("inspect", exported, a_part(product), "--runtime", "tensorrt")
    assert ended.exit_code != 0
    assert "one of auto, torch, openvino, onnxruntime" in " ".join(ended.stderr.split())


def test_an_export_is_asked_for_that_was_not_made(model: Path, product: Path, invoke: Invoke) -> None:
    ended = invoke("inspect", model, a_part(product), "--runtime", "openvino")
    assert ended.exit_code != 0
    assert "differnet export" in ended.stderr


def test_pictures_of_ones_own_are_compared(
    exported: Path, product: Path, invoke: Invoke, tmp_path: Path
) -> None:
    folder = shutil.copytree(exported, tmp_path / "model")
    given = product / "test" / "good"
    ended = invoke("export", folder, "--runtime", "onnxruntime", "--pictures", given, "--json")
    assert ended.exit_code == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert list(told) == ["onnxruntime"]
    assert told["onnxruntime"]["parity"]["pictures"] == len(list(given.iterdir()))
    assert told["onnxruntime"]["parity"]["flips"] == 0


def test_a_batch_is_judged_by_an_export(
    exported: Path, product: Path, invoke: Invoke, tmp_path: Path
) -> None:
    place = tmp_path / "record.db"
    words = ["batch", "run", exported, product / "test" / "good", "--name", "one", "--out", tmp_path / "run"]
    ended = invoke(*words, "--db", place, "--runtime", "onnxruntime", "--decoders", 1)
    assert ended.exit_code == 0, ended.stderr
    ended = invoke("db", "items", "--db", place, "--json")
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(rows) == len(list((product / "test" / "good").iterdir()))
    assert {row["device"] for row in rows} == {"onnxruntime"}


def test_training_exports_and_says_what_is_fastest(product: Path, invoke: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "model"
    words = ["train", product, "--out", out, "--image-size", 64, "--product", "flange"]
    with short_trainings():
        ended = invoke(*words, "--runtime", "onnxruntime")
    assert ended.exit_code == 0, ended.stderr
    assert set(exports_in(out)) == {"onnxruntime"}
    told = " ".join(ended.stderr.split())
    assert "onnxruntime:" in told
    assert "Pictures will be inspected with" in told


def test_a_training_ends_well_where_no_graph_can_be_made(
    product: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("an operation that no graph has")

    monkeypatch.setattr("torch.onnx.export", failing)
    words = ["train", product, "--image-size", 64, "--product", "flange"]
    with short_trainings():
        ended = invoke(*words, "--out", tmp_path / "one", "--runtime", "auto")
        forced = invoke(*words, "--out", tmp_path / "two", "--runtime", "onnxruntime")
    assert ended.exit_code == 0, ended.stderr
    assert "Not exported: an operation that no graph has" in " ".join(ended.stderr.split())
    assert exports_in(tmp_path / "one") == {}
    assert forced.exit_code != 0
    assert "a graph of the model" in forced.stderr


def test_bench_measures_every_runtime(exported: Path, product: Path, invoke: Invoke) -> None:
    ended = invoke("bench", exported, product / "test" / "good", "--rounds", 3, "--limit", 2, "--json")
    assert ended.exit_code == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["pictures"] == 2
    assert {speed["runtime"] for speed in told["speeds"]} == {"torch", *RUNTIMES}
    for speed in told["speeds"]:
        assert (
            0 < speed["bare"]["least"] <= speed["bare"]["p50"] <= speed["bare"]["p95"] <= speed["bare"]["p99"]
        )
        assert speed["picture_ratio"] > 0
        assert speed["rate_share"] > 0
        assert speed["cold"]["seconds"] > 0
        assert 50 < speed["cold"]["megabytes"] < 4000
    assert "of bare" in ended.stderr


def test_bench_without_a_picture_that_can_be_read(exported: Path, invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    ended = invoke("bench", exported, tmp_path / "broken.png")
    assert ended.exit_code != 0
    assert "none readable" in ended.stderr
