"""A small detector with couplings everywhere, and its exports; tests copy what they change."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detection.conftest import SIZE, SMALL

from differnet.detection import Detector
from differnet.detection.densities import FlowShape, PartDensity, PatchDensity, rebuild_flow
from differnet.detection.ensemble import Ensemble, Member
from differnet.flows import Flow
from differnet.images.synthetic import render_part
from differnet.runtime.export import export

RUNTIMES = ("openvino", "onnxruntime")


def with_couplings(detector: Detector, seed: int = 0) -> Detector:
    """Give every density of a fitted detector couplings of random weights: none of them may be left out.

    What training makes of few small pictures is mostly the bare Gaussian, and a graph that forgot couplings
    would equal that.
    """
    generator = torch.Generator().manual_seed(seed)

    def coupled(density: PartDensity | PatchDensity, shape: FlowShape) -> Flow:
        flow = rebuild_flow(shape)
        own = density.flow.state_dict()
        shared = {
            name: tensor for name, tensor in own.items() if not name.startswith("transform.transforms.2")
        }
        state = flow.state_dict() | shared
        for name, tensor in state.items():
            if name not in shared and tensor.is_floating_point() and ".net." in name:
                state[name] = 0.3 * torch.randn(tensor.shape, generator=generator)
        flow.load_state_dict(state)
        return flow.eval()

    def member(of: Member, leading: int = 6, couplings: int = 2) -> Member:
        wholes = []
        for whole in of.wholes:
            shape = whole.shape._replace(couplings=couplings, hidden=8, leading=leading)
            wholes.append(PartDensity(coupled(whole, shape), shape, whole.parts).eval())
        patches = []
        for local in of.patches:
            width = 10 + of.wholes[0].coordinates
            shape = local.shape._replace(couplings=3, hidden=8, context=width)
            patches.append(PatchDensity(coupled(local, shape), shape).eval())
        return Member(tuple(wholes), tuple(patches))

    changed = copy.copy(detector)
    ensemble = detector._fitted()
    # As of folds of different sizes one has fewer leading coordinates, and one kept no couplings.
    first, second, third, *others = ensemble.members
    members = (member(first), member(second, leading=4), member(third, couplings=0), *map(member, others))
    changed.ensemble_ = Ensemble(members, member(ensemble.complete))
    return changed


@pytest.fixture(scope="session")
def plain() -> Detector:
    """Fitted on 32 good parts, and calibrated."""
    return Detector(SMALL).fit([render_part(seed, size=SIZE).pixels for seed in range(32)]).calibrate()


@pytest.fixture(scope="session")
def exported(plain: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that was exported to every runtime."""
    folder = plain.save(tmp_path_factory.mktemp("exported") / "model")
    export(plain, folder, RUNTIMES)
    return folder


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    """A copy of the exported model, to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


@pytest.fixture
def parts(tmp_path: Path) -> Callable[[int], list[Path]]:
    """Write good parts that nobody trained on, and return their files."""
    from differnet.images.reading import write_png

    def written(number: int) -> list[Path]:
        folder = tmp_path / "parts"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{seed}.png" for seed in range(700, 700 + number)]
        for path in paths:
            write_png(path, render_part(int(path.stem), size=SIZE).pixels)
        return paths

    return written
