"""Compares how fast radiographs reach the network: our records and other ways to read them.

Run: python benchmarks/input_pipeline.py (pip install -e ".[train,bench]"; about 12 minutes, and 2
more the first time). It reads the files of --source, repeated to 5,000, or drawn phantoms if there
are none. All contenders yield batches of 32 images of 224 x 224, grey.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import measure

SHARED = Path(__file__).parents[2] / "shared" / "data" / "kermany_original" / "chest_xray"
SIZE, BATCH = 224, 32


@dataclasses.dataclass(frozen=True)
class Workload:
    """What the contenders read.

    Attributes:
      folder: Folder of everything written for it.
      images: Number of training images.
      epoch_steps: Steps of one measured epoch.
    """

    folder: Path
    images: int
    epoch_steps: int

    @property
    def originals(self) -> Path:
        """Folder of the source files."""
        return self.folder / "originals" / "chest_xray"

    @property
    def copies(self) -> Path:
        """Folder of copies at 224 x 224, saved as Pillow saves a JPEG by default."""
        return self.folder / "copies_224" / "chest_xray"

    @property
    def array_record(self) -> Path:
        """File of the images for Grain."""
        return self.folder / "train.array_record"


# 60 steps, 1,920 images: one call of fit costs as little per image as in an epoch.
FULL = Workload(measure.WORK, 5000, 60)
TOY = Workload(measure.WORK / "input_pipeline_toy", 64, 2)


def prepare(work: Workload, files: list[Path]) -> None:
    """Writes what the contenders read, unless it was written for the same files before."""
    stamp = work.folder / "source.txt"
    content = f"{files[0].resolve()} {len(files)} {work.images}\n"
    if stamp.is_file() and stamp.read_text() == content:
        return
    for name in ("originals", "copies_224", "small", "built"):
        shutil.rmtree(work.folder / name, ignore_errors=True)
    _write_files(work, files)
    _write_records(work)
    stamp.write_text(content)


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
    from array_record.python.array_record_module import ArrayRecordWriter

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
    writer = ArrayRecordWriter(str(work.array_record), "group_size:1,uncompressed")
    for image, label in zip(*_arrays(work), strict=True):
        writer.write(bytes([int(label[0])]) + image.tobytes())
    writer.close()


def _dataset(work: Workload, config: str = "224-source"):
    from cxr_tfds.reading.datasets import open_dataset

    return open_dataset(f"chest_xray_pneumonia/{config}", work.folder / "built")


def _arrays(work: Workload) -> tuple:
    """Returns the images and labels of the train split as arrays."""
    import numpy as np

    batches = _dataset(work).batches("train", 256).as_numpy_iterator()
    return tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True))


def ours(work: Workload, cache: str) -> measure.Measure:
    """Reads the records of 224 x 224."""
    batches = _dataset(work).train(BATCH, cache=cache)
    return measure.rate((len(images) for images, _ in batches), warm_up=100)


def ours_classic(work: Workload) -> measure.Measure:
    """Reads from memory and augments each batch as in the training step."""
    import tensorflow as tf

    from cxr_tfds.augmentation.augment import Augment

    layer = Augment("classic", seed=0)
    augment = tf.function(lambda images: layer(images, training=True))
    batches = _dataset(work).train(BATCH, cache="ram")
    return measure.rate(len(augment(images)) for images, _ in batches)


def ours_original(work: Workload) -> measure.Measure:
    """Decodes and fits records of source files while reading."""
    batches = _dataset(work, "original-source").fitted(SIZE).train(BATCH, cache="none")
    return measure.rate(len(images) for images, _ in batches)


def ours_memory(work: Workload, times: int) -> measure.Measure:
    """Reads the shards `times` times per epoch without a cache, to measure the peak memory."""
    dataset = _dataset(work)
    dataset = dataclasses.replace(
        dataset,
        shards={"train": dataset.shards["train"] * times},
        shard_sizes={"train": dataset.shard_sizes["train"] * times},
    )
    batches = dataset.train(BATCH, cache="none")
    return measure.rate((len(images) for images, _ in batches), warm_up=12 * work.images // BATCH)


def epochs(work: Workload) -> measure.Measure:
    """Trains from the pipeline and from tensors in memory, in turns.

    In one process, because two processes differ by more than the 3 % of interest.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from cxr_tfds.models import build_model

    dataset, steps = _dataset(work), work.epoch_steps
    batches = dataset.train(BATCH)
    images, labels = (tf.constant(array[: steps * BATCH]) for array in _arrays(work))
    model = build_model("edge", dataset.shape, 1)
    model.compile(optimizer="adam", loss=keras.losses.BinaryCrossentropy(from_logits=True))

    def timed(fit: Callable[[], object]) -> np.ndarray:
        start = time.perf_counter(), time.process_time()
        fit()
        return np.subtract((time.perf_counter(), time.process_time()), start)

    def from_pipeline() -> np.ndarray:
        return timed(lambda: model.fit(batches, steps_per_epoch=steps, verbose=0))

    def from_memory() -> np.ndarray:
        return timed(lambda: model.fit(images, labels, batch_size=BATCH, verbose=0))

    from_pipeline(), from_memory()  # compiles

    def measured(_: float) -> measure.Figures:
        first, second = from_pipeline(), from_memory()
        third, fourth = from_memory(), from_pipeline()
        time_ratio, cpu_ratio = (first + fourth) / (second + third)
        return {"time_ratio": time_ratio, "cpu_ratio": cpu_ratio}

    return measured


def generator(root: Path, **augment) -> measure.Measure:
    """Reads with ImageDataGenerator, which Keras 3 itself does not export."""
    import tensorflow as tf

    batches = tf.keras.preprocessing.image.ImageDataGenerator(**augment).flow_from_directory(
        root / "train",
        target_size=(SIZE, SIZE),
        color_mode="grayscale",
        class_mode="binary",
        batch_size=BATCH,
    )
    return measure.rate((len(images) for images, _ in batches), warm_up=2)


def keras_directory(root: Path) -> measure.Measure:
    """Reads with keras.utils.image_dataset_from_directory."""
    import keras

    batches = keras.utils.image_dataset_from_directory(
        root / "train",
        image_size=(SIZE, SIZE),
        color_mode="grayscale",
        batch_size=BATCH,
        verbose=False,
    )
    return measure.rate(len(images) for images, _ in batches.repeat())


def plain_tfds(work: Workload) -> measure.Measure:
    """Reads the config `original` as the guide of TFDS does, decoding example by example."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def decode(example: dict) -> tuple:
        image = tf.io.decode_image(example["image"], channels=1, expand_animations=False)
        return tf.image.resize(image, (SIZE, SIZE)), example["label"]

    builder = tfds.builder_from_directory(next(work.folder.glob("built/*/original-source/*")))
    records = builder.as_dataset(split="train", shuffle_files=True)
    batches = (
        records.repeat()
        .shuffle(1000)
        .map(decode, tf.data.AUTOTUNE)
        .batch(BATCH)
        .prefetch(tf.data.AUTOTUNE)
    )
    return measure.rate(len(images) for images, _ in batches)


def grain_array_record(work: Workload) -> measure.Measure:
    """Reads raw uint8 from ArrayRecord with Grain, one process, its default threads."""
    import grain
    import numpy as np

    def parse(record: bytes) -> tuple:
        return np.frombuffer(record, np.uint8, offset=1).reshape(SIZE, SIZE, 1), record[0]

    source = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(str(work.array_record)))
    batches = source.shuffle(seed=0).repeat().map(parse).to_iter_dataset().batch(BATCH)
    return measure.rate(len(images) for images, _ in batches)


def numpy_gather(work: Workload) -> measure.Measure:
    """Gathers shuffled indices from one array: the upper limit."""
    import numpy as np

    images, labels = _arrays(work)
    rng = np.random.default_rng(0)

    def epoch() -> Iterator[int]:
        order = rng.permutation(len(images))
        for start in range(0, len(order), BATCH):
            index = order[start : start + BATCH]
            yield len((images[index], labels[index])[0])

    return measure.rate(measure.forever(epoch))


def bare_pillow(work: Workload) -> measure.Measure:
    """Only decodes and resizes, on all cores, in random order."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from PIL import Image

    from cxr_tfds.parallel import core_count

    files = sorted((work.originals / "train").glob("*/*"))
    rng = np.random.default_rng(0)

    def load(number: int) -> np.ndarray:
        with Image.open(files[number]) as image:
            image.draft("L", (SIZE, SIZE))
            return np.asarray(image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    def epoch() -> Iterator[int]:
        order = rng.permutation(len(files))
        # Large chunks, so that no core waits for the slowest file.
        for start in range(0, len(order), 8 * BATCH):
            yield len(np.stack(list(pool.map(load, order[start : start + 8 * BATCH]))))

    pool = ThreadPoolExecutor(core_count())
    return measure.rate(measure.forever(epoch), warm_up=1)


CLASSIC = {"shear_range": 0.2, "zoom_range": 0.2, "horizontal_flip": True}
CONTENDERS: dict[str, tuple[str, Callable[[Workload], measure.Measure]]] = {
    "idg": ("ImageDataGenerator, originals", lambda work: generator(work.originals)),
    "idg_224": ("ImageDataGenerator, 224 files", lambda work: generator(work.copies)),
    "idg_224_classic": (
        "ImageDataGenerator, 224 files, augmented",
        lambda work: generator(work.copies, **CLASSIC),
    ),
    "keras": (
        "image_dataset_from_directory, originals",
        lambda work: keras_directory(work.originals),
    ),
    "keras_224": (
        "image_dataset_from_directory, 224 files",
        lambda work: keras_directory(work.copies),
    ),
    "tfds": ("plain tfds, `original`", plain_tfds),
    "pillow": ("bare Pillow, all cores, originals", bare_pillow),
    "ours_original": ("**ours**, `original` decoded on the fly", ours_original),
    "grain": ("Grain, ArrayRecord", grain_array_record),
    "ours_none": ("**ours**, no cache", lambda work: ours(work, "none")),
    "ours_file": ("**ours**, cached in a file", lambda work: ours(work, "file")),
    "ours_ram": ("**ours**, cached in memory", lambda work: ours(work, "ram")),
    "numpy": ("NumPy gather", numpy_gather),
    "ours_classic": ("**ours**, in memory, augmented", ours_classic),
    "memory_10k": ("**ours**, no cache, 10,000 images", lambda work: ours_memory(work, 2)),
    "memory_50k": ("**ours**, no cache, 50,000 images", lambda work: ours_memory(work, 10)),
}


def report(found: dict[str, measure.Figures]) -> None:
    """Prints what was measured, and the ratios next to the required ones."""
    rows = [("reader", "images/s", "CPU ms an image", "peak MB")]
    for name, (title, _) in CONTENDERS.items():
        if name in found:
            speed, cpu_ms, peak = (
                found[name][key] for key in ("images_per_s", "cpu_ms", "peak_mb")
            )
            rows.append((title, f"{speed:,.0f}", f"{cpu_ms:.3f}", f"{peak:,.0f}"))
    measure.print_table(rows)

    def ratio(name: str, other: str, key: str = "images_per_s") -> float:
        return found[name][key] / found[other][key]

    measure.print_verdicts(
        [
            ("no cache ÷ ImageDataGenerator, originals", ratio("ours_none", "idg"), ">=", 100),
            ("in memory ÷ ImageDataGenerator, originals", ratio("ours_ram", "idg"), ">=", 400),
            ("no cache ÷ ImageDataGenerator, 224 files", ratio("ours_none", "idg_224"), ">=", 10),
            ("in memory ÷ ImageDataGenerator, 224 files", ratio("ours_ram", "idg_224"), ">=", 35),
            (
                "augmented ÷ ImageDataGenerator augmented, 224 files",
                ratio("ours_classic", "idg_224_classic"),
                ">=",
                7,
            ),
            ("in memory, shuffled ÷ NumPy gather", ratio("ours_ram", "numpy"), ">=", 0.6),
            (
                "`original` decoded on the fly ÷ bare Pillow",
                ratio("ours_original", "pillow"),
                ">=",
                0.85,
            ),
            (
                "time of an epoch: pipeline ÷ tensors in memory",
                found["epochs"]["time_ratio"],
                "<=",
                1.03,
            ),
            (
                "CPU time of an epoch: pipeline ÷ tensors in memory",
                found["epochs"]["cpu_ratio"],
                "<=",
                1.03,
            ),
            (
                "peak memory, no cache: 50,000 ÷ 10,000 images",
                ratio("memory_50k", "memory_10k", "peak_mb"),
                "<=",
                1.1,
            ),
        ]
    )


def main(options: argparse.Namespace) -> None:
    """Runs the benchmark, or one contender in a child process."""
    if options.toy:
        work, files = TOY, measure.phantoms(TOY.folder / "phantoms", 10)
    else:
        work, files = FULL, measure.source_files(options.source)
    contenders = {name: make for name, (_, make) in CONTENDERS.items()} | {"epochs": epochs}
    if options.only == "prepare":
        prepare(work, files)
    elif options.only:
        measure.serve(contenders[options.only](work))
    else:
        if options.toy:
            prepare(work, files)
            if importlib.util.find_spec("grain") is None:  # needs the extra `bench`
                del contenders["grain"]
        else:
            measure.run_once(__file__, "prepare", ["--source", str(options.source)])
            measure.print_source(options.source)
        calls = {name: functools.partial(make, work) for name, make in contenders.items()}
        last = {"epochs": calls.pop("epochs")}
        found = measure.compare(__file__, calls, options)
        # 3 % is little compared with the drift of a machine: more turns.
        options.repeats *= 2
        report(found | measure.compare(__file__, last, options))


if __name__ == "__main__":
    parser = measure.options(__doc__)
    parser.add_argument(
        "--source", type=Path, default=SHARED, help="Folder chest_xray to read. [%(default)s]"
    )
    main(parser.parse_args())
