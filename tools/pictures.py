"""Draws the pictures of the documentation from phantoms.

Run: python tools/pictures.py --out docs/pictures (`make pictures`; about five minutes).
The report page needs chromium (Debian: apt-get install -y chromium). Without it, report.png stays.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch
from PIL import Image, ImageDraw, ImageFont

from cxr_tfds.imaging.overlay import overlay
from cxr_tfds.imaging.pixels import radiograph
from cxr_tfds.plotting import INK, PAPER

BIN = Path(sys.executable).parent
SIZE = 224
COLORS, WIDTH = 128, 1100
COMMANDS = ("tfds build", "cxr-train", "cxr-export", "cxr-infer")


def main() -> None:
    """Makes a run in a temporary folder and draws every picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder to write to.")
    parser.add_argument("--epochs", type=int, default=10, help="Of the run. [%(default)s]")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_run(work, options.epochs)
        pictures: dict[str, Callable[[Path, Path], bool]] = {
            "report": draw_report,
            "contact-sheet": draw_contact_sheet,
            "augmentation": draw_augmentation,
            "heatmap": draw_heatmap,
            "terminal": draw_terminal,
            "way": draw_way,
        }
        for name, draw in pictures.items():
            path = work / f"{name}.png"
            if draw(work, path):
                save_small(path, options.out / path.name)
                print(options.out / path.name)
            else:
                print(f"{name}.png is not drawn: chromium is not installed.")


def run(command: str, *arguments: str | Path, work: Path) -> str:
    """Runs a command in `work` and returns its standard output."""
    call = [BIN / command, *arguments]
    done = subprocess.run(
        [str(part) for part in call], cwd=work, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def make_run(work: Path, epochs: int) -> None:
    """Draws phantoms, builds, trains and exports in `work`."""
    run("cxr-data", "phantom", "--out", "images", work=work)
    name = "chest_xray_pneumonia"
    where = ("--data_dir", "data", "--manual_dir", "images")
    run("tfds", "build", name, "--imports", "cxr_tfds.builders", *where, work=work)
    options = ("--data-dir", "data", "--out", "runs/first", "--epochs", str(epochs))
    run("cxr-train", "--dataset", f"{name}/224", *options, work=work)
    for variant, out in {"grey": "models", "heatmap": "models-heatmap"}.items():
        options = ("--out", out, "--format", "int8", "--variant", variant)
        run("cxr-export", "runs/first", *options, work=work)


def save_small(path: Path, target: Path) -> None:
    """Saves a picture with few colours and at most `WIDTH` pixels wide."""
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((WIDTH, 10 * WIDTH))
        small.quantize(COLORS, dither=Image.Dither.NONE).save(target, optimize=True)


def draw_report(work: Path, path: Path) -> bool:
    """Takes a screenshot of the report, unless chromium is missing."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        return False
    page = (work / "runs/first/report.html").as_uri()
    size = ("--window-size=1100,1340", "--force-device-scale-factor=1")
    options = ("--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu")
    subprocess.run(
        [browser, *options, *size, f"--screenshot={path}", page],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )
    return True


def draw_contact_sheet(work: Path, path: Path) -> bool:
    """Draws the training images that `cxr-data preview` shows."""
    options = ("--each", "6", "--size", "160", "--dataset", "chest_xray_pneumonia")
    run("cxr-data", "preview", "images", "--out", "sheet.png", *options, work=work)
    with Image.open(work / "sheet.png") as sheet:
        sheet.crop((0, 0, sheet.width, sheet.height // 3)).save(path)
    return True


def draw_augmentation(work: Path, path: Path) -> bool:
    """Draws a row for each preset: the image, then the image with random changes."""
    import cxr_tfds

    columns, presets = 6, ("classic", "default", "strong")
    pixels = test_images(work)[0]
    batch = np.repeat(pixels[np.newaxis], 32, axis=0)
    figure, axes = plt.subplots(len(presets), columns + 1, figsize=(9, 4), facecolor=PAPER)
    for row, preset in zip(axes, presets, strict=True):
        changed = np.asarray(cxr_tfds.Augment(preset, seed=1, dtype="float32")(batch))
        show(row[0], pixels, preset)
        for axis, image in zip(row[1:], changed, strict=False):
            show(axis, image, "")
    return save_figure(figure, path)


def draw_heatmap(work: Path, path: Path) -> bool:
    """Draws positive test images next to the class activation map over them."""
    import cxr_tfds

    (model,) = (work / "models-heatmap").glob("*.tflite")
    classifier = cxr_tfds.Classifier(model)
    files = sorted((work / "images/chest_xray/test/PNEUMONIA").iterdir())[:3]
    figure, axes = plt.subplots(1, 6, figsize=(9, 1.8), facecolor=PAPER)
    for number, file in enumerate(files):
        pixels = radiograph(file.read_bytes(), SIZE).pixels
        prediction = classifier(file)
        show(axes[2 * number], pixels, "image")
        title = f"{prediction.label} {prediction.probability:.2f}"
        assert prediction.heatmap is not None
        show(axes[2 * number + 1], np.asarray(overlay(pixels, prediction.heatmap)), title)
    return save_figure(figure, path)


def draw_terminal(work: Path, path: Path) -> bool:
    """Draws two commands of the device with their output."""
    images = [
        sorted((work / "images/chest_xray/test" / name).iterdir())[0].relative_to(work)
        for name in ("NORMAL", "PNEUMONIA")
    ]
    model = ("--model", "models/first-int8.tflite")
    lines = []
    for arguments in (("predict", *model, *images), ("evaluate", *model, "images/chest_xray/test")):
        lines.append(f"$ cxr-infer {' '.join(map(str, arguments))}")
        lines += [*run("cxr-infer", *arguments, work=work).splitlines(), ""]
    font_file = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSansMono.ttf")
    font, height, margin = ImageFont.truetype(str(font_file), 13), 18, 16
    width = max(int(font.getlength(line)) for line in lines) + 2 * margin
    picture = Image.new("RGB", (width, height * len(lines) + margin), "#1e2329")
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        color = "#7ec699" if line.startswith("$") else "#d7dae0"
        draw.text((margin, margin + number * height), line, color, font)
    picture.save(path)
    return True


def draw_way(work: Path, path: Path) -> bool:
    """Draws the four commands with what goes in and comes out."""
    images = test_images(work)
    grid = np.concatenate([np.concatenate(images[4 * n : 4 * n + 4], 1) for n in range(4)])
    (model,) = (work / "models").glob("*.tflite")
    labels = (
        ("images", "a folder or zip"),
        ("dataset", "TFRecords, 224 x 224"),
        ("run folder", "model, metrics, report"),
        (".tflite", f"{model.stat().st_size // 1024} KB, checked"),
        ("prediction", "on the device"),
    )
    figure = plt.figure(figsize=(11, 2.5), facecolor=PAPER)
    axes = [figure.add_axes((0.01 + 0.205 * n, 0.2, 0.125, 0.6)) for n in range(5)]
    show(axes[0], images[0], "")
    show(axes[1], grid, "")
    draw_curve(axes[2], work)
    axes[3].text(0.5, 0.5, "int8", ha="center", va="center", fontsize=22, color=INK)
    show(axes[4], images[-1], "")
    axes[4].text(
        0.5, 0.06, "PNEUMONIA", ha="center", transform=axes[4].transAxes, color="w", weight="bold"
    )
    for axis, (name, note) in zip(axes, labels, strict=True):
        axis.set(xticks=[], yticks=[], title=name)
        axis.axis("on")
        axis.set_xlabel(note, fontsize=8)
    for number, command in enumerate(COMMANDS):
        left = 0.14 + 0.205 * number
        arrow = FancyArrowPatch(
            (left, 0.5), (left + 0.07, 0.5), arrowstyle="-|>", mutation_scale=14, color=INK
        )
        figure.add_artist(arrow)
        figure.text(left + 0.035, 0.56, command, ha="center", fontsize=8, family="monospace")
    return save_figure(figure, path)


def draw_curve(axis: Axes, work: Path) -> None:
    """Draws the training loss of the run."""
    history = np.genfromtxt(work / "runs/first/history.csv", delimiter=",", names=True)
    assert history.dtype.names is not None
    column = next(name for name in history.dtype.names if name.endswith("loss"))
    axis.plot(history[column], color=INK)


def test_images(work: Path) -> list[np.ndarray]:
    """Returns 16 test images (224, 224, 1), the normal ones first."""
    folders = [work / "images/chest_xray/test" / name for name in ("NORMAL", "PNEUMONIA")]
    files = [file for folder in folders for file in sorted(folder.iterdir())[:8]]
    return [radiograph(file.read_bytes(), SIZE).pixels for file in files]


def show(axis: Axes, pixels: np.ndarray, title: str) -> None:
    """Draws an image without axes."""
    axis.imshow(np.squeeze(pixels).astype(np.uint8), cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=8)
    axis.axis("off")


def save_figure(figure: plt.Figure, path: Path) -> bool:
    """Saves a figure and releases it."""
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)
    return True


if __name__ == "__main__":
    matplotlib.use("Agg")
    main()
