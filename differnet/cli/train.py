"""`differnet train`: from a folder of good parts to a model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from differnet.cli.data import JsonOption, LayoutOption
from differnet.cli.exits import ExitCode, VerificationError
from differnet.cli.terminal import Terminal, plain_table, terminal
from differnet.records import MOST_REFERENCES, USUAL_DEFECT, USUAL_REVIEW, DiffernetError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from differnet.detection import Detector, DetectorSettings, Inspector
    from differnet.images.layouts import Dataset

# Every model has one; without it a folder is no model, rather than a damaged one.
MANIFEST = "manifest.json"
# Skipped files that are named; all are counted.
NAMED_SKIPS = 10

BackboneOption = Annotated[str, typer.Option("--backbone", metavar="NAME", help="A timm network.")]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="Its weights, .safetensors or a state dict.")
]
DownloadOption = Annotated[
    bool, typer.Option("--allow-download", help="Let timm fetch weights; otherwise nothing is fetched.")
]
SizeOption = Annotated[
    int,
    typer.Option(
        "--image-size", metavar="PIXELS", min=64, help="Side of the picture that the network sees, pixels."
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="NUMBER", min=0, help="The same seed gives the same model.")
]
IgnoreOption = Annotated[
    Path | None,
    typer.Option("--ignore", metavar="FILE", help="Picture whose pixels above 0 are ignored in every part."),
]


FeaturesOption = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="FOLDER",
        help="Folder that keeps what the network makes of pictures, half a megabyte each, for next time.",
    ),
]


class Quality(StrEnum):
    """How closely a detector looks; see `DetectorSettings.of_quality`."""

    STANDARD = "standard"
    BEST = "best"


QualityOption = Annotated[
    Quality,
    typer.Option(
        "--quality", help="best: look twice, the second time closer, for 3.25 times the operations."
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu or cuda.")]
RuntimeOption = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="NAME",
        envvar="DIFFERNET_RUNTIME",
        help="auto, torch, openvino, onnxruntime or cuda. auto: the fastest that the model was exported to.",
    ),
]


class PlaceError(DiffernetError):
    """Something already stands where a command was told to write, or nothing where it should read."""


def train(
    folder: Annotated[Path, typer.Argument(metavar="DATA", help="Folder with pictures of good parts.")],
    out: Annotated[Path, typer.Option("--out", metavar="MODEL", help="Folder to write the model into.")],
    product: Annotated[
        str,
        typer.Option("--product", metavar="NAME", help="Of the product; chooses one where DATA has several."),
    ] = "",
    layout: LayoutOption = "auto",
    backbone: BackboneOption = "tf_efficientnet_lite0",
    weights: WeightsOption = None,
    allow_download: DownloadOption = False,
    image_size: SizeOption = 256,
    quality: QualityOption = Quality.STANDARD,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    ignore: IgnoreOption = None,
    alpha_review: Annotated[
        float,
        typer.Option(
            "--alpha-review",
            metavar="SHARE",
            min=1e-6,
            max=1,
            help="Share of good parts that may go to review.",
        ),
    ] = USUAL_REVIEW,
    alpha_defect: Annotated[
        float,
        typer.Option(
            "--alpha-defect", metavar="SHARE", min=1e-6, max=1, help="Share of good parts that may fail."
        ),
    ] = USUAL_DEFECT,
    keep_suspects: Annotated[
        bool,
        typer.Option("--keep-suspects", help="Learn also from parts that are probably not good."),
    ] = False,
    features: FeaturesOption = None,
    references: Annotated[
        int,
        typer.Option(
            "--references",
            metavar="COUNT",
            min=0,
            max=MOST_REFERENCES,
            help="Good parts of which the model keeps a small picture, to show beside others; 0 keeps none.",
        ),
    ] = MOST_REFERENCES,
    runtime: RuntimeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Learn what good parts look like, and calibrate the two thresholds.

    Defective parts in DATA are not used. Prints the model's folder. Several processes, or several GPUs, share
    the work where torchrun starts them: torchrun --nproc-per-node 2 -m differnet train DATA --out MODEL.
    """
    from differnet.images.layouts import read_layout

    shown = terminal()
    require_unused(out)
    dataset = read_layout(folder, layout).of_one_product(product)
    with shown.waiting("loading torch"):
        from differnet.detection import DetectorSettings
        from differnet.detection.team import joined_team

    settings = DetectorSettings.of_quality(
        quality.value,
        backbone=backbone,
        weights=weights,
        allow_download=allow_download,
        image_size=image_size,
        seed=seed,
        alpha_review=alpha_review,
        alpha_defect=alpha_defect,
        device=device,
        product=product or dataset.product_name,
        keep_suspects=keep_suspects,
        ignore=ignore,
        features=features,
        references=references,
    )
    with joined_team() as team:
        if team.rank:
            # Everybody ends with the same model; the first writes it, and speaks.
            learn_quietly(settings, dataset)
            return
        detector = train_detector(shown, settings, dataset)
    detector.save(out)
    show_model(shown, detector.facts())
    export_model(shown, detector, out, runtime)
    warn_of_few_parts(shown, settings, detector.facts())
    if as_json:
        shown.write_json(
            {
                "model": out,
                "skipped": len(detector.skipped),
                "suspects": detector.suspects,
                **detector.facts(),
            }
        )
    else:
        shown.write(str(out))
    shown.blank()
    shown.note(f"Next: differnet inspect {out} PICTURES --out runs/first")
    if detector.skipped:
        raise typer.Exit(ExitCode.QUARANTINED)


def learn_quietly(settings: DetectorSettings, dataset: Dataset) -> None:
    """Take a share in training a detector that another process keeps.

    Args:
        settings: Of the detector.
        dataset: As for `train_detector`.
    """
    from differnet.detection import Detector
    from differnet.runtime import quick_maps

    Detector(settings).fit([part.path for part in dataset.train_good], quicken=quick_maps)


def train_detector(shown: Terminal, settings: DetectorSettings, dataset: Dataset) -> Detector:
    """Fit and calibrate on a dataset's good training parts, showing progress.

    Args:
        shown: Where progress goes.
        settings: Of the detector.
        dataset: Its good parts outside the test split are learned from.

    Returns:
        A detector that is ready to inspect.
    """
    from differnet.detection import Detector
    from differnet.runtime import quick_maps

    parts = dataset.train_good
    shown.note(f"Learning from {len(parts):,} good parts of {dataset.root} ({dataset.layout} layout).")
    with shown.steps() as steps:
        detector = Detector(settings)
        detector.fit([part.path for part in parts], steps, quicken=quick_maps).calibrate(progress=steps)
    for path, reason in detector.skipped[:NAMED_SKIPS]:
        shown.warn(f"left out {path}: {reason}")
    if len(detector.skipped) > NAMED_SKIPS:
        shown.warn(f"left out {len(detector.skipped) - NAMED_SKIPS:,} more files")
    if detector.suspects:
        shown.warn(
            f"{len(detector.suspects):,} of the good parts stand out so far that they are probably not good. "
            "They were neither learned from nor calibrated on. Look at them; if they are good, train again "
            "with --keep-suspects, or as many good parts will be rejected:"
        )
        for name in detector.suspects[:NAMED_SKIPS]:
            shown.warn(f"  {name}")
        if len(detector.suspects) > NAMED_SKIPS:
            shown.warn(f"  and {len(detector.suspects) - NAMED_SKIPS:,} more, named with --json")
    return detector


def show_model(shown: Terminal, facts: dict[str, Any]) -> None:
    """Say on stderr what a model promises and what it rests on.

    Args:
        shown: Where to.
        facts: `Detector.facts`.
    """
    from differnet.evaluation.intervals import percent
    from differnet.reporting.report import no_promise

    calibration = facts["calibration"]
    shown.blank()
    shown.note(f"Model of {facts['product'] or 'a product without a name'}, id {facts['model_id'][:12]}")
    shown.show(thresholds_table(facts))
    if calibration["promised"]:
        shown.note(
            f"Calibrated on {calibration['parts']:,} good parts ({calibration['scheme']}). "
            "It holds for parts like these, seen by the same camera in the same light."
        )
        if facts["variations"]:
            shown.note(
                f"So few parts were joined by {facts['variations']:,} variations of themselves in training; "
                "the shares rest on the parts alone."
            )
    else:
        sentence = no_promise(calibration["parts"])
        shown.warn(
            f"{sentence[0].upper()}{sentence[1:]}. So few parts were joined by "
            f"{facts['variations']:,} variations of themselves. Twenty parts are a fair start."
        )
    if facts["ignored"]:
        shown.note(f"It ignores {percent(facts['ignored'])} of every picture.")


def thresholds_table(facts: dict[str, Any]) -> RenderableType:
    """Show the thresholds in force beside what is promised of them.

    Args:
        facts: `Detector.facts`.
    """
    from differnet.evaluation.intervals import percent

    calibration = facts["calibration"]
    promised = calibration["promised"]
    rows = [
        (
            name,
            action,
            f"{facts[threshold]:.2f}" if facts[threshold] is not None else "none",
            f"at most {percent(calibration[alpha])}" if promised else "not promised",
            "" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}",
        )
        for name, action, threshold, alpha, interval in (
            ("T1", "review", "t_review", "alpha_review", calibration.get("interval_review")),
            ("T2", "reject", "t_defect", "alpha_defect", calibration.get("interval_defect")),
        )
    ]
    columns = ("", "beyond it", "strangeness", "of good parts, on average", "with this calibration, 90 %")
    return plain_table(columns, rows)


def warn_of_few_parts(shown: Terminal, settings: DetectorSettings, facts: dict[str, Any]) -> None:
    """Say so where the parts are too few for the rates that were asked for."""
    from differnet.tasks.telling import few_parts

    # Where there is no rate at all `show_model` has said so.
    if facts["calibration"]["promised"]:
        for sentence in few_parts(settings.alpha_review, settings.alpha_defect, facts):
            shown.warn(sentence)


def require_unused(folder: Path) -> None:
    """Find out before the work that a folder can be written.

    Raises:
        PlaceError: There is something already.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise PlaceError(
            expected=f"a new or empty folder at {folder}",
            found="a file" if folder.is_file() else "files in it",
            remedy="Choose another --out, or remove that folder: nothing is overwritten.",
        )


def load_model(folder: Path, device: str = "auto", *, adopt: bool = True) -> Detector:
    """Load a model; it tests itself. Thresholds that a person set for it are put in force.

    Args:
        folder: Of the model.
        device: Where it judges.
        adopt: False leaves the calibration's own thresholds in force.

    Raises:
        PlaceError: There is no model at all.
        RevisionError: The file of thresholds beside it is damaged.
        VerificationError: The model is not as it was saved.
    """
    require_model(folder)
    # Loading torch takes most of it.
    with terminal().waiting(f"loading {folder}"):
        from differnet.detection import BundleError, Detector

        try:
            detector = Detector.load(folder, device=device)
        except BundleError as error:
            raise VerificationError(error) from error
    if adopt:
        adopt_thresholds(detector, folder)
    return detector


def load_inspector(
    folder: Path, device: str = "auto", runtime: str = "auto", *, adopt: bool = True
) -> Inspector:
    """Load a model to inspect with: its export to the fastest runtime, or the model itself.

    Args:
        folder: Of the model.
        device: Where torch judges; any but ``auto`` asks for torch.
        runtime: One of `differnet.runtime.RUNTIMES`.
        adopt: As for `load_model`.

    Raises:
        PlaceError: There is no model at all.
        RuntimeMissingError: The runtime is not installed, or the model was not exported to it.
        RevisionError: The file of thresholds beside it is damaged.
        VerificationError: The model is not as it was saved.
    """
    require_model(folder)
    if device != "auto" and runtime != "auto" and runtime != "torch":
        raise PlaceError(
            expected="a device for torch, or another runtime",
            found=f"--device {device} and --runtime {runtime}",
            remedy="Leave one of them away: an exported model runs where its runtime does.",
        )
    with terminal().waiting(f"loading {folder}"):
        from differnet.detection import BundleError
        from differnet.runtime import load_fastest, outdated_exports

        try:
            inspector = load_fastest(folder, device, runtime)
            outdated = outdated_exports(folder) if runtime == "auto" else []
        except BundleError as error:
            raise VerificationError(error) from error
    if outdated:
        terminal().warn(
            f"{folder} was exported to {', '.join(outdated)} by an earlier version, which this one does not "
            f"run. It is as good with {inspector.device}, and maybe slower: differnet export {folder}."
        )
    if adopt:
        adopt_thresholds(inspector, folder)
    return inspector


def adopt_thresholds(detector: Inspector, folder: Path) -> None:
    """Put the thresholds in force that a person set for a model, and say whose they are.

    Raises:
        RevisionError: The file of thresholds beside it is damaged.
    """
    from differnet.detection import adopt_current

    shown = terminal()
    found = adopt_current(detector, folder)
    if found.revision is not None:
        revision = found.revision
        shown.note(f"Thresholds of revision {revision.number}, set by {revision.author}: {revision.reason}")
    if found.ignored is not None:
        shown.warn(
            f"revision {found.ignored.number} of the thresholds is for another model or calibration and is "
            "ignored; the calibration's own thresholds are in force. See differnet threshold history "
            f"{folder}"
        )


def require_model(folder: Path) -> None:
    """Raise `PlaceError` unless there is a model, sound or not."""
    if not (folder / MANIFEST).is_file():
        raise PlaceError(
            expected=f"a model at {folder}",
            found=f"no {MANIFEST} in it" if folder.is_dir() else "no such folder",
            remedy="Make one: differnet train DATA --out MODEL.",
        )


def export_model(shown: Terminal, detector: Detector, folder: Path, runtime: str) -> None:
    """Export a model that was just saved, and say which runtime is the fastest here.

    Args:
        shown: Where to.
        detector: As saved.
        folder: Of the model.
        runtime: One of `differnet.runtime.RUNTIMES`; ``auto`` exports to all that are installed, ``torch`` to
            none.

    Raises:
        RuntimeMissingError: The one that was asked for is not installed.
        ExportError: It judges otherwise than the model does.
    """
    from differnet.runtime import choose_runtime, installed_runtimes

    if runtime == "torch" or (runtime == "auto" and not installed_runtimes()):
        return
    found: list[str] = []
    with shown.waiting("exporting the model, and comparing it with itself"):
        from differnet.runtime import ExportError, RuntimeMissingError
        from differnet.runtime.export import export

        try:
            export(detector, folder, [] if runtime == "auto" else [runtime], told=found.append)
        except (ExportError, RuntimeMissingError) as error:
            if runtime != "auto":
                raise
            # Nobody asked for an export, and the model is as good without.
            found.append(f"Not exported: {error.found}. {error.remedy}")
    for words in found:
        shown.note(words)
    shown.note(f"Pictures will be inspected with {choose_runtime(folder)}; choose another with --runtime.")
