"""The wheel, installed in an environment without a checkout."""

import email
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow  # builds a wheel
PACKAGES = {"cxr_tfds": "cxr_tfds", "builders": "cxr_tfds/builders", "export": "cxr_tfds/export"}


def run(*command, cwd, **env):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Returns the commands of an environment with the wheel and the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    # Python does not read .pth files in a folder that a .pth line adds: the checkout stays out.
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    done = run(*pip, "install", "-q", "--no-deps", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_contains_all_code_and_templates_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in PACKAGES.items()
        for pattern in ("*.py", "*.j2", "*.css", "py.typed")
        for path in (ROOT / folder).rglob(pattern)
    }
    expected |= {
        f"cxr_tfds/builders/{path.parent.name}/{path.name}"
        for pattern in ("README.md", "CITATIONS.bib", "TAGS.txt")
        for path in ROOT.glob(f"builders/*/{pattern}")
    }
    assert names == expected


def test_metadata_names_authors_and_urls(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Author"] == "cxr-tfds contributors"
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL"))
    assert {"Documentation", "Changelog", "Issues"} <= set(urls)
    assert {"train", "edge", "app", "dev", "docs"} <= set(metadata.get_all("Provides-Extra"))


def test_code_comes_from_the_wheel(installed, tmp_path):
    done = run(
        installed / "python", "-c", "import cxr_tfds, sys; print(cxr_tfds.__file__)", cwd=tmp_path
    )
    assert Path(done.stdout.strip()).is_relative_to(installed.parent)


def test_commands_print_their_help(installed, tmp_path):
    for command in ("cxr-data", "cxr-train", "cxr-evaluate", "cxr-export", "cxr-infer", "cxr-app"):
        done = run(installed / command, "--help", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"Usage: {command}")


def test_dataset_builds_from_the_wheel(installed, phantom, tmp_path):
    tfds = (installed / "python", "-m", "tensorflow_datasets.scripts.cli.main")
    data = tmp_path / "data"
    done = run(
        *(*tfds, "build", "chest_xray_pneumonia", "--imports", "cxr_tfds.builders"),
        *("--manual_dir", phantom, "--data_dir", data),
        cwd=tmp_path,
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    built = data / "chest_xray_pneumonia"
    assert sorted(path.name for path in built.glob("[!.]*")) == ["224"]
    assert (built / "224" / "1.0.0" / "dataset_info.json").is_file()
