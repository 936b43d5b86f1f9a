"""Heatmaps in `Prediction` and as pictures of `cxr-infer predict --heatmap-dir`."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cxr_tfds.export.edge import runtime
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.heatmap_picture import draw_heatmap
from cxr_tfds.export.edge.heatmaps import HeatmapFolder
from cxr_tfds.export.edge.prediction import Statement
from cxr_tfds.os_errors import WriteFailed

pytestmark = pytest.mark.slow


@pytest.fixture
def spot(tmp_path):
    """A dark image with one bright field, 8 x 8 of 32 x 32 pixels, in the lower left."""
    pixels = np.full((32, 32), 40, np.uint8)
    pixels[24:, :8] = 240
    path = tmp_path / "spot.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(("name", "within"), [("float32", 1e-3), ("int8", 0.3)])
def test_heatmap_by_hand(heated, spot, name, within):
    prediction = Classifier(heated[name])(spot)
    expected = np.full((8, 8), 4.0)
    expected[6:, :2] = 24
    assert prediction.heatmap.dtype == np.float32
    np.testing.assert_allclose(prediction.heatmap, expected, atol=within)
    logit = np.log(prediction.probability / (1 - prediction.probability))
    assert prediction.heatmap.mean() - 10 == pytest.approx(logit, abs=2 * within)


def test_heatmap_is_none_without_output(models, spot):
    assert Classifier(models["int8"])(spot).heatmap is None


def test_heatmap_of_the_label_for_three_classes(models, monkeypatch):
    maps = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    monkeypatch.setattr(
        runtime.Session, "run_with_heatmap", lambda *_: (np.array([0, 9, 1], np.float32), maps)
    )
    model = Classifier(models["three"])
    prediction = model.predict(np.zeros((32, 32, 3), np.uint8))
    assert prediction.label == "BACTERIA"
    np.testing.assert_array_equal(prediction.heatmap, maps[..., 1])


def test_writes_heatmaps_of_a_folder(heated, spot, tmp_path, infer):
    (tmp_path / "bad.png").write_bytes(b"")
    out = tmp_path / "new" / "maps"
    done = infer(
        "predict", "--model", heated["int8"], "--json", "--heatmap-dir", out, tmp_path, spot
    )
    assert done.exit_code == 1  # one file is empty
    assert len(json.loads(done.stdout)) == 3
    assert sorted(path.name for path in out.iterdir()) == [
        "000002-spot.png.jpg",
        "000003-spot.png.jpg",
    ]
    drawn = np.asarray(Image.open(out / "000002-spot.png.jpg")).astype(int)
    assert drawn.shape[1:] == (512, 3)  # a small image is enlarged
    assert drawn[28 * 16, 4 * 16].sum() > 600
    # The rest of the map is 1/6 as large: a touch of red.
    assert drawn[4 * 16, 28 * 16, 0] - drawn[4 * 16, 28 * 16, 2] > 10


def test_pictures_have_the_size_of_the_original_up_to_a_limit(heated, tmp_path, infer):
    for name, size in {"a.png": (700, 600), "b.jpeg": (600, 700), "c.png": (3000, 1500)}.items():
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "b.jpeg" else 1  # stored on its side
        Image.new("L", size, 140).save(tmp_path / name, exif=exif)
    maps = tmp_path / "maps"
    done = infer("predict", "--model", heated["int8"], "--heatmap-dir", maps, tmp_path)
    assert done.exit_code == 0, done.output
    sizes = [np.asarray(Image.open(path)).shape[1::-1] for path in sorted(maps.iterdir())]
    assert [width for width, _ in sizes] == [700, 700, 2048]
    # The caption is below the radiograph.
    assert [height > least for (_, height), least in zip(sizes, (600, 600, 1024), strict=True)]
    assert all(height < 1.5 * width for width, height in sizes)


def test_pictures_of_an_earlier_image_are_not_predicted(heated, tmp_path, infer):
    """The folder of the pictures may be inside the folder of the images."""
    for number in range(40):  # more than are listed ahead
        Image.new("L", (32, 32), 5 * number).save(tmp_path / f"{number:02}.png")
    maps = tmp_path / "maps"
    done = infer("predict", "--model", heated["int8"], "--csv", "--heatmap-dir", maps, tmp_path)
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 41
    assert len(list(maps.iterdir())) == 40


@pytest.mark.parametrize("name", ["肺炎", "\udcff", "Ödem", "x" * 300])
@pytest.mark.parametrize("size", [(28, 28), (5, 900), (2048, 100)])
def test_caption_takes_any_name_and_size(name, size):
    statement = Statement(name, "16 %", "predicted from 47 %", name)
    picture = draw_heatmap(Image.new("L", size), np.ones((2, 2), np.float32), statement, "pad")
    caption = np.asarray(picture)[-60:]
    assert picture.width >= 360
    assert len(np.unique(caption)) > 10  # letters
    edge = caption[:, -3:].reshape(-1, 3)
    assert (edge == edge[0]).all()  # no text reaches the edge


def test_caption_says_what_the_colours_mean(monkeypatch):
    texts = []
    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, *a, **k: texts.append(a[1]) or draw(self, *a, **k)
    )
    statement = Statement("Effusion", "81 %", "predicted from 37 %", "present")
    grey = Image.new("L", (600, 500))
    draw_heatmap(grey, np.ones((2, 2), np.float32), statement, "stretch")
    assert texts == [
        "Effusion present",
        "Effusion 81 % (predicted from 37 %)",
        "What speaks for Effusion:",
        "nothing",
        "most in this image",
        "Not a medical device.",
    ]
    texts.clear()
    draw_heatmap(grey, -np.ones((2, 2), np.float32), statement, "crop")
    assert texts[2:] == [
        "No region speaks for Effusion.",
        "The network does not see what is dark.",
        "Not a medical device.",
    ]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("plain", "The model has no heat map. Export its run again with: cxr-export RUN --out "),
        ("heated", "is not empty. Choose"),
    ],
)
def test_refuses_heatmaps(models, heated, spot, tmp_path, model, message, infer):
    path = models["int8"] if model == "plain" else heated["int8"]
    done = infer("predict", "--model", path, "--heatmap-dir", tmp_path, spot)
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr


@pytest.mark.parametrize("kept", ["胸" * 65 + ".png", "x" * 196 + ".png"])
def test_shortens_the_longest_names(heated, spot, tmp_path, infer, kept):
    """File systems count bytes, not characters."""
    name = kept[:1] * (83 if len(kept) < 100 else 251) + ".png"
    try:
        spot.rename(tmp_path / name)
    except OSError:
        pytest.skip("such names cannot be here")
    done = infer(
        "predict", "--model", heated["int8"], "--csv", "--heatmap-dir", tmp_path / "maps", tmp_path
    )
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [f"000001-{kept}.jpg"]


def test_file_names_are_not_kept_in_memory(heated, spot, tmp_path, infer, monkeypatch):
    """`pathlib` interns every part of a path, and Python 3.12 never frees them."""
    kept, intern = [], sys.intern
    spot.rename(tmp_path / "of-100000.png")
    monkeypatch.setattr(sys, "intern", lambda text: kept.append(text) or intern(text))
    done = infer(
        "predict", "--model", heated["int8"], "--csv", "--heatmap-dir", tmp_path / "maps", tmp_path
    )
    assert done.exit_code == 0, done.output
    assert tmp_path.name in kept  # the few names on the command line
    assert not [text for text in kept if "of-100000" in text]


def test_reports_a_heatmap_that_cannot_be_written(heated, spot, tmp_path):
    model = Classifier(heated["int8"])
    data = spot.read_bytes()
    with HeatmapFolder(tmp_path / "maps", model.info) as heatmaps:
        shutil.rmtree(tmp_path / "maps")
        (tmp_path / "maps").touch()  # nothing to remove either
        with pytest.raises(WriteFailed, match=r"^Not a directory: .*/000001-x\.jpg\. A part of"):
            heatmaps.write(1, "x", data, model(data))


@pytest.mark.skipif(sys.platform == "win32", reason="no limits here")
def test_leaves_no_partial_heatmap(heated, spot, tmp_path, infer_apart):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
    done = infer_apart(
        "predict",
        "--model",
        heated["int8"],
        "--json",
        "--heatmap-dir",
        tmp_path / "maps",
        spot,
        before=limit,
    )
    assert (done.returncode, json.loads(done.stdout)) == (1, [])
    assert "File too large: " in done.stderr
    assert f"{tmp_path / 'maps' / '000001-spot.png.jpg'}. The disk mounted at" in done.stderr
    assert not (tmp_path / "maps").exists()
