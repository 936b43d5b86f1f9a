"""The report, the model card and the pictures of drawn scores, for two and for three classes."""

import errno
import html.parser
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_tfds import run_folder
from cxr_tfds.evaluation.conditions import MODERATE
from cxr_tfds.evaluation.scoring import ImageSample, Scores, measure
from cxr_tfds.evaluation.stress import run_stress_test
from cxr_tfds.os_errors import WriteFailed
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.report.page import RunResults, write_report
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.task import Task

pytestmark = pytest.mark.slow

IMAGES = 24


def tiny_cnn(classes, pooled=True):
    """Pixels (32, 32, 1) to logits."""
    import keras

    keras.utils.clear_session()  # which numbers the layers
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


def write(
    folder, built, classes=2, labels=None, pooled=True, history=True, stressed=True, **settings
):
    """Writes a report of drawn scores on drawn images; returns its folder, metrics and stress."""
    run = folder / "<i>run"
    (run / "pictures").mkdir(parents=True)
    for name in ("correct-7.png", "mine.png", "notes.txt"):
        (run / "pictures" / name).write_bytes(b"x")
    names = ("NORMAL", "PNEUMONIA") if classes == 2 else ("none", "bacteria", "virus")
    dataset = open_dataset(DatasetName.parse("chest_xray_pneumonia/64"), built)
    dataset = dataset.targeted("label" if classes == 2 else "finding")
    labels = np.arange(IMAGES) % classes if labels is None else labels
    scores = scored(classes, labels)
    images = np.random.default_rng(1).integers(0, 256, (IMAGES, 32, 32, 1), np.uint8)
    sample, model = ImageSample(np.arange(IMAGES), images), tiny_cnn(classes, pooled)
    config = RunConfig(
        settings={
            "model": "tiny",
            "threshold_rule": "sensitivity>=0.9",
            "size": None,
            "note": "<u>",
            "data_dir": str(built),
            "cache_dir": "/caches",
            "weights": str(folder / "weights.h5"),
            **settings,
        },
        dataset={"name": dataset.name, "fingerprint": dataset.fingerprint},
        labels=names,
        shape=(32, 32, 1),
        fit="stretch",
        precision="float32",
        environment={"python": "3.11"},
        temperature=1.5,
        threshold=0.6 if classes == 2 else None,
        task=Task.choose(names),
    )
    if history:
        metric = "val_auc" if classes == 2 else "val_accuracy"
        rows = [f"epoch,loss,val_loss,{metric}", "1,0.7,0.6,0.6", "2,0.5,0.55,0.9", "3,0.4,0.6,0.8"]
        (run / "history.csv").write_text("\n".join(rows), encoding="utf-8")
    tables = {"validation": {"images": 3}, "test": measure(scores, config)}
    stress = None
    if stressed:
        stress = run_stress_test(model, scores, sample, config.threshold, (MODERATE,))
    write_report(run, config, RunResults(dataset, model, "test", scores, sample, tables, stress))
    return run, tables["test"], stress


class Page(html.parser.HTMLParser):
    """Collects the URLs, the text and the unclosed elements of a page."""

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
    def visible(self):
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
def test_page_is_well_formed_and_self_contained(name, request):
    run = request.getfixturevalue(name)[0]
    text, page = read(run)
    assert page.open == []
    assert [
        target for target in page.loads if not target.startswith(("#", "data:image/jpeg;base64,"))
    ] == []
    assert "url(http" not in text
    assert "@import" not in text
    assert not re.findall(r"\{\{|\{%|Undefined|\bNone\b|\bnan\b", text)
    links = re.findall(r'<a [^>]*href="#([^"]+)"', text)
    assert set(links) <= set(re.findall(r'id="([^"]+)"', text))


def test_pictures_and_examples_can_be_enlarged_without_scripts(two):
    """A link makes a picture the target of the page, and a link in it goes back."""
    text = read(two[0])[0]
    assert "<script" not in text
    zoomed = re.findall(r'class="[a-z ]*zoom" id="([^"]+)"', text)
    assert len(zoomed) == text.count("<figure") + text.count('<div class="text">')
    for name in zoomed:
        assert text.count(f'href="#{name}"') == 1
    assert text.count('class="close" href="#at-') == len(zoomed)


def test_report_is_made_for_dark_mode_and_phones(two):
    text = read(two[0])[0]
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "prefers-color-scheme: dark" in text


def test_page_shows_averages_over_classes(two):
    text, table = read(two[0])[1].visible, two[1]
    for kind in ("macro", "weighted"):
        f1 = table["averages"][kind]["f1"]
        assert f"{f1['value']:.3f} {f1['low']:.3f} to {f1['high']:.3f}" in text
        assert f"{kind} mean" in text


def test_drawn_images_are_named_so(two):
    run = two[0]
    for text in (read(run)[1].visible, (run / "MODEL_CARD.md").read_text(encoding="utf-8")):
        assert "The images are drawn by a program and show no patient." in text
        assert "Kermany" not in text


def test_report_and_card_contain_no_place_of_the_machine(two, built):
    """Folders and files of this machine; names of images are in the report alone."""
    run = two[0]
    report, card = read(run)[0], (run / "MODEL_CARD.md").read_text(encoding="utf-8")
    for text in (report, card):
        for place in (run.parent, built, "/caches", "weights.h5"):
            assert str(place) not in text
    assert ".jpeg" in report
    assert ".jpeg" not in card


def test_anonymous_report_contains_no_name_of_an_image(built, tmp_path):
    run = write(tmp_path, built, anonymous=True)[0]
    text = read(run)[0]
    assert 'class="zoom' in text or 'zoom"' in text
    assert ".jpeg" not in text
    assert "test/" not in text


def test_names_are_escaped(two):
    text, page = read(two[0])
    for evil in ("<i>run", "<b>0</b>", "<u>"):
        assert evil not in text
    assert "<i>run" in page.visible
    assert re.search(r'<div class="id">test/<wbr>&lt;b&gt;\d+&lt;/<wbr>b&gt;\.jpeg</div>', text)


def test_page_shows_all_metrics_with_intervals(two):
    _, table, under = two
    text = read(two[0])[1].visible
    for name, metric in table.items():
        if isinstance(metric, dict) and "low" in metric:
            assert f"{metric['value']:.4f} {metric['low']:.4f} to {metric['high']:.4f}" in text, (
                name
            )
    counts = table["confusion_matrix"]
    assert (
        f"Of {counts['tp'] + counts['fn']} images labelled PNEUMONIA, the model detects "
        f"{counts['tp']} and misses {counts['fn']}. Of {counts['tn'] + counts['fp']} images "
        f"labelled NORMAL, it predicts {counts['fp']} as PNEUMONIA." in text
    )
    assert "Not a medical device." in text
    assert "sensitivity>=0.9" in text
    assert under["verdict"] in text
    for name, finding in table["findings"].items():
        assert f"{name} {finding['sensitivity']['value']:.3f}" in text
    for rate in ("precision", "recall", "f1"):
        assert f"{table['classes']['NORMAL'][rate]['value']:.3f}" in text
    assert "bacteria" in text
    assert "chest_xray_pneumonia/64:1.0.0" in text


def test_three_classes_have_no_threshold(three):
    run, table, _ = three
    text = read(run)[1].visible
    assert "The most probable class is predicted." in text
    assert "is predicted from a probability" not in text
    for rates in table["classes"].values():
        assert f"{rates['recall']['value']:.3f} {rates['recall']['low']:.3f} to" in text


SCORED = {"confusion", "roc", "precision-recall", "scores", "reliability"}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("two", {"thresholds", "false-negatives", "false-positives"}),
        ("three", {"errors", "correct-2"}),
    ],
)
def test_pictures_are_png_files_and_replace_earlier_ones(name, own, request):
    run = request.getfixturevalue(name)[0]
    assert (run / "pictures" / "notes.txt").is_file()
    pictures = {path.stem: path for path in (run / "pictures").glob("*.png")}
    assert pictures.pop("mine").read_bytes() == b"x"
    assert set(pictures.values()) == set(run_folder.own_pictures(run))
    assert set(pictures) == SCORED | own | {
        "loss",
        "metrics",
        "stress",
        "correct-0",
        "correct-1",
    }
    for path in pictures.values():
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200
            assert len(set(np.asarray(image.convert("L")).ravel())) > 10


def test_a_full_disk_keeps_the_earlier_report(built, tmp_path, monkeypatch):
    write_bytes = Path.write_bytes

    def fill_disk(path, data):
        if path.name.endswith("-roc.png"):
            raise OSError(errno.ENOSPC, "x")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill_disk)
    with pytest.raises(WriteFailed, match=r"^No space left on device: .*/pictures/roc\.png\. The"):
        write(tmp_path, built, stressed=False)
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"correct-7.png", "mine.png", "notes.txt", "history.csv"}  # removed last


def test_report_is_reproducible(two, built, tmp_path):
    """The report contains no time and no random name."""
    again = write(tmp_path, built)[0]
    for name in ("report.html", "MODEL_CARD.md"):
        page, other = ((run / name).read_text(encoding="utf-8") for run in (again, two[0]))
        assert page == other


def test_model_card_has_all_sections(two):
    text = (two[0] / "MODEL_CARD.md").read_text(encoding="utf-8")
    for title in ("Intended use", "Model", "Performance on the test split", "Data", "Limitations"):
        assert f"\n## {title}\n\n- " in text
    assert "Not a medical device." in text
    assert two[2]["verdict"] in text
    assert re.search(r"correct positive predictions would be \d+% if 1% of people had it", text)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_undefined_metrics(built, tmp_path, label):
    run, table, _ = write(tmp_path, built, labels=np.full(IMAGES, label), history=False)
    text, page = read(run)
    assert table["auc"]["value"] is None
    assert (
        f"undefined: no image is labelled {'PNEUMONIA' if label == 0 else 'NORMAL'}" in page.visible
    )
    assert "This run has no history.csv." in page.visible
    assert not {"roc", "precision-recall", "stress", "loss"} & {
        path.stem for path in (run / "pictures").iterdir()
    }
    run_folder.clear(run)
    assert sorted(path.name for path in run.rglob("*")) == ["mine.png", "notes.txt", "pictures"]
    assert "None" not in text


def test_report_without_activation_maps_and_stress_test(built, tmp_path):
    run, _, _ = write(tmp_path, built, pooled=False, stressed=False)
    text = read(run)[1].visible
    assert "This model has no exact class activation map" in text
    assert "Not measured. To measure it, run: cxr-evaluate '<i>run' --stress" in text
    with Image.open(run / "pictures" / "false-negatives.png") as sheet:
        assert sheet.height < 300  # no row of maps
