"""Runs the commands of the documentation on phantoms, in the order of each page."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command_server import SETUP, CommandServer
from helpers.documents import ROOT, SHELLS, Block, read_blocks

import cxr_tfds

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "builders/*/README.md", "*/README.md", "export/**/*.md")
    for path in ROOT.glob(pattern)
)
LANGUAGES = {*SHELLS, "text", "python", "json", "ini"}
# Added to each call, to make it small.
COMMANDS = {
    "cxr-data": (),
    "cxr-evaluate": (),
    "cxr-export": (
        *("--representative-images", "8"),
        *("--max-auc-drop", "1", "--min-agreement", "0"),
    ),
    "cxr-train": ("--epochs", "2", "--steps-per-epoch", "2", "--batch-size", "8"),
    "tfds": (),
    "cxr-infer": (),
    "python": (),
}
# Texts of the pages, and what the test runs instead.
SMALL = {
    "cxr-data phantom --out images": "cxr-data phantom --out images --train 40 --test 20",
    "epochs=30": "epochs=1, steps_per_epoch=2, batch_size=8",
    'formats=["int8"]': 'formats=["int8"], limits=Limits(1, 0)',
    "import cxr_tfds as cxr": "import cxr_tfds as cxr; from cxr_tfds.export.pack import Limits",
    "epochs=10": "epochs=1",
    "IMAGES, SIZE, EPOCHS = 400, 224, 5": "IMAGES, SIZE, EPOCHS = 40, 64, 1",
    "../demo/phantom/export/run-int8.tflite": "models/first-int8.tflite",
    "../demo/phantom/source/chest_xray/test": "images/chest_xray/test",
}
QUICK_START = "docs/index.md"


def shell_blocks(page: str) -> list[Block]:
    return [b for b in read_blocks(ROOT / page) if b.language in SHELLS and not b.reason]


def python_blocks(page: str) -> list[Block]:
    return [b for b in read_blocks(ROOT / page) if b.language == "python"]


def shrink(code: str) -> str:
    for text, small in SMALL.items():
        code = code.replace(text, small)
    return code


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_language(page: str) -> None:
    for block in read_blocks(ROOT / page):
        assert block.language in LANGUAGES, block


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_are_valid(page: str) -> None:
    for block in python_blocks(page):
        compile(block.code, str(block), "exec")


@pytest.fixture(scope="session")
def commands() -> Iterator[Path]:
    """Returns a folder for PATH with small, fast versions of the commands."""
    with tempfile.TemporaryDirectory() as folder, CommandServer(Path(folder), COMMANDS) as server:
        yield server.folder


def run_code(code: str, folder: Path, commands: Path, *shell: str) -> None:
    env = {
        SETUP: "quick_training",
        **os.environ,
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        [*shell, code],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout[-4000:]}"


def run_page(page: str, folder: Path, commands: Path) -> None:
    for block in shell_blocks(page):
        run_code(shrink(block.code), folder, commands, "bash", "-euo", "pipefail", "-c")


@pytest.fixture(scope="session")
def started(commands: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a user after the quick start. Copy it, never write to it."""
    folder = tmp_path_factory.mktemp("quick_start")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(SETUP, "")  # the default network, as users train it
        run_page(QUICK_START, folder, commands)
    return folder


@pytest.fixture
def workplace(started: Path, tmp_path: Path) -> Path:
    """Returns a copy of the folder, with further files that pages name."""
    folder = tmp_path / "work"
    shutil.copytree(started, folder)
    normal = sorted((folder / "images/chest_xray/test/NORMAL").iterdir())
    shutil.copy(normal[0], folder / "image.jpeg")
    for name, source in {"Clear": "NORMAL", "Effusion": "PNEUMONIA"}.items():
        shutil.copytree(folder / "images/chest_xray/train" / source, folder / "my-images" / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if not page.startswith("benchmarks/") and shell_blocks(page)],
)
def test_commands_run(page: str, workplace: Path, commands: Path) -> None:
    if page == "README.md":  # it begins with images only
        for name in ("data", "runs", "models"):
            shutil.rmtree(workplace / name)
    if page != QUICK_START:
        run_page(page, workplace, commands)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/api.md", "docs/device.md"])
def test_python_runs(page: str, workplace: Path, commands: Path) -> None:
    for block in python_blocks(page):
        if not block.reason:
            run_code(shrink(block.code), workplace, commands, "python", "-c")


@pytest.mark.slow
def test_dataset_of_the_page_builds(workplace: Path, commands: Path) -> None:
    code = next(
        block.code
        for block in python_blocks("docs/add-dataset.md")
        if "class Builder" in block.code
    )
    package, source = workplace / "my_dataset", workplace / "source"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "README.md").write_text("Drawn images.\n", encoding="utf-8")
    (package / "CITATIONS.bib").touch()
    (package / "my_dataset_dataset_builder.py").write_text(code, encoding="utf-8")
    for name in ("Clear", "Effusion"):
        for number, image in enumerate((workplace / "my-images" / name).iterdir()):
            copy = source / "my_dataset" / "train" / name / f"p{number:03}_1.jpeg"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, copy)
    build = "tfds build my_dataset --manual_dir source --data_dir built"
    run_code(build, workplace, commands, "bash", "-c")
    report = (workplace / "built/my_dataset/224/1.0.0/build_report.md").read_text(encoding="utf-8")
    assert "effusion" in report


@pytest.mark.slow
def test_model_of_the_page_is_a_model(tmp_path: Path, commands: Path) -> None:
    (block,) = python_blocks("docs/add-model.md")
    code = block.code + "assert my_cnn((64, 64, 1), 1).output_shape == (None, 1)\n"
    run_code(code, tmp_path, commands, "python", "-c")


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda p: p.stem)
def test_notebook_runs(
    notebook: Path, workplace: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat  # not above, because importing it takes 3 s
    from nbclient import NotebookClient

    monkeypatch.setenv("PATH", f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    cells = nbformat.reads(shrink(notebook.read_text(encoding="utf-8")), as_version=4)
    NotebookClient(cells, timeout=200, resources={"metadata": {"path": str(workplace)}}).execute()


@pytest.mark.slow
@pytest.mark.parametrize("block", shell_blocks("benchmarks/README.md"), ids=str)
def test_benchmark_runs(block: Block, tmp_path: Path, commands: Path) -> None:
    """Each script is copied, because it writes next to itself."""
    shutil.copytree(
        ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("work")
    )
    code = re.sub(r"(?m)^(python \S+\.py[^#\n]*)", r"\1 --toy ", block.code)
    if "--jax" in code:  # the server has loaded Keras for TensorFlow
        code = code.replace("python", sys.executable)
    run_code(code, tmp_path, commands, "bash", "-euo", "pipefail", "-c")


def test_table_of_ten_million_images_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import scale

    page = scale.PAGE.read_text(encoding="utf-8")
    assert scale.fill(page) == page, "run python benchmarks/scale.py"
    assert "GB" in scale.fill(page.replace("GB", ""))


def test_api_page_names_everything_public() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert [name for name in cxr_tfds.__all__ if name not in page and name != "__version__"] == []


def literals() -> list[str]:
    """Returns the strings of the production code, with … for each inserted value."""
    texts = []
    for folder in ("cxr_tfds", "builders", "export"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
                    texts.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return [re.sub(r"\s+", " ", text) for text in texts]


@pytest.mark.slow
def test_troubleshooting_quotes_messages_of_the_code() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^### `(.+)`$", page, flags=re.M)
    assert len(messages) >= 20
    texts = literals()
    for message in messages:
        parts = [part.strip() for part in message.split("…") if len(part.strip()) > 3]
        assert any(all(part in text for part in parts) for text in texts), message
