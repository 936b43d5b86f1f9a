"""Other packages that read 224 x 224 grey images as uint8, for `input_pipeline.py`.

They have an environment of their own, `make peers`, because they need other
versions than TensorFlow. Each reads the format that suits it best, in batches of 32, and hands out
NumPy arrays; `PEERS` describes the configuration. All formats are written from the same images.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

if importlib.util.find_spec("cxr_tfds") is None:  # in their environment
    sys.path.append(str(Path(__file__).parents[1]))
import measure

ENVIRONMENT = measure.WORK / "peers"
BATCH, SHAPE = 32, (224, 224, 1)
BYTES = SHAPE[0] * SHAPE[1]
BUFFER = 1024  # images of a shuffle buffer
THREADS = 2
TAR_SHARDS, INDEX = 4, ".idx"


class Peer(NamedTuple):
    """A package and its configuration."""

    title: str
    configuration: str
    shuffle: str
    make: Callable[[Path], measure.Measure]


def prepare(folder: Path) -> None:
    """Writes images.npy and labels.npy in the formats of the peers, unless that is done."""
    import datasets
    import pyarrow
    from array_record.python.array_record_module import ArrayRecordWriter

    arrow = folder / "arrow"
    if arrow.is_dir() and arrow.stat().st_mtime > (folder / "images.npy").stat().st_mtime:
        return
    images = np.load(folder / "images.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy")
    writer = ArrayRecordWriter(str(folder / "train.array_record"), "group_size:1,uncompressed")
    for image, label in zip(images, labels, strict=True):
        writer.write(bytes([label]) + image.tobytes())
    writer.close()
    for number, part in enumerate(np.array_split(np.arange(len(images)), TAR_SHARDS)):
        with tarfile.open(folder / f"train-{number}.tar", "w") as tar:
            for index in part:
                files = {"img": images[index].tobytes(), "cls": bytes([labels[index]])}
                for kind, content in files.items():
                    entry = tarfile.TarInfo(f"{index:06}.{kind}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    for path in _tars(folder):
        tool = Path(sys.executable).with_name("wds2idx")
        subprocess.run([tool, path, path + INDEX], check=True, stdout=subprocess.DEVNULL)

    pixels = datasets.List(datasets.Value("uint8"), length=BYTES)
    features = datasets.Features(image=pixels, label=datasets.Value("uint8"))
    flat = pyarrow.array(images.reshape(-1))
    columns = {
        "image": pyarrow.FixedSizeListArray.from_arrays(flat, BYTES),
        "label": pyarrow.array(labels),
    }
    table = pyarrow.table(columns, schema=features.arrow_schema)
    datasets.Dataset(datasets.table.InMemoryTable(table)).save_to_disk(arrow)


def _tars(folder: Path) -> list[str]:
    return [str(folder / f"train-{number}.tar") for number in range(TAR_SHARDS)]


def _index_batches(count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(count)
        for start in range(0, count, BATCH):
            yield order[start : start + BATCH]


def _as_arrays(records: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Returns images (B, 224, 224, 1) and labels (B,) of ArrayRecord's records."""
    rows = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), 1 + BYTES)
    return rows[:, 1:].reshape(-1, *SHAPE), rows[:, 0]


def _array_record(folder: Path) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(str(folder / "train.array_record"))


def dali(folder: Path) -> measure.Measure:
    """Reads with NVIDIA DALI on the CPU."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=BATCH, num_threads=THREADS, device_id=None, prefetch_queue_depth=2)
    def read() -> tuple:
        images, labels = fn.readers.webdataset(
            paths=_tars(folder),
            index_paths=[tar + INDEX for tar in _tars(folder)],
            ext=["img", "cls"],
            dtypes=[types.UINT8, types.UINT8],
            random_shuffle=True,
            initial_fill=BUFFER,
            dont_use_mmap=False,
        )
        return fn.reshape(images, shape=SHAPE), labels

    pipeline = read()
    pipeline.build()

    def batches() -> Iterator[int]:
        while True:
            images, labels = pipeline.run()
            yield len((np.asarray(images.as_tensor()), np.asarray(labels.as_tensor()))[0])

    return measure.rate(batches())


def spdl(folder: Path) -> measure.Measure:
    """Reads batches of ArrayRecord in the threads of SPDL."""
    from spdl.pipeline import PipelineBuilder

    reader = _array_record(folder)
    pipeline = (
        PipelineBuilder()
        .add_source(index.tolist() for index in _index_batches(reader.num_records()))
        .pipe(lambda index: _as_arrays(reader.read(index)), concurrency=THREADS)
        .add_sink(8)
        .build(num_threads=THREADS)
    )
    pipeline.start()
    return measure.rate(len(images) for images, _ in pipeline.get_iterator())


def webdataset(folder: Path) -> measure.Measure:
    """Reads tar shards with WebDataset."""
    import webdataset as wds

    def collate(samples: list[dict]) -> tuple[np.ndarray, np.ndarray]:
        return _as_arrays([sample["cls"] + sample["img"] for sample in samples])

    stages = (
        wds.ResampledShards(_tars(folder)),
        wds.tarfile_to_samples(),
        wds.shuffle(BUFFER, initial=BUFFER),
        wds.batched(BATCH, collation_fn=collate),
    )
    return measure.rate(len(images) for images, _ in wds.DataPipeline(*stages))


def grain(folder: Path) -> measure.Measure:
    """Reads ArrayRecord with Grain; a batch of shuffled numbers is one call of the reader."""
    import grain

    reader = _array_record(folder)
    batches = (
        grain.MapDataset.range(reader.num_records())
        .shuffle(seed=0)
        .batch(BATCH)
        .repeat()
        .map(lambda index: _as_arrays(reader.read(index.tolist())))
        .to_iter_dataset(grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=8))
    )
    return measure.rate(len(images) for images, _ in batches)


def grain_records(folder: Path) -> measure.Measure:
    """Reads ArrayRecord with Grain as its guide does: record by record."""
    import grain

    def parse(record: bytes) -> tuple:
        return np.frombuffer(record, np.uint8, offset=1).reshape(SHAPE), record[0]

    source = grain.sources.ArrayRecordDataSource(str(folder / "train.array_record"))
    records = grain.MapDataset.source(source).shuffle(seed=0).repeat().map(parse)
    return measure.rate(len(images) for images, _ in records.to_iter_dataset().batch(BATCH))


def huggingface(folder: Path) -> measure.Measure:
    """Gathers rows of a mapped Arrow file with Hugging Face Datasets."""
    import datasets

    rows = datasets.load_from_disk(str(folder / "arrow")).with_format("numpy")

    def batches() -> Iterator[int]:
        for index in _index_batches(len(rows)):
            batch = rows[index]
            yield len((batch["image"].reshape(-1, *SHAPE), batch["label"])[0])

    return measure.rate(batches())


PEERS = {
    "dali": Peer(
        "NVIDIA DALI, CPU", f"webdataset reader, mapped tar, {THREADS} threads",
        f"buffer of {BUFFER:,}", dali,
    ),
    "spdl": Peer(
        "SPDL, ArrayRecord", f"batched `read`, {THREADS} threads", "exact", spdl
    ),
    "webdataset": Peer(
        "WebDataset", f"{TAR_SHARDS} tar shards of raw pixels, resampled, one process",
        f"buffer of {BUFFER:,}", webdataset,
    ),
    "grain": Peer(
        "Grain, ArrayRecord", f"batched `read`, {THREADS} threads", "exact", grain
    ),
    "grain_records": Peer(
        "Grain, records", "ArrayRecord, record by record, default threads", "exact", grain_records
    ),
    "huggingface": Peer(
        "Hugging Face Datasets", "mapped Arrow file, NumPy format, one thread", "exact", huggingface
    ),
}  # fmt: skip


def command(name: str, folder: Path) -> list[str]:
    """Returns the command that measures a peer in its environment."""
    return [str(ENVIRONMENT / "bin" / "python"), __file__, "--only", name, "--folder", str(folder)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["prepare", *PEERS], required=True)
    parser.add_argument("--folder", type=Path, required=True, help="Folder of images.npy.")
    options = parser.parse_args()
    if options.only == "prepare":
        prepare(options.folder)
    else:
        measure.serve(PEERS[options.only].make(options.folder))
