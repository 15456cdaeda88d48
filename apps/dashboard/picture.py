"""Image: all that is known of one picture, to be looked at first and read second."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from components.drawing import drawing
from components.viewer import picture_viewer
from loading import examined
from opened import OpenedRun, current_run, place, record, show_error, workspace
from words import verdict_word

from differnet.images.layouts import GOOD
from differnet.records import DiffernetError, Record
from differnet.reporting.artefacts import encode_jpeg
from differnet.reporting.browsing import (
    evidence_table,
    markdown_safe,
    named_label,
    neighbours,
    other_inspections,
    regions_table,
    reviews_table,
)
from differnet.reporting.counts import VERDICTS
from differnet.reporting.explained import (
    CHANGE_SCALE,
    Explained,
    badge_words,
    change_layer,
    change_words,
    changes_table,
    evidence_layers,
    explain_record,
    nearest_words,
    scale_words,
    statistics_table,
    whole_shares_table,
)
from differnet.reporting.figures import heat_overlay, ruler_svg
from differnet.reporting.gallery_query import GalleryQuery, find_places
from differnet.reporting.origins import bundle_digest, find_model, find_picture, true_mask
from differnet.reporting.tables import legible, records_table
from differnet.reporting.viewing import Layer, heat_layer, outlines, picture_data, view_data

if TYPE_CHECKING:
    from differnet.detection import Detector

# Pictures in the list, the strangest; others open from the gallery. A browser holds no more with ease.
LISTED = 2000
# Earlier inspections of the part that are shown.
EARLIER = 12
# Small pictures in one row.
MULTIPLES = 4


def main() -> None:
    """Lay out the page."""
    opened = current_run()
    item = choose_record(opened)
    explained = explanation_of(opened, item) if show_head(item) else None
    show_viewer(opened, item, explained)
    if explained is not None:
        show_explanation(opened, item, explained)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Evidence")
        st.table(evidence_table(item).set_index("evidence"))
    with right:
        st.subheader("Regions")
        show_regions(item)
        show_reviews(item)
    show_earlier(item)
    with st.expander("All fields of the record"):
        fields = records_table([item]).iloc[0].astype(str).rename("value").to_frame()
        st.dataframe(fields, width="stretch", alt="Every field of this record")


def choose_record(opened: OpenedRun) -> Record:
    """Let a person choose a picture, and put the choice into the address."""
    table = opened.run.table
    ordered = [table.item_id[place] for place in find_places(GalleryQuery(), table, opened.columns)]
    listed = ordered[:LISTED]
    requested = st.query_params.get("item")
    if requested in opened.run.place_of and "item" not in st.session_state:
        st.session_state["item"] = requested
    current = st.session_state.get("item")
    if current not in opened.run.place_of:
        st.session_state.pop("item", None)
        current = listed[0]
    before, after = neighbours(ordered, current)
    # Those beside it too, so that a list that ends before them does not end the walk.
    listed += [item_id for item_id in (before, current, after) if item_id and item_id not in set(listed)]
    columns = st.columns([7, 2, 2], vertical_alignment="bottom")
    columns[1].button(
        "Previous",
        on_click=put_item,
        args=(before,),
        disabled=before is None,
        shortcut="Left",
        width="stretch",
    )
    columns[2].button(
        "Next", on_click=put_item, args=(after,), disabled=after is None, shortcut="Right", width="stretch"
    )
    chosen = columns[0].selectbox(
        "Picture, the strangest first",
        listed,
        key="item",
        format_func=lambda item_id: describe(opened, item_id),
    )
    st.query_params["item"] = str(chosen)
    found = opened.run.record(str(chosen))
    if found is None:
        st.error("This picture is no longer in the run. Reload the page.")
        st.stop()
    return found


def describe(opened: OpenedRun, item_id: str) -> str:
    """Name a picture in the list."""
    table, place = opened.run.table, opened.run.place_of[item_id]
    verdict = VERDICTS[table.verdict[place]].value
    return f"{legible(table.part_id[place] or item_id)}: {verdict}, {named_label(table.label[place])}"


def put_item(item_id: str, run_id: str | None = None) -> None:
    """Go to another picture, of another run where one is named."""
    if run_id is not None:
        st.session_state["run"] = run_id
    st.session_state["item"] = item_id


def show_head(item: Record) -> bool:
    """Show the verdict, its reasons, and where the strangeness stands; return whether more is wanted."""
    left, right = st.columns([3, 2], gap="large")
    with left, st.container(gap="xsmall"):
        figure = "no strangeness" if item.strangeness is None else f"{item.strangeness:.2f}"
        st.title(f"{verdict_word(item.verdict)} {figure}")
        name = markdown_safe(item.part_id or item.item_id)
        truth = "no label" if item.label is None else f"labelled {markdown_safe(item.label)}"
        st.markdown(f"**{name}**, {truth}, {markdown_safe(item.path)}")
        for reason in item.reasons or ("No reason on record.",):
            st.text(legible(reason))
    with right:
        if item.strangeness is not None and item.t_review is not None and item.t_defect is not None:
            drawing(ruler_svg(item.strangeness, item.t_review, item.t_defect), key="ruler")
            note("Strangeness: from T1, dashed, a person looks; from T2 on the part is rejected.")
        return st.toggle(
            "Explain with the model",
            key="explain",
            persist_state="session",
            help="Loads the model that judged, and the original picture: evidence by density and scale, the "
            "nearest good part, and what would have to change.",
        )


def explanation_of(opened: OpenedRun, item: Record) -> Explained | None:
    """Explain the judgement, which takes the model and the picture itself, or say what is missing."""
    try:
        folder = find_model(record(), opened.run.entry, item)
        picture = find_picture(item, roots())
        detector, digest = examined(folder).sound_detector, bundle_digest(folder)
        return _explained(detector, item, digest, item.sha256, str(picture), item.calibration_id)
    except DiffernetError as error:
        show_error(error)
        return None


def note(words: str) -> None:
    """Write a remark, small but in the colour of the text: a caption's grey is too pale to read in light."""
    st.markdown(f":small[{words}]")


def roots() -> list[Path]:
    """Return where relative paths of pictures may begin."""
    return [workspace(), Path.cwd()]


def show_viewer(opened: OpenedRun, item: Record, explained: Explained | None) -> None:
    """Show the picture with its layers."""
    heat_map, preview = opened.run.heat_map(item), opened.run.preview(item)
    pixels = preview if explained is None else explained.pixels
    if pixels is None:
        st.info("There is no picture to show: it could not be read.")
        return
    run_id, changed, _ = opened.key
    name = legible(item.part_id or item.item_id)
    alt = f"{name}, {item.verdict.value}, regions outlined: {len(item.regions)}"
    layers = [] if heat_map is None else [heat_layer(heat_map, opened.run.heat_scale)]
    truth = None
    try:
        truth = _truth(item, place(), run_id, changed, item.item_id)
    except DiffernetError as error:
        note(markdown_safe(f"The ground truth cannot be shown: {error}"))
    good = None
    if explained is not None:
        layers += [*evidence_layers(explained.explanation, opened.run.heat_scale)]
        layers.append(change_layer(explained.explanation))
        if explained.nearest is not None:
            title = nearest_words(explained.explanation)
            good = picture_data(explained.nearest, title) | {"title": title}
    picture_viewer(
        view_data(
            item,
            picture_data(pixels, alt),
            layers,
            heat_map=heat_map,
            closeup=opened.run.closeup(item),
            truth=truth,
            good=good,
        ),
        version=(run_id, changed, item.item_id, explained is not None),
    )
    if explained is not None and good is None:
        note(nearest_words(explained.explanation))


def show_explanation(opened: OpenedRun, item: Record, explained: Explained) -> None:
    """Show the evidence by density and scale, and what would have to change."""
    found, scale = explained.explanation, opened.run.heat_scale
    if not explained.same_calibration:
        st.warning(
            "The model was calibrated anew since it judged this picture: what is explained here rests on "
            f"calibration {found.record.calibration_id}."
        )
    st.subheader("Evidence by density and scale")
    layers = evidence_layers(found, scale)
    show_multiples(explained, layers, scale)
    note(scale_words(scale))
    st.dataframe(
        statistics_table(found),
        hide_index=True,
        width="stretch",
        alt="Strangeness and p-value of each statistic of this picture",
        column_config={
            "strangeness": st.column_config.NumberColumn(format="%.2f"),
            "p-value": st.column_config.NumberColumn(format="%.3f"),
        },
    )
    st.subheader("What would have to change")
    trusted = found.round_trip.sound
    words = badge_words(found.round_trip)
    if trusted:
        st.badge("Way back sound", icon=":material/check_circle:", color="green")
    else:
        st.badge("Way back broken", icon=":material/error:", color="red")
    note(words)
    left, right = st.columns([1, 2], gap="large")
    with left:
        show_multiples(explained, [change_layer(found)], CHANGE_SCALE)
    with right:
        st.write(change_words(found))
        note(
            "The features of each place are moved to the nearest typical ones, as the density knows them "
            "there on such a part, and brought back by its inverse. One good place in a hundred moves."
        )
        st.dataframe(
            changes_table(found),
            hide_index=True,
            width="stretch",
            alt="How much would have to change at each scale",
            column_config={
                "places that move": st.column_config.NumberColumn(format="%.1f %%"),
                "share of the change": st.column_config.NumberColumn(format="%.0f %%"),
                "largest change": st.column_config.NumberColumn("largest change, SD", format="%.2f"),
            },
        )
        if (shares := whole_shares_table(found)) is not None:
            note("Of the whole, shares by the network's map and the kind of statistic:")
            st.dataframe(
                shares,
                width="stretch",
                alt="Which statistics of the whole would have to change",
                column_config={
                    name: st.column_config.NumberColumn(format="%.0f %%") for name in shares.columns
                },
            )


def show_multiples(explained: Explained, layers: list[Layer], scale: tuple[float, float]) -> None:
    """Show layers side by side, each over the picture, all in the same colours."""
    for first in range(0, len(layers), MULTIPLES):
        some = layers[first : first + MULTIPLES]
        for column, layer in zip(st.columns(min(MULTIPLES, len(layers)), gap="medium"), some, strict=False):
            with column:
                overlay = heat_overlay(explained.small, layer.values, scale)
                st.image(encode_jpeg(overlay), width="stretch", alt=layer.name)
                note(markdown_safe(f"{layer.name}; at most {layer.values.max():.1f}"))


def show_regions(item: Record) -> None:
    """Show where it is strange."""
    if not item.regions:
        note("No region of this picture stands out.")
        return
    st.dataframe(
        regions_table(item),
        hide_index=True,
        width="stretch",
        column_config={
            "peak": st.column_config.NumberColumn(format="%.1f"),
            "p_value": st.column_config.NumberColumn("p", format="%.3g"),
        },
        alt="Regions in pixels of the original picture",
    )


def show_reviews(item: Record) -> None:
    """Show what people said of the part, and the way to where it is said."""
    st.subheader("What people said")
    said = record().reviews(item.run_id, item.item_id)
    if said:
        st.dataframe(
            reviews_table(said), hide_index=True, width="stretch", alt="What people said, the last word last"
        )
    else:
        note("Nobody has judged this part yet.")
    if Path(__file__).with_name("review.py").is_file():
        query = {"run": item.run_id, "item": item.item_id}
        st.page_link("review.py", label="To the review queue", query_params=query)


def show_earlier(item: Record) -> None:
    """Show other inspections of the part, each with the way to it."""
    others = other_inspections(record(), item, EARLIER)
    if not others:
        return
    st.subheader("Other inspections of this part")
    for one in others:
        columns = st.columns([4, 3, 4, 8, 2], vertical_alignment="center")
        columns[0].text((one.processed_at or "")[:19].replace("T", " "))
        figure = "" if one.strangeness is None else f" {one.strangeness:.2f}"
        columns[1].markdown(f"{verdict_word(one.verdict)}{figure}")
        columns[2].text(legible(one.run_id))
        same = "the same picture" if one.sha256 == item.sha256 else "another picture"
        columns[3].text(legible(f"{one.path}, {same}"))
        columns[4].button(
            "Open",
            key=f"open {one.run_id} {one.item_id}",
            on_click=put_item,
            args=(one.item_id, one.run_id),
            width="stretch",
        )


@st.cache_resource(max_entries=32, show_spinner="Explaining")
def _explained(
    _detector: Detector, _item: Record, digest: str, sha256: str, picture: str, calibration_id: str
) -> Explained:
    # Streamlit leaves the first two arguments out of the key: the model's digest and the picture's sha256,
    # which was compared with the file, stand for them.
    return explain_record(_detector, _item, Path(picture))


@st.cache_data(max_entries=256, show_spinner=False)
def _truth(_item: Record, place: str, run_id: str, changed: int, item_id: str) -> list[list[float]] | None:
    if _item.label in (None, GOOD):
        return None
    try:
        picture = find_picture(_item, roots())
    except DiffernetError:
        # Without the picture there is no mask beside it; who asks for an explanation is told what is missing.
        return None
    mask = true_mask(picture, _item.height, _item.width)
    return None if mask is None else outlines(mask)


main()
