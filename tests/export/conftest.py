"""A trained run and what was exported of it, once per test run."""

import subprocess
import sys
from pathlib import Path

import pytest

_NOT_HAD = (
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "No matching distribution found",
)


@pytest.fixture(scope="session")
def run(built, tmp_path_factory):
    """A short run in float32 that has learned a little. Read it, never write to it."""
    from cxr_tfds.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    options = {"epochs": 8, "batch_size": 8, "augment": "none"}
    train("chest_xray_pneumonia/64", folder, data_dir=built, **options)
    return folder


@pytest.fixture(scope="session")
def exported(run, tmp_path_factory):
    """Folder with tiny-float32.tflite, tiny-int8.tflite and export.json."""
    from cxr_tfds.export.pack import Demands, export_run

    out = tmp_path_factory.mktemp("exports") / "tiny"
    export_run(run, out, ("float32", "int8"), demands=Demands(max_auc_drop=1, min_agreement=0))
    return out


@pytest.fixture(scope="session")
def exported_rgb(run, tmp_path_factory):
    """Folder with tiny-float32-rgb.tflite, tiny-int8-rgb.tflite and export.json."""
    from cxr_tfds.export.pack import Demands, export_run

    out = tmp_path_factory.mktemp("exports") / "rgb"
    export_run(
        run, out, ("float32", "int8"), demands=Demands(max_auc_drop=1, min_agreement=0), rgb=True
    )
    return out


@pytest.fixture(scope="session")
def shared_or_none():
    """Real files of several kinds, none where there are no real images."""
    shared = Path(__file__).parents[3] / "shared" / "data"
    kinds = {
        "kermany_original": ("*.jpeg", 12),
        "covid_chestxray": ("*.png", 12),
        "covid_ct": ("*.png", 6),
    }
    return [
        path
        for name, (glob, most) in kinds.items()
        for path in sorted((shared / name).rglob(glob))[:most]
    ]


@pytest.fixture(scope="session")
def install():
    """Installs packages for the Python of another environment; where they cannot be had, the test is skipped."""

    def into(python, *packages):
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "-q",
            "--disable-pip-version-check",
        ]
        # Most of what is installed is never imported.
        command = [*pip, "--no-compile", *packages]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False
        )
        if any(reason in done.stderr for reason in _NOT_HAD):
            pytest.skip(f"{', '.join(map(str, packages))} cannot be had from the package registry")
        assert done.returncode == 0, done.stderr

    return into
