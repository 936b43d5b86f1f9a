"""The logic of the page, run by Streamlit without a browser."""

import dataclasses
import re
import sys

import pytest
from streamlit.testing.v1 import AppTest

from cxr_tfds.export.edge.app import page as page_script
from cxr_tfds.export.edge.app import uploads

pytestmark = pytest.mark.slow

CARD = "# Model card: x\n\n## Use\n\n- For **teaching**.\n- ![x](https://example.org/x.png)\n"


@pytest.fixture
def open_page(monkeypatch):
    """Runs the page for a model; returns it before any file is dropped."""

    def open_for(classifier, card=CARD):
        model = uploads.OpenModel(classifier, card)
        monkeypatch.setattr(uploads, "open_model", lambda path: model)
        monkeypatch.setattr(sys, "argv", ["page.py", "model.tflite"])
        page = AppTest.from_file(page_script.__file__, default_timeout=60).run()
        assert not page.exception
        return page

    return open_for


def drop(page, files):
    """Drops files and runs the page."""
    uploaded = [(name, data, "application/octet-stream") for name, data in files.items()]
    page.file_uploader[0].set_value(uploaded)
    page.run()
    assert not page.exception


def html(page):
    """Returns all HTML of the page, without the style sheet."""
    bodies = [x.proto.body for x in page.get("html")]
    return "\n".join(body for body in bodies if not body.startswith("<style>"))


def test_before_a_file_is_dropped(open_page, two):
    page = open_page(two)
    assert "<strong>Not a medical device.</strong> For research and teaching only." in html(page)
    assert "What you get for each image" in html(page)
    assert [x.label for x in page.expander] == ["About the model", "Model card"]
    assert not page.selectbox


def test_the_model_card_loads_no_picture(open_page, two):
    text = html(open_page(two))
    assert "<h3>Use</h3><ul><li>For <strong>teaching</strong>.</li>" in text
    assert "![x](https://example.org/x.png)" in text
    assert "example.org" not in "".join(re.findall(r"<[^>]*>", text))


def test_a_model_without_model_card(open_page, two):
    assert [x.label for x in open_page(two, card=None).expander] == ["About the model"]


def test_one_image_of_two_classes(open_page, two, png):
    page = open_page(two)
    drop(page, {"a.png": png(120)})
    text = html(page).replace("&nbsp;", " ")
    assert '<p class="cxr-outcome positive">PNEUMONIA</p>' in text
    assert '<p class="cxr-number">88 %</p>' in text
    assert "PNEUMONIA is predicted from 30 %." in text
    assert 'aria-label="Probability of PNEUMONIA: 88 %, threshold 30 %"' in text
    assert "No image of the validation set has a probability from 87 % to 93 %" in text
    assert "cxr-table" not in text
    assert text.count("<figure>") == 2


def test_the_heat_map_can_be_blended(open_page, two, png):
    page = open_page(two)
    drop(page, {"a.png": png(120)})
    assert not page.slider
    page.button_group[0].set_value("Blended").run()
    assert html(page).count("<figure>") == 1
    usual = html(page)
    page.slider[0].set_value(10).run()
    assert html(page) != usual
    assert not page.exception


def test_three_classes_without_heat_map(open_page, three, png):
    page = open_page(three)
    drop(page, {"a.png": png(120)})
    text = html(page).replace("&nbsp;", " ")
    assert '<p class="cxr-outcome positive">VIRUS</p>' in text
    assert [f"<span>{name}</span>" in text for name in three.labels] == [True] * 3
    assert "The most probable class is predicted." in text
    assert text.count("<figure>") == 1
    assert not page.button_group


def test_several_findings(open_page, findings, png):
    page = open_page(findings)
    drop(page, {"a.png": png(120)})
    text = html(page).replace("&nbsp;", " ")
    assert "<span>Bright</span><b>88 % present</b>" in text
    assert "<span>Dark</span><b>12 % absent</b>" in text
    assert text.count("does not state what such a probability meant") == 1
    assert "What speaks for Bright" in text
    page.selectbox[0].set_value("Dark").run()
    assert "What speaks for Dark" in html(page)


def test_another_operating_point_changes_every_decision(open_page, two, png):
    rates = {"sensitivity": 0.9, "specificity": 0.8, "positives": 10, "negatives": 5}
    points = {"PNEUMONIA": [{"rule": "youden", "threshold": 0.95, **rates}]}
    changed = dataclasses.replace(two.info, operating_points=points)
    page = open_page(type(two)(changed))
    drop(page, {"a.png": png(120), "b.png": png(60)})
    assert "2 images: 1 NORMAL, 1 PNEUMONIA" in html(page)
    page.selectbox[0].select_index(1).run()
    assert "2 images: 2 NORMAL" in html(page)
    note = "sensitivity 90.0&nbsp;% and specificity 80.0&nbsp;% on validation"
    assert note in html(page)


def test_many_images_have_a_table_and_a_csv(open_page, two, png):
    page = open_page(two)
    drop(page, {"a.png": png(120), "b.png": png(60), "<i>.png": b""})
    text = html(page)
    assert "3 images: 1 NORMAL, 1 PNEUMONIA, 1 not usable" in text
    assert '<td role="cell" class="bad" colspan="2">empty file (0 bytes)</td>' in text
    assert "<span>&lt;i&gt;.png</span>" in text
    assert [x.label for x in page.get("download_button")] == ["Download as CSV"]
    page.selectbox[0].set_value(2).run()
    assert "<p>empty file (0 bytes)</p>" in html(page)


def test_drawn_examples(open_page, two):
    page = open_page(two)
    page.toggle[0].set_value(True).run()
    assert "drawn-focal-opacity.png" in html(page)
    assert not page.exception


def test_files_beyond_the_limit_are_named(open_page, two, png, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_FILES", 2)
    page = open_page(two)
    drop(page, {f"{number}.png": png(120) for number in range(3)})
    assert page.warning[0].value.startswith("3 files; the page predicts the first 2.")
    assert "2 images: 2 PNEUMONIA" in html(page)


def test_an_image_is_predicted_once(open_page, two, png, monkeypatch):
    names = []
    predict = uploads.predict
    monkeypatch.setattr(uploads, "predict", lambda *args: names.append(args[1]) or predict(*args))
    page = open_page(two)
    drop(page, {"a.png": png(120)})
    page.button_group[0].set_value("Blended").run()
    assert names == ["a.png"]
    drop(page, {})
    assert page.session_state["results"] == {}
