"""The wheel, installed where no checkout is."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
    """An environment that holds the wheel, and the packages of this one behind it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    # A .pth line adds the folder but does not read the .pth files in it: the checkout stays out.
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    done = run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "bin" / "python",
        "install",
        "-q",
        "--no-deps",
        wheel,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_wheel_holds_every_package_and_what_goes_with_it(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "cxr_tfds/builders/chest_xray_pneumonia/chest_xray_pneumonia_dataset_builder.py",
        "cxr_tfds/builders/chest_xray_pneumonia/README.md",
        "cxr_tfds/builders/chest_xray_pneumonia/CITATIONS.bib",
        "cxr_tfds/builders/chest_xray_pneumonia/TAGS.txt",
        "cxr_tfds/export/edge/command.py",
        "cxr_tfds/report/report.html.j2",
        "cxr_tfds/py.typed",
    } <= names
    packaged = {name for name in names if name.endswith(".py")}
    beside = {
        "cxr_tfds": ROOT / "cxr_tfds",
        "cxr_tfds/builders": ROOT / "builders",
        "cxr_tfds/export": ROOT / "export",
    }
    written = {
        f"{inside}/{p.relative_to(at).as_posix()}"
        for inside, at in beside.items()
        for p in at.rglob("*.py")
    }
    assert packaged == written


def test_code_comes_from_the_wheel(installed, tmp_path):
    done = run(
        installed / "python", "-c", "import cxr_tfds, sys; print(cxr_tfds.__file__)", cwd=tmp_path
    )
    assert Path(done.stdout.strip()).is_relative_to(installed.parent)


def test_commands_answer(installed, tmp_path):
    for command in ("cxr-data", "cxr-train", "cxr-evaluate", "cxr-export", "cxr-infer"):
        done = run(installed / command, "--help", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"Usage: {command}")


def test_dataset_builds_from_the_wheel(installed, phantom, tmp_path):
    done = run(
        *(
            installed / "python",
            "-m",
            "tensorflow_datasets.scripts.cli.main",
            "build",
            "chest_xray_pneumonia",
        ),
        *(
            "--imports",
            "cxr_tfds.builders",
            "--manual_dir",
            phantom,
            "--data_dir",
            tmp_path / "data",
        ),
        cwd=tmp_path,
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    built = tmp_path / "data" / "chest_xray_pneumonia"
    assert sorted(path.name for path in built.glob("[!.]*")) == ["224"]
    assert (built / "224" / "1.0.0" / "dataset_info.json").is_file()
