"""Models: what each promises, whether it is sound, where it lies, and which of two is the better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from loading import detector_in_force, examined, show_self_test
from opened import person, record, show_error, workspace, writable
from work import ask_button, show_task, watched

from differnet.records import DiffernetError
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.known_models import (
    KnownModel,
    known_models,
    models_table,
    promise_words,
    promotions,
    put_model,
    thresholds_table,
)
from differnet.reporting.tables import legible, unbroken
from differnet.reviewing import (
    Comparison,
    Replaced,
    comparison_rows,
    comparison_words,
    flip_rows,
    kept_comparison,
    previous_of,
    recover,
    replace_model,
    require_previous,
    return_to_previous,
    weigh,
)
from differnet.store.tasks import TaskEntry, Tasks
from differnet.tasks import CompareWish

if TYPE_CHECKING:
    from differnet.reviewing import Weighed

# Parts at most: a minute or two for both models.
COMPARED = 400
TASKS_SEEN = 50
FLIPS_SHOWN = 20
PROMOTIONS_SHOWN = 10
MOST_LETTERS = 500


def main() -> None:
    """Lay out the page."""
    st.title("Models")
    show_done()
    try:
        models = known_models(record())
    except DiffernetError as error:
        show_error(error)
        return
    if not models:
        st.write("The record knows no model yet: one is known when it has inspected something.")
        return
    table = models_table(models)
    st.dataframe(
        table.map(lambda cell: legible(cell) if isinstance(cell, str) else cell),
        hide_index=True,
        # Where a model lies is said below, in full.
        column_order=[name for name in table.columns if name != "place"],
        alt="Models of the record, those that judged last first",
    )
    model = choose_model(models)
    show_promises(model)
    show_thresholds(model)
    show_place(model)
    show_health(model)
    show_promotion(model, models)
    show_history()


def choose_model(models: list[KnownModel]) -> KnownModel:
    """Let a person choose a model; the one that judged the chosen run comes first."""
    by_id = {model.entry.model_id: model for model in models}
    if st.session_state.get("model_id") not in by_id:
        run_id = st.session_state.get("run")
        judged = [m for m in models if any(run.run_id == run_id for run in m.runs)]
        st.session_state["model_id"] = (judged or models)[0].entry.model_id
    chosen = st.selectbox(
        "Model",
        list(by_id),
        key="model_id",
        format_func=lambda each: name_of(by_id[each]),
        persist_state="session",
    )
    return by_id[str(chosen)]


def name_of(model: KnownModel) -> str:
    """Name a model in a list."""
    lost = "" if model.folder is not None else ", lost"
    return legible(f"{model.entry.model_id}, {model.entry.product}{lost}")


def show_promises(model: KnownModel) -> None:
    """Show what the model's calibrations promise."""
    st.subheader("What it promises")
    if not model.calibrations:
        st.caption("The record knows no calibration of it.")
    for calibration in model.calibrations:
        st.markdown(
            f"**Calibration {markdown_safe(calibration.calibration_id)}**, {calibration.parts:,} good parts"
            + (f", {markdown_safe(calibration.scheme)}" if calibration.scheme else "")
        )
        with st.container(gap="xxsmall"):
            for sentence in promise_words(calibration):
                st.markdown(unbroken(sentence))
    details = model.entry.facts.get("details", {})
    if isinstance(details, dict) and details:
        with st.expander("What it was made from"):
            # A table of Markdown would have to be scrolled without the keyboard: some words are long.
            st.dataframe(
                {
                    "what": [legible(str(name)) for name in details],
                    "is": [legible(str(value)) for value in details.values()],
                },
                hide_index=True,
                width="stretch",
                alt="Facts of the model",
            )


def show_thresholds(model: KnownModel) -> None:
    """Show which thresholds were set for the model, by whom and why."""
    st.subheader("Thresholds")
    st.markdown(f"Of its last run: {model.in_force}." if model.runs else "It has judged no run yet.")
    try:
        table = thresholds_table(model)
    except DiffernetError as error:
        show_error(error)
        return
    if table.empty:
        st.caption("Nobody has set others: the calibration's own are in force.")
        return
    st.dataframe(
        table.map(lambda cell: legible(cell) if isinstance(cell, str) else cell),
        hide_index=True,
        column_config={name: st.column_config.NumberColumn(format="%.3f") for name in ("T1", "T2")},
        alt="Thresholds that were set for this model, the newest first",
    )


def show_place(model: KnownModel) -> None:
    """Show where the model lies, or let a person say so where it is lost."""
    st.subheader("Where it lies")
    if model.folder is not None:
        st.text(legible(str(model.folder)))
        return
    st.warning(markdown_safe(f"This model is lost: {model.lost}."), icon=":material/help:")
    if not writable():
        return
    with st.form("place", border=False):
        told = st.text_input("Its folder", key="place_folder", max_chars=MOST_LETTERS)
        if st.form_submit_button("It lies here") and told.strip():
            try:
                put_model(record(), model.entry.model_id, Path(told.strip()))
            except DiffernetError as error:
                show_error(error)
                return
            st.rerun()


def show_health(model: KnownModel) -> None:
    """Let the model test itself."""
    if model.folder is None:
        return
    st.subheader("Health")
    if st.button("Let the model test itself", key="test itself"):
        st.session_state["models_tested"] = model.entry.model_id
    if st.session_state.get("models_tested") != model.entry.model_id:
        st.caption("It is loaded, judges its golden pictures, and shows that its densities invert.")
        return
    try:
        show_self_test(examined(model.folder))
    except DiffernetError as error:
        show_error(error)


def show_promotion(model: KnownModel, models: list[KnownModel]) -> None:
    """Compare the model with another one, put that one in its place, or return to the one before."""
    if model.folder is None:
        return
    st.subheader("Put another model in its place")
    others = [
        other
        for other in models
        if other.entry.product == model.entry.product and other.folder not in (None, model.folder)
    ]
    if not others:
        st.caption(
            "There is no other model of this product whose folder is known. Train one, or retrain this one "
            "with what people said; it is known when it has inspected something."
        )
    else:
        show_candidate(model, others)
    show_return(model)


def show_candidate(model: KnownModel, others: list[KnownModel]) -> None:
    """Choose a new model, compare it, and promote it."""
    by_id = {other.entry.model_id: other for other in others}
    if st.session_state.get("new_model") not in by_id:
        st.session_state.pop("new_model", None)
    chosen = by_id[
        str(
            st.selectbox(
                "New model", list(by_id), key="new_model", format_func=lambda each: name_of(by_id[each])
            )
        )
    ]
    assert model.folder is not None
    assert chosen.folder is not None
    present, candidate = model.entry.model_id, chosen.entry.model_id
    if writable():
        ask_button(
            "Compare the two on known parts",
            lambda: CompareWish(str(workspace()), present, candidate, COMPARED),
            "compare_models",
        )
    watched(comparisons(present, candidate), show_task)
    try:
        compared = kept_comparison(chosen.folder)
    except DiffernetError as error:
        show_error(error)
        return
    if compared is None:
        st.caption(
            "They are compared on reviewed and labelled parts of the record that neither has learned, at "
            f"most {COMPARED}, in a process of its own: some minutes."
        )
    else:
        show_comparison(compared)
    if writable():
        promote_form(model.folder, chosen.folder)


def comparisons(present: str, candidate: str) -> list[TaskEntry]:
    """Return the comparison of two models that was asked for last, while it goes on or where it failed."""
    for task in Tasks(record()).latest(TASKS_SEEN, kinds=("compare",)):
        if (task.wish.get("model"), task.wish.get("new")) == (present, candidate):
            return [] if task.state == "done" else [task]
    return []


def show_comparison(compared: Comparison) -> None:
    """Show two models beside each other."""
    made = compared.made_at[:16].replace("T", " ")
    st.caption(f"Compared at {made} UTC; kept beside the new model.")
    for sentence in comparison_words(compared):
        st.markdown(markdown_safe(sentence))
    rows: list[list[str]] = []
    for name, old, new in comparison_rows(compared):
        if name.startswith(" "):
            # An interval stands in the cell of its figure.
            rows[-1][1:] = [f"{rows[-1][1]} ({old})", f"{rows[-1][2]} ({new})"]
        else:
            rows.append([name, old, new])
    st.table(
        {
            "figure, 95 % interval": [name for name, _, _ in rows],
            f"present {markdown_safe(compared.old.model_id[:8])}": [unbroken(old) for _, old, _ in rows],
            f"new {markdown_safe(compared.new.model_id[:8])}": [unbroken(new) for _, _, new in rows],
        },
        hide_index=True,
        alt="Figures of both models on the same parts",
    )
    flips = compared.flips
    st.markdown(f"{len(flips):,} of {len(compared.pictures):,} verdicts change.")
    if flips:
        with st.expander("Parts whose verdict changes"):
            pictures = flip_rows(flips[:FLIPS_SHOWN])
            st.dataframe(
                {
                    name: [legible(row[i]) for row in pictures]
                    for i, name in enumerate(("picture", "is", "verdict", "strangeness"))
                },
                hide_index=True,
                alt="Parts whose verdict changes",
            )
            if len(flips) > FLIPS_SHOWN:
                st.caption(f"and {len(flips) - FLIPS_SHOWN:,} more, in the file beside the new model")
    for sentence in compared.cannot:
        st.caption(markdown_safe(sentence))


def promote_form(folder: Path, new: Path) -> None:
    """Let a person put the new model in the place of the present one."""
    st.markdown("**Promote the new model**")
    st.caption(
        markdown_safe(
            f"A copy of it takes the place of {folder}; the present one is kept as "
            f"{previous_of(folder).name}. Programs that have loaded the present one go on with it until they "
            "are started again."
        )
    )
    with st.form("promote", border=False):
        reason = st.text_input("Why", key="promote_reason", max_chars=MOST_LETTERS)
        anyway = st.checkbox("Also where the comparison speaks against it, or there is none")
        if st.form_submit_button("Promote it"):
            if not reason.strip() or not person():
                st.error("A promotion wants to know why, and who you are (in the sidebar).")
                return
            try:
                recover(folder)
                weighed: Weighed = weigh(new, folder, detector_in_force(new), detector_in_force(folder))
                done = replace_model(record(), weighed, author=person(), reason=reason.strip(), anyway=anyway)
            except (DiffernetError, OSError) as error:
                show_trouble(error)
                return
            finish(done)


def show_return(model: KnownModel) -> None:
    """Let a person return to the model that stood there before."""
    assert model.folder is not None
    if not previous_of(model.folder).is_dir() or not writable():
        return
    st.markdown("**Return to the model before**")
    st.caption(markdown_safe(f"{previous_of(model.folder)} takes this one's place, and this one its."))
    with st.form("return", border=False):
        reason = st.text_input("Why", key="return_reason", max_chars=MOST_LETTERS)
        if st.form_submit_button("Return to it"):
            if not reason.strip() or not person():
                st.error("A return wants to know why, and who you are (in the sidebar).")
                return
            try:
                recover(model.folder)
                previous = detector_in_force(require_previous(model.folder))
                done = return_to_previous(
                    record(), model.folder, previous, author=person(), reason=reason.strip()
                )
            except (DiffernetError, OSError) as error:
                show_trouble(error)
                return
            finish(done)


def finish(done: Replaced) -> None:
    """Show the page again, with what was done."""
    st.session_state["models_done"] = done.words
    st.session_state.pop("models_tested", None)
    st.rerun()


def show_done() -> None:
    """Say what was done last, once."""
    if words := st.session_state.pop("models_done", None):
        st.success(markdown_safe(words))


def show_history() -> None:
    """Show who put which model where."""
    done = promotions(record())
    if not done:
        return
    with st.expander("Who put which model where"):
        shown = done[:PROMOTIONS_SHOWN]
        st.dataframe(
            {
                "at (UTC)": [entry["made_at"][:16].replace("T", " ") for entry in shown],
                "who": [legible(entry["actor"]) for entry in shown],
                "what": [entry["action"] for entry in shown],
                "to": [legible(str(entry["facts"].get("to"))) for entry in shown],
                "from": [legible(str(entry["facts"].get("from"))) for entry in shown],
                "why": [legible(str(entry["facts"].get("reason"))) for entry in shown],
                "place": [legible(entry["subject"]) for entry in shown],
            },
            hide_index=True,
            alt="Promotions and returns, the newest first",
        )


def show_trouble(error: DiffernetError | OSError) -> None:
    """Show why something could not be done."""
    if isinstance(error, DiffernetError):
        show_error(error)
    else:
        st.error(
            markdown_safe(f"The disk refused: {error.strerror or error}. Look at free space and rights.")
        )


main()
