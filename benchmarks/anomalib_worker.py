"""Train and ask models of anomalib, line by line; runs with the Python that has anomalib, without differnet.

Each line on standard input is a request in JSON, each line on standard output its answer:

    {"make": "padim", "backbone": NAME, "weights": FILE, "size": PIXELS, "mean": [...], "std": [...]}
    {"train": [FILES]}    answers with the seconds it took, decoding and all
    {"version": PACKAGE}
    {"ask": FILE}         answers with the score, and the seconds from the file to score and map of its size

Models are anomalib's own, with the settings it gives them where it has any for this network; files are read
and resized by its own functions. `benchmarks/speed.py` starts this, and asks its own model in turn.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch
from anomalib.data.utils import read_image
from anomalib.models.image.cflow.lightning_model import Cflow
from anomalib.models.image.padim.torch_model import PadimModel
from torch.nn import functional
from torchvision.transforms import v2

BATCH = 32
# Strides 8, 16 and 32 of an EfficientNet, by timm's names.
LAYERS = ["blocks.2", "blocks.4", "blocks.6"]
# Of a network that anomalib has no default for: what it takes of ResNet-18.
KEPT_FEATURES = 100


class Model:
    """One of anomalib's models with what goes before and after it."""

    def __init__(self, asked: dict[str, Any]) -> None:
        torch.manual_seed(0)
        name, backbone, size = asked["make"], asked["backbone"], asked["size"]
        self.name = name
        self.transform = v2.Compose(
            [v2.Resize((size, size), antialias=True), v2.Normalize(asked["mean"], asked["std"])]
        )
        self.module: Any
        self.learner: Any = None
        network: Any
        if name == "padim":
            self.module = PadimModel(backbone, LAYERS, pre_trained=False, n_features=KEPT_FEATURES)
            network = self.module.feature_extractor.feature_extractor
        else:
            self.learner = Cflow(backbone, LAYERS, pre_trained=False)
            self.module = self.learner.model
            network = self.module.encoder.feature_extractor
        state = torch.load(asked["weights"], weights_only=True)
        told = network.load_state_dict(state, strict=False)
        if told.missing_keys:
            raise ValueError(f"weights without {told.missing_keys[:3]}")

    def train(self, files: list[str]) -> None:
        """Learn from good parts: PaDiM in its one pass, CFLOW in one epoch, each by anomalib's own steps."""
        self.module.train()
        if self.name == "padim":
            self.module.feature_extractor.eval()
            for pixels in self._batches(files):
                self.module(pixels)
            self.module.fit()
        else:
            self.module.encoder.eval()
            optimiser = self.learner.configure_optimizers()
            # What its trainer would give it; the trainer itself wants a validation set.
            self.learner.optimizers = lambda: optimiser
            self.learner.manual_backward = torch.autograd.backward
            self.learner.log = lambda *_, **__: None
            for pixels in self._batches(files):
                self.learner.training_step(SimpleNamespace(image=pixels))
        self.module.eval()

    @torch.no_grad()
    def ask(self, file: str) -> float:
        """Return a picture's score, having made its map as large as the picture."""
        picture = read_image(file, as_tensor=True)
        found = self.module(self.transform(picture)[None])
        heat = found.anomaly_map
        functional.interpolate(heat.reshape(1, 1, *heat.shape[-2:]), picture.shape[-2:])
        return float(found.pred_score.reshape(-1)[0])

    def _batches(self, files: list[str]) -> Iterator[torch.Tensor]:
        for start in range(0, len(files), BATCH):
            some = files[start : start + BATCH]
            yield torch.stack([self.transform(read_image(file, as_tensor=True)) for file in some])


def main() -> None:
    """Answer requests until there are no more."""
    model: Model | None = None
    out = sys.stdout
    # Whatever else speaks does so where people read.
    sys.stdout = sys.stderr
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        started = time.perf_counter()
        answer: dict[str, Any] = {}
        if "make" in asked:
            model = Model(asked)
        elif "version" in asked:
            answer["version"] = version(asked["version"])
        elif model is not None and "train" in asked:
            model.train(asked["train"])
        elif model is not None and "ask" in asked:
            answer["score"] = model.ask(asked["ask"])
        answer["seconds"] = time.perf_counter() - started
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
