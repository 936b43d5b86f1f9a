"""The report as a whole: one page that loads nothing, the card, the pictures, for two classes and for three."""

import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from cxr_tfds import run_folder
from cxr_tfds.evaluation.conditions import MODERATE
from cxr_tfds.evaluation.scoring import Kept, Scores, measure
from cxr_tfds.evaluation.stress import stress
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.report.page import Measured, write_report
from cxr_tfds.run_folder import RunConfig

IMAGES = 24


def tiny_cnn(classes, pooled=True):
    """Pixels (32, 32, 1) to logits."""
    import keras

    keras.utils.set_random_seed(0)
    pixels = keras.Input((32, 32, 1), name="image")
    maps = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(
        keras.layers.Rescaling(1 / 255)(pixels)
    )
    maps = keras.layers.Add()(
        [maps, keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 1)(maps))]
    )
    flat = keras.layers.GlobalAveragePooling2D()(maps) if pooled else keras.layers.Flatten()(maps)
    return keras.Model(
        pixels, keras.layers.Dense(1 if classes == 2 else classes)(flat), name="tiny"
    )


def scored(classes, labels, *, good=1.0, seed=0):
    generator = np.random.default_rng(seed)
    drawn = generator.normal(0, 1, (IMAGES, classes)) + good * np.eye(classes)[labels]
    logits = (drawn[:, 1] - drawn[:, 0]) if classes == 2 else drawn
    findings = [("none", "bacteria", "virus")[n % 3] for n in range(IMAGES)]
    ids = [f"test/<b>{n}</b>.jpeg" for n in range(IMAGES)]
    return Scores(
        ids, [f"p{n // 2}" for n in range(IMAGES)], labels, logits.astype(np.float32), findings, 1.5
    )


def write(folder, built, classes=2, labels=None, pooled=True, history=True, stressed=True):
    """A report of drawn scores on drawn images; its folder."""
    run = folder / "<i>run"
    (run / "pictures").mkdir(parents=True)
    for name in ("right-7.png", "mine.png", "notes.txt"):
        (run / "pictures" / name).write_bytes(b"x")
    names = ("NORMAL", "PNEUMONIA") if classes == 2 else ("none", "bacteria", "virus")
    dataset = open_dataset(DatasetName.parse("chest_xray_pneumonia/64"), built)
    dataset = dataset.targeted("label" if classes == 2 else "finding")
    labels = np.arange(IMAGES) % classes if labels is None else labels
    scores = scored(classes, labels)
    images = np.random.default_rng(1).integers(0, 256, (IMAGES, 32, 32, 1), np.uint8)
    kept, model = Kept(np.arange(IMAGES), images), tiny_cnn(classes, pooled)
    config = RunConfig(
        settings={
            "model": "tiny",
            "threshold_rule": "sensitivity>=0.9",
            "size": None,
            "note": "<u>",
        },
        dataset={"name": dataset.name, "fingerprint": dataset.fingerprint},
        labels=names,
        shape=(32, 32, 1),
        fit="stretch",
        precision="float32",
        environment={"python": "3.11"},
        temperature=1.5,
        threshold=0.6 if classes == 2 else None,
    )
    if history:
        metric = "val_auc" if classes == 2 else "val_accuracy"
        rows = [f"epoch,loss,val_loss,{metric}", "1,0.7,0.6,0.6", "2,0.5,0.55,0.9", "3,0.4,0.6,0.8"]
        (run / "history.csv").write_text("\n".join(rows), encoding="utf-8")
    tables = {"validation": {"images": 3}, "test": measure(scores, config)}
    under = stress(model, scores, kept, config.threshold, (MODERATE,)) if stressed else None
    write_report(run, config, Measured(dataset, model, "test", scores, kept, tables, under))
    return run, tables["test"], under


class Page(html.parser.HTMLParser):
    """Collects what a page loads, its text, and which elements stay open."""

    VOID = ("meta", "link", "br", "img", "hr", "input", "wbr")

    def __init__(self, text):
        super().__init__()
        self.loads, self.open, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.loads += [
            value
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "data", "srcset")
        ]
        self.open += [tag] if tag not in self.VOID else []

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        self.text.append(data)

    @property
    def shown(self):
        return " ".join(" ".join(self.text).split())


def read(run):
    text = (run / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def two(built, tmp_path_factory):
    return write(tmp_path_factory.mktemp("two"), built)


@pytest.fixture(scope="module")
def three(built, tmp_path_factory):
    return write(tmp_path_factory.mktemp("three"), built, classes=3)


@pytest.mark.parametrize("name", ["two", "three"])
def test_the_page_is_whole_and_loads_nothing(name, request):
    run = request.getfixturevalue(name)[0]
    text, page = read(run)
    assert page.open == []
    assert [
        target for target in page.loads if not target.startswith(("#", "data:image/jpeg;base64,"))
    ] == []
    assert "url(http" not in text
    assert "@import" not in text
    assert not re.findall(r"\{\{|\{%|Undefined|\bNone\b|\bnan\b", text)
    targets = [
        target[1:]
        for target in page.loads
        if target.startswith("#") and re.fullmatch(r"#[a-z]+", target)
    ]
    assert {f'id="{target}"' for target in targets} <= set(re.findall(r'id="[a-z]+"', text))


def test_names_are_escaped(two):
    text, page = read(two[0])
    for evil in ("<i>run", "<b>0</b>", "<u>"):
        assert evil not in text
    assert "<i>run" in page.shown
    assert re.search(r'<div class="id">test/<wbr>&lt;b&gt;\d+&lt;/<wbr>b&gt;\.jpeg</div>', text)


def test_the_page_tells_the_figures_with_their_intervals(two):
    _, table, under = two
    shown = read(two[0])[1].shown
    for name, figure in table.items():
        if isinstance(figure, dict) and "low" in figure:
            assert f"{figure['value']:.4f} {figure['low']:.4f} to {figure['high']:.4f}" in shown, (
                name
            )
    counts = table["confusion_matrix"]
    assert (
        f"Of {counts['tp'] + counts['fn']} images with PNEUMONIA the model finds {counts['tp']}"
        in shown
    )
    assert "No medical device." in shown
    assert "sensitivity>=0.9" in shown
    assert under["verdict"] in shown
    for kind, of_kind in table["findings"].items():
        assert f"{kind} {of_kind['sensitivity']['value']:.3f}" in shown
    for rate in ("precision", "recall", "f1"):
        assert f"{table['classes']['NORMAL'][rate]['value']:.3f}" in shown
    assert "bacteria" in shown
    assert "chest_xray_pneumonia/64:1.0.0" in shown


def test_three_classes_have_no_threshold(three):
    run, table, _ = three
    shown = read(run)[1].shown
    assert "The most probable class is called." in shown
    assert "is called from a probability" not in shown
    for figure in table["classes"].values():
        assert f"{figure['recall']['value']:.3f} {figure['recall']['low']:.3f} to" in shown


SCORED = {"confusion", "roc", "precision-recall", "scores", "calibration"}


@pytest.mark.parametrize(
    ("name", "own"),
    [("two", {"thresholds", "missed", "false-alarms"}), ("three", {"wrong", "right-2"})],
)
def test_every_picture_is_a_png_of_some_size(name, own, request):
    run = request.getfixturevalue(name)[0]
    # Someone's own stay; pictures of an earlier report are gone.
    assert (run / "pictures" / "notes.txt").is_file()
    pictures = {path.stem: path for path in (run / "pictures").glob("*.png")}
    assert pictures.pop("mine").read_bytes() == b"x"
    assert set(pictures.values()) == set(run_folder.own_pictures(run))
    assert set(pictures) == SCORED | own | {
        "loss",
        "metrics",
        "model",
        "stress",
        "right-0",
        "right-1",
    }
    for path in pictures.values():
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200
            assert len(set(np.asarray(image.convert("L")).ravel())) > 10


def test_a_report_of_the_same_is_the_same(two, built, tmp_path):
    """Letter for letter, but for the folder it stands in: no clock, no random name."""
    again = write(tmp_path, built)[0]
    for name in ("report.html", "MODEL_CARD.md"):
        page, other = ((run / name).read_text(encoding="utf-8") for run in (again, two[0]))
        assert page.replace(str(tmp_path), str(two[0].parent)) == other


def test_the_card_says_what_the_model_is_and_is_not(two):
    text = (two[0] / "MODEL_CARD.md").read_text(encoding="utf-8")
    for title in ("Intended use", "Model", "How good it is, on the test split", "Data", "Limits"):
        assert f"\n## {title}\n\n- " in text
    assert "No medical device." in text
    assert two[2]["verdict"] in text
    assert "JPEG" in text  # the warning of the dataset's own description
    assert re.search(r"where 1% have it, \d+% of the calls would be right", text)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_is_told_as_undefined(built, tmp_path, label):
    run, table, _ = write(tmp_path, built, labels=np.full(IMAGES, label), history=False)
    text, page = read(run)
    assert table["auc"]["value"] is None
    assert (
        f"undefined: no image is labelled {'PNEUMONIA' if label == 0 else 'NORMAL'}" in page.shown
    )
    assert "This run has no history.csv." in page.shown
    assert not {"roc", "precision-recall", "stress", "loss"} & {
        path.stem for path in (run / "pictures").iterdir()
    }
    run_folder.clear(run)
    assert sorted(path.name for path in run.rglob("*")) == ["mine.png", "notes.txt", "pictures"]
    assert "None" not in text


def test_a_model_without_class_activation_and_a_run_without_stress(built, tmp_path):
    run, _, _ = write(tmp_path, built, pooled=False, stressed=False)
    shown = read(run)[1].shown
    assert "it has no exact class activation map" in shown
    assert f"Not measured. Measure it with: cxr-evaluate '{run}' --stress" in shown
    with Image.open(run / "pictures" / "missed.png") as sheet:
        assert sheet.height < 300  # no row of maps
