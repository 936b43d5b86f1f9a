"""Small drawn sources, and datasets built from them, for tests of builders."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pydicom import Dataset

    from cxr_tfds.building.builder import RadiographBuilder

Records = dict[str, dict[str, dict[str, Any]]]  # split to image id to example


class DrawnSource:
    """Draws the source of a `tfds.testing.DatasetBuilderTestCase` that has it as its first base.

    Attributes:
      draw: Draws the source into the folder it is called with; a staticmethod or partial.
    """

    draw: ClassVar[Any]

    @classmethod
    def setUpClass(cls) -> None:
        cls.EXAMPLE_DIR = tempfile.mkdtemp()  # type: ignore[attr-defined]
        cls.addClassCleanup(shutil.rmtree, cls.EXAMPLE_DIR)  # type: ignore[attr-defined]
        cls.draw(Path(cls.EXAMPLE_DIR))  # type: ignore[attr-defined]
        super().setUpClass()  # type: ignore[misc]


def encode(image: Image.Image | np.ndarray, form: str, **options: Any) -> bytes:
    """Returns the image as a file in the format that Pillow calls `form`."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def draw_image(path: Path, mode: str = "L", size: tuple[int, int] = (40, 30)) -> Path:
    """Writes noise that depends only on the file name, as PNG or JPEG by its suffix.

    Args:
      path: The file to write.
      mode: Colour mode of Pillow.
      size: Width and height in pixels.
    """
    rng = np.random.default_rng(list(path.name.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = Image.fromarray(rng.integers(0, 256, size[::-1], dtype=np.uint8))
    grey.convert(mode).save(path, "PNG" if path.suffix == ".png" else "JPEG")
    return path


def draw_source(folder: Path) -> Path:
    """Draws `folder`/chest_xray, named as on Kaggle: 30 + 30 train, 2 + 2 val, 5 + 5 test images.

    Each image has its own patient.
    """
    number = 0
    for split, count in (("train", 30), ("val", 2), ("test", 5)):
        for _ in range(count):
            number += 1
            draw_image(folder / "chest_xray" / split / "NORMAL" / f"IM-{number:04}-0001.jpeg")
            kind = "virus" if number % 3 == 0 else "bacteria"
            draw_image(
                folder / "chest_xray" / split / "PNEUMONIA" / f"person{number}_{kind}_{number}.jpeg"
            )
    return folder


def dicom_file(
    values: np.ndarray,
    syntax: str = "1.2.840.10008.1.2.1",
    *,
    preamble: bool = True,
    **elements: Any,
) -> bytes:
    """Returns a greyscale DICOM file. Needs pydicom.

    Args:
      values: Integers (H, W). Their size gives BitsAllocated and the default of BitsStored.
      syntax: UID of the transfer syntax; for a compressed one, give PixelData.
      preamble: Whether the file has a preamble and states its syntax.
      elements: Elements to add or replace, by keyword; None removes one.
    """
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
    meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    content = values.astype(
        values.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")
    ).tobytes()
    dataset = Dataset()
    dataset.file_meta = meta
    bits = values.dtype.itemsize * 8
    described = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "PatientName": "Secret^Name",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        "PixelData": content + b"\0" * (len(content) % 2),
    } | elements
    described.setdefault("HighBit", described["BitsStored"] and described["BitsStored"] - 1)
    for name, value in described.items():
        if value is not None:
            setattr(dataset, name, value)
    buffer = io.BytesIO()
    implicit = syntax == ImplicitVRLittleEndian
    if preamble:
        dataset.save_as(buffer, enforce_file_format=True)
    else:
        del dataset.file_meta
        dataset.save_as(buffer, implicit_vr=implicit, little_endian=syntax != ExplicitVRBigEndian)
    return buffer.getvalue()


def dicom_lut(values: Sequence[int], first: int, bits: int) -> Dataset:
    """Returns an item of a LUT sequence that maps stored value `first` and the following."""
    from pydicom import Dataset

    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.LUTData = struct.pack(f"<{len(values)}H", *values)
    return item


def published(data_dir: Path) -> list[str]:
    """Returns the names of dataset files in `data_dir`, complete or incomplete.

    The complete shards that an interrupted build keeps are left out.
    """
    parts = ("tfrecord", "dataset_info", "incomplete", "build_report")
    files = [path for path in data_dir.rglob("*") if "incomplete.shards." not in str(path)]
    return [path.name for path in files if any(part in path.name for part in parts)]


def build(
    builder_cls: type[RadiographBuilder],
    source: Path | None,
    data_dir: Path,
    *,
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> RadiographBuilder:
    """Builds `source` in `data_dir` and returns the builder.

    Args:
      builder_cls: The builder.
      source: The folder for `--manual_dir`.
      data_dir: The folder for `--data_dir`.
      options: Of `tfds.download.DownloadConfig`.
      settings: Of the config; by default it is named 32 and has 32 x 32 pixels.
    """
    import tensorflow_datasets as tfds

    config = builder_cls.builder_config_cls(**({"name": "32", "size": 32} | settings))
    builder = builder_cls(data_dir=data_dir, config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=source, **(options or {}))
    )
    return builder


def read(folder: str | os.PathLike) -> Records:
    """Reads the examples of a built dataset without its builder's code.

    Args:
      folder: data_dir/name/config/version, the builder's `data_path`.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    return {
        split: {
            example["image_id"].decode(): example
            for example in tfds.as_numpy(builder.as_dataset(split=split))
        }
        for split in builder.info.splits
    }


def tfds_build(*args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs `tfds build` in its own process; stdout holds both streams."""
    return subprocess.run(
        [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build", *args],
        cwd=cwd,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
