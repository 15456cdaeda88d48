"""Settings: what is in force and who said so, whether machine and record are sound, and what words mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import streamlit as st
from opened import place, record, show_error, workspace, writable
from streamlit import config
from words import verdict_word

from differnet.records import DiffernetError, Verdict
from differnet.reporting.browsing import markdown_safe
from differnet.reporting.in_force import (
    Setting,
    limits_in_force,
    options_in_force,
    settings_in_force,
    versions_in_force,
)
from differnet.reporting.machine import Check, State, machine_checks, summary
from differnet.reporting.report import MEANINGS
from differnet.reporting.tables import legible
from differnet.store import backup_into, backups_in, check, file_bytes, newest, shown_place

# A shape and a word for each outcome.
STATES = {
    State.OK: ":green[\N{CHECK MARK} ok]",
    State.NOTE: ":blue[\N{WHITE CIRCLE} note]",
    State.WARNING: ":orange[\N{BLACK UP-POINTING TRIANGLE} warning]",
    State.PROBLEM: ":red[\N{BLACK DIAMOND} problem]",
}
BACKUPS_SHOWN = 5
# A download goes through the memory of the server.
LARGEST_DOWNLOAD = 300 * 2**20

# Page, keys and what they do; a test holds this list and the pages' shortcuts equal.
SHORTCUTS = (
    ("Gallery", "Left, Right", "the pictures before, and the next ones"),
    ("Gallery", "A, N", "choose all pictures here, or none"),
    ("Gallery", "D, G, U", "call what is chosen a defect, good, or unsure"),
    ("Gallery", "Z", "take back what was said last"),
    ("Image", "Left, Right", "the picture before, and the next one"),
    ("Image", "+, -, 0", "in the picture: closer, farther, all of it; arrows move what is enlarged"),
    ("Tune thresholds", "arrows, Page Up, Page Down", "on a threshold: move it, with Shift ten times as far"),
    ("Tune thresholds", "arrows, Enter", "on a row of bars: choose a bar, and see its pictures"),
    ("Review queue", "D, G, U", "call the part a defect, good, or unsure"),
    ("Review queue", "1 to 9", "call it a defect of that kind"),
    ("Review queue", "Left, Right", "the part before, and the next one"),
    ("Review queue", "Z", "take back what was said last"),
    ("Labels", "D, G, U", "call what is chosen a defect, good, or unsure"),
    ("any", "R", "ask for the page again (Streamlit's own)"),
    ("any", "Tab, Shift+Tab, Enter, Space", "walk to buttons and fields, and press them"),
)
GLOSSARY = (
    ("Part", "one thing that is made; one picture or several show it."),
    (
        "Strangeness",
        "how improbable a part is among good ones, on a scale where 2 means one good part in a hundred.",
    ),
    ("p-value", "share of good calibration parts at least as strange; lower is stranger."),
    ("nll", "how improbable the model finds the features, in nats; higher is stranger."),
    ("T1, T2", "thresholds on strangeness: from T1 a person looks, from T2 the part is a defect."),
    ("Overkill", "a good part that is rejected; its rate is taken among good parts."),
    ("Escape", "a defect that passes; its rate is taken among defects."),
    ("First-pass yield", "share of all pictures that pass at once."),
    ("Review load", "share of judged pictures that a person must look at."),
    ("Calibration", "good parts that were not learned from, and say how strange good parts are."),
    ("Drift", "parts or pictures are no longer like the calibration parts; promised rates do not hold then."),
    ("Interval", "where the true rate lies, 95 times in 100, given so many parts (Clopper and Pearson)."),
)


def main() -> None:
    """Lay out the page."""
    st.title("Settings")
    st.caption("What is in force here. Places and options are chosen when the dashboard is started.")
    show_settings("In force", settings_in_force(os.environ))
    left, right = st.columns(2, gap="large")
    with left:
        show_record()
    with right:
        show_machine()
    show_options()
    left, right = st.columns(2, gap="large")
    with left:
        show_settings("Limits", limits_in_force())
        show_look()
        show_shortcuts()
    with right:
        show_words()
    with st.expander("Versions"):
        settings_table(versions_in_force(), "Versions of this program, Python and the libraries")


def show_settings(title: str, settings: Sequence[Setting]) -> None:
    """Show settings under a title."""
    st.subheader(title)
    settings_table(settings, title)


def settings_table(settings: Sequence[Setting], words: str) -> None:
    """Show settings with who said so."""
    st.table(
        {
            "what": [markdown_safe(each.name) for each in settings],
            "is": [markdown_safe(each.value) for each in settings],
            "who said so": [markdown_safe(each.origin) for each in settings],
        },
        hide_index=True,
        alt=words,
    )


def show_record() -> None:
    """Show what the record holds, check it, and copy it."""
    st.subheader("The record")
    store = record()
    try:
        sizes = store.sizes()
    except DiffernetError as error:
        show_error(error)
        return
    held = ", ".join(f"{n:,} {name.removesuffix('s') if n == 1 else name}" for name, n in sizes.items())
    size = file_bytes(store.engine)
    kept = "" if size is None else f" in {size / 2**20:,.1f} MB"
    st.text(f"{legible(shown_place(place()))}, form {newest()}: {held}{kept}.")
    if st.button("Check the record", help="Reads all of it: a minute for some millions of parts"):
        check_record()
    if size is None:
        st.caption("Backups of PostgreSQL are made by its own tools, such as pg_dump.")
        return
    folder = workspace() / "backups"
    if writable() and st.button(
        "Make a backup", help=f"A copy in {legible(str(folder))}, while it is in use"
    ):
        make_backup(folder)
    show_backups(folder)


def check_record() -> None:
    """Ask whether the record is sound."""
    try:
        with st.spinner("Reading the record"):
            wrong = check(record().engine)
    except DiffernetError as error:
        show_error(error)
        return
    if not wrong:
        st.success("The record is sound: its pages, rows and tables are as they should be.")
        return
    st.error("The record is not sound. Restore a backup, and add the runs since then again.")
    for words in wrong[:BACKUPS_SHOWN]:
        st.text(legible(words))


def make_backup(folder: Path) -> None:
    """Copy the record."""
    try:
        with st.spinner("Copying the record"):
            made = backup_into(record().engine, folder)
    except DiffernetError as error:
        show_error(error)
        return
    st.success(f"Copied to {markdown_safe(str(made))}")


def show_backups(folder: Path) -> None:
    """Offer the latest backups to be downloaded."""
    for file in backups_in(folder)[:BACKUPS_SHOWN]:
        size = file.stat().st_size
        made = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        left, right = st.columns([3, 2], vertical_alignment="center")
        left.caption(f"{markdown_safe(file.name)}, {size / 2**20:,.1f} MB, {made:%Y-%m-%d %H:%M} UTC")
        if size <= LARGEST_DOWNLOAD:
            # Read when somebody asks for it, not whenever the page is shown.
            right.download_button(
                "Download", file.read_bytes, file.name, "application/octet-stream", key=f"get {file.name}"
            )
        else:
            right.caption("too large to be sent through the browser: copy the file")


def show_machine() -> None:
    """Look at this machine when asked to."""
    st.subheader("This machine")
    st.caption(
        "The checks of the command differnet doctor. Some seconds: torch and the weights are looked at."
    )
    if st.button("Check this machine"):
        with st.spinner("Looking at this machine"):
            st.session_state["machine"] = machine_checks(workspace())
    checks: list[Check] = st.session_state.get("machine", [])
    if not checks:
        return
    st.markdown(f"**{summary(checks)}**")
    st.table(
        {
            "check": [check.name for check in checks],
            "state": [STATES[check.state] for check in checks],
            "found": [markdown_safe(f"{check.found}. {check.remedy}".rstrip(". ")) for check in checks],
        },
        hide_index=True,
        alt="Checks of this machine",
    )


def show_options() -> None:
    """Show the server's options, those first that are not the safe ones."""
    st.subheader("Safety of the server")
    options = options_in_force(st.get_option, lambda name: str(config.get_where_defined(name)))
    unsafe = [each for each in options if not each.safe]
    if unsafe:
        st.warning(
            f"{len(unsafe)} options are not those of the dashboard's own command. Start it with "
            "`differnet dashboard`.",
            icon=":material/warning:",
        )
        settings_table(unsafe, "Options that are not the safe ones")
    else:
        st.markdown(
            "\N{CHECK MARK} All options are those of the dashboard's own command: this machine only, no "
            "telemetry, nothing fetched from the internet."
        )
    with st.expander(f"All {len(options)} options"):
        settings_table(options, "Options of the server")


def show_look() -> None:
    """Say how light and dark are chosen."""
    st.subheader("Light and dark")
    now = st.context.theme.type
    told = f" It is {now} now." if now else ""
    st.write(f"The pages follow the browser, which follows the system's own choice of light or dark.{told}")


def show_shortcuts() -> None:
    """List keys."""
    st.subheader("Keys")
    st.table(
        {
            "page": [page for page, _, _ in SHORTCUTS],
            "key": [key for _, key, _ in SHORTCUTS],
            "does": [words for _, _, words in SHORTCUTS],
        },
        hide_index=True,
        alt="Keys and what they do",
    )


def show_words() -> None:
    """Explain the words that pages use."""
    st.subheader("Words")
    with st.container(gap="xsmall"):
        for verdict in Verdict:
            st.markdown(f"**{verdict_word(verdict)}**: {MEANINGS[verdict]}.")
        for word, meaning in GLOSSARY:
            st.markdown(f"**{word}**: {meaning}")


main()
