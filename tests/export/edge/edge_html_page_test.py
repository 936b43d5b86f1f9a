"""The page of `cxr-infer predict --html`: complete or absent, self-contained, readable."""

import base64
import dataclasses
import io
import re
import shutil
import tracemalloc
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.export.edge.html_card import Card
from cxr_tfds.export.edge.html_page import PredictionPage
from cxr_tfds.export.edge.prediction import FindingPrediction, Prediction

PIXEL = b"P5 40 30 255 " + bytes(range(40)) * 30  # a PGM file, wider than high
MAP = np.array([[0, 1], [0, 0]], np.float32)


class Page(HTMLParser):
    """What a browser finds on a page."""

    def __init__(self, path):
        super().__init__()
        self.text, self.tags, self.open = [], [], []
        self.content = path.read_text(encoding="utf-8")
        self.feed(self.content)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        if data.strip():
            self.text.append(data.strip())

    def attributes(self, tag, name):
        return [found[name] for each, found in self.tags if each == tag and name in found]


@pytest.fixture
def write_page(info, tmp_path):
    """Writes a page of results by file name and returns it as a browser reads it."""

    def write(results, **changes):
        model = dataclasses.replace(info, **changes)
        path = tmp_path / "new" / "page.html"
        with PredictionPage(path, model, "<model>.tflite") as page:
            for name, result in results.items():
                page.add(page.make_card(name, PIXEL, result))
        assert [each.name for each in path.parent.iterdir()] == ["page.html"]
        return Page(path)

    return write


def two(probability, heatmap=None):
    label = "PNEUMONIA" if probability >= 0.5 else "NORMAL"
    by_name = {"NORMAL": 1 - probability, "PNEUMONIA": probability}
    return Prediction(probability, label, 0.5, by_name, heatmap)


def test_two_classes(write_page):
    results = {
        "a/x.png": two(0.833, MAP),
        "b.png": two(0.16, MAP),
        "<i>&.png": BadImage("empty file (0 bytes)"),
    }
    page = write_page(results, heatmap=True, grid=(2, 2))
    text = " ".join(page.text)
    assert "Predictions of <model>.tflite" in text
    assert "Not a medical device." in text
    assert "All 3 NORMAL 1 PNEUMONIA 1 Not readable 1" in text
    assert "NORMAL 17 % PNEUMONIA from 50 % 83 % x.png a" in text
    assert "Not readable empty file (0 bytes) <i>&.png" in text
    assert "i" not in {tag for tag, found in page.tags if tag == "i" and "style" not in found}
    widths = [style for style in page.attributes("i", "style") if style.startswith("width")]
    assert widths == ["width:16.7%", "width:83.3%", "width:84.0%", "width:16.0%"]
    assert page.attributes("u", "style") == ["left:50.0%"] * 2
    cards = [found["class"] for tag, found in page.tags if tag == "article"]
    assert cards == ["card g-1", "card g-0", "card g-unreadable"]


def test_needs_no_other_file(write_page):
    page = write_page({"https://example.org/x.png": two(0.9, MAP)}, heatmap=True, grid=(2, 2))
    assert all(url.startswith("data:image/") for url in page.attributes("img", "src"))
    assert not page.attributes("a", "href") + page.attributes("link", "href")
    assert "script" not in {tag for tag, _ in page.tags}
    assert "url(" not in page.content
    (policy,) = (x["content"] for _, x in page.tags if "http-equiv" in x)
    assert policy.startswith("default-src 'none';")


@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_heatmaps_have_the_shape_of_the_image(write_page, fit):
    page = write_page({"x.png": two(0.9, MAP)}, heatmap=True, grid=(2, 2), fit=fit)
    maps = [x for tag, x in page.tags if tag == "img" and x.get("class") == "map m-0"]
    assert len(maps) == 1
    (thumbnail,) = (x for tag, x in page.tags if tag == "img" and "width" in x)
    assert (thumbnail["width"], thumbnail["height"], thumbnail["alt"]) == ("40", "30", "x.png")
    content = base64.b64decode(maps[0]["src"].partition(",")[2])
    assert Image.open(io.BytesIO(content)).size == (32, 24)


def test_no_heatmaps_without_an_output(write_page):
    page = write_page({"x.png": two(0.9)})
    assert "speaks" not in page.content
    assert len(page.attributes("img", "src")) == 1


def test_several_findings(write_page):
    findings = tuple(
        FindingPrediction(name, probability, 0.4, probability >= 0.4, MAP)
        for name, probability in {"Mass": 0.81, "肺炎": 0.55, "Nodule": 0.01}.items()
    )
    absent = tuple(dataclasses.replace(x, probability=0.1, is_present=False) for x in findings)
    scores = {"Mass": 0.81, "肺炎": 0.55, "Nodule": 0.01}
    page = write_page(
        {
            "x.png": Prediction(0.81, "Mass|肺炎", None, scores, findings=findings),
            "y.png": Prediction(0.1, "", None, scores, findings=absent),
        },
        **{"labels": tuple(scores), "several_findings": True, "heatmap": True, "grid": (2, 2)},
        **{"threshold": (0.4,) * 3, "temperature": (1.0,) * 3},
    )
    text = " ".join(page.text)
    assert "All 2 Mass 1 肺炎 1 No finding 1" in text
    assert "what speaks for Mass 肺炎 Nodule off" in text
    assert "Mass, 肺炎" in text
    cards = [found["class"] for tag, found in page.tags if tag == "article"]
    assert cards == ["card g-0 g-1", "card g-no-finding"]


def test_three_classes(write_page):
    scores = {"NORMAL": 0.2, "BACTERIA": 0.7, "VIRUS": 0.1}
    page = write_page(
        {"x.png": Prediction(0.7, "BACTERIA", None, scores, MAP)},
        **{"labels": tuple(scores), "threshold": None, "heatmap": True, "grid": (2, 2)},
    )
    assert "what speaks for the predicted class off" in " ".join(page.text)
    assert not page.attributes("u", "style")  # no threshold


def test_names_that_are_no_text(write_page):
    page = write_page({"\udcff.png": two(0.9)})
    assert "\\udcff.png" in page.text


def test_refuses_an_existing_file(info, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"page\.html exists\. Choose another name"):
        PredictionPage(path, info, "x")
    assert path.read_text(encoding="utf-8") == "mine"


def test_leaves_nothing_after_an_error(info, tmp_path):
    def fail():
        with PredictionPage(tmp_path / "page.html", info, "x") as page:
            page.add(page.make_card("x.png", PIXEL, two(0.9)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_images(info, tmp_path):
    card = Card("x" * 10_000, ["0"])
    with PredictionPage(tmp_path / "page.html", info, "x") as page:
        tracemalloc.start()
        for _ in range(1000):
            page.add(card)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (tmp_path / "page.html").stat().st_size > 10_000_000
    assert peak < 1_000_000


def test_command_writes_a_page_of_all_files(models, draw, tmp_path, infer):
    (tmp_path / "bad.png").write_bytes(b"")
    draw("x.png", 140)
    path = tmp_path / "page.html"
    done = infer("predict", "--model", models["int8"], "--csv", "--html", path, tmp_path)
    assert done.exit_code == 1  # one file is empty
    page = Page(path)
    assert re.findall(r"All (\d+)", page.content) == ["2"]
    probability = float(done.stdout.splitlines()[2].split(",")[3])
    assert f"width:{100 * probability:.1f}%" in page.content
    again = infer("predict", "--model", models["int8"], "--html", path, tmp_path / "x.png")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "page.html exists. Choose another name for the page." in again.stderr


def test_interrupted_command_writes_no_page(models, draw, tmp_path, infer, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    draw("x.png", 140)
    monkeypatch.setattr(PredictionPage, "add", interrupt)
    done = infer("predict", "--model", models["int8"], "--html", tmp_path / "p.html", tmp_path)
    assert done.exit_code == 1
    assert [each.name for each in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_in_a_browser(write_page, tmp_path, theme):
    playwright = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    results = {"x.png": two(0.9, MAP), "y" * 200: two(0.1, MAP), "z.png": BadImage("empty file")}
    write_page(results, heatmap=True, grid=(2, 2))
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=theme)
        page.goto((tmp_path / "new" / "page.html").as_uri())
        assert axe.Axe().run(page).response["violations"] == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390  # fits a phone
        cards, heatmap = page.locator("article:visible"), page.locator(".map").first
        assert (cards.count(), heatmap.evaluate("x => getComputedStyle(x).opacity")) == (3, "1")
        page.get_by_label("PNEUMONIA 1", exact=True).check()
        assert cards.locator("h2").all_inner_texts() == ["PNEUMONIA"]
        page.get_by_label("off", exact=True).focus()
        page.keyboard.press("Space")
        assert heatmap.evaluate("x => getComputedStyle(x).opacity") == "0"
        browser.close()
