"""An exported model judges as the model does, proves itself, needs no torch, and refuses what was changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from detection.conftest import SIZE
from onnx import TensorProto
from safetensors.numpy import load_file, save_file

from differnet.detection import BundleError, Detector
from differnet.detection.manifest import EXPORTED, sealed
from differnet.detection.sources import Source
from differnet.images.reading import read_image
from differnet.images.synthetic import render_part
from differnet.records import Picture, Verdict
from differnet.runtime import (
    ENGINES,
    ExportedDetector,
    ExportError,
    RuntimeMissingError,
    choose_runtime,
    exports_in,
    load_fastest,
)
from differnet.runtime.engines import OnnxRuntime
from differnet.runtime.export import LARGEST_DEVIATION, compare, export, parity_pictures
from differnet.runtime.exported import EXPORT, WHOLES, outdated_exports
from differnet.runtime.wholes import FoldedWhole
from runtime.conftest import RUNTIMES

Parts = Callable[[int], list[Path]]


def rewrite(folder: Path, **changed: Any) -> None:
    """Change what ``export.json`` says, and seal it again."""
    path = folder / EXPORT
    fields = json.loads(path.read_text())
    fields.pop("seal")
    path.write_bytes(sealed({**fields, **changed}))


def resealed(folder: Path) -> None:
    """Name the files of an export by the sha256 that they have now."""
    import hashlib

    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.name != EXPORT}
    rewrite(folder, files=files)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_verdicts_are_those_of_the_model(exported: Path, plain: Detector, runtime: str, parts: Parts) -> None:
    pixels = [render_part(seed, size=SIZE).pixels for seed in (900, 901)]
    pixels[1][20:40, 20:60] = 255
    sources: list[Source] = [*parts(5), *pixels]
    own = [inspection.record for inspection in plain.inspect_many(sources)]
    detector = ExportedDetector.load(exported, runtime)
    told = [inspection.record for inspection in detector.inspect_many(sources)]
    assert [r.verdict for r in told] == [r.verdict for r in own]
    assert len({r.verdict for r in own}) > 1
    for mine, other in zip(own, told, strict=True):
        assert other.strangeness == pytest.approx(mine.strangeness, abs=2e-3)
        assert (other.model_id, other.calibration_id) == (mine.model_id, mine.calibration_id)
        assert (other.item_id, other.path, other.sha256) == (mine.item_id, mine.path, mine.sha256)
        assert other.device == runtime
        assert len(other.regions) == len(mine.regions)
        for here, there in zip(mine.regions, other.regions, strict=True):
            assert (there.x, there.y, there.width, there.height) == (here.x, here.y, here.width, here.height)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_parity_is_far_below_what_is_allowed(exported: Path, plain: Detector, runtime: str) -> None:
    found = compare(plain, ExportedDetector.load(exported, runtime), parity_pictures(plain))
    assert found.pictures > 50
    assert found.flips == 0
    assert found.deviation <= LARGEST_DEVIATION
    assert exports_in(exported)[runtime].parity.pictures == found.pictures


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_files_that_cannot_be_read_keep_their_place(exported: Path, runtime: str, parts: Parts) -> None:
    sound = parts(20)
    for place in (0, 7, 19):
        sound[place].write_bytes(b"no picture")
    detector = ExportedDetector.load(exported, runtime)
    done: list[tuple[int, int]] = []
    records = [i.record for i in detector.inspect_many(sound, lambda _, n, of: done.append((n, of)))]
    assert [r.path for r in records] == [str(path) for path in sound]
    assert [n for n, r in enumerate(records) if r.verdict is Verdict.INVALID] == [0, 7, 19]
    assert done == [(n, 20) for n in range(1, 21)]
    alone = detector.inspect(sound[3]).record
    assert alone.strangeness == pytest.approx(records[3].strangeness, abs=1e-4)
    assert list(detector.inspect_many([])) == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_pictures_of_an_iterator_are_drawn_as_they_are_needed(
    exported: Path, runtime: str, parts: Parts
) -> None:
    sound = parts(70)
    detector = ExportedDetector.load(exported, runtime)
    drawn: list[Path] = []

    def drawing() -> Iterator[Path]:
        for path in sound:
            drawn.append(path)
            yield path

    told = detector.inspect_many(drawing())
    first = next(told)
    assert len(drawn) < len(sound)
    assert [i.record.path for i in (first, *told)] == [str(path) for path in sound] == list(map(str, drawn))


@pytest.mark.parametrize("how", ["left", "failed"])
def test_a_stream_that_ends_early_leaves_nothing_running(
    exported: Path, how: str, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="pip install 'differnet[openvino]'")
    detector = ExportedDetector.load(exported, "openvino")
    running: set[int] = set()

    class Watched:
        """A request of OpenVINO that is known to run until somebody waits for it."""

        def __init__(self, request: Any) -> None:
            self.request = request

        def start_async(self, *given: Any, **named: Any) -> None:
            assert id(self) not in running, "this request is busy"
            running.add(id(self))
            self.request.start_async(*given, **named)

        def wait(self) -> None:
            self.request.wait()
            running.discard(id(self))

        def get_output_tensor(self, number: int) -> Any:
            return self.request.get_output_tensor(number)

    engine: Any = detector.engine
    lanes = [Watched(request) for request in engine._lanes()]
    engine._idle.clear()
    monkeypatch.setattr(engine, "_lanes", lambda: lanes)
    pictures = [read_image(path) for path in parts(len(lanes) + 3)]
    seen: list[Picture] = []

    def inputs(picture: Picture) -> Any:
        seen.append(picture)
        if how == "failed" and len(seen) == len(lanes):
            raise FloatingPointError("overflow")
        return detector._inputs(picture)

    stream = engine.stream(pictures, inputs)
    if how == "failed":
        with pytest.raises(FloatingPointError):
            list(stream)
    else:
        next(stream)
        assert running
        stream.close()
    assert not running
    again = engine.stream(pictures, detector._inputs)
    assert [id(picture) for picture, _ in again] == [id(picture) for picture in pictures]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_inspections_that_take_turns_keep_their_verdicts(exported: Path, runtime: str, parts: Parts) -> None:
    detector = ExportedDetector.load(exported, runtime)
    paths = parts(16)
    ones, others = [read_image(p) for p in paths[:8]], [read_image(p) for p in paths[8:]]
    apart = [[o.copy() for o in detector.engine.run(detector._inputs(p))] for p in (*ones, *others)]
    streams = [detector.engine.stream(some, detector._inputs) for some in (ones, others)]
    found: list[Any] = [[], []]
    for pair in zip(*streams, strict=True):
        for place, (picture, outputs) in enumerate(pair):
            found[place].append((picture, outputs))
    told = [*found[0], *found[1]]
    assert [picture for picture, _ in told] == [*ones, *others]
    for (_, outputs), alone in zip(told, apart, strict=True):
        for one, other in zip(outputs, alone, strict=True):
            assert np.allclose(one, other, rtol=1e-3, atol=1e-3)


def test_only_files_that_cannot_be_read(exported: Path, parts: Parts) -> None:
    broken = parts(3)
    for path in broken:
        path.write_bytes(b"no picture")
    records = [i.record for i in ExportedDetector.load(exported).inspect_many(broken)]
    assert [r.verdict for r in records] == [Verdict.INVALID] * 3


def test_facts_drift_and_thresholds_are_those_of_the_model(
    model: Path, plain: Detector, parts: Parts
) -> None:
    detector = ExportedDetector.load(model)
    assert detector.facts() == Detector.load(model, "cpu").facts()
    assert detector.trained_on == plain.trained_on
    assert np.array_equal(detector.good_strangeness, plain.good_strangeness)
    own, told = plain.drift_figures(parts(8)), detector.drift_figures(parts(8))
    assert told.names == own.names
    assert np.allclose(told.batch, own.batch, atol=2e-3)
    detector.adopt_thresholds(0.5, 0.9, 3)
    record = detector.inspect(parts(1)[0]).record
    assert (record.t_review, record.t_defect, record.threshold_revision) == (0.5, 0.9, 3)


def test_inspecting_imports_no_torch(exported: Path, parts: Parts) -> None:
    code = (
        "import sys; from pathlib import Path; from differnet.runtime import ExportedDetector\n"
        f"detector = ExportedDetector.load(Path({str(exported)!r}))\n"
        f"print(detector.inspect({str(parts(1)[0])!r}).record.verdict.value)\n"
        "heavy = {'torch', 'timm', 'sklearn', 'pandas', 'streamlit', 'onnx'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"PASS", "REVIEW", "DEFECT", "OOD"}


def test_products_of_numpy_leave_the_processors_to_the_runtime(exported: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from differnet.runtime import ExportedDetector\n"
        "from threadpoolctl import threadpool_info\n"
        f"ExportedDetector.load(Path({str(exported)!r}))\n"
        "sys.exit(max(p['num_threads'] for p in threadpool_info() if p['user_api'] == 'blas') - 1)"
    )
    free = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=free)
    assert done.returncode == 0, done.stderr


def test_a_new_calibration_keeps_the_export_and_a_new_model_does_not(model: Path, plain: Detector) -> None:
    again = Detector.load(model, "cpu").with_alphas(0.3, 0.2)
    again.save(model)
    detector = ExportedDetector.load(model)
    assert detector.facts()["calibration"]["alpha_review"] == pytest.approx(0.3)
    other = Detector(replace(plain.settings, seed=5))
    other.fit([render_part(seed, size=SIZE).pixels for seed in range(12)]).calibrate().save(model)
    assert exports_in(model) == {}
    assert choose_runtime(model) == "torch"


# What may happen to an export: name to what is done to its folder.
def _flip_graph(folder: Path) -> None:
    path = max(folder.glob("graph*"), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _other_figures(folder: Path) -> None:
    arrays = load_file(folder / WHOLES)
    arrays["0.centre"] = arrays["0.centre"] + 0.5
    save_file(arrays, folder / WHOLES)
    resealed(folder)


def _not_finite(folder: Path) -> None:
    arrays = load_file(folder / WHOLES)
    arrays["0.slope"][0] = np.nan
    save_file(arrays, folder / WHOLES)
    resealed(folder)


def _other_shape(folder: Path) -> None:
    arrays = load_file(folder / WHOLES)
    arrays["0.rows"] = arrays["0.rows"][:, :-1].copy()
    save_file(arrays, folder / WHOLES)
    resealed(folder)


def _truncated(folder: Path) -> None:
    for path in folder.glob("graph*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    resealed(folder)


def _linked(folder: Path) -> None:
    path = folder / WHOLES
    elsewhere = folder.parent.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of the graph": _flip_graph,
    "the graph is gone": lambda folder: next(iter(folder.glob("graph*"))).unlink(),
    "a further file": lambda folder: (folder / "more.bin").write_bytes(b"x"),
    "another model": lambda folder: rewrite(folder, model_id="0" * 16),
    "another form": lambda folder: rewrite(folder, form=3),
    "a further field": lambda folder: rewrite(folder, code="print()"),
    "no seal": lambda folder: (folder / EXPORT).write_text("{}"),
    "no JSON": lambda folder: (folder / EXPORT).write_bytes(b"\xff"),
    "other wholes": _other_figures,
    "wholes that are not finite": _not_finite,
    "wholes of another shape": _other_shape,
    "a truncated graph": _truncated,
    "a link": _linked,
    "fewer channels": lambda folder: rewrite(folder, channels=[40, 112]),
}


def test_an_export_of_an_earlier_form_does_not_count(model: Path) -> None:
    for runtime in RUNTIMES:
        rewrite(model / EXPORTED / runtime, form=1)
    assert exports_in(model) == {}
    assert choose_runtime(model) == "torch"
    assert sorted(outdated_exports(model)) == sorted(RUNTIMES)
    with pytest.raises(RuntimeMissingError, match="by an earlier version") as refused:
        choose_runtime(model, "openvino")
    assert "differnet export" in str(refused.value)
    # What is exported anew replaces it; the other one is not carried along.
    export(Detector.load(model, "cpu"), model, ["onnxruntime"])
    assert list(exports_in(model)) == ["onnxruntime"]
    assert outdated_exports(model) == []


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_was_changed_is_refused(model: Path, runtime: str, damage: str) -> None:
    DAMAGE[damage](model / EXPORTED / runtime)
    with pytest.raises((BundleError, RuntimeMissingError)):
        ExportedDetector.load(model, runtime)
    # The model itself is as sound as before.
    assert Detector.load(model, "cpu").model_id


def test_strangers_among_the_exports_are_refused(model: Path) -> None:
    (model / EXPORTED / "tensorrt").mkdir()
    with pytest.raises(BundleError, match="tensorrt"):
        exports_in(model)


def test_a_link_in_place_of_the_exports_is_refused(model: Path, tmp_path: Path) -> None:
    (model / EXPORTED).rename(tmp_path / "elsewhere")
    (model / EXPORTED).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError):
        exports_in(model)


def test_a_graph_that_names_another_file_is_refused(model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(os.urandom(64))
    folder = model / EXPORTED / "onnxruntime"
    graph = onnx.load(folder / "graph.onnx")
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", str(secret)
    (folder / "graph.onnx").write_bytes(graph.SerializeToString())
    resealed(folder)
    with pytest.raises(RuntimeMissingError, match="another file"):
        ExportedDetector.load(model, "onnxruntime")


def test_inspecting_with_openvino_tells_nobody(model: Path) -> None:
    """Left alone, OpenVINO's package tells a server on the web that it was imported."""
    program = (
        "import sys; from differnet.runtime import ExportedDetector; from pathlib import Path;"
        "ExportedDetector.load(Path(sys.argv[1]), 'openvino');"
        "told = [m for m in sys.modules if 'telemetry' in m and sys.modules[m] is not None];"
        "sys.exit(str(told) if any(not m.startswith('openvino.') for m in told) else 0)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(model)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr


def test_a_model_to_inspect_with_is_the_fastest_unless_said_otherwise(model: Path) -> None:
    for runtime, taken in (("openvino", 3.0), ("onnxruntime", 5.0)):
        rewrite(model / EXPORTED / runtime, milliseconds={"torch": 9.0, runtime: taken})
    found = [load_fastest(model), load_fastest(model, runtime="onnxruntime")]
    assert [inspector.device for inspector in found] == ["openvino", "onnxruntime"]
    for own in (load_fastest(model, "cpu"), load_fastest(model, runtime="torch")):
        assert isinstance(own, Detector)
        assert own.model_id == found[0].model_id


def test_the_fastest_that_is_installed_is_chosen(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for runtime, taken in (("openvino", 3.0), ("onnxruntime", 5.0)):
        rewrite(model / EXPORTED / runtime, milliseconds={"torch": 9.0, runtime: taken})
    assert choose_runtime(model) == "openvino"
    assert choose_runtime(model, "onnxruntime") == "onnxruntime"
    assert choose_runtime(model, "torch") == "torch"
    monkeypatch.setattr(ENGINES["openvino"], "module", "a_runtime_that_nobody_has")
    assert choose_runtime(model) == "onnxruntime"
    with pytest.raises(RuntimeMissingError, match="not installed"):
        ExportedDetector.load(model, "openvino")
    rewrite(model / EXPORTED / "onnxruntime", milliseconds={"torch": 4.0, "onnxruntime": 5.0})
    assert choose_runtime(model) == "torch"
    with pytest.raises(RuntimeMissingError, match="one of"):
        choose_runtime(model, "tensorrt")


def test_a_model_without_an_export(saved_alone: Path) -> None:
    assert choose_runtime(saved_alone) == "torch"
    with pytest.raises(RuntimeMissingError, match="exported to openvino"):
        ExportedDetector.load(saved_alone, "openvino")
    with pytest.raises(RuntimeMissingError, match="Export it"):
        ExportedDetector.load(saved_alone)


@pytest.fixture
def saved_alone(plain: Detector, tmp_path: Path) -> Path:
    return plain.save(tmp_path / "alone")


def test_an_export_that_judges_otherwise_is_not_kept(
    model: Path, plain: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = exports_in(model)
    true = FoldedWhole.evidence

    def careless(self: FoldedWhole, *given: Any) -> Any:
        found = true(self, *given)
        return found._replace(energy=found.energy * 1.001)

    monkeypatch.setattr(FoldedWhole, "evidence", careless)
    with pytest.raises(ExportError, match="judge as the model does"):
        export(plain, model, ["onnxruntime"])
    monkeypatch.undo()
    assert exports_in(model) == before
    assert not list(model.parent.glob(".exported*"))


def test_one_runtime_is_exported_anew_and_the_other_stands(
    model: Path, plain: Detector, parts: Parts
) -> None:
    before = exports_in(model)
    told: list[str] = []
    found = export(plain, model, ["onnxruntime"], parts(4), told.append)
    assert list(found) == ["onnxruntime"]
    assert found["onnxruntime"].parity.pictures == 4
    assert len(told) == 1
    assert "judged alike" in told[0]
    after = exports_in(model)
    assert after["openvino"] == before["openvino"]
    assert after["onnxruntime"] == found["onnxruntime"]


def test_what_cannot_be_exported_is_said(
    model: Path, plain: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeMissingError, match="one of"):
        export(plain, model, ["tensorrt"])
    other = Detector(replace(plain.settings, seed=7))
    other.fit([render_part(seed, size=SIZE).pixels for seed in range(12)]).calibrate()
    with pytest.raises(ExportError, match="Save the model first"):
        export(other, model, ["onnxruntime"])
    monkeypatch.setattr("differnet.runtime.export.TILE", SIZE // 2)
    with pytest.raises(ExportError, match="tiles"):
        export(plain, model, ["onnxruntime"])
    monkeypatch.setattr(OnnxRuntime, "module", "a_runtime_that_nobody_has")
    with pytest.raises(RuntimeMissingError, match="not installed"):
        export(plain, model, ["onnxruntime"])
