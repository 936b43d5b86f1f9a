"""Draws the pictures of the documentation from the run of `make demo`.

Run: python tools/pictures.py --out docs/pictures (`make pictures`; two minutes after `make demo`).
Pages need chromium (Debian: apt-get install -y chromium). Without it, their pictures stay.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from app_picture import draw_app
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch
from PIL import Image, ImageDraw, ImageFont

from cxr_tfds.imaging.pixels import radiograph
from cxr_tfds.plotting import INK, PAPER

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "demo/phantom"
BIN = Path(sys.executable).parent
SIZE = 224
COLORS, WIDTH = 256, 1100
CLASSES = ("NORMAL", "PNEUMONIA")
EXPORTED = "export.txt"  # what cxr-export printed
COMMANDS = ("tfds build", "cxr-train", "cxr-export", "cxr-infer")


def main() -> None:
    """Draws every picture, from the run of `make demo`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder to write to.")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work)
        pictures: dict[str, Callable[[Path, Path], bool]] = {
            "report": draw_report,
            "contact-sheet": draw_contact_sheet,
            "augmentation": draw_augmentation,
            "heatmap": draw_heatmap,
            "page": draw_page,
            "app": draw_page_of_app,
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


def prepare(work: Path) -> None:
    """Brings the result of `make demo` into the layout of the quick start, and exports its run."""
    if not (DEMO / "run/model.keras").exists():
        subprocess.run(["make", "demo"], cwd=ROOT, check=True)
    (work / "images").symlink_to(DEMO / "source")
    shutil.copytree(DEMO / "run", work / "runs/first")
    run("cxr-evaluate", "runs/first", work=work)  # writes the report under its new name
    options = ("--out", "models", "--format", "int8", "--format", "float32")
    output = run("cxr-export", "runs/first", *options, work=work)
    (work / EXPORTED).write_text(output, encoding="utf-8")
    for name, source in {"Clear": "NORMAL", "Effusion": "PNEUMONIA"}.items():
        (work / "my-images" / name).mkdir(parents=True)
        files = sorted((work / "images/chest_xray/train" / source).iterdir())
        for number, file in enumerate(files):
            shutil.copy(file, work / "my-images" / name / f"p{number:03}_1.jpeg")


def save_small(path: Path, target: Path) -> None:
    """Saves a picture with few colours and at most `WIDTH` pixels wide."""
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((WIDTH, 10 * WIDTH))
        small = small.quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        small.save(target, optimize=True)


def draw_report(work: Path, path: Path) -> bool:
    """Takes a screenshot of the report, unless chromium is missing."""
    return take_screenshot(work / "runs/first/report.html", path, "1100,1340")


def take_screenshot(page: Path, path: Path, size: str) -> bool:
    """Takes a screenshot of the size "WIDTH,HEIGHT", unless chromium is missing."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        return False
    options = ("--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu")
    subprocess.run(
        [
            *(browser, *options, f"--window-size={size}", "--force-device-scale-factor=1"),
            *(f"--screenshot={path}", page.as_uri()),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )
    return True


def draw_page_of_app(work: Path, path: Path) -> bool:
    """Takes a screenshot of `cxr-app` with two test images of each class."""
    folders = [work / "images/chest_xray/test" / name for name in reversed(CLASSES)]
    files = [file for folder in folders for file in sorted(folder.iterdir())[:2]]
    return draw_app(BIN / "cxr-app", work / "models/first-int8.tflite", files, path)


def draw_contact_sheet(work: Path, path: Path) -> bool:
    """Draws what the command of `own-images.md` shows."""
    options = ("--config", '{"negative": "Clear"}', "--each", "5", "--out", path)
    run("cxr-data", "preview", "my-images", *options, work=work)
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
        show(row[0], pixels, "image" if preset == presets[0] else "")
        row[0].text(-0.1, 0.5, preset, ha="right", va="center", transform=row[0].transAxes)
        for number, (axis, image) in enumerate(zip(row[1:], changed, strict=False), start=1):
            show(axis, image, f"change {number}" if preset == presets[0] else "")
    return save_figure(figure, path)


def draw_heatmap(work: Path, path: Path) -> bool:
    """Draws pictures of `cxr-infer predict --heatmap-dir`; a wrong prediction comes last."""
    import cxr_tfds

    model = work / "models/first-int8.tflite"
    classifier = cxr_tfds.Classifier(model)
    right: dict[str, list[Path]] = {name: [] for name in CLASSES}
    wrong: list[Path] = []
    for name in CLASSES:
        for file in sorted((work / "images/chest_xray/test" / name).iterdir()):
            (right[name] if classifier(file).label == name else wrong).append(file)
    files = [right["PNEUMONIA"][0], right["NORMAL"][0], *wrong[:1]]
    run("cxr-infer", "predict", "-m", model, *files, "--heatmap-dir", "overlays", work=work)
    figure, axes = plt.subplots(1, len(files), figsize=(3.7 * len(files), 4.2), facecolor=PAPER)
    pictures = sorted((work / "overlays").iterdir())
    for axis, file, picture in zip(axes, files, pictures, strict=True):
        axis.imshow(np.asarray(Image.open(picture)))
        axis.set_title(f"labelled {file.parent.name}", fontsize=9)
        axis.axis("off")
    return save_figure(figure, path)


def draw_page(work: Path, path: Path) -> bool:
    """Takes a screenshot of the page of `cxr-infer predict --html`, unless chromium is missing."""
    folders = [work / "images/chest_xray/test" / name for name in CLASSES]
    files = [x.relative_to(work) for each in folders for x in sorted(each.iterdir())[:4]]
    page = work / "page.html"
    model = "models/first-int8.tflite"
    run("cxr-infer", "predict", "-m", model, *files, "--html", page, work=work)
    return take_screenshot(page, path, "1100,1000")


def draw_terminal(work: Path, path: Path) -> bool:
    """Draws the two commands of step 4 of `index.md` with their output."""
    predict = ("predict", "--model", "models/first-int8.tflite", "images/chest_xray/test")
    rows = run("cxr-infer", *predict, work=work).splitlines()
    lines = [
        "$ cxr-export runs/first --out models --format int8 --format float32",
        *(work / EXPORTED).read_text(encoding="utf-8").splitlines(),
        "",
        f"$ cxr-infer {' '.join(predict)}",
        *rows[:4],
        "…",
        *rows[-4:],
    ]
    font_file = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSansMono.ttf")
    font, height, margin = ImageFont.truetype(str(font_file), 15), 21, 18
    width = max(int(font.getlength(line)) for line in lines) + 2 * margin
    picture = Image.new("RGB", (width, height * len(lines) + 2 * margin), "#1e2329")
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
    model = work / "models/first-int8.tflite"
    labels = (
        ("images", "a folder or zip"),
        ("dataset", "TFRecords, 224 x 224"),
        ("run folder", "model, metrics, report"),
        (".tflite", f"{model.stat().st_size / 1000:.0f} KB, checked"),
        ("prediction", "on the device"),
    )
    figure = plt.figure(figsize=(11, 2.5), facecolor=PAPER)
    axes = [figure.add_axes((0.01 + 0.205 * n, 0.2, 0.125, 0.6)) for n in range(5)]
    show(axes[0], images[0], "")
    show(axes[1], grid, "")
    draw_curve(axes[2], work)
    axes[3].text(0.5, 0.5, "int8", ha="center", va="center", fontsize=22, color=INK)
    show(axes[4], images[-1], "")
    bar: dict[str, Any] = {"facecolor": "black", "alpha": 0.75, "edgecolor": "none", "pad": 3}
    where: dict[str, Any] = {"ha": "center", "transform": axes[4].transAxes, "bbox": bar}
    axes[4].text(0.5, 0.06, "PNEUMONIA", color="w", weight="bold", **where)
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
    folders = [work / "images/chest_xray/test" / name for name in CLASSES]
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
