"""TFDS shows the images of built datasets, and reads them without cxr-tfds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import tensorflow_datasets as tfds

from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.reading.raw_image import RawImage

Tensor = tfds.features.Tensor


def folder_of(built: Path) -> Path:
    (folder,) = built.glob("chest_xray_pneumonia/64/*")
    return folder


def open_by_class(built: Path) -> Any:
    return Builder(data_dir=built, config=RadiographConfig(name="64", size=64))


def open_by_folder(built: Path) -> Any:
    return tfds.builder_from_directory(folder_of(built))


@pytest.mark.slow
@pytest.mark.parametrize("open_builder", [open_by_class, open_by_folder])
def test_tfds_shows_the_images(built: Path, open_builder: Any) -> None:
    mpl.use("agg")
    builder = open_builder(built)
    examples = builder.as_dataset(split="test").take(4)
    figure = tfds.show_examples(examples, builder.info, rows=2, cols=2, label_key="label")
    first = next(iter(tfds.as_numpy(examples)))
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown, first["image"][..., 0])
    assert [axis.get_xlabel() for axis in figure.axes] == [
        f"{['NORMAL', 'PNEUMONIA'][row['label']]} ({row['label']})"
        for row in tfds.as_numpy(examples)
    ]
    table = tfds.as_dataframe(examples, builder.info)
    assert len(table) == 4
    assert table._repr_html_().count("<img src=") == 4


READ = """
import sys
sys.modules["cxr_tfds"] = None  # importing it fails
import numpy as np
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
images = [row["image"] for row in tfds.as_numpy(builder.as_dataset(split="test"))]
np.save(sys.argv[2], images)
"""


@pytest.mark.slow
def test_tfds_reads_the_images_without_this_package(built: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", READ, folder_of(built), tmp_path / "images.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = [
        row["image"] for row in tfds.as_numpy(open_by_class(built).as_dataset(split="test"))
    ]
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), expected)


def test_an_image_is_stored_as_its_bytes_and_described_as_a_tensor() -> None:
    image, tensor = (
        RawImage(shape=(2, 2, 3), doc="Colour."),
        Tensor(shape=(2, 2, 3), dtype=np.uint8, encoding="bytes", doc="Colour."),
    )
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert image.encode_example(pixels) == pixels.tobytes()
    assert image.to_proto() == tensor.to_proto()
    assert isinstance(tfds.features.FeatureConnector.from_json(image.to_json()), RawImage)


@pytest.mark.parametrize(
    "feature",
    [
        Tensor(shape=(2, 2, 1), dtype=np.uint8),
        Tensor(shape=(2, 2, 1), dtype=np.uint8, encoding="zlib"),
        Tensor(shape=(2, 2, 1), dtype=np.int8, encoding="bytes"),
        Tensor(shape=(2, 2, 5), dtype=np.uint8, encoding="bytes"),
        Tensor(shape=(2, 2), dtype=np.uint8, encoding="bytes"),
        Tensor(shape=(), dtype=np.object_),
    ],
    ids=repr,
)
def test_other_tensors_stay_tensors(feature: Tensor) -> None:
    assert type(tfds.features.FeatureConnector.from_json(feature.to_json())) is Tensor
