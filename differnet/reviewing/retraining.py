"""Choose what a model is trained on again, and what it is then compared on: by rules fixed beforehand."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differnet.images.layouts import GOOD, Dataset, Part
from differnet.reviewing.comparing import HELD_OUT, REVIEWED, ComparedPart
from differnet.reviewing.export import label_of, set_aside
from differnet.reviewing.judgements import LastWord, Located, ReviewError, file_sha256

if TYPE_CHECKING:
    from differnet.detection import Detector, DetectorSettings


@dataclass(frozen=True)
class Plan:
    """What is learned from, and what is compared on; no picture is in both.

    Attributes:
        training: Pictures to learn from, each content once.
        compared: Pictures that the present model was not trained on and the next one will not be.
        added: How many of ``training`` a person called good and the data does not hold.
        called_defect: Pictures of the data that are not learned from, because a person called them a defect.
        aside: Reviewed good parts that are set aside for the comparison.
        overruled: Held-out pictures whose label a person contradicts; the person's word counts.
        doubted: Held-out pictures of which somebody said last that nobody can tell; they are not compared.
    """

    training: tuple[Path, ...]
    compared: tuple[ComparedPart, ...]
    added: int
    called_defect: tuple[Path, ...]
    aside: int
    overruled: int
    doubted: int


def plan(
    dataset: Dataset, reviewed: Sequence[Located], said: Iterable[LastWord], trained_on: Collection[str]
) -> Plan:
    """Choose by rules that look at no picture and no verdict.

    Learned from are the data's good training parts and the reviewed good parts, without what anybody has
    called a defect last, and without what is compared on. Compared on are the data's labelled test parts, the
    reviewed defects, and of the reviewed good parts that are new to the present model every fourth by the
    order of their sha256: all of them without what the present model has learned.

    Args:
        dataset: Of one product.
        reviewed: Pictures that were asked for and are there, with the last word on each.
        said: The last word on every picture of the product, asked for or not.
        trained_on: sha256 of what the present model has learned.

    Returns:
        The plan.

    Raises:
        ReviewError: A file of the data cannot be read at all, or nothing is left to learn from.
    """
    judged = {word.record.sha256: word.entry.judgement for word in said}
    train = _by_hash(dataset.train_good)
    held = _by_hash([part for part in dataset.test if part.label is not None])
    good = {one.word.record.sha256: one for one in reviewed if one.word.entry.judgement == "good"}
    defects = {one.word.record.sha256: one for one in reviewed if one.word.entry.judgement == "defect"}
    aside = set_aside(sha256 for sha256 in good if sha256 not in trained_on and sha256 not in held)

    compared: dict[str, ComparedPart] = {}
    overruled = doubted = 0
    for sha256, part in held.items():
        if sha256 in trained_on:
            continue
        word = judged.get(sha256)
        if word == "unsure":
            doubted += 1
            continue
        truth = str(part.label)
        if word is not None and (word == "good") != (truth == GOOD):
            overruled += 1
            truth = GOOD if word == "good" else "defect"
        compared[sha256] = ComparedPart(part.path, sha256, truth, HELD_OUT)
    for sha256, one in (*((s, good[s]) for s in sorted(aside)), *defects.items()):
        if sha256 not in trained_on and sha256 not in compared:
            compared[sha256] = ComparedPart(one.path, sha256, label_of(one.word.entry), REVIEWED)

    # A doubted test part stays one: that nobody can tell makes it no training part.
    kept_out = {sha256 for sha256 in held if sha256 not in trained_on} | compared.keys()
    learned = {sha256: part.path for sha256, part in train.items()}
    added = {sha256: one.path for sha256, one in good.items() if sha256 not in learned}
    training = {
        sha256: path
        for sha256, path in (learned | added).items()
        if judged.get(sha256) != "defect" and sha256 not in kept_out
    }
    if not training:
        raise ReviewError(
            expected="good parts to learn from",
            found=f"none of {len(learned):,} in {dataset.root} and {len(good):,} reviewed",
            remedy="Give a folder with good parts, or review some: differnet review add.",
        )
    return Plan(
        training=tuple(training.values()),
        compared=tuple(compared.values()),
        added=sum(sha256 in training for sha256 in added),
        called_defect=tuple(path for sha256, path in learned.items() if judged.get(sha256) == "defect"),
        aside=len(aside),
        overruled=overruled,
        doubted=doubted,
    )


@contextmanager
def same_settings(detector: Detector, **chosen: Any) -> Iterator[DetectorSettings]:
    """Return for a block the settings that a model was trained with.

    Args:
        detector: Loaded from its bundle.
        **chosen: What is to be different, and what a bundle does not keep: ``weights``, ``allow_download``,
            ``keep_suspects``.

    Raises:
        ReviewError: The network's weights are not those that the model was trained with.
        WeightsError: There are none.
    """
    from differnet.features import find_weights
    from differnet.images.reading import write_png

    settings = replace(detector.settings, **chosen)
    weights = find_weights(settings.backbone, settings.weights, allow_download=settings.allow_download)
    wanted = detector.provenance_["backbone"]["sha256"]
    if weights.sha256 != wanted:
        raise ReviewError(
            expected=f"the weights of {settings.backbone} that the model was trained with, sha256 {wanted}",
            found=f"others, sha256 {weights.sha256}",
            remedy="Give their file: --weights FILE.",
        )
    if detector.ignored_ is None:
        yield settings
        return
    # A bundle keeps the mask as cells; as a picture with a pixel a cell they are read back exactly.
    with tempfile.TemporaryDirectory() as folder:
        mask = Path(folder) / "ignored.png"
        write_png(mask, (detector.ignored_.cells * 255).astype("uint8"))
        yield replace(settings, ignore=mask)


def _by_hash(parts: Sequence[Part]) -> Mapping[str, Part]:
    """Name parts by the sha256 of their files; of copies the first counts."""
    named: dict[str, Part] = {}
    for part in parts:
        sha256 = file_sha256(part.path)
        if sha256 is None:
            raise ReviewError(
                expected="to read every file of the data",
                found=f"{part.path}, which cannot be read",
                remedy="Check its permissions, or take it out.",
            )
        named.setdefault(sha256, part)
    return named
