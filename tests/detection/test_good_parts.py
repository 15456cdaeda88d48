"""The good parts of a calibration, read without torch: the same figures as the detector's, or none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from detection.test_bundle import CALIBRATION, DENSITIES, FILES, MANIFEST, flip, make_older, reseal
from differnet.calibration import OOD_STRANGENESS, Suggestion
from differnet.detection import BundleError, Detector, read_good_parts, revision_in_force, revisions_of

Pixels = NDArray[np.uint8]


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that may be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_the_figures_are_those_of_the_loaded_model(model: Path, fresh: list[Pixels], tmp_path: Path) -> None:
    loaded = Detector.load(model, "cpu")
    split = Detector.load(model, "cpu").calibrate(list(fresh)).with_alphas(0.2, 0.1)
    for detector, folder in ((loaded, model), (split, split.save(tmp_path / "split"))):
        found, facts = read_good_parts(folder), detector.facts()
        assert np.array_equal(found.strangeness, detector.good_strangeness)
        assert (found.model_id, found.calibration_id) == (facts["model_id"], facts["calibration_id"])
        assert (found.t_review, found.t_defect) == (facts["t_review"], facts["t_defect"])
        told = facts["calibration"]
        assert (found.parts, found.scheme, found.promised) == (
            told["parts"],
            told["scheme"],
            told["promised"],
        )
        assert (found.alpha_review, found.alpha_defect) == (told["alpha_review"], told["alpha_defect"])


def test_a_bundle_of_the_form_before_has_them_too(model: Path) -> None:
    before = read_good_parts(model)
    make_older(model)
    found = read_good_parts(model)
    assert np.array_equal(found.strangeness, before.strangeness)
    assert (found.t_review, found.t_defect) == (before.t_review, before.t_defect)


def test_of_variations_nothing_is_promised(model: Path) -> None:
    def of_two(fields: dict[str, dict[str, object]]) -> None:
        fields["calibration"].update(scheme="variations", real_parts=2)

    reseal(model, of_two)
    found, facts = read_good_parts(model), Detector.load(model, "cpu").facts()
    assert (found.parts, found.promised) == (2, False)
    assert found.t_defect == facts["t_defect"] >= OOD_STRANGENESS
    assert found.calibration_id == facts["calibration_id"]


def test_no_torch_is_loaded_for_it(model: Path) -> None:
    asked = (
        "import sys; from pathlib import Path; from differnet.detection import read_good_parts;"
        f"read_good_parts(Path({str(model)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_file_is_noticed(model: Path, name: str) -> None:
    size = (model / name).stat().st_size
    for place in [0, 9, size // 2, size - 1]:
        with (model / name).open("r+b") as stream:
            flip(stream.fileno(), place, 1)
            with pytest.raises(BundleError):
                read_good_parts(model)
            flip(stream.fileno(), place, 1)
    assert read_good_parts(model).parts


def test_missing_and_linked_files_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        read_good_parts(tmp_path / "absent")
    for name in (MANIFEST, DENSITIES, CALIBRATION):
        target = tmp_path / name
        (model / name).rename(target)
        with pytest.raises(BundleError):
            read_good_parts(model)
        (model / name).symlink_to(target)
        with pytest.raises(BundleError):
            read_good_parts(model)
        (model / name).unlink()
        target.rename(model / name)


@pytest.mark.parametrize("spoilt", ["nan", "nan unused", "shape", "lost", "more", "no kinds", "rates"])
def test_unfit_figures_are_refused_though_every_hash_is_right(model: Path, spoilt: str) -> None:
    arrays = load_file(model / CALIBRATION)
    if spoilt == "nan":
        arrays["nll_local"][1, 0] = np.nan
    elif spoilt == "nan unused":
        # Nothing here is computed from it, and still the calibration is not what was written.
        arrays["peaks"][0] = np.nan
    elif spoilt == "shape":
        arrays["local"] = arrays["local"][1:].copy()
    elif spoilt == "lost":
        arrays.pop("extent")
    elif spoilt == "more":
        arrays["extra"] = np.zeros(3)
    elif spoilt == "no kinds":
        arrays["kinds"] = arrays["kinds"][:, 0].copy()
    save_file(arrays, model / CALIBRATION)
    reseal(model, lambda f: f["calibration"].update(alpha_defect=1e-6) if spoilt == "rates" else None)
    with pytest.raises(BundleError):
        read_good_parts(model)


def test_the_revision_in_force_is_found_without_the_model(model: Path) -> None:
    found = read_good_parts(model)
    assert revision_in_force(model, found.model_id, found.calibration_id).revision is None
    chosen = Suggestion(1.0, 2.0, "by hand", (), ())
    kept = revisions_of(model).append(
        chosen, author="ada", reason="r", model_id=found.model_id, calibration_id=found.calibration_id
    )
    assert revision_in_force(model, found.model_id, found.calibration_id).revision == kept
    assert revision_in_force(model, found.model_id, "another").ignored == kept
    assert json.loads((model / MANIFEST).read_bytes())["model_id"] == found.model_id
