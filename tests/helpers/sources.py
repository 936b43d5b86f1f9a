"""Small drawn images, and datasets built of them and read back: for tests of builders, here and elsewhere."""

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
    """Draws what a `tfds.testing.DatasetBuilderTestCase`, named after it as a base, builds; removed in the end."""

    draw: ClassVar[Any]  # a staticmethod or partial that takes the folder

    @classmethod
    def setUpClass(cls) -> None:
        cls.EXAMPLE_DIR = tempfile.mkdtemp()  # type: ignore[attr-defined]
        cls.addClassCleanup(shutil.rmtree, cls.EXAMPLE_DIR)  # type: ignore[attr-defined]
        cls.draw(Path(cls.EXAMPLE_DIR))  # type: ignore[attr-defined]
        super().setUpClass()  # type: ignore[misc]


def encode(image: Image.Image | np.ndarray, form: str, **options: Any) -> bytes:
    """An image as a file of the format that Pillow calls `form`."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def draw_image(path: Path, mode: str = "L", size: tuple[int, int] = (40, 30)) -> Path:
    """Writes noise that the file's name alone determines: a PNG if it ends so, otherwise a JPEG.

    Args:
      mode: of Pillow.
      size: width and height, pixels.
    """
    rng = np.random.default_rng(list(path.name.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = Image.fromarray(rng.integers(0, 256, size[::-1], dtype=np.uint8))
    grey.convert(mode).save(path, "PNG" if path.suffix == ".png" else "JPEG")
    return path


def draw_source(folder: Path) -> Path:
    """Draws `folder`/chest_xray, named as in the Kaggle set: 30 + 30 train, 2 + 2 val and 5 + 5 test images.

    Each is of another patient.
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
    """A DICOM file of grey pixels. Needs pydicom.

    Args:
      values: (H, W), integers; their size is allocated and, unless told otherwise, stored.
      syntax: UID of the transfer syntax; what is compressed is given as PixelData.
      preamble: whether the file begins with one, and tells its syntax.
      elements: further ones, or other values of those there are, by keyword; None leaves one out.
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
    """An item of a LUT sequence: what stored value `first` and the following become, in `bits` bits."""
    from pydicom import Dataset

    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.LUTData = struct.pack(f"<{len(values)}H", *values)
    return item


def published(data_dir: Path) -> list[str]:
    """Names of what a build left in `data_dir` of a dataset, whole or half."""
    told = ("tfrecord", "dataset_info", "incomplete", "build_report")
    return [path.name for path in data_dir.rglob("*") if any(word in path.name for word in told)]


def build(
    builder_cls: type[RadiographBuilder],
    source: Path | None,
    data_dir: Path,
    *,
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> RadiographBuilder:
    """A builder that has built `source` in `data_dir`.

    Args:
      options: of `tfds.download.DownloadConfig`.
      settings: of the config; by default it is named 32 and has 32 x 32 pixels.
    """
    import tensorflow_datasets as tfds

    config = builder_cls.builder_config_cls(**({"name": "32", "size": 32} | settings))
    builder = builder_cls(data_dir=data_dir, config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=source, **(options or {}))
    )
    return builder


def read(folder: str | os.PathLike) -> Records:
    """The examples of a built dataset, read without its builder's code.

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
    """`tfds build` in a process of its own; both streams as they come on screen."""
    return subprocess.run(
        [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build", *args],
        cwd=cwd,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
