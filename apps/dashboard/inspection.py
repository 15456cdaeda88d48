"""Inspect: pictures that are dropped here are judged at once, those of a folder by a batch job."""

from __future__ import annotations

import streamlit as st
from folders import choose_folder
from opened import person, record, show_error, workspace
from words import verdict_word
from work import ask_button, home, open_gallery, show_task, watched, why_not

from differnet.records import DiffernetError
from differnet.reporting.artefacts import DEFAULT_HEAT_SCALE, encode_jpeg
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.figures import OPACITY, heat_overlay
from differnet.reporting.tables import legible
from differnet.store import ModelEntry
from differnet.store.tasks import Tasks
from differnet.tasks import InspectWish
from differnet.tasks.choosing import InspectionSummary, run_name, to_inspect
from differnet.tasks.jobs import job_of
from differnet.tasks.sent import MOST_SENT, Bench, Seen, Sent, bench_key, judge, keep, set_up

COLUMNS = 3
# Of the latest models that are offered.
LISTED_MODELS = 100


def main() -> None:
    """Lay out the page."""
    st.title("Inspect")
    model = choose_model()
    if model is None:
        return
    dropped, folder = st.tabs(["Drop pictures", "A folder"])
    with dropped:
        show_dropped(model)
    with folder:
        show_folder(model)


def choose_model() -> ModelEntry | None:
    """Let a person choose a model that is there."""
    models = {model.model_id: model for model in record().models()[:LISTED_MODELS] if model.folder}
    if not models:
        st.write("There is no model yet. Make one on the page Start: it takes some minutes.")
        st.page_link("start.py", label="Start", icon=":material/flag:")
        return None
    chosen = st.selectbox(
        "Model",
        list(models),
        key="inspect_model",
        persist_state="session",
        format_func=lambda model_id: describe(models[model_id]),
    )
    return models[str(chosen)]


def describe(model: ModelEntry) -> str:
    """Name a model in a list."""
    trained = str(model.facts.get("details", {}).get("Trained at", ""))[:16].replace("T", " ")
    return legible(f"{model.product or 'a product'}, {trained}, {model.model_id[:8]}, in {model.folder}")


def show_dropped(model: ModelEntry) -> None:
    """Judge pictures that are dropped, and show what came of them."""
    files = st.file_uploader(
        f"Pictures, {MOST_SENT} at most",
        accept_multiple_files=True,
        key="inspect_files",
        help="PNG, JPEG, BMP, TIFF, WebP or PNM, told by their content. They stay on this machine.",
    )
    if not files:
        st.caption("Drop pictures of parts to see verdict, heat map and reasons at once.")
        return
    sent = [Sent(file.name, file.getvalue()) for file in files]
    try:
        key = bench_key(record(), model.model_id)
        bench = _bench(model.model_id, key)
        seen = judged(bench, key, sent)
    except DiffernetError as error:
        show_error(error)
        return
    opacity = st.slider("Opacity of the heat map", 0.0, 1.0, OPACITY, 0.05, key="inspect_opacity")
    for first in range(0, len(seen), COLUMNS):
        some = seen[first : first + COLUMNS]
        for column, each in zip(st.columns(COLUMNS, gap="medium"), some, strict=False):
            with column, st.container(border=True):
                show_seen(each, opacity)
    keep_button(bench, seen, sent)


def judged(bench: Bench, key: str, sent: list[Sent]) -> list[Seen]:
    """Judge what has not been judged by this model yet; a picture goes by its content, never by its name."""
    known: dict[tuple[str, str, str], Seen] = st.session_state.setdefault("inspect_seen", {})
    wanted = {(key, each.sha256, each.name): each for each in sent}
    fresh = [each for name, each in wanted.items() if name not in known]
    if fresh:
        with st.spinner(f"Judging {len(fresh):,} pictures"):
            judged_now = judge(bench, fresh)
        known |= {(key, each.sha256, each.name): seen for each, seen in zip(fresh, judged_now, strict=True)}
    # What is no longer dropped here need not be held.
    st.session_state["inspect_seen"] = {name: known[name] for name in wanted}
    return [known[name] for name in wanted]


def show_seen(seen: Seen, opacity: float) -> None:
    """Show one picture with its verdict, its strangeness and the reasons."""
    item = seen.record
    if seen.preview is None:
        st.info("No picture: it could not be read.")
    else:
        overlay = heat_overlay(seen.preview, seen.heat_map, DEFAULT_HEAT_SCALE, item, opacity)
        st.image(encode_jpeg(overlay), width="stretch", alt=f"{item.verdict.value}: {legible(seen.name)}")
    with st.container(gap="xsmall"):
        st.caption(markdown_safe(seen.name))
        st.markdown(f"### {verdict_word(item.verdict)}")
        if item.strangeness is not None and item.t_review is not None and item.t_defect is not None:
            st.text(
                f"strangeness {item.strangeness:.2f}; review from {item.t_review:.2f}, "
                f"defect from {item.t_defect:.2f}"
            )
        for reason in item.reasons:
            st.text(legible(reason))


def keep_button(bench: Bench, seen: list[Seen], sent: list[Sent]) -> None:
    """Offer to make a run of what was dropped."""
    hindered = why_not()
    names = tuple(sorted(each.record.sha256 for each in seen))
    if st.session_state.get("inspect_named_for") != names:
        st.session_state["inspect_named_for"] = names
        st.session_state["inspect_run"] = run_name("sent")
        st.session_state.pop("inspect_kept", None)
    with st.container(border=True):
        st.write("Keep them in the record to see them in the gallery, review them, and learn from them.")
        left, right = st.columns([3, 1], vertical_alignment="bottom")
        name = left.text_input("Name of the run", key="inspect_run", max_chars=64)
        kept = st.session_state.get("inspect_kept")
        clicked = right.button(
            "Keep in the record",
            key="inspect-keep",
            icon=":material/save:",
            disabled=hindered is not None or kept is not None,
            help=hindered,
            width="stretch",
        )
        if clicked:
            contents = {each.sha256: each.content for each in sent}
            try:
                kept = keep(record(), home(), bench, seen, contents, str(name), person())
            except DiffernetError as error:
                show_error(error)
            else:
                st.session_state["inspect_kept"] = kept
                st.rerun()
        if kept is not None:
            st.success(f"Kept as {markdown_safe(kept)}.", icon=":material/check_circle:")
            open_gallery(kept, "inspect-kept-gallery")


def show_folder(model: ModelEntry) -> None:
    """Begin a batch job on a folder, and show those that go on."""
    active = [task for task in Tasks(record()).active() if task.kind == "inspect"]
    if active:
        watched(active, show_task)
    folder = choose_folder("Folder of pictures", "inspect_folder")
    summary = summary_or_error(folder)
    if summary is not None:
        st.markdown(f":material/folder: {markdown_safe(summary.words)}")
    if st.session_state.get("inspect_batch_for") != (model.model_id, folder):
        st.session_state["inspect_batch_for"] = (model.model_id, folder)
        st.session_state["inspect_batch"] = run_name(model.product)
    name = st.text_input("Name of the run", key="inspect_batch", max_chars=64)
    wrong = st.checkbox(
        "Also the wrong inputs beside the parts",
        value=True,
        key="inspect_wrong",
        disabled=summary is None or not summary.wrong_inputs,
    )
    ask_button(
        "Inspect the folder",
        lambda: InspectWish(str(workspace()), str(name), model.model_id, (folder,), wrong_inputs=wrong),
        "ask-inspect",
        primary=True,
        disabled=summary is None,
    )
    last = next(iter(Tasks(record()).latest(1, kinds=("inspect",))), None)
    if last is not None and not last.active:
        st.subheader("The last one", anchor=False)
        show_task(last)
        run_id = str(last.wish.get("run", ""))
        if last.state in ("done", "stopped", "lost") and known_run(run_id):
            open_gallery(run_id, "inspect-last-gallery")


def known_run(run_id: str) -> bool:
    """Tell whether the record holds a run."""
    try:
        job_of(record(), record().run(run_id), None)
    except DiffernetError:
        return False
    return True


def summary_or_error(folder: str) -> InspectionSummary | None:
    """Return what of a folder would be inspected, or show why nothing would be."""
    if not folder:
        return None
    try:
        return to_inspect(folder)
    except DiffernetError as error:
        show_error(error)
        return None


@st.cache_resource(max_entries=2, show_spinner="Loading the model, which tests itself")
def _bench(model_id: str, key: str) -> Bench:
    # Whatever it judges by is in the key: bundle, calibration, and thresholds that were set for it.
    return set_up(record(), model_id)


main()
