"""How fast radiographs reach the network: our records beside every other way a user would take.

Run: python benchmarks/input_pipeline.py (pip install -e ".[train,bench]"; about 12 minutes, and 2
more the first time). Real files from --source, repeated to 5,000 links; phantoms where it is absent.
All give batches of 32 of 224 x 224 grey.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import measure

SHARED = Path(__file__).parents[2] / "shared" / "data" / "kermany_original" / "chest_xray"
SIZE, BATCH, IMAGES = 224, 32, 5000
ORIGINALS = measure.WORK / "originals" / "chest_xray"
COPIES = measure.WORK / "copies_224" / "chest_xray"
ARRAY_RECORD = measure.WORK / "train.array_record"
BUILT = measure.WORK / "built"
EPOCH_STEPS = 60  # 1,920 images: what one call of fit costs is spread as over an epoch


def prepare(source: Path) -> None:
    """Writes what the contenders read to benchmarks/work/, unless it stands there already for `source`."""
    stamp, wanted = measure.WORK / "source.txt", f"{source.resolve()} {IMAGES}\n"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    for folder in (ORIGINALS.parent, COPIES.parent, BUILT, measure.WORK / "small"):
        shutil.rmtree(folder, ignore_errors=True)
    files = measure.source_files(source)
    _write_files(files)
    _write_records()
    stamp.write_text(wanted)


def _write_files(files: list[Path]) -> None:
    """Links to the originals, and to copies at 224 x 224 saved as Pillow saves a JPEG by default."""
    from PIL import Image

    from cxr_tfds.imaging.pixels import radiograph

    for number in range(IMAGES):
        file = files[number % len(files)]
        name = Path("train", file.parent.name, f"{file.stem}-{number:05}{file.suffix}")
        small = measure.WORK / "small" / f"{file.stem}.jpeg"
        if not small.is_file():
            small.parent.mkdir(exist_ok=True)
            Image.fromarray(radiograph(file.read_bytes(), SIZE).pixels[..., 0]).save(small)
        for root, target in ((ORIGINALS, file.resolve()), (COPIES, small.resolve())):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(target)


def _write_records() -> None:
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    from cxr_tfds.builders.chest_xray_pneumonia.chest_xray_pneumonia_dataset_builder import Builder
    from cxr_tfds.building.config import RadiographConfig

    for config in (
        RadiographConfig(name="224-source", split="source"),
        RadiographConfig(name="original-source", size=None, split="source"),
    ):
        builder = Builder(data_dir=BUILT, config=config)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=ORIGINALS.parent)
        )
    writer = ArrayRecordWriter(str(ARRAY_RECORD), "group_size:1,uncompressed")
    images, labels = _in_memory()
    for image, label in zip(images, labels, strict=True):
        writer.write(bytes([label]) + image.tobytes())
    writer.close()


def _dataset(config: str = "224-source"):
    from cxr_tfds.reading.datasets import DatasetName, open_dataset

    return open_dataset(DatasetName("chest_xray_pneumonia", config), BUILT)


def _in_memory() -> tuple:
    from cxr_tfds.reading.in_order import load_split

    whole = load_split(_dataset(), "train")
    return whole.images, whole.labels


def ours(cache: str) -> measure.Measure:
    """The records of 224 x 224."""
    from cxr_tfds.reading.pipeline import train_batches

    batches = train_batches(_dataset(), batch_size=BATCH, seed=0, cache=cache)
    return measure.rate((len(images) for images, _ in batches), warm_up=100)


def ours_classic() -> measure.Measure:
    """The same in memory, each batch augmented as in the training step."""
    import tensorflow as tf

    from cxr_tfds.augmentation.augment import Augment
    from cxr_tfds.augmentation.presets import PRESETS
    from cxr_tfds.reading.pipeline import train_batches

    layer = Augment(PRESETS["classic"], seed=0)
    augment = tf.function(lambda images: layer(images, training=True))
    batches = train_batches(_dataset(), batch_size=BATCH, seed=0, cache="ram")
    return measure.rate(len(augment(images)) for images, _ in batches)


def ours_original() -> measure.Measure:
    """Records of the source files, decoded and fitted while they are read."""
    from cxr_tfds.reading.pipeline import train_batches

    dataset = _dataset("original-source").fitted(SIZE)
    batches = train_batches(dataset, batch_size=BATCH, seed=0, cache="none")
    return measure.rate(len(images) for images, _ in batches)


def ours_memory(images: int) -> measure.Measure:
    """Peak memory of reading `images` without a cache: the same shards named again and again."""
    from cxr_tfds.reading.pipeline import train_batches

    dataset, times = _dataset(), images // IMAGES
    dataset = dataclasses.replace(
        dataset,
        shards={"train": dataset.shards["train"] * times},
        shard_sizes={"train": dataset.shard_sizes["train"] * times},
    )
    batches = train_batches(dataset, batch_size=BATCH, seed=0, cache="none")
    return measure.rate((len(images) for images, _ in batches), warm_up=60_000 // BATCH)


def epochs() -> measure.Measure:
    """Training fed by the pipeline and from tensors in memory: EPOCH_STEPS each, by turns.

    In one process: 3 % is less than two processes differ by themselves.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from cxr_tfds.models import build_model
    from cxr_tfds.reading.pipeline import train_batches

    dataset = _dataset()
    batches = train_batches(dataset, batch_size=BATCH, seed=0)
    images, labels = (tf.constant(array[: EPOCH_STEPS * BATCH]) for array in _in_memory())
    model = build_model("edge", dataset.shape, 2)
    model.compile(optimizer="adam", loss=keras.losses.BinaryCrossentropy(from_logits=True))

    def timed(fit: Callable[[], object]) -> np.ndarray:
        start = time.perf_counter(), time.process_time()
        fit()
        return np.subtract((time.perf_counter(), time.process_time()), start)

    def fed() -> np.ndarray:
        return timed(lambda: model.fit(batches, steps_per_epoch=EPOCH_STEPS, verbose=0))

    def in_memory() -> np.ndarray:
        wanted = tf.cast(labels, tf.float32)[:, tf.newaxis]
        return timed(lambda: model.fit(images, wanted, batch_size=BATCH, verbose=0))

    fed(), in_memory()  # compiles

    def measured(_: float) -> measure.Figures:
        first, second, third, fourth = fed(), in_memory(), in_memory(), fed()
        time_ratio, cpu_ratio = (first + fourth) / (second + third)
        return {"time_ratio": time_ratio, "cpu_ratio": cpu_ratio}

    return measured


def generator(root: Path, **augment) -> measure.Measure:
    """Keras's ImageDataGenerator, which Keras 3.15 keeps under `legacy` alone."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    batches = ImageDataGenerator(**augment).flow_from_directory(
        root / "train",
        target_size=(SIZE, SIZE),
        color_mode="grayscale",
        class_mode="binary",
        batch_size=BATCH,
    )
    return measure.rate((len(images) for images, _ in batches), warm_up=2)


def keras_directory(root: Path) -> measure.Measure:
    """keras.utils.image_dataset_from_directory."""
    import keras

    batches = keras.utils.image_dataset_from_directory(
        root / "train",
        image_size=(SIZE, SIZE),
        color_mode="grayscale",
        batch_size=BATCH,
        verbose=False,
    )
    return measure.rate(len(images) for images, _ in batches.repeat())


def plain_tfds() -> measure.Measure:
    """The config `original` as TFDS's own guide reads it, decoded example by example."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def decode(example: dict) -> tuple:
        image = tf.io.decode_image(example["image"], channels=1, expand_animations=False)
        return tf.image.resize(image, (SIZE, SIZE)), example["label"]

    builder = tfds.builder_from_directory(next(BUILT.glob("*/original-source/*")))
    records = builder.as_dataset(split="train", shuffle_files=True)
    batches = (
        records.repeat()
        .shuffle(1000)
        .map(decode, tf.data.AUTOTUNE)
        .batch(BATCH)
        .prefetch(tf.data.AUTOTUNE)
    )
    return measure.rate(len(images) for images, _ in batches)


def grain_array_record() -> measure.Measure:
    """Grain over raw uint8 in ArrayRecord, one process, its default threads."""
    import grain
    import numpy as np

    def parse(record: bytes) -> tuple:
        return np.frombuffer(record, np.uint8, offset=1).reshape(SIZE, SIZE, 1), record[0]

    source = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(str(ARRAY_RECORD)))
    batches = source.shuffle(seed=0).repeat().map(parse).to_iter_dataset().batch(BATCH)
    return measure.rate(len(images) for images, _ in batches)


def numpy_gather() -> measure.Measure:
    """The ceiling: shuffled indices into one array."""
    import numpy as np

    images, labels = _in_memory()
    rng = np.random.default_rng(0)

    def epoch() -> Iterator[int]:
        order = rng.permutation(len(images))
        for start in range(0, len(order), BATCH):
            index = order[start : start + BATCH]
            yield len((images[index], labels[index])[0])

    return measure.rate(measure.forever(epoch))


def bare_pillow() -> measure.Measure:
    """draft and resize on all cores, nothing else; the files in a random order."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from PIL import Image

    from cxr_tfds.parallel import core_count

    files = sorted((ORIGINALS / "train").glob("*/*"))
    rng = np.random.default_rng(0)

    def load(number: int) -> np.ndarray:
        with Image.open(files[number]) as image:
            image.draft("L", (SIZE, SIZE))
            return np.asarray(image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    def epoch() -> Iterator[int]:
        order = rng.permutation(len(files))
        for start in range(
            0, len(order), 8 * BATCH
        ):  # large pieces, so that no core waits for the slowest file
            yield len(np.stack(list(pool.map(load, order[start : start + 8 * BATCH]))))

    pool = ThreadPoolExecutor(core_count())
    return measure.rate(measure.forever(epoch), warm_up=1)


CLASSIC = {"shear_range": 0.2, "zoom_range": 0.2, "horizontal_flip": True}
CONTENDERS: dict[str, tuple[str, Callable[[], measure.Measure]]] = {
    "idg": ("ImageDataGenerator, originals", lambda: generator(ORIGINALS)),
    "idg_224": ("ImageDataGenerator, 224 files", lambda: generator(COPIES)),
    "idg_224_classic": (
        "ImageDataGenerator, 224 files, augmented",
        lambda: generator(COPIES, **CLASSIC),
    ),
    "keras": ("image_dataset_from_directory, originals", lambda: keras_directory(ORIGINALS)),
    "keras_224": ("image_dataset_from_directory, 224 files", lambda: keras_directory(COPIES)),
    "tfds": ("plain tfds, `original`", plain_tfds),
    "pillow": ("bare Pillow, all cores, originals", bare_pillow),
    "ours_original": ("**ours**, `original` decoded on the fly", ours_original),
    "grain": ("Grain, ArrayRecord", grain_array_record),
    "ours_none": ("**ours**, no cache", lambda: ours("none")),
    "ours_file": ("**ours**, cached in a file", lambda: ours("file")),
    "ours_ram": ("**ours**, cached in memory", lambda: ours("ram")),
    "numpy": ("NumPy gather", numpy_gather),
    "ours_classic": ("**ours**, in memory, augmented", ours_classic),
    "memory_10k": ("**ours**, no cache, 10,000 images", lambda: ours_memory(10_000)),
    "memory_50k": ("**ours**, no cache, 50,000 images", lambda: ours_memory(50_000)),
}


def report(found: dict[str, measure.Figures]) -> None:
    """Prints what was measured, then the ratios beside what issue 4 requires."""
    rows = [("reader", "images/s", "CPU ms an image", "peak MB")]
    for name, (title, _) in CONTENDERS.items():
        figures = found[name]
        rows.append(
            (
                title,
                f"{figures['images_per_s']:,.0f}",
                f"{figures['cpu_ms']:.3f}",
                f"{figures['peak_mb']:,.0f}",
            )
        )
    measure.print_table(rows)

    def ratio(name: str, other: str, figure: str = "images_per_s") -> float:
        return found[name][figure] / found[other][figure]

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
            ("`original` on the fly ÷ bare Pillow", ratio("ours_original", "pillow"), ">=", 0.85),
            (
                "time of an epoch: pipeline ÷ tensors in memory",
                found["epochs"]["time_ratio"],
                "<=",
                1.03,
            ),
            ("processor time of the same", found["epochs"]["cpu_ratio"], "<=", 1.03),
            (
                "peak memory, no cache: 50,000 ÷ 10,000 images",
                ratio("memory_50k", "memory_10k", "peak_mb"),
                "<=",
                1.1,
            ),
        ]
    )


def main(arguments: argparse.Namespace) -> None:
    if arguments.only == "prepare":
        prepare(arguments.source)
    elif arguments.only == "epochs":
        measure.serve(epochs())
    elif arguments.only:
        measure.serve(CONTENDERS[arguments.only][1]())
    else:
        measure.run_once(__file__, "prepare", ["--source", str(arguments.source)])
        turns = {"repeats": arguments.repeats, "seconds": arguments.seconds}
        found = measure.in_turns(__file__, CONTENDERS, **turns)
        # 3 % is little beside how the speed of a machine wavers: more turns.
        found |= measure.in_turns(
            __file__, ["epochs"], **turns | {"repeats": 2 * arguments.repeats}
        )
        measure.print_source(arguments.source)
        report(found)


if __name__ == "__main__":
    parser = measure.options(__doc__)
    parser.add_argument(
        "--source", type=Path, default=SHARED, help="A chest_xray folder. [%(default)s]"
    )
    main(parser.parse_args())
