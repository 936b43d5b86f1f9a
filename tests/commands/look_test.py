"""Tests `cxr-data summary` and `cxr-data preview`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers.sources import build, draw_image
from PIL import Image

from cxr_tfds.builders.xray_folder.xray_folder_dataset_builder import Builder
from cxr_tfds.commands.data import cli
from cxr_tfds.imaging.pixels import radiograph


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def draw(path: Path, size: tuple[int, int] = (20, 10), mode: str = "L", grey: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The corner makes one file differ from the other.
    image = Image.new("L", size, grey)
    image.putpixel((0, 0), sum(path.name.encode()) % 256)
    image.convert(mode).save(path, "PNG")
    return path


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes and splits with a duplicate, an unusable file and junk. Read-only."""
    folder = tmp_path_factory.mktemp("odd") / "ward"
    for number in range(4):
        draw(folder / f"train/Healthy/p{number}_a.png")
        draw(folder / f"train/Fibrosis/p{number + 4}_a.png", (30, 40), "RGB", grey=200)
    draw(folder / "test/Healthy/p8_a.png", (26, 10))
    draw(folder / "test/Fibrosis/p9_a.png", (30, 40), "RGB", grey=200)
    shutil.copy(folder / "train/Healthy/p0_a.png", folder / "test/Healthy/p0_b.png")
    (folder / "train/Healthy/p3_a.png").write_bytes(b"")
    (folder / "train/.DS_Store").touch()
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX/._p0_a.png").touch()
    return folder


PATIENTS = '{"patient": "^(p[0-9]+)_"}'


def test_summary_counts_images_as_a_build_does(odd: Path) -> None:
    done = run("summary", odd, "--config", PATIENTS)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:4]]
    assert table[0] == ["split", "images", "Healthy", "Fibrosis", "patients", "without patient"]
    assert table[2:] == [["train", "7", "3", "4", "7", "0"], ["test", "3", "2", "1", "3", "0"]]
    assert "- test/Healthy/p0_b.png = train/Healthy/p0_a.png" in lines
    assert "A BUILD WOULD FAIL:" in lines
    assert lines[lines.index("A BUILD WOULD FAIL:") + 1].startswith(
        "1 group of identical images in"
    )
    assert "- p0: train and test" in lines
    assert "- train/Healthy/p3_a.png: empty file (0 bytes)" in lines
    assert lines[-1] == "Ignored junk such as .DS_Store: 2 files."
    (healthy,) = [line for line in lines if line.startswith("Healthy")]
    assert (
        " ".join(healthy.split())
        == "Healthy 5 0.0 10 to 10, median 10 20 to 26, median 20 L 5 PNG 5"
    )
    assert "Reading" in done.stderr


def test_summary_prints_json_for_a_zip(odd: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ward.zip", "w") as file:
        for path in sorted(odd.rglob("*.png")):
            file.write(path, path.relative_to(odd.parent))
    done = run("summary", tmp_path / "ward.zip", "--json", "--config", PATIENTS)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["splits"]["train"]["classes"] == {"Fibrosis": 4, "Healthy": 3}
    assert report["bad_images"] == {"train/Healthy/p3_a.png": "empty file (0 bytes)"}
    assert list(report["files"]) == ["Healthy", "Fibrosis"]  # the negative class first
    assert report["files"]["Fibrosis"]["modes"] == {"RGB": 5}
    assert report["files"]["Fibrosis"]["height"] == {"smallest": 40, "median": 40.0, "largest": 40}
    assert str(tmp_path) not in done.stdout


def test_summary_writes_a_plot(odd: Path, tmp_path: Path) -> None:
    picture = tmp_path / "look.png"
    assert run("summary", odd, "--plot", picture).exit_code == 0
    with Image.open(picture) as image:
        assert image.width > 1000
    again = run("summary", odd, "--plot", picture)
    assert again.exit_code == 1
    assert "look.png exists. Choose another name, or add --overwrite" in again.stderr
    assert run("summary", odd, "--plot", picture, "--overwrite").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["look.png"]


def test_summary_reads_with_a_builder(phantom: Path) -> None:
    done = run("summary", phantom, "--dataset", "chest_xray_pneumonia", "--json")
    assert done.exit_code == 0, done.output
    report, plain = json.loads(done.stdout), json.loads(run("summary", phantom, "--json").stdout)
    for split, counts in report["splits"].items():  # the builder also knows the findings
        assert counts | {"findings": {}} == plain["splits"][split] | {"findings": {}}
    assert report["splits"]["train"]["findings"]["bacteria"] > 0
    for split, counts in report["build"]["splits"].items():
        assert counts | {"findings": {}} == plain["build"]["splits"][split] | {"findings": {}}
    assert report["splits"]["train"]["images"] == 60


def test_summary_reads_two_sources(tmp_path: Path) -> None:
    collection, kaggle = tmp_path / "collection", tmp_path / "elsewhere"
    rows = [
        f"{number},COVID-19,PA,{draw(collection / f'images/{number}.png').name}"
        for number in range(3)
    ]
    (collection / "metadata.csv").write_text(
        "\n".join(["patientid,finding,view,filename", *rows]), encoding="utf-8"
    )
    for number in range(5):
        draw(kaggle / f"train/NORMAL/IM-{number:04}-0001.png")
        draw(kaggle / f"train/PNEUMONIA/person{number}_virus_1.png")
    config = json.dumps({"normals": str(kaggle)})
    done = run("summary", collection, "--dataset", "covid_chestxray", "--config", config)
    assert done.exit_code == 0, done.output
    assert " ".join(done.stdout.splitlines()[2].split()).startswith("| train | 6 | 3 | 3 |")
    assert "Using custom data configuration" not in done.stderr
    draw(tmp_path / "x.png").rename(tmp_path / "out.png")
    (collection / "images/0.png").unlink()
    (collection / "images/0.png").symlink_to(tmp_path / "out.png")
    done = run("summary", collection, "--dataset", "covid_chestxray", "--config", config)
    assert done.exit_code == 0, done.output
    assert "0.png: a link out of the source. Copy" in done.stdout


def test_summary_escapes_names_for_stdout(tmp_path: Path) -> None:
    for name in ("normal/a.png", "Übrige Ã 胸/b.png"):
        draw(tmp_path / "ward" / "train" / name)
    command = ["summary", str(tmp_path / "ward")]
    done = CliRunner(charset="cp437").invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert "Übrige \\xc3 \\u80f8" in done.stdout
    report = json.loads(CliRunner(charset="cp437").invoke(cli, [*command, "--json"]).stdout)
    assert list(report["files"]) == ["normal", "Übrige Ã 胸"]


def test_summary_prints_the_report_of_a_built_dataset(built: Path) -> None:
    folder = built / "chest_xray_pneumonia" / "64" / "1.0.0"
    done = run("summary", folder)
    assert done.exit_code == 0, done.output
    assert (
        (folder / "build_report.md")
        .read_text(encoding="utf-8")
        .strip()
        .endswith(done.stdout.strip())
    )
    assert (
        json.loads(run("summary", folder, "--json").stdout)["dataset"]
        == "chest_xray_pneumonia/64:1.0.0"
    )
    assert "give the source it was built from" in run("summary", folder, "--plot", "x.png").stderr


@pytest.mark.slow
def test_class_folders_need_no_tensorflow(odd: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from cxr_tfds.commands.data import cli\n"
        f"cli(['summary', {str(odd)!r}, '--plot', 'a.png'], standalone_mode=False)\n"
        f"cli(['preview', {str(odd)!r}, '--out', 'b.html'], standalone_mode=False)\n"
        "heavy = {'tensorflow', 'keras'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_preview_shows_fitted_pixels(odd: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.png"
    done = run("preview", odd, "--out", page, "--each", "3", "--size", "320")
    assert (done.exit_code, done.stdout) == (0, f"{page}\n"), done.output
    with Image.open(page) as image:
        pixels = np.asarray(image)
    # Two of the two images of test/Healthy, the third row, in either order.
    wanted = [
        radiograph((odd / f"test/Healthy/{name}.png").read_bytes(), 320).pixels
        for name in ("p8_a", "p0_b")
    ]
    row = 30 + 2 * (30 + 320 + 28 + 8) + 30
    shown = [pixels[row : row + 320, left : left + 320, :1] for left in (8, 8 + 328)]
    for image in wanted:
        assert any(np.array_equal(image, other) for other in shown)


def test_preview_sample_depends_on_the_seed(phantom: Path, tmp_path: Path) -> None:
    pages = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / f"{name}.html"
        assert (
            run(
                "preview", phantom, "--out", out, "--each", "2", "--size", "16", "--seed", seed
            ).exit_code
            == 0
        )
        pages.append(out.read_text(encoding="utf-8"))
    assert pages[0] == pages[1] != pages[2]
    assert pages[0].count("<figure ") == 3 * 2 * 2
    assert "train \N{MIDDLE DOT} NORMAL \N{MIDDLE DOT} 2 of 24" in pages[0]


def test_preview_page_is_for_phones_and_dark_mode_and_enlarges_images(
    phantom: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert run("preview", phantom, "-o", page, "--each", "1", "--size", "16").exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text
    links = set(re.findall(r'href="#([^"]+)"', text))
    assert links == set(re.findall(r' id="([^"]+)"', text))
    assert len(links) == 2 * 3 * 2


def test_preview_marks_unusable_files_and_escapes_names(odd: Path, tmp_path: Path) -> None:
    source = shutil.copytree(odd, tmp_path / "a<b>")
    draw(source / "train/Healthy/<i>Ü\n.png")
    page = tmp_path / "page.html"
    assert run("preview", source, "--out", page).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "unusable" in text
    assert "empty file (0 bytes)" in text
    assert "&lt;i&gt;Ü" in text
    assert "<i>" not in text
    assert run("preview", source, "--out", tmp_path / "page.png").exit_code == 0


def test_preview_shows_augmented_images(phantom: Path, tmp_path: Path) -> None:
    pages = {}
    for preset in ("none", "classic"):
        pages[preset] = tmp_path / f"{preset}.html"
        done = run(
            "preview",
            phantom,
            "--out",
            pages[preset],
            "--each",
            "2",
            "--size",
            "32",
            "--augmented",
            preset,
        )
        assert done.exit_code == 0, done.output
    rows = {
        name: page.read_text(encoding="utf-8").split("<h2>")[1:3] for name, page in pages.items()
    }

    def images(row: str) -> list[str]:
        return [part.split('"')[0] for part in row.split("base64,")[1:]]

    assert "2 of 24, augmented" in rows["none"][1]
    assert "<h1>phantom, stretch to 32 x 32, augmentation none</h1>" in pages["none"].read_text(
        encoding="utf-8"
    )
    assert images(rows["none"][0]) == images(rows["none"][1])
    assert images(rows["classic"][0]) == images(rows["none"][0])
    assert not set(images(rows["classic"][0])) & set(images(rows["classic"][1]))
    assert "augmented" not in pages["classic"].read_text(encoding="utf-8").split("validation")[1]


@pytest.mark.parametrize("command", ["summary", "preview"])
@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["nowhere"], 1, "No radiographs in nowhere\nIt does not exist."),
        (["nowhere"], 1, "To read the layout of a dataset, name it with --dataset."),
        (["nowhere", "--dataset", "chest_xray_pneumonia"], 1, "No radiographs in nowhere"),
        (
            ["nowhere", "--dataset", "chest_xray_pneumoni"],
            2,
            "Did you mean 'chest_xray_pneumonia'?",
        ),
        (["nowhere", "--config", "{"], 1, "--config '{' is not a JSON object: "),
        (["nowhere", "--config", "[]"], 1, "expected settings such as"),
        (
            ["nowhere", "--config", '{"colour": 3}'],
            1,
            "Unknown config setting colour",
        ),
        (
            ["nowhere", "--dataset", "chest_xray_pneumonia", "--config", '{"colour": 3}'],
            1,
            "Unknown config setting colour",
        ),
        (["ODD", "--config", '{"patient": "("}'], 1, "patient='(' is not a regular expression"),
        (
            ["ODD", "--config", '{"patient": "^x"}'],
            1,
            "patient='^x' matches no file name. Examples of names: p",
        ),
        (["ODD", "--config", '{"negative": 3}'], 1, "negative=3; expected text"),
        (["ODD", "--config", '{"classes": "Healthy"}'], 1, "classes='Healthy'; expected a list"),
    ],
)
def test_refuses_wrong_usage(
    command: str, args: list[str], code: int, message: str, odd: Path, tmp_path: Path
) -> None:
    args = [str(odd) if arg == "ODD" else arg for arg in args]
    done = run(command, *args, *(["--out", tmp_path / "x.png"] if command == "preview" else []))
    assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
    assert not list(tmp_path.iterdir())


def test_preview_refuses_other_formats(odd: Path, tmp_path: Path) -> None:
    done = run("preview", odd, "--out", tmp_path / "x.pdf")
    assert done.exit_code == 2
    assert "has the suffix '.pdf'; expected .png or .html" in done.stderr


def test_summary_names_a_corrupt_build_report(tmp_path: Path) -> None:
    (tmp_path / "build_report.json").write_text("{", encoding="utf-8")
    done = run("summary", tmp_path)
    assert done.exit_code == 1
    assert "build_report.json is corrupt" in done.stderr
    assert "--overwrite" in done.stderr


def test_summary_and_build_skip_the_same_images(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for label in ("Normal", "TB"):
        for number in range(20):
            draw_image(source / label / f"{label}{number}.png")
    for number in range(0, 20, 3):
        (source / "Normal" / f"Normal{number}.png").write_bytes(b"corrupt")
    config = json.dumps({"on_bad_image": "skip"})
    report = json.loads(run("summary", source, "--json", "--config", config).stdout)
    built = build(Builder, source, tmp_path / "data", on_bad_image="skip").data_path
    splits = json.loads((built / "build_report.json").read_text(encoding="utf-8"))["splits"]
    assert report["build"]["splits"] == splits
    assert sum(counts["images"] for counts in splits.values()) == 33


def test_summary_recognizes_a_table(tmp_path: Path) -> None:
    """As a build does."""
    rows = ["Image Index,Finding Labels,Patient ID"]
    for number in range(12):
        draw_image(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'Mass' if number % 2 else 'No Finding'},{number}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    result = CliRunner().invoke(cli, ["summary", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert sum(split["images"] for split in report["build"]["splits"].values()) == 12
    assert any("labels.csv" in note for note in report["notes"])
