"""What the contenders of `input_pipeline.py` read, written to benchmarks/work/."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

SIZE, BATCH = 224, 32


@dataclasses.dataclass(frozen=True)
class Workload:
    """The images that the contenders read.

    Attributes:
      folder: Folder of everything written for it.
      images: Number of training images.
      epoch_steps: Steps of one measured epoch.
      memory_images: A small and a large number of images, to compare the memory.
    """

    folder: Path
    images: int
    epoch_steps: int
    memory_images: tuple[int, int]

    @property
    def originals(self) -> Path:
        """Folder of the source files."""
        return self.folder / "originals" / "chest_xray"

    @property
    def copies(self) -> Path:
        """Folder of copies at 224 x 224, saved as Pillow saves a JPEG by default."""
        return self.folder / "copies_224" / "chest_xray"

    def dataset(self, config: str = "224-source") -> Any:
        """Opens a built dataset."""
        from cxr_tfds.reading.datasets import open_dataset

        return open_dataset(f"chest_xray_pneumonia/{config}", self.folder / "built")

    def arrays(self, *, mapped: bool = False) -> tuple[Any, Any]:
        """Returns the images uint8 (N, 224, 224, 1) and the labels uint8 (N,), in stored order."""
        import numpy as np

        mode = "r" if mapped else None
        return np.load(self.folder / "images.npy", mode), np.load(self.folder / "labels.npy")


def prepare(work: Workload, files: list[Path]) -> bool:
    """Writes what our contenders read, unless it was written for the same files before.

    Returns:
      Whether it was written.
    """
    stamp = work.folder / "source.txt"
    content = f"{files[0].resolve()} {len(files)} {work.images}\n"
    if stamp.is_file() and stamp.read_text() == content:
        return False
    for name in ("originals", "copies_224", "small", "built"):
        shutil.rmtree(work.folder / name, ignore_errors=True)
    _write_files(work, files)
    _write_records(work)
    _write_arrays(work)
    stamp.write_text(content)
    return True


def _write_files(work: Workload, files: list[Path]) -> None:
    from PIL import Image

    from cxr_tfds.imaging.pixels import radiograph

    for number in range(work.images):
        file = files[number % len(files)]
        name = Path("train", file.parent.name, f"{file.stem}-{number:05}{file.suffix}")
        small = work.folder / "small" / f"{file.stem}.jpeg"
        if not small.is_file():
            small.parent.mkdir(exist_ok=True)
            Image.fromarray(radiograph(file.read_bytes(), SIZE).pixels[..., 0]).save(small)
        for path, target in ((work.originals / name, file), (work.copies / name, small)):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not symbolic links: a builder refuses those that lead out of the source.
            try:
                os.link(target, path)
            except OSError:  # another file system
                shutil.copyfile(target, path)


def _write_records(work: Workload) -> None:
    import tensorflow_datasets as tfds

    from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
    from cxr_tfds.building.config import RadiographConfig

    for config in (
        RadiographConfig(name="224-source", split="source"),
        RadiographConfig(name="original-source", size=None, split="source"),
    ):
        builder = Builder(data_dir=work.folder / "built", config=config)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=work.originals.parent)
        )


def _write_arrays(work: Workload) -> None:
    import numpy as np

    batches = work.dataset().batches("train", 256).as_numpy_iterator()
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    np.save(work.folder / "images.npy", images)
    np.save(work.folder / "labels.npy", labels[:, 0].astype(np.uint8))
