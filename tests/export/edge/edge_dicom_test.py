"""`cxr-infer` on DICOM files, with and without pydicom."""

import json

import numpy as np
import pytest

_STEPS = 4096  # of 12 bits


def write(path, grey, photometric="MONOCHROME2"):
    """Writes 40 x 30 pixels of 12 bits that are displayed as one grey value, 0 to 255."""
    pydicom = pytest.importorskip("pydicom", reason="pydicom (extra dicom) is not installed")
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    stored = round(grey * (_STEPS - 1) / 255)
    if photometric == "MONOCHROME1":
        stored = _STEPS - 1 - stored
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 40, 30, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
        16,
        12,
        11,
        0,
    )
    dataset.PhotometricInterpretation = photometric
    dataset.WindowCenter, dataset.WindowWidth = _STEPS / 2, _STEPS
    dataset.PixelData = np.full((40, 30), stored, np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def folder(tmp_path):
    """Class folders with two dark and three bright files."""
    for name, grey, photometric in (
        ("NORMAL/a.dcm", 40, "MONOCHROME2"),
        ("NORMAL/b.DCM", 60, "MONOCHROME1"),
        ("PNEUMONIA/c.dicom", 200, "MONOCHROME2"),
        ("PNEUMONIA/d.dcm", 220, "MONOCHROME1"),
        ("PNEUMONIA/e.dcm", 160, "MONOCHROME2"),
    ):
        write(tmp_path / "images" / name, grey, photometric)
    return tmp_path / "images"


@pytest.mark.slow
def test_predicts_and_evaluates_folders(models, folder, infer_apart):
    done = infer_apart("predict", "--json", "--model", models["float32"], folder)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["label"] for row in rows] == ["NORMAL"] * 2 + ["PNEUMONIA"] * 3
    for row, grey in zip(rows, (40, 60, 200, 220, 160), strict=True):
        probability = row["probabilities"]["PNEUMONIA"]
        logit = np.log(probability / (1 - probability))
        assert logit == pytest.approx((grey - 100) / 10, abs=0.15)  # a grey value and a half
    done = infer_apart("evaluate", "--json", "--model", models["float32"], folder)
    assert json.loads(done.stdout)["accuracy"]["value"] == 1


def test_predicts_standard_input(models, tmp_path, infer_apart):
    content = write(tmp_path / "x", 200).read_bytes()
    done = infer_apart(
        "predict", "--json", "--model", models["float32"], "-", input=content, text=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["label"] == "PNEUMONIA"


def test_names_the_extra_without_pydicom(models, folder, infer_apart):
    hide = "import sys; sys.modules['pydicom'] = None; "
    done = infer_apart("predict", "--json", "--model", models["float32"], folder, before=hide)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert all('pip install "cxr-tfds[dicom]"' in row["error"] for row in json.loads(done.stdout))
