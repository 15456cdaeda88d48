"""Tasks that make a model: train one, and train one again with what people said."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differnet.durable import alone_in
from differnet.records import DiffernetError
from differnet.store import Store
from differnet.tasks.course import Course
from differnet.tasks.making import NAMED
from differnet.tasks.places import WishError, Workspace, existing, require_unused
from differnet.tasks.wishes import RetrainWish, TrainWish

if TYPE_CHECKING:
    from differnet.detection import Detector, DetectorSettings
    from differnet.detection.inspector import Inspector


def train(wish: TrainWish, store: Store, course: Course) -> dict[str, Any]:
    """Learn what good parts look like, calibrate, save the model, and make it known to the record.

    Returns:
        See `_made`.
    """
    from differnet.images.layouts import read_layout

    folder = require_unused(Workspace.open(wish.workspace).models / wish.name)
    course("reading the folder", 0, 1)
    data = existing(wish.data, "a folder of good parts")
    dataset = read_layout(data, wish.layout).of_one_product(wish.product)
    from differnet.detection import DensitySettings, DetectorSettings

    settings = DetectorSettings.of_quality(
        wish.quality,
        backbone=wish.backbone,
        weights=Path(wish.weights) if wish.weights else None,
        image_size=wish.image_size,
        seed=wish.seed,
        alpha_review=wish.alpha_review,
        alpha_defect=wish.alpha_defect,
        device=wish.device,
        product=wish.product or dataset.product_name,
        folds=wish.folds,
        density=DensitySettings(steps=wish.steps),
        keep_suspects=wish.keep_suspects,
        ignore=Path(wish.ignore) if wish.ignore else None,
    )
    detector = _learned(settings, [part.path for part in dataset.train_good], course)
    _save(detector, folder, course)
    return _made(store, detector, folder, wish.data) | {"exports": _exported(detector, folder, course)}


def retrain(wish: RetrainWish, store: Store, course: Course) -> dict[str, Any]:
    """Train a model again with the parts that people called good, and compare it with the one in use.

    The comparison is kept beside the new model; nothing is replaced.

    Returns:
        See `_made`; with ``comparison_file``, ``added``, ``aside``, ``called_defect``, ``lost`` and
        ``left_out``.
    """
    from differnet.images.layouts import read_layout

    workspace = Workspace.open(wish.workspace)
    folder = require_unused(workspace.models / wish.name)
    course("loading the model in use", 0, 1)
    old = load_known(store, wish.model)
    product = wish.product or old.settings.product
    dataset = read_layout(existing(wish.data, "a folder of good parts"), wish.layout).of_one_product(product)
    from differnet.detection.rates import rates_for
    from differnet.reviewing import compare, keep, last_words, locate, plan, same_settings
    from differnet.store import Asked

    if wish.run:
        store.run(wish.run)
    said = last_words(store, Asked(product=old.settings.product))
    words = last_words(store, Asked(run_id=wish.run or None, product=old.settings.product))
    root = Path(wish.root) if wish.root else workspace.root
    found, lost = locate(store, [word for word in words if word.entry.judgement != "unsure"], root)
    chosen = plan(dataset, found, said, old.trained_on)
    review, defect = rates_for(old, None, None)
    own = {"seed": old.settings.seed if wish.seed is None else wish.seed, "keep_suspects": wish.keep_suspects}
    with same_settings(old, alpha_review=review, alpha_defect=defect, **own) as settings:
        new = _learned(settings, chosen.training, course)
    # First, so that the work of training is not lost with the comparison.
    _save(new, folder, course)
    made = _made(store, new, folder, wish.data)
    compared = compare(old, new, chosen.compared, wish.data, progress=course)
    kept = keep(compared, folder)
    return made | {
        "comparison_file": str(kept),
        "exports": _exported(new, folder, course),
        "added": chosen.added,
        "aside": chosen.aside,
        "called_defect": [str(path) for path in chosen.called_defect[:NAMED]],
        "lost": [asdict(one) for one in lost[:NAMED]],
        "left_out": list(compared.left_out[:NAMED]),
    }


def load_known(store: Store, model_id: str, device: str = "auto") -> Detector:
    """Load a model that the record knows, and put in force what a person set for it.

    Args:
        store: The record.
        model_id: Of the model.
        device: Where it judges.

    Raises:
        WishError: The record does not know it, or not where it lies, or another one lies there.
        BundleError: It is damaged.
        RevisionError: The file of its thresholds is.
    """
    from differnet.detection import Detector

    folder = model_place(store, model_id)
    detector = Detector.load(folder, device=device)
    _adopt(detector, model_id, folder)
    return detector


def load_judge(store: Store, model_id: str) -> Inspector:
    """Load a model to inspect with, as `load_known` does, by the runtime that is fastest here.

    Raises:
        WishError: As `load_known`.
        BundleError: It is damaged, or what it was exported to.
        RevisionError: The file of its thresholds is damaged.
    """
    from differnet.runtime import load_fastest

    folder = model_place(store, model_id)
    judge = load_fastest(folder)
    _adopt(judge, model_id, folder)
    return judge


def _adopt(judge: Inspector, model_id: str, folder: Path) -> None:
    from differnet.detection import adopt_current

    if judge.model_id != model_id:
        raise _elsewhere(model_id, f"another one there, {judge.model_id[:12]}")
    adopt_current(judge, folder)


def model_place(store: Store, model_id: str) -> Path:
    """Return the folder of a model that the record knows.

    Raises:
        WishError: It does not know it, or not where it lies.
    """
    entry = store.model(model_id)
    if entry is None:
        raise _elsewhere(model_id, "none of that id in the record")
    if not entry.folder or not Path(entry.folder).is_dir():
        raise _elsewhere(model_id, f"no folder {entry.folder}" if entry.folder else "no place of it")
    return Path(entry.folder)


def _elsewhere(model_id: str, found: str) -> WishError:
    return WishError(
        expected=f"model {model_id[:12]} where the record says that it lies",
        found=found,
        remedy="Put its folder into models in the workspace and start the dashboard anew, or choose another.",
    )


def _learned(settings: DetectorSettings, parts: Sequence[Path], course: Course) -> Detector:
    from differnet.detection import Detector
    from differnet.runtime import quick_maps

    detector = Detector(settings).fit(list(parts), course, course.loss, quick_maps)
    return detector.calibrate(progress=course)


def _save(detector: Detector, folder: Path, course: Course) -> None:
    course("saving the model", 0, 1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Of two that have the same name in mind the second is refused, not put in the place of the first.
        stack.enter_context(alone_in(folder.parent))
        detector.save(require_unused(folder))


def _exported(detector: Detector, folder: Path, course: Course) -> list[str]:
    """Export a model that was saved to the runtimes that are installed here; return what is to be said of it.

    The model is as good without: one that cannot be exported is inspected with torch.
    """
    from differnet.runtime import installed_runtimes

    if not installed_runtimes():
        return []
    from differnet.runtime.export import export

    # Told only, and whatever happens said only: the model is saved and known by now.
    course.tell("exporting the model", 0, 1)
    found: list[str] = []
    try:
        export(detector, folder, [], told=found.append)
    except DiffernetError as error:
        found.append(f"Not exported: {error.found}. {error.remedy}")
    except (OSError, RuntimeError) as error:
        found.append(f"Not exported: {type(error).__name__}: {error}. Pictures are inspected with torch.")
    return found


def _made(store: Store, detector: Detector, folder: Path, source: str) -> dict[str, Any]:
    """Make a model known to the record, and return what is to be said of it.

    Returns:
        ``folder``, ``model_id``, ``calibration_id``, ``facts`` (`Detector.facts`), ``seconds`` of each
        stage; pictures that were left out, ``skipped`` with reasons and ``suspects``, the first 200, and
        their numbers ``skipped_count`` and ``suspects_count``.
    """
    from differnet.reporting import run_facts
    from differnet.reporting.keeping import make_known

    facts = detector.facts()
    # The record knows a model by what would be said of a run of it.
    make_known(store, replace(run_facts(facts, source), run_id="training"), folder)
    store.place_model(facts["model_id"], folder)
    return {
        "folder": str(folder),
        "model_id": facts["model_id"],
        "calibration_id": facts["calibration_id"],
        "facts": facts,
        "seconds": {stage: round(taken, 1) for stage, taken in detector.seconds.items()},
        "skipped": [list(each) for each in detector.skipped[:NAMED]],
        "skipped_count": len(detector.skipped),
        "suspects": detector.suspects[:NAMED],
        "suspects_count": len(detector.suspects),
    }
