"""Bundles: what is saved comes back, what was touched is refused, and nothing in one ever runs."""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

import differnet
from differnet.detection import BundleError, Detector, bundle
from differnet.features import BackboneError
from differnet.records import Verdict

Pixels = NDArray[np.uint8]
Fields = dict[str, Any]

FILES = (
    *("backbone.safetensors", "calibration.safetensors", "densities.safetensors"),
    *("manifest.json", "references.safetensors"),
)
BACKBONE, CALIBRATION, DENSITIES, MANIFEST, REFERENCES = FILES
TENSORS = (BACKBONE, CALIBRATION, DENSITIES, REFERENCES)


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that may be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def text(fields: Fields) -> bytes:
    return (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode()


def reseal(folder: Path, change: Callable[[Fields], object] = lambda _: None) -> None:
    """Change the manifest as somebody would who knows how its hashes are made."""
    fields = json.loads((folder / MANIFEST).read_bytes())
    fields.pop("seal")
    fields["files"] = {
        n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in TENSORS if (folder / n).exists()
    }
    change(fields)
    seal = hashlib.sha256(text(fields)).hexdigest()
    (folder / MANIFEST).write_bytes(text({**fields, "seal": seal}))


def rewrite(folder: Path, name: str, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of one file, and all hashes with them."""
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name)
    reseal(folder)


def refused(folder: Path) -> BundleError:
    with pytest.raises(BundleError) as caught:
        Detector.load(folder, "cpu")
    return caught.value


def figures(detector: Detector, pictures: list[Pixels]) -> list[tuple[Any, ...]]:
    records = [inspection.record for inspection in detector.inspect_many(pictures)]
    return [
        (r.verdict, r.reasons, r.strangeness, r.nll_global, r.nll_local, r.p_value, r.regions, r.t_review)
        for r in records
    ]


def test_what_was_saved_comes_back(detector: Detector, saved: Path, fresh: list[Pixels]) -> None:
    loaded = Detector.load(saved, "cpu")
    assert loaded.facts() == detector.facts()
    assert figures(loaded, fresh[:6]) == figures(detector, fresh[:6])
    for ours, theirs in zip(loaded.inspect_many(fresh[:2]), detector.inspect_many(fresh[:2]), strict=True):
        assert ours.heat_map is not None
        assert theirs.heat_map is not None
        assert np.array_equal(ours.heat_map, theirs.heat_map)


def test_saving_again_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = Detector.load(saved, "cpu").save(tmp_path / "again")
    assert sorted(p.name for p in again.iterdir()) == list(FILES)
    for name in FILES:
        assert (again / name).read_bytes() == (saved / name).read_bytes()


def test_changed_rates_and_calibration_are_saved(saved: Path, fresh: list[Pixels], tmp_path: Path) -> None:
    changed = Detector.load(saved, "cpu").calibrate(list(fresh)).with_alphas(0.2, 0.1)
    loaded = Detector.load(changed.save(tmp_path / "changed"), "cpu")
    assert loaded.facts() == changed.facts()
    assert loaded.facts()["calibration"]["scheme"] == "split"


def make_older(folder: Path) -> None:
    """Turn a bundle into one of schema 7, which kept no good parts to show and dealt features anew."""

    def change(fields: Fields) -> None:
        fields.update(schema_version=7)
        fields["density"].pop("redrawn")
        fields["density"].pop("whole_couplings")
        fields["preprocessing"].pop("halving")
        fields["settings"].pop("references")
        fields["settings"].pop("strides")

    (folder / REFERENCES).unlink()
    reseal(folder, change)


def test_a_bundle_of_schema_7_loads_without_good_parts_to_show(
    detector: Detector, model: Path, fresh: list[Pixels], tmp_path: Path
) -> None:
    make_older(model)
    loaded = Detector.load(model, "cpu")
    assert loaded.references_ is not None
    assert len(loaded.references_) == 0
    assert loaded.settings.density.redrawn
    assert not any(of.halving for of in loaded.preprocessing_)
    assert all(of.halving for of in detector.preprocessing_)
    # Then all densities had as many.
    assert loaded.settings.density.whole_couplings == detector.settings.density.couplings
    assert loaded.facts() == detector.facts()
    assert figures(loaded, fresh[:3]) == figures(detector, fresh[:3])
    again = loaded.save(tmp_path / "again")
    assert json.loads((again / MANIFEST).read_bytes())["schema_version"] == bundle.SCHEMA
    assert len(Detector.load(again, "cpu").references_ or ()) == 0


def test_a_resealed_bundle_loads(model: Path) -> None:
    """Otherwise the hostile bundles below would be refused for their seal alone."""
    reseal(model, lambda fields: fields["settings"].update(product="other"))
    assert Detector.load(model, "cpu").settings.product == "other"


def test_every_changed_byte_of_the_manifest_is_noticed(model: Path) -> None:
    path, rng = model / MANIFEST, np.random.default_rng(0)
    true = path.read_bytes()
    for place in range(0, len(true), 2):
        spoilt = bytearray(true)
        spoilt[place] ^= int(rng.integers(1, 256))
        path.write_bytes(spoilt)
        refused(model)


def test_single_bit_flips_anywhere_are_noticed(model: Path) -> None:
    rng = np.random.default_rng(1)
    for name, flips in (
        (BACKBONE, 30),
        (DENSITIES, 60),
        (CALIBRATION, 60),
        (REFERENCES, 60),
        (MANIFEST, 150),
    ):
        size = (model / name).stat().st_size
        for place in [0, 7, 8, size - 1, *rng.integers(0, size, flips).tolist()]:
            bit = 1 << int(rng.integers(8))
            with (model / name).open("r+b") as stream:
                flip(stream.fileno(), place, bit)
                refused(model)
                flip(stream.fileno(), place, bit)
    assert Detector.load(model, "cpu").ensemble_


def flip(handle: int, place: int, bit: int) -> None:
    byte = os.pread(handle, 1, place)[0]
    os.pwrite(handle, bytes([byte ^ bit]), place)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_truncated_files_are_refused(model: Path, name: str, left: int) -> None:
    (model / name).write_bytes((model / name).read_bytes()[:left])
    refused(model)
    if name != MANIFEST and left >= 0:
        reseal(model)
        refused(model)


@pytest.mark.parametrize("name", FILES)
def test_missing_files_are_refused(model: Path, name: str) -> None:
    (model / name).unlink()
    refused(model)


@pytest.mark.parametrize("name", FILES)
def test_links_are_refused(model: Path, name: str) -> None:
    target = model.parent / name
    (model / name).rename(target)
    (model / name).symlink_to(target)
    refused(model)


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", "backbone.pth", "hook.py"])
def test_further_files_are_refused(model: Path, name: str) -> None:
    (model / name).write_text("anything")
    assert name in refused(model).found


def test_folders_in_place_of_files_are_refused(model: Path, tmp_path: Path) -> None:
    (model / BACKBONE).unlink()
    (model / BACKBONE).mkdir()
    refused(model)
    refused(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file")


def test_named_pipes_do_not_hang(model: Path) -> None:
    for name in (BACKBONE, MANIFEST):
        (model / name).unlink()
        os.mkfifo(model / name)
        refused(model)


MANIFEST_CHANGES: dict[str, Callable[[Fields], object]] = {
    "unknown field": lambda f: f.update(surprise=1),
    "unknown field of settings": lambda f: f["settings"].update(code="import os"),
    "unknown field of preprocessing": lambda f: f["preprocessing"].update(resize="crop"),
    "unknown field of reading": lambda f: f["reading"].update(gamma=2.2),
    "unknown field of a shape": lambda f: f["members"][0][0].update(kind="os.system"),
    "unknown field of provenance": lambda f: f["provenance"].update(t_defect=0.0),
    "unknown scheme": lambda f: f["calibration"].update(scheme="trust me"),
    "missing field": lambda f: f.pop("golden"),
    "newer schema": lambda f: f.update(schema_version=9),
    "older schema": lambda f: f.update(schema_version=6),
    "older schema, newer files": lambda f: f.update(schema_version=7),
    "older schema, newer files unnamed": lambda f: f.update(
        schema_version=7, files={n: f["files"][n] for n in TENSORS[:3]}
    ),
    "more good parts to show than there may be": lambda f: f["settings"].update(references=65),
    "another model": lambda f: f.update(model_id="0" * 16),
    "a number as text": lambda f: f["settings"].update(seed="0"),
    "negative seed": lambda f: f["golden"].update(seed=-1),
    "no members": lambda f: f.update(members=[]),
    "one member less": lambda f: f["members"].pop(),
    "one member more": lambda f: f["members"].append(f["members"][0]),
    "further scale": lambda f: f["scales"].append({"name": "x", "stride": 8, "window": 1}),
    "even window": lambda f: f["scales"][0].update(window=2),
    "other stride": lambda f: f["scales"][0].update(stride=8),
    "other rank": lambda f: f["members"][0][0].update(rank=3),
    "full rank": lambda f: f["members"][0][0].update(rank=None),
    "enormous width": lambda f: f["members"][0][0].update(features=100_000, rank=None),
    "enormous couplings": lambda f: f["complete"]["patches"][0].update(couplings=64, hidden=4096),
    "further couplings": lambda f: f["complete"]["patches"][0].update(couplings=5),
    "other picture size": lambda f: f["preprocessing"].update(sizes=[128]),
    "no picture size": lambda f: f["preprocessing"].update(sizes=[]),
    "other maps": lambda f: f["settings"].update(strides=[8, 16]),
    "no maps": lambda f: f["settings"].update(strides=[]),
    "maps of no network": lambda f: f["settings"].update(strides=[3, 5]),
    "another zoom": lambda f: f["settings"].update(zooms=[1.0, 1.5]),
    "no global density": lambda f: f["complete"].update(wholes=[]),
    "no local density": lambda f: f["complete"].update(patches=[]),
    "more parts, more kinds": lambda f: f["complete"]["wholes"][0].update(parts=4),
    "other mean": lambda f: f["preprocessing"].update(mean=[0.4, 0.5, 0.5]),
    "zero spread": lambda f: f["preprocessing"].update(std=[0.0, 0.5, 0.5]),
    "another network": lambda f: f["provenance"]["backbone"].update(name="resnet18"),
    "network of a hub": lambda f: f["provenance"]["backbone"].update(name="hf-hub:somebody/network"),
    "network of a folder": lambda f: f["provenance"]["backbone"].update(name="local-dir:/tmp"),
    "giant network": lambda f: f["provenance"]["backbone"].update(name="resnetv2_152x4_bit"),
    "golden figures": lambda f: f["golden"]["figures"]["whole"][0].__setitem__(0, 9.0),
    "golden figures of patches": lambda f: f["golden"]["figures"]["local"][2].__setitem__(0, 0.0),
    "golden kinds": lambda f: f["golden"]["figures"]["kinds"][1].__setitem__(0, 1e3),
    "no golden kinds": lambda f: f["golden"]["figures"].pop("kinds"),
    "golden figures more": lambda f: f["golden"]["figures"].update(x=[[0.0]]),
    "no golden figures": lambda f: f["golden"].update(figures={}),
    "empty golden figures": lambda f: f["golden"].update(
        figures={name: [] for name in f["golden"]["figures"]}
    ),
    "impossible rate": lambda f: f["calibration"].update(alpha_defect=1e-6),
    "rates swapped": lambda f: f["calibration"].update(alpha_defect=0.5),
    "rate of one": lambda f: f["calibration"].update(alpha_review=1.0),
    "folds": lambda f: f["settings"].update(folds=0),
    "file outside": lambda f: f["files"].update({"../../etc/passwd": "0" * 64}),
    "file outside in place of one": lambda f: f["files"].update({"/etc/passwd": f["files"].pop(BACKBONE)}),
    "one file less": lambda f: f["files"].pop(CALIBRATION),
    "white level": lambda f: f["reading"].update(white_level=-5),
}


@pytest.mark.parametrize("name", MANIFEST_CHANGES)
def test_hostile_manifests_are_refused(model: Path, name: str) -> None:
    reseal(model, MANIFEST_CHANGES[name])
    refused(model)


def test_refusals_say_which_field(model: Path) -> None:
    reseal(model, lambda f: f["members"][1][0].update(kind="x"))
    assert "members.1.0.kind" in refused(model).found


MANIFEST_TEXTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "a list": lambda _: b"[]",
    "a word": lambda _: b'"seal"',
    "no json": lambda _: b"{",
    "not utf-8": lambda t: t.replace(b"cross-fitted", b"cross\xfffitted"),
    "utf-16": lambda t: t.decode().encode("utf-16"),
    "byte order mark": lambda t: b"\xef\xbb\xbf" + t,
    "duplicate key": lambda t: t.replace(b'{\n "calibration"', b'{\n "seal": "0",\n "calibration"', 1),
    "duplicate key inside": lambda t: t.replace(b'"scheme":', b'"scheme": "split",\n  "scheme":', 1),
    "NaN": lambda t: t.replace(b'"alpha_review": 0.05', b'"alpha_review": NaN'),
    "overflow": lambda t: t.replace(b'"alpha_review": 0.05', b'"alpha_review": 1e400'),
    "infinity": lambda t: t.replace(b'"alpha_review": 0.05', b'"alpha_review": -Infinity'),
    "same value in other words": lambda t: t.replace(b'"alpha_review": 0.05', b'"alpha_review": 5e-2'),
    "further space": lambda t: t + b" ",
    "no last line end": lambda t: t[:-1],
    "deep": lambda _: b"[" * 200_000,
    "deep in a field": lambda t: t.replace(b'"product": ""', b'"product": ' + b"[" * 9000 + b"]" * 9000),
    "enormous number": lambda t: t.replace(b'"seed": 0', b'"seed": ' + b"9" * 5000),
    "enormous": lambda t: t + b" " * (1 << 20),
}


@pytest.mark.parametrize("name", MANIFEST_TEXTS)
def test_manifests_that_are_not_strict_are_refused(model: Path, name: str) -> None:
    true = (model / MANIFEST).read_bytes()
    spoilt = MANIFEST_TEXTS[name](true)
    assert spoilt != true
    (model / MANIFEST).write_bytes(spoilt)
    refused(model)


def first(tensors: dict[str, Tensor], part: str) -> str:
    return next(name for name in sorted(tensors) if part in name)


def spoil(part: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    def spoilt(tensors: dict[str, Tensor]) -> None:
        name = first(tensors, part)
        tensors[name] = change(tensors[name].clone()).contiguous()

    return spoilt


def put(place: int, value: float) -> Callable[[Tensor], Tensor]:
    def changed(tensor: Tensor) -> Tensor:
        tensor.view(-1)[place] = value
        return tensor

    return changed


def enlarged(thumbnails: Tensor) -> Tensor:
    """Let the header of the first JPEG say that it is 10,000 pixels wide and high."""
    blob = thumbnails.numpy().tobytes()
    # Of a baseline JPEG the frame begins with this marker; length and depth stand before the sides.
    frame = blob.index(b"\xff\xc0") + 5
    told = blob[:frame] + struct.pack(">HH", 10_000, 10_000) + blob[frame + 4 :]
    return torch.frombuffer(bytearray(told), dtype=torch.uint8)


TENSOR_CHANGES: dict[str, tuple[str, Callable[[dict[str, Tensor]], object]]] = {
    "NaN in a density": (DENSITIES, spoil("scale", put(0, np.nan))),
    "infinity in a density": (DENSITIES, spoil("mean", put(3, np.inf))),
    "zero scale": (DENSITIES, spoil("scale", torch.zeros_like)),
    "shorter": (DENSITIES, spoil("mean", lambda t: t[:-1])),
    "double precision": (DENSITIES, spoil("mean", Tensor.double)),
    "half precision": (DENSITIES, spoil("mean", Tensor.half)),
    "other numbers": (DENSITIES, spoil("mean", lambda t: t + 0.5)),
    "no permutation": (DENSITIES, spoil("order", lambda t: t + 10_000)),
    "permutation of another sign": (DENSITIES, spoil("order", lambda t: t - 10_000)),
    "tensor lost": (DENSITIES, lambda t: t.pop(first(t, "mean"))),
    "tensor more": (DENSITIES, lambda t: t.update(extra=torch.zeros(1))),
    "tensor of a further member": (DENSITIES, lambda t: t.update({"9.part.x": torch.zeros(1)})),
    "NaN in the network": (BACKBONE, spoil("weight", put(0, np.nan))),
    "network changed": (BACKBONE, spoil("conv_stem.weight", lambda t: 1.5 * t)),
    "network of another shape": (BACKBONE, spoil("conv_stem.weight", lambda t: t[:, :1])),
    "network in half precision": (BACKBONE, spoil("conv_stem.weight", Tensor.half)),
    "network with more": (BACKBONE, lambda t: t.update(extra=torch.zeros(1))),
    "network with less": (BACKBONE, lambda t: t.pop("conv_stem.weight")),
    "NaN in the calibration": (CALIBRATION, spoil("whole", put(0, np.nan))),
    "infinity in the calibration": (CALIBRATION, spoil("peaks", put(0, np.inf))),
    "calibration in single precision": (CALIBRATION, spoil("whole", Tensor.float)),
    "whole numbers for evidence": (CALIBRATION, spoil("extent", Tensor.long)),
    "no boundary": (CALIBRATION, spoil("origin", lambda t: t[:0])),
    "infinite boundary": (CALIBRATION, spoil("origin", put(0, np.inf))),
    "no heat at all": (CALIBRATION, spoil("heat", torch.zeros_like)),
    "descending heat": (CALIBRATION, spoil("heat", lambda heat: heat.flip(1))),
    "one part less": (CALIBRATION, spoil("local", lambda t: t[1:])),
    "one scale more": (CALIBRATION, spoil("local", lambda t: torch.cat([t, t], 1))),
    "calibration lost": (CALIBRATION, lambda t: t.pop("extent")),
    "no training parts": (CALIBRATION, lambda t: t.pop("trained_on")),
    "another training part": (CALIBRATION, spoil("trained_on", put(0, 7))),
    "one training part less": (CALIBRATION, spoil("trained_on", lambda t: t[1:])),
    "training parts in other numbers": (CALIBRATION, spoil("trained_on", Tensor.long)),
    "no quality": (CALIBRATION, lambda t: t.pop("quality")),
    "a good part to show that nobody trained on": (REFERENCES, spoil("hashes", put(0, 7))),
    "a good part twice": (REFERENCES, spoil("hashes", lambda t: t[:1].expand_as(t))),
    "one good part less": (REFERENCES, spoil("statistics", lambda t: t[1:])),
    "too many good parts": (REFERENCES, lambda t: t.update({n: torch.cat([t[n]] * 3) for n in t})),
    "NaN in a good part": (REFERENCES, spoil("statistics", put(0, np.nan))),
    "a good part in single precision": (REFERENCES, spoil("statistics", Tensor.float)),
    "good parts of other statistics": (REFERENCES, spoil("statistics", lambda t: t[:, 1:])),
    "pictures of another length": (REFERENCES, spoil("lengths", put(0, 1))),
    "a picture of no length": (
        REFERENCES,
        spoil("lengths", lambda t: torch.cat([t[:1] * 0, t[1:2] + t[0], t[2:]])),
    ),
    "a length below nothing": (
        REFERENCES,
        spoil("lengths", lambda t: torch.cat([-t[:1], t[1:2] + 2 * t[0], t[2:]])),
    ),
    "vast pictures": (
        REFERENCES,
        spoil("thumbnails", lambda t: torch.cat([t, torch.zeros(9 << 20, dtype=torch.uint8)])),
    ),
    "what is no picture": (REFERENCES, spoil("thumbnails", torch.zeros_like)),
    "a picture of a hundred megapixels": (REFERENCES, spoil("thumbnails", lambda t: enlarged(t))),
    "no pictures": (REFERENCES, lambda t: t.pop("thumbnails")),
    "something beside the pictures": (REFERENCES, lambda t: t.update(extra=torch.zeros(1))),
    "one figure of quality less": (CALIBRATION, spoil("quality", lambda t: t[:, 1:])),
    "no calibration parts": (
        CALIBRATION,
        lambda t: t.update(
            {n: t[n][:0].clone() for n in ("whole", "local", "nll_local", "extent", "cells", "peaks")}
        ),
    ),
}


@pytest.mark.parametrize("name", TENSOR_CHANGES)
def test_hostile_tensors_are_refused_though_every_hash_is_right(model: Path, name: str) -> None:
    file, change = TENSOR_CHANGES[name]
    rewrite(model, file, change)
    refused(model)


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("declared", [False, True])
def test_files_are_refused_by_what_they_declare_before_anybody_hashes_them(
    model: Path, name: str, declared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes of nothing cost an attacker nothing: the disk keeps them as a hole."""
    path, vast = model / name, 8 << 30
    size = path.stat().st_size
    if declared:
        blob = path.read_bytes()
        (length,) = struct.unpack("<Q", blob[:8])
        header, begins = json.loads(blob[8 : 8 + length]), size - 8 - length
        header["zeros"] = {"dtype": "U8", "shape": [vast], "data_offsets": [begins, begins + vast]}
        path.write_bytes(raw(json.dumps(header).encode(), blob[8 + length :]))
        size = path.stat().st_size
    os.truncate(path, size + vast)
    monkeypatch.setattr(bundle, "sha256_of", lambda _: pytest.fail("hashed"))
    error = refused(model)
    assert "zeros" in error.found if declared else str(size + vast) in error.found


def digits_of(densities: dict[str, Tensor]) -> str:
    """Return the ``model_id`` of these tensors, as anybody can compute it."""
    digest = hashlib.sha256()
    for flow in sorted({tuple(name.split(".")[:2]) for name in densities}):
        prefix = ".".join(flow) + "."
        for name in sorted(n.removeprefix(prefix) for n in densities if n.startswith(prefix)):
            digest.update((prefix + name).encode())
            digest.update(densities[prefix + name].numpy().tobytes())
    return digest.hexdigest()[:16]


IN_PLACE = ("zero scale", "other numbers", "no permutation", "permutation of another sign")


@pytest.mark.parametrize("name", IN_PLACE)
def test_forged_densities_do_not_reproduce_the_golden_figures(model: Path, name: str) -> None:
    """Their new ``model_id`` is forged as well; what is left to notice is how they judge."""
    true = load_file(model / DENSITIES)
    assert digits_of(true) == json.loads((model / MANIFEST).read_bytes())["model_id"]
    rewrite(model, *TENSOR_CHANGES[name])
    reseal(model, lambda fields: fields.update(model_id=digits_of(load_file(model / DENSITIES))))
    assert "model " not in refused(model).expected[:6]


def raw(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + body


HOSTILE_FILES: dict[str, bytes] = {
    "empty": b"",
    "short": b"\x08\0\0",
    "huge header length": struct.pack("<Q", 1 << 62) + b"{}",
    "long header": struct.pack("<Q", 1 << 23) + b" " * (1 << 23),
    "duplicate tensor": raw(
        b'{"whole":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},'
        b'"whole":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}',
        b"\0" * 8,
    ),
    "NaN in the header": raw(b'{"whole":{"dtype":"F64","shape":[NaN],"data_offsets":[0,8]}}', b"\0" * 8),
    "offsets outside": raw(b'{"whole":{"dtype":"F64","shape":[9],"data_offsets":[0,72]}}', b"\0" * 8),
    "overlap": raw(
        b'{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},'
        b'"b":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}',
        b"\0" * 8,
    ),
    "unknown type": raw(b'{"whole":{"dtype":"OBJ","shape":[1],"data_offsets":[0,8]}}', b"\0" * 8),
    "deep header": raw(b"[" * 100_000),
    "enormous number": raw(b'{"whole":{"dtype":"F64","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}'),
    "no json": raw(b"\xff\xfe\xfd"),
    "header is a list": raw(b"[]"),
    "no tensors": raw(b"{}"),
    "odd numbers": raw(b'{"whole":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}', b"\x7f" * 8),
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
@pytest.mark.parametrize("file", [CALIBRATION, DENSITIES])
def test_hostile_safetensors_are_refused_though_every_hash_is_right(
    model: Path, file: str, name: str
) -> None:
    (model / file).write_bytes(HOSTILE_FILES[name])
    reseal(model)
    refused(model)


class Trap:
    """What a hostile pickle does when somebody loads it."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize("file", TENSORS)
def test_a_pickle_under_another_name_does_not_run(model: Path, file: str) -> None:
    (model / file).write_bytes(pickle.dumps(Trap()))
    reseal(model)
    refused(model)
    torch.save({"whole": Trap()}, model / file)
    reseal(model)
    refused(model)
    assert not Trap.sprung


def test_forged_calibration_shows_in_its_identity_alone(model: Path, detector: Detector) -> None:
    """What cannot be refused without a signature: a consistent forgery. Every record names it."""
    rewrite(model, CALIBRATION, spoil("extent", lambda t: t * 100))
    forged = Detector.load(model, "cpu")
    assert forged.model_id == detector.model_id
    assert forged.facts()["calibration_id"] != detector.facts()["calibration_id"]


def test_absent_device_is_not_a_damaged_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackboneError, match="CUDA"):
        Detector.load(saved, "cuda")


def test_saving_over_an_older_model_replaces_it_whole(detector: Detector, model: Path) -> None:
    (model / DENSITIES).write_bytes(b"damaged")
    detector.save(model)
    assert Detector.load(model, "cpu").model_id == detector.model_id
    assert [p.name for p in model.parent.iterdir()] == [model.name]


@pytest.mark.parametrize("failing", ["_write", "first rename", "second rename"])
def test_an_interrupted_save_leaves_the_older_model(
    detector: Detector, model: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, renamed = Path.rename, []

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    def fail_later(self: Path, target: Path) -> Path:
        renamed.append(self)
        if len(renamed) == (1 if failing == "first rename" else 2):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    before = {name: (model / name).read_bytes() for name in FILES}
    with monkeypatch.context() as patch:
        if failing == "_write":
            patch.setattr(bundle, "_write", fail)
        else:
            patch.setattr(Path, "rename", fail_later)
        with pytest.raises((KeyboardInterrupt, BundleError)):
            detector.save(model)
    assert {name: (model / name).read_bytes() for name in FILES} == before
    assert [p.name for p in model.parent.iterdir()] == [model.name]


def test_an_interrupted_first_save_leaves_nothing(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "save_file", fail)
    with pytest.raises(BundleError, match="No space"):
        detector.save(tmp_path / "deep" / "model")
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize(
    "names", [["thesis.docx"], [MANIFEST], [MANIFEST, "index.html"], [*FILES, "notes.txt"]]
)
def test_folders_with_other_peoples_files_are_left_alone(
    detector: Detector, tmp_path: Path, names: list[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("mine")
    with pytest.raises(BundleError, match="nothing there was touched"):
        detector.save(folder)
    assert {p.name: p.read_text() for p in folder.iterdir()} == dict.fromkeys(names, "mine")


def test_a_file_in_the_models_place_is_left_alone(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(BundleError):
        detector.save(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


def test_an_empty_folder_may_be_used(detector: Detector, tmp_path: Path, fresh: list[Pixels]) -> None:
    (tmp_path / "model").mkdir()
    loaded = Detector.load(detector.save(tmp_path / "model"), "cpu")
    assert loaded.inspect(fresh[0]).record.verdict is not Verdict.INVALID


UNPICKLERS = {
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "read_pickle"),
    *("torch.load", "torch.jit.load", "torch.hub.load", "numpy.load", "np.load", "allow_pickle"),
}


def pickles_in(source: str) -> set[str]:
    """Return what a module imports or calls that can unpickle."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node), node.attr]
        elif isinstance(node, ast.keyword) and ast.unparse(node.value) != "False":
            names = [node.arg or ""]
        found |= UNPICKLERS.intersection(names)
    return found


def test_only_the_reader_of_verified_weights_can_unpickle() -> None:
    assert pickles_in("import pickle\nfrom torch import load") == {"pickle", "torch.load"}
    assert pickles_in("x = np.load(f, allow_pickle=True)") == {"np.load", "allow_pickle"}
    assert pickles_in("save(f, allow_pickle=False)") == set()
    package = Path(str(differnet.__file__)).parent
    guilty = {
        path.relative_to(package).as_posix(): found
        for path in package.rglob("*.py")
        if (found := pickles_in(path.read_text(encoding="utf-8")))
    }
    assert guilty == {"features/weights.py": {"torch.load"}}
    assert "weights_only=True" in (package / "features/weights.py").read_text(encoding="utf-8")


def test_a_flow_that_no_longer_inverts_is_refused(detector: Detector) -> None:
    """The self-test asks every flow for its round trip, not only for its golden figures."""
    assert detector.ensemble_ is not None
    damaged = copy.deepcopy(detector.ensemble_.members[0].wholes[0].flow)
    bundle._require_health(damaged, "of member 0", seed=0)
    for buffer in damaged.buffers():
        if buffer.ndim == 2 and buffer.is_floating_point():
            buffer.mul_(1.5)
    with pytest.raises(BundleError, match="healthy flow of member 0"):
        bundle._require_health(damaged, "of member 0", seed=0)
