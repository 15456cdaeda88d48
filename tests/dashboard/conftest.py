"""The dashboard over a record of the test's own, run without a browser."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from tasks import conftest as shops
from tasks.conftest import Shop

from differnet.reporting.keeping import keep_runs
from differnet.reporting.run_folder import RunFolder
from differnet.reporting.serving import dashboard_app, dashboard_environment
from differnet.store import Store
from differnet.store.tasks import TaskEntry, Tasks

OpenDashboard = Callable[..., AppTest]


def _load_drawn_runs() -> ModuleType:
    # Loaded by path: test folders are no packages, and both have a conftest.
    path = Path(__file__).resolve().parents[1] / "reporting" / "conftest.py"
    spec = importlib.util.spec_from_file_location("drawn_runs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


drawn_runs = _load_drawn_runs()
make_run = drawn_runs.make_run
make_record = drawn_runs.make_record
trained, facts, shop = shops.trained, shops.facts, shops.shop


@pytest.fixture
def record_place(tmp_path: Path) -> Path:
    """Where the test's record is."""
    return tmp_path / "record.db"


@pytest.fixture
def open_dashboard(tmp_path: Path, record_place: Path, monkeypatch: pytest.MonkeyPatch) -> OpenDashboard:
    """Keep the runs of the test's own folder in its record, open the dashboard over it, and run it once."""
    st.cache_resource.clear()

    def open_page(page: str | None = None, *, read_only: bool = False, **query: str) -> AppTest:
        store = Store.open(record_place)
        refused = keep_runs(store, tmp_path)
        store.close()
        assert not refused
        for name, value in dashboard_environment(str(record_place), tmp_path, read_only=read_only).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["app.py"])
        app = AppTest.from_file(str(dashboard_app()), default_timeout=60)
        app.query_params.update(query)
        app.run()
        if page is not None:
            app.switch_page(f"{page}.py")
            app.query_params.update(query)
            app.run()
        return app

    return open_page


@pytest.fixture
def open_shop(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> OpenDashboard:
    """Open the dashboard over a workspace with a small model; what it asks for the test does itself."""
    st.cache_resource.clear()
    st.cache_data.clear()

    def start(store: Store, entry: TaskEntry) -> bool:
        return Tasks(store).begin(entry.task_id)

    monkeypatch.setattr("differnet.tasks.starting.start", start)

    def open_page(page: str, *, read_only: bool = False) -> AppTest:
        place = str(shop.place / "record.db")
        for name, value in dashboard_environment(place, shop.place, read_only=read_only).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["app.py"])
        app = AppTest.from_file(str(dashboard_app()), default_timeout=120).run()
        return app.switch_page(f"{page}.py").run()

    return open_page


@dataclass(frozen=True)
class TrainedLine:
    """Two small models of the sample product, and pictures that neither has learned.

    Attributes:
        model: Bundle of the one in use.
        other: Of another one, trained on the same parts from another seed.
        good, defects: Pictures.
    """

    model: Path
    other: Path
    good: tuple[Path, ...]
    defects: tuple[Path, ...]


@pytest.fixture(scope="session")
def trained_line(tmp_path_factory: pytest.TempPathFactory) -> TrainedLine:
    """Trained once for all tests; they copy what they change."""
    from differnet.detection import DensitySettings, Detector, DetectorSettings
    from differnet.images.synthetic import make_sample_product

    home = tmp_path_factory.mktemp("trained")
    product = make_sample_product(home / "product", train=24, good_test=16, per_defect=2, per_wrong=1)
    parts = sorted((product / "train" / "good").iterdir())
    folders = []
    for seed, name in ((0, "model"), (1, "other")):
        density = DensitySettings(steps=10, hidden=16, couplings=2)
        settings = DetectorSettings(
            image_size=96, device="cpu", density=density, folds=2, seed=seed, product="flange"
        )
        folders.append(Detector(settings).fit(parts).calibrate().save(home / name))
    test = product / "test"
    defects = [path for kind in sorted(test.iterdir()) if kind.name != "good" for path in kind.iterdir()]
    return TrainedLine(
        folders[0], folders[1], tuple(sorted((test / "good").iterdir())), tuple(sorted(defects))
    )


@pytest.fixture
def inspect_line(trained_line: TrainedLine, tmp_path: Path) -> Callable[..., Path]:
    """Inspect the trained line's pictures, as copies of the test's own, and return the run's folder."""

    def inspect(
        name: str = "shift",
        good: int = 16,
        defects: int = 0,
        model: Path | None = None,
        extra: Sequence[tuple[Path, str | None]] = (),
    ) -> Path:
        from differnet.detection import Detector
        from differnet.reporting import run_facts

        shots = tmp_path / "shots"
        shots.mkdir(exist_ok=True)
        chosen: list[tuple[Path, str | None]] = [(path, "good") for path in trained_line.good[:good]]
        chosen += [(path, path.parent.name) for path in trained_line.defects[:defects]]
        chosen += extra
        detector = Detector.load(model or trained_line.model, "cpu")
        facts = run_facts(detector.facts(), "shots", None)
        run = RunFolder.create(tmp_path / name, facts)
        with run:
            for path, label in chosen:
                copy = shots / f"{label}-{path.name}"
                shutil.copyfile(path, copy)
                found = detector.inspect(copy)
                record = dataclasses.replace(found.record, label=label)
                run.append(dataclasses.replace(found, record=record), None)
        return run.path

    return inspect
