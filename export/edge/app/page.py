"""The script that Streamlit runs for each visitor, again after each change.

Streamlit runs it as a file, so its imports are absolute.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.export.edge.app import choices, markup, uploads, wording
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_info import ModelInfo

_SIDE_BY_SIDE, _BLENDED = "Side by side", "Blended"
_BAR_FROM = 9  # images


def main() -> None:
    """Draws the page."""
    st.set_page_config(page_title="Chest radiograph classifier", layout="wide")
    classifier, card = uploads.open_model(Path(sys.argv[1]))
    info = classifier.info
    st.html(markup.style())
    st.html(markup.header(info))
    results = choose_images(classifier)
    if results:
        thresholds = choose_thresholds(info)
        show_results(classifier, [uploads.with_thresholds(x, thresholds) for x in results])
    else:
        st.html(markup.introduction(info, uploads.example_thumbnails()))
    with st.expander("About the model"):
        st.html(markup.facts(wording.list_facts(info)))
    if card is not None:
        with st.expander("Model card"):
            st.html(markup.model_card(card))
    st.html(markup.upload_field(), unsafe_allow_javascript=True)


def choose_images(classifier: Classifier) -> list[uploads.Result]:
    """Returns the results of the dropped files, or of the drawn examples."""
    files = st.file_uploader(
        "Radiographs: drop files here, or choose them",
        accept_multiple_files=True,
        help=f"JPEG, PNG, DICOM and other image files; up to {uploads.MAX_FILES} files of "
        f"{uploads.MAX_MEGABYTES} MB each. They stay in the memory of the machine that serves this "
        "page, and are not written to disk.",
    )
    if len(files) > uploads.MAX_FILES:
        st.warning(
            f"{len(files)} files; the page predicts the first {uploads.MAX_FILES}. Use "
            "cxr-infer predict for a folder."
        )
        files = files[: uploads.MAX_FILES]
    contents = {file.file_id: (file.name, file.getvalue()) for file in files}
    if not files:
        shows_examples = st.toggle("Show drawn examples, which show no patient")
        if shows_examples:
            contents = {name: (name, data) for name, data in uploads.draw_examples().items()}
    return predict_new(classifier, contents)


def choose_thresholds(info: ModelInfo) -> dict[str, float]:
    """Returns the thresholds of the operating point that the visitor chooses."""
    options = choices.list_choices(info)
    if len(options) < 2:
        return {}
    chosen = st.selectbox("Operating point", options, format_func=lambda choice: choice.text)
    if chosen.note:
        st.html(markup.note(chosen.note))
    return chosen.thresholds


def predict_new(
    classifier: Classifier, contents: dict[str, tuple[str, bytes]]
) -> list[uploads.Result]:
    """Returns the result of each file, by id; known results are kept."""
    known: dict[str, uploads.Result] = st.session_state.get("results", {})
    new = [key for key in contents if key not in known]
    bar = st.progress(0.0, "Predicting") if len(new) >= _BAR_FROM else None
    results = {}
    for key, (name, data) in contents.items():
        try:
            results[key] = known.get(key) or uploads.predict(classifier, name, data)
        except InputError as err:
            results[key] = uploads.Result(name, data, BadImage(str(err)))
        if bar is not None:
            bar.progress(len(results) / len(contents), f"{len(results)} of {len(contents)}")
    if bar is not None:
        bar.empty()
    st.session_state["results"] = results
    return list(results.values())


def show_results(classifier: Classifier, results: list[uploads.Result]) -> None:
    """Shows the table of several images, then one image."""
    number = 0
    if len(results) > 1:
        st.html(markup.result_table(results, classifier.info))
        st.download_button(
            "Download as CSV",
            uploads.to_csv(classifier, results),
            "predictions.csv",
            "text/csv",
            on_click="ignore",
        )
        number = st.selectbox(
            "Show image", range(len(results)), format_func=lambda number: results[number].name
        )
    result = results[number]
    if isinstance(result.outcome, BadImage):
        st.html(markup.error_card(result))
        return
    left, right = st.columns([2, 3], gap="medium")
    with left:
        st.html(markup.result_card(result, classifier.info))
    with right:
        show_pictures(classifier, result)


def show_pictures(classifier: Classifier, result: uploads.Result) -> None:
    """Shows the image, with its heat map if the model has one."""
    prediction = result.outcome
    assert not isinstance(prediction, BadImage)
    picture = uploads.to_picture(classifier, result)
    original = markup.Picture(picture, f"Radiograph {result.name}", "Radiograph")
    name, heatmap = prediction.label, prediction.heatmap
    if prediction.findings:
        findings = {finding.name: finding.heatmap for finding in prediction.findings}
        if classifier.info.heatmap:
            name = st.selectbox("Heat map of", list(findings))
        heatmap = findings.get(name)
    elif prediction.positive is not None:
        name = prediction.positive
    if heatmap is None:
        st.html(markup.gallery([original]))
        return
    view = st.segmented_control(
        "View", [_SIDE_BY_SIDE, _BLENDED], default=_SIDE_BY_SIDE, required=True
    )
    opacity = round(100 * uploads.OPACITY)
    if view == _BLENDED:
        opacity = st.slider("Opacity of the heat map", 0, 100, opacity, format="%d %%")
    coloured = markup.Picture(
        uploads.blend(picture, heatmap, classifier.info.fit, opacity / 100),
        f"Heat map over the radiograph {result.name}",
        wording.explain_colours(name, heatmap),
        has_scale=bool(heatmap.max() > 0),
    )
    st.html(markup.gallery([coloured] if view == _BLENDED else [original, coloured]))


if __name__ == "__main__":  # as Streamlit runs it
    main()
