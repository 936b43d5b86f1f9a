"""Tests that the device maps source values of more than 8 bits as the dataset did."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.model_file import ModelInfo, append_model_info, read_model
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.imaging.pixels import radiograph

pytestmark = pytest.mark.slow


def encode(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


TWELVE = encode(np.arange(4096, dtype=np.uint16).reshape(64, 64))


@pytest.mark.parametrize(
    "levels",
    [GreyLevels(measured=(0, 5119)), GreyLevels(bits=12), GreyLevels(window=(2000, 900))],
    ids=["measured", "bits", "window"],
)
def test_device_applies_the_levels_of_the_dataset(
    flatbuffers: dict[str, bytes], info: ModelInfo, levels: GreyLevels
) -> None:
    stored = dataclasses.replace(info, grey_levels=levels.to_metadata())
    data = append_model_info(flatbuffers["float32"], stored)
    assert GreyLevels.from_metadata(read_model(data).info.grey_levels) == levels
    pixels = Classifier(data).read(TWELVE).pixels
    np.testing.assert_array_equal(pixels, radiograph(TWELVE, info.size, levels=levels).pixels)


def test_models_without_a_range_refuse_unknown_ranges(models: dict[str, Path]) -> None:
    with pytest.raises(BadImage, match=r"^no declared range, and values 0 to 4095 of 16 bits"):
        Classifier(models["float32"]).read(TWELVE)


def test_refuses_invalid_levels(info: ModelInfo) -> None:
    with pytest.raises(
        InputError, match=r"bits.: 99.*expected a whole number at most 16 at \.bits"
    ):
        dataclasses.replace(info, grey_levels={"bits": 99})
