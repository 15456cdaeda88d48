"""A very small bundle, and forty of which each is hostile in another way.

Whoever changes a bundle can compute its hashes and its seal again, which are no secret: so do these, unless
the seal itself is what is attacked. What is not re-sealed would be refused for its seal alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.detection.settings import PatchScale
from differnet.images.synthetic import render_part

Fields = dict[str, Any]
Tensors = dict[str, Tensor]
# Spoils a bundle, given where code that runs would leave its mark.
Spoil = Callable[[Path, Path], object]

TENSORS = (
    *("backbone.safetensors", "calibration.safetensors"),
    *("densities.safetensors", "references.safetensors"),
)
BACKBONE, CALIBRATION, DENSITIES, REFERENCES = TENSORS
MANIFEST = "manifest.json"
FILES = (*TENSORS, MANIFEST)

# A network of timm's own tests, 0.3 MB: the reader is tested here, not the features.
_NETWORK = "test_efficientnet"
_SIDE = 64
_PARTS = 8


def make_bundle(folder: Path, seed: int) -> Path:
    """Train a detector of 0.9 MB on a few parts and save it; loading it takes about 0.1 s."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = timm.create_model(_NETWORK, pretrained=False).state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.safetensors"
    save_file(state, weights)
    settings = DetectorSettings(
        backbone=_NETWORK,
        weights=weights,
        image_size=_SIDE,
        seed=seed,
        folds=2,
        device="cpu",
        density=DensitySettings(steps=5, couplings=1, hidden=8),
        scales=(PatchScale("fine", (8,)),),
    )
    parts = [render_part(seed + part, size=_SIDE).pixels for part in range(_PARTS)]
    return Detector(settings).fit(parts).calibrate().save(folder / "model")


def text_of(fields: Fields) -> bytes:
    """Return the text that the seal is of."""
    return (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode()


def sealed(fields: Fields) -> bytes:
    """Return a manifest with a right seal."""
    return text_of({**fields, "seal": hashlib.sha256(text_of(fields)).hexdigest()})


def manifest_of(folder: Path) -> Fields:
    """Read a manifest without its seal."""
    fields: Fields = json.loads((folder / MANIFEST).read_bytes())
    fields.pop("seal")
    return fields


def reseal(folder: Path, change: Callable[[Fields], object] = lambda _: None) -> None:
    """Compute every hash and the seal again, after a change of the manifest."""
    fields = manifest_of(folder)
    for name in TENSORS:
        if (folder / name).is_file():
            fields["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    change(fields)
    (folder / MANIFEST).write_bytes(sealed(fields))


def id_of(densities: Tensors) -> str:
    """Return the ``model_id`` of these tensors, as anybody can compute it."""
    digest = hashlib.sha256()
    for flow in sorted({tuple(name.split(".")[:2]) for name in densities}):
        prefix = ".".join(flow) + "."
        for name in sorted(n.removeprefix(prefix) for n in densities if n.startswith(prefix)):
            digest.update((prefix + name).encode())
            digest.update(densities[prefix + name].numpy().tobytes())
    return digest.hexdigest()[:16]


class _Payload:
    """What runs when somebody unpickles it: it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def _a_pickle(mark: Path) -> bytes:
    return pickle.dumps({"whole": _Payload(mark)})


def _a_torch_archive(mark: Path) -> bytes:
    stream = io.BytesIO()
    torch.save({"whole": _Payload(mark)}, stream)
    return stream.getvalue()


def _an_object_array(mark: Path) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([_Payload(mark)], dtype=object), allow_pickle=True)
    return stream.getvalue()


def _a_zip(names: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _field(number: int, content: bytes) -> bytes:
    """Write one length-delimited field of a protobuf message."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits[-1] |= 0x80
        digits.append(value & 0x7F)
    return bytes(digits)


def onnx_with_external_data(location: str) -> bytes:
    """Write an ONNX model whose one tensor lies in another file, by the field numbers of onnx.proto."""
    entry = _field(1, b"location") + _field(2, location.encode())
    # dims = [1], data_type = FLOAT, name, external_data, data_location = EXTERNAL.
    tensor = b"\x08\x01\x10\x01" + _field(8, b"weight") + _field(13, entry) + b"\x70\x01"
    return b"\x08\x08" + _field(7, _field(2, b"graph") + _field(5, tensor))


def _put(name: str, content: Callable[[Path], bytes]) -> Spoil:
    """Put other bytes in the place of a file, with every hash right."""

    def spoil(folder: Path, mark: Path) -> None:
        (folder / name).write_bytes(content(mark))
        reseal(folder)

    return spoil


def _beside(name: str, content: Callable[[Path], bytes]) -> Spoil:
    return lambda folder, mark: (folder / name).write_bytes(content(mark))


def _manifest(change: Callable[[Fields], object]) -> Spoil:
    return lambda folder, _: reseal(folder, change)


def _words(change: Callable[[bytes], bytes]) -> Spoil:
    """Change the manifest's text, whose one spelling the seal is of."""

    def spoil(folder: Path, _: Path) -> None:
        path = folder / MANIFEST
        true = path.read_bytes()
        if (changed := change(true)) == true:
            raise ValueError("the manifest has no such words any more")
        path.write_bytes(changed)

    return spoil


def _tensors(name: str, change: Callable[[Tensors], object]) -> Spoil:
    """Change the tensors of one file, with every hash and the model's id right."""

    def spoil(folder: Path, _: Path) -> None:
        tensors = load_file(folder / name)
        change(tensors)
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name)
        forged = id_of(tensors) if name == DENSITIES else None
        reseal(folder, lambda fields: fields.update(model_id=forged) if forged else None)

    return spoil


def _first(tensors: Tensors, part: str) -> str:
    return next(name for name in sorted(tensors) if part in name)


def _in(part: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], object]:
    def changed(tensors: Tensors) -> None:
        name = _first(tensors, part)
        tensors[name] = change(tensors[name].clone())

    return changed


def _holding(value: float) -> Callable[[Tensor], Tensor]:
    def changed(tensor: Tensor) -> Tensor:
        tensor.view(-1)[0] = value
        return tensor

    return changed


def _raw(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def _vast_tensor(name: str, size: int) -> Spoil:
    """Declare a further tensor of zeros, which the disk keeps as a hole; every hash is right."""

    def spoil(folder: Path, _: Path) -> None:
        blob = (folder / name).read_bytes()
        (length,) = struct.unpack("<Q", blob[:8])
        header = json.loads(blob[8 : 8 + length])
        begins = len(blob) - 8 - length
        header["zeros"] = {"dtype": "F32", "shape": [size // 4], "data_offsets": [begins, begins + size]}
        words = json.dumps(header).encode()
        (folder / name).write_bytes(_raw(words + b" " * (-len(words) % 8), blob[8 + length :]))
        os.truncate(folder / name, (folder / name).stat().st_size + size)
        with (folder / name).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        fields = manifest_of(folder)
        fields["files"][name] = found
        (folder / MANIFEST).write_bytes(sealed(fields))

    return spoil


def _vast_file(name: str, size: int) -> Spoil:
    """Make a file that takes longer to hash than anybody waits; the disk keeps it as a hole."""

    def spoil(folder: Path, _: Path) -> None:
        os.truncate(folder / name, size)

    return spoil


def _link(name: str) -> Spoil:
    def spoil(folder: Path, mark: Path) -> None:
        elsewhere = mark.parent / f"linked {name}"
        (folder / name).rename(elsewhere)
        (folder / name).symlink_to(elsewhere)

    return spoil


def _pipe(folder: Path, _: Path) -> None:
    (folder / CALIBRATION).unlink()
    os.mkfifo(folder / CALIBRATION)


def _archive_in_its_place(folder: Path, mark: Path) -> None:
    inside = {file.name: file.read_bytes() for file in folder.iterdir()}
    shutil.rmtree(folder)
    folder.write_bytes(_a_zip({**inside, f"../{mark.name}/slipped": b"x"}))


def _cut(folder: Path, _: Path) -> None:
    path = folder / DENSITIES
    os.truncate(path, path.stat().st_size - 4)
    reseal(folder)


def _overlap(folder: Path, _: Path) -> None:
    blob = (folder / CALIBRATION).read_bytes()
    (length,) = struct.unpack("<Q", blob[:8])
    header = json.loads(blob[8 : 8 + length])
    header["local"]["data_offsets"] = header["nll_local"]["data_offsets"]
    (folder / CALIBRATION).write_bytes(_raw(json.dumps(header).encode(), blob[8 + length :]))
    reseal(folder)


_ONE = b'{"whole":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}'

HOSTILE: dict[str, Spoil] = {
    # Code.
    "a pickle for weights": _put(BACKBONE, _a_pickle),
    "a torch archive for densities": _put(DENSITIES, _a_torch_archive),
    "an array of objects for calibration": _put(CALIBRATION, _an_object_array),
    "a pickle for a manifest": _beside(MANIFEST, _a_pickle),
    "a pickle beside the files": _beside("backbone.pth", _a_torch_archive),
    "code beside the files": _beside(
        "sitecustomize.py", lambda m: f"import os; os.mkdir({str(m)!r})".encode()
    ),
    "a network of a hub": _manifest(
        lambda f: f["provenance"]["backbone"].update(name="hf-hub:somebody/network")
    ),
    "a network of a folder": _manifest(lambda f: f["provenance"]["backbone"].update(name="local-dir:/tmp")),
    # Names that lead elsewhere.
    "a file above the bundle": _manifest(lambda f: f["files"].update({"../../mark": "0" * 64})),
    "an absolute file": _manifest(lambda f: f["files"].update({"/etc/passwd": f["files"].pop(BACKBONE)})),
    "an archive that slips out": _archive_in_its_place,
    "a tensor named as a path": _tensors(DENSITIES, lambda t: t.update({"../../mark": torch.zeros(1)})),
    "a link in place of weights": _link(BACKBONE),
    "a link in place of the manifest": _link(MANIFEST),
    "ONNX whose weights lie elsewhere": _put(
        BACKBONE, lambda m: onnx_with_external_data(f"../{m.name}/weight")
    ),
    "ONNX and its data beside the files": _beside("model.onnx", lambda _: onnx_with_external_data("weight")),
    # Bombs.
    "an archive of zeros": _put(BACKBONE, lambda _: _a_zip({"weights": bytes(2**28)})),
    "8 GiB of nothing": _vast_file(BACKBONE, 2**33),
    "a further tensor of 256 MiB in the densities": _vast_tensor(DENSITIES, 2**28),
    "a further tensor of 256 MiB in the network": _vast_tensor(BACKBONE, 2**28),
    "a header of 2^62 bytes": _put(CALIBRATION, lambda _: struct.pack("<Q", 1 << 62) + b"{}"),
    "a header of 8 MiB": _put(CALIBRATION, lambda _: _raw(b" " * 2**23)),
    "a manifest of 2 MiB": _words(lambda t: t + b" " * 2**21),
    "a flow of 100,000 features": _manifest(
        lambda f: f["members"][0][0].update(features=100_000, leading=100_000, rank=None)
    ),
    "a giant network": _manifest(lambda f: f["provenance"]["backbone"].update(name="tf_efficientnet_l2")),
    # Text that two readers understand in two ways.
    "a key twice in the manifest": _words(
        lambda t: t.replace(b'"scheme":', b'"scheme": "split",\n  "scheme":', 1)
    ),
    "a tensor twice in a header": _put(CALIBRATION, lambda _: _raw(_ONE[:-1] + b"," + _ONE[1:], bytes(8))),
    "deep JSON for a manifest": _words(lambda _: b"[" * 200_000),
    "deep JSON for a header": _put(DENSITIES, lambda _: _raw(b"[" * 100_000)),
    "a number of 5,000 digits": _words(lambda t: t.replace(b'"steps": 5', b'"steps": ' + b"9" * 5_000)),
    "an infinite rate": _words(lambda t: re.sub(rb'("alpha_review": )[^,]+', rb"\g<1>1e999", t)),
    # Tensors.
    "NaN in the network": _tensors(BACKBONE, _in("weight", _holding(np.nan))),
    "infinity in the calibration": _tensors(CALIBRATION, _in("peaks", _holding(np.inf))),
    "a tensor of another shape": _tensors(DENSITIES, _in("mean", lambda t: t[:-1])),
    "a tensor of another type": _tensors(BACKBONE, _in("weight", Tensor.half)),
    "a tensor missing": _tensors(DENSITIES, lambda t: t.pop(_first(t, "mean"))),
    "tensors that overlap": _overlap,
    "densities that do not judge as they should": _tensors(DENSITIES, _in("scale", lambda t: 3 * t)),
    # Files that are no files.
    "a densities' file cut short": _cut,
    "a pipe in place of calibration": _pipe,
}
