"""A trained run and its exports, made once per test session."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.keys import write_keys

_REGISTRY_UNREACHABLE = (
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "No matching distribution found",
)


@pytest.fixture(scope="session")
def run(built, tmp_path_factory):
    """Returns a short float32 run that has learned a little. Tests must not write to it."""
    from cxr_tfds.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    options = {"epochs": 8, "batch_size": 8, "augment": "none"}
    train("chest_xray_pneumonia/64", folder, data_dir=built, **options)
    return folder


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """Returns the files of the key that signs the exported models."""
    return write_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def exported(run, keys, tmp_path_factory):
    """Returns a folder with tiny-float32.tflite, tiny-int8.tflite and export.json."""
    from cxr_tfds.export.pack import Limits, export_run

    out = tmp_path_factory.mktemp("exports") / "tiny"
    limits = Limits(max_auc_drop=1, min_agreement=0)
    export_run(run, out, ("float32", "int8"), limits=limits, sign=keys.private)
    return out


@pytest.fixture(scope="session")
def float32(run):
    """Returns the flatbuffer of `run` by its format."""
    from cxr_tfds import run_folder
    from cxr_tfds.export.convert import convert_each
    from cxr_tfds.export.variants import with_heatmap

    return convert_each(with_heatmap(run_folder.load_model(run)), ["float32"], ())


@pytest.fixture
def converted(float32, monkeypatch):
    """Converts nothing, for tests of what happens afterwards to the float32 file of `run`."""
    from cxr_tfds.export import pack

    monkeypatch.setattr(pack, "convert_each", lambda *arguments, **options: float32)


@pytest.fixture(scope="session")
def exported_rgb(run, keys, tmp_path_factory):
    """Returns a folder with tiny-float32-rgb.tflite, tiny-int8-rgb.tflite and export.json."""
    from cxr_tfds.export.pack import Limits, export_run

    out = tmp_path_factory.mktemp("exports") / "rgb"
    limits = Limits(max_auc_drop=1, min_agreement=0)
    export_run(run, out, ("float32", "int8"), limits=limits, variant="rgb", sign=keys.private)
    return out


@pytest.fixture(scope="session")
def findings_run(findings_data, tmp_path_factory):
    """Returns a short run of three findings. Tests must not write to it."""
    from cxr_tfds.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "several"
    options = {"epochs": 4, "batch_size": 8, "augment": "none", "threshold_rule": "youden"}
    train("xray_table/64", folder, data_dir=findings_data, **options)
    return folder


@pytest.fixture(scope="session")
def exported_findings(findings_run, tmp_path_factory):
    """Returns a folder with several-int8.tflite and its variants; rgb is in float32, too."""
    from cxr_tfds.export.pack import Limits, export_run

    out = tmp_path_factory.mktemp("exports") / "several"
    for variant in ("grey", "plain", "rgb"):
        formats = ("float32", "int8") if variant == "rgb" else ("int8",)
        limits = Limits(max_auc_drop=1, min_agreement=0)
        export_run(findings_run, out, formats, limits=limits, variant=variant)
    return out


@pytest.fixture(scope="session")
def shared_or_none():
    """Returns real files of several kinds, or none if there are no real images."""
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
    """Returns a function that installs packages into another environment.

    It skips the test if the package registry is unreachable.
    """

    def install_into(python, *packages):
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q"]
        # Most of what is installed is never imported, so it is not compiled.
        command = [*pip, "--disable-pip-version-check", "--no-compile", *packages]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False
        )
        if any(reason in done.stderr for reason in _REGISTRY_UNREACHABLE):
            pytest.skip(f"{', '.join(map(str, packages))} not installed: no registry")
        assert done.returncode == 0, done.stderr

    return install_into
