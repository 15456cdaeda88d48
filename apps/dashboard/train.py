"""Train: a model of a product, with every setting, watched while it learns."""

from __future__ import annotations

import streamlit as st
from folders import choose_folder
from opened import record, show_error, workspace
from work import ask_button, home, show_task, watched

from differnet.records import USUAL_DEFECT, USUAL_REVIEW, DiffernetError
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.tables import legible
from differnet.store.tasks import TaskEntry, Tasks
from differnet.tasks import TrainWish
from differnet.tasks.choosing import FolderSummary, model_name, summary_of
from differnet.tasks.journey import journey
from differnet.tasks.kinds import TRAININGS
from differnet.tasks.seeing import thumbnails
from differnet.tasks.telling import few_parts, promises_table

# Trainings in the list.
LISTED = 50
# Pictures of suspects that are shown; all are named.
SHOWN_SUSPECTS = 12
COLUMNS = 6
QUALITIES = {
    "standard": "standard: one look at a picture",
    "best": "best: a second, closer look, for 3.25 times the operations",
}


def main() -> None:
    """Lay out the page."""
    st.title("Train")
    trainings = Tasks(record()).latest(LISTED, kinds=TRAININGS)
    going_on = [task for task in trainings if task.active]
    if going_on:
        st.subheader("Going on", anchor=False)
        watched(going_on[::-1], lambda task: show_task(task, losses=True))
    with st.expander("A new model", expanded=not going_on, icon=":material/add:"):
        new_model()
    ended = [task for task in trainings if not task.active]
    if ended:
        show_ended(ended)


def new_model() -> None:
    """Let a person choose the data and the settings, and begin."""
    start = journey(record()).folder or ""
    folder = choose_folder("Folder with pictures of good parts", "train_folder", start)
    summary = summary_or_error(folder)
    product = ""
    if summary is not None:
        st.markdown(f":material/folder: {markdown_safe(summary.words)}")
        for note in summary.notes:
            st.text(legible(note))
        product = choose_product(folder, summary)
    first, second, third = st.columns(3, gap="medium")
    proposed = model_name(home(), folder, product) if folder else ""
    name = first.text_input(
        "Name of the model",
        proposed,
        max_chars=64,
        key=f"train-name-{proposed}",
        help="It becomes a folder's in models of the workspace.",
    )
    quality = second.selectbox(
        "Quality", list(QUALITIES), format_func=QUALITIES.__getitem__, key="train_quality"
    )
    size = third.number_input(
        "Picture size, pixels",
        64,
        1024,
        256,
        32,
        key="train_size",
        help="Side of the square that the network sees. Small defects need more.",
    )
    first, second, third = st.columns(3, gap="medium")
    review = first.number_input(
        "Good parts that may go to review, %",
        0.01,
        50.0,
        100 * USUAL_REVIEW,
        0.5,
        key="train_review",
        help="T1 is set so that on average at most so many do.",
    )
    defect = second.number_input(
        "Good parts that may be rejected, %",
        0.01,
        50.0,
        100 * USUAL_DEFECT,
        0.1,
        key="train_defect",
        help="T2 is set so that on average at most so many are.",
    )
    seed = third.number_input(
        "Seed",
        0,
        2**31 - 1,
        0,
        key="train_seed",
        help="The same data, settings and seed give the same model.",
    )
    first, second = st.columns([2, 1], gap="medium", vertical_alignment="bottom")
    mask = first.text_input(
        "Mask of what is ignored, a picture on this machine",
        "",
        key="train_mask",
        max_chars=4096,
        placeholder="none",
        help="Where its pixels are above 0, nothing of a part counts.",
    )
    keep = second.checkbox(
        "Learn from suspects too",
        key="train_keep",
        help="Parts that stand out so far that they are probably not good are left out otherwise.",
    )

    def wish() -> TrainWish:
        return TrainWish(
            str(workspace()),
            folder,
            str(name),
            product=product,
            quality=str(quality),
            image_size=int(size),
            seed=int(seed),
            alpha_review=review / 100,
            alpha_defect=defect / 100,
            ignore=str(mask).strip(),
            keep_suspects=keep,
        )

    ask_button("Train", wish, "ask-train", primary=True, disabled=summary is None or not summary.train_good)


def choose_product(folder: str, summary: FolderSummary) -> str:
    """Let a person choose one product where a folder holds several."""
    if len(summary.products) < 2:
        return ""
    product = st.selectbox("Product", summary.products, key="train_product", format_func=legible)
    return str(product)


def summary_or_error(folder: str) -> FolderSummary | None:
    """Return what a folder holds, or show why that cannot be said."""
    if not folder:
        return None
    try:
        return summary_of(folder)
    except DiffernetError as error:
        show_error(error)
        return None


def show_ended(ended: list[TaskEntry]) -> None:
    """Show one of the trainings that have ended."""
    st.subheader("Trained", anchor=False)
    by_id = {task.task_id: task for task in ended}
    chosen = st.selectbox(
        "Training",
        list(by_id),
        key="train_ended",
        format_func=lambda task_id: legible(f"{by_id[task_id].title}, {by_id[task_id].made_at[:16]}"),
    )
    task = by_id[str(chosen)]
    show_task(task, losses=True)
    if task.state == "done":
        show_model(task)


def show_model(task: TaskEntry) -> None:
    """Say what a model promises, what it has left out, and what to do next."""
    outcome = task.outcome
    facts = outcome["facts"]
    st.subheader("What it promises", anchor=False)
    st.table(promises_table(facts), hide_index=True, alt="What each threshold promises")
    st.caption(
        f"Calibrated on {facts['calibration']['parts']:,} good parts, each judged by what had not been "
        "trained on it. It holds for parts like these, seen by the same camera in the same light."
    )
    wish = task.wish
    asked = float(wish.get("alpha_review", USUAL_REVIEW)), float(wish.get("alpha_defect", USUAL_DEFECT))
    for sentence in few_parts(*asked, facts):
        st.warning(markdown_safe(sentence), icon=":material/warning:")
    if outcome["suspects_count"]:
        show_suspects(task)
    # Tasks of before say nothing of it.
    if exports := outcome.get("exports"):
        with st.expander("What it inspects with, and how fast"):
            for words in exports:
                st.text(legible(words))
    if outcome["skipped_count"]:
        with st.expander(f"{outcome['skipped_count']:,} files could not be read"):
            for path, reason in outcome["skipped"]:
                st.text(legible(f"{path}: {reason}"))
    st.subheader("Next", anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link("inspection.py", label="Inspect pictures with it", icon=":material/image_search:")
        st.page_link("start.py", label="Back to Start", icon=":material/arrow_back:")


def show_suspects(task: TaskEntry) -> None:
    """Show the parts that were left out because they are probably not good."""
    outcome = task.outcome
    st.subheader(f"{outcome['suspects_count']:,} suspects", anchor=False)
    st.write(
        "These stand out so far that they are probably not good: neither learned from nor calibrated on. If "
        "they are good, train again and learn from them too, or as many good parts will be rejected."
    )
    shown = outcome["suspects"][:SHOWN_SUSPECTS]
    try:
        pictures = _thumbnails(task.task_id, tuple(shown))
    except DiffernetError as error:
        show_error(error)
        return
    for first in range(0, len(shown), COLUMNS):
        some = zip(shown[first : first + COLUMNS], pictures[first : first + COLUMNS], strict=True)
        for column, (path, picture) in zip(st.columns(COLUMNS), some, strict=False):
            with column:
                name = legible(path.rpartition("/")[2])
                if picture is None:
                    st.info("No longer there.")
                else:
                    st.image(picture, width="stretch", alt=f"Suspect {name}")
                st.text(name)
    if len(outcome["suspects"]) > len(shown):
        with st.expander("All of them"):
            for path in outcome["suspects"]:
                st.text(legible(path))


@st.cache_data(max_entries=16, show_spinner="Reading pictures")
def _thumbnails(task_id: str, paths: tuple[str, ...]) -> list[bytes | None]:
    return thumbnails(paths)


main()
