"""Writes shards in their final order, and reuses the complete shards of an interrupted build.

TFDS sorts the examples of a split by a hash of their ids. The ids are known before any image is
decoded, so each example is written to its shard at once, while the next images are decoded. Nothing
is sorted at the end, and a build holds a few images in memory.

A complete shard has a log next to it with the statistics of its images. Both are named after a
digest of everything that decides the records: settings, versions, and the images with the size and
modification time of their files. A shard is reused only under the same name, so none is stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import tensorflow_datasets as tfds
from tensorflow_datasets.core.hashing import Hasher
from tensorflow_datasets.core.utils.lazy_imports_utils import tensorflow as tf
from tensorflow_datasets.core.utils.shard_utils import ShardConfig, get_shard_boundaries

from cxr_tfds.building.build_log import BuildLog
from cxr_tfds.building.file_stats import FileStats
from cxr_tfds.errors import InputError
from cxr_tfds.files import write_json
from cxr_tfds.imaging.pixels import DecodeResult
from cxr_tfds.schema import Count, Text, read_json
from cxr_tfds.sources import SourceImage, SourcePath
from cxr_tfds.temporary import UNFINISHED
from cxr_tfds.text import say

_RECORD_OVERHEAD = 16  # bytes of a TFRecord besides its data
_FIELD_BYTES = 200  # of an example besides its image, about


class ShardLog(TypedDict):
    """What is stored next to a complete shard.

    Attributes:
      size: Of the shard, bytes.
      stats: Image id to the fields of its `FileStats`, in stored order.
      bad: Image id to the reason why the image was left out.
    """

    size: Count
    stats: dict[Text, list[Any]]
    bad: dict[Text, Text]


class Shard(NamedTuple):
    """A shard before it is published.

    Attributes:
      split: Its split.
      images: In stored order; unusable ones are left out of the shard.
      path: Of the records, in the folder of unfinished datasets.
    """

    split: str
    images: Sequence[SourceImage]
    path: Path

    @property
    def log_path(self) -> Path:
        """Path of the log, which exists once the shard is complete."""
        return self.path.with_suffix(".json")


def unfinished_folder(folder: Path) -> Path:
    """Returns where the complete shards of a dataset are kept until it is published in `folder`."""
    return folder.with_name(f"{UNFINISHED}{folder.name}")


def plan_shards(
    splits: Mapping[str, Sequence[SourceImage]],
    folder: Path,
    settings: Any,
    image_bytes: int | None,
    sharding: ShardConfig,
) -> list[Shard]:
    """Returns the shards of a dataset, in the order in which they are written.

    Args:
      splits: Split to its images.
      folder: Where the shards are written.
      settings: Everything besides the images that decides the records, as JSON holds it.
      image_bytes: Of one stored image; None if the source files are stored.
      sharding: TFDS's rules for the number of shards.
    """
    shards = []
    for split, images in splits.items():
        hasher = Hasher(split)
        ordered = sorted(images, key=lambda image: hasher.hash_key(image.image_id))
        identities = [_identify_file(image.path) for image in ordered]
        total = sum(image_bytes or max(0, size) for size, _ in identities)
        total += _FIELD_BYTES * len(ordered)
        count = sharding.get_number_shards(total, len(ordered))
        start_of_digest = json.dumps([split, settings], sort_keys=True, default=str).encode()
        ends = get_shard_boundaries(len(ordered), count)
        for start, end in zip((0, *ends), ends, strict=False):
            digest = hashlib.sha256(start_of_digest)
            for image, identity in zip(ordered[start:end], identities[start:end], strict=True):
                line = json.dumps([image._replace(path=None, split=""), identity])  # type: ignore
                digest.update(line.encode())
            path = folder / f"{digest.hexdigest()}.tfrecord"
            shards.append(Shard(split, ordered[start:end], path))
    return shards


def _identify_file(path: SourcePath) -> tuple[int, int]:
    """Returns size and modification time of a file, or size and checksum if it is in an archive."""
    if not isinstance(path, Path):
        return (path.entry.file_size, path.entry.get_checksum()) if path.entry else (-1, 0)
    try:
        status = path.stat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


def write_shards(
    shards: Sequence[Shard],
    log: BuildLog,
    decode: Callable[[Sequence[SourcePath]], Iterator[DecodeResult]],
    serialize: Callable[[SourceImage, DecodeResult], bytes | None],
    *,
    keeps_bad: bool,
    progress: Callable[[int, int], object] | None,
) -> None:
    """Writes the shards that an interrupted build has not completed.

    Args:
      shards: What `plan_shards` returned.
      log: Gets the statistics of all images.
      decode: Yields the result for each file, in order.
      serialize: Returns the serialized example of an image, or None if it is left out.
      keeps_bad: Whether a shard with unusable images is complete. Otherwise it is written again by
        the next build.
      progress: Called with the number of images that were read, and of all.
    """
    folder = shards[0].path.parent
    folder.mkdir(parents=True, exist_ok=True)
    names = {path.name for shard in shards for path in (shard.path, shard.log_path)}
    for path in folder.iterdir():
        if path.name not in names:  # of another plan
            path.unlink()
    missing = []
    for shard in shards:
        if (kept := _read_log(shard)) is None:
            missing.append(shard)
            continue
        log.stats.update((key, FileStats(*fields)) for key, fields in kept["stats"].items())
        log.bad.update(kept["bad"])
    if len(missing) < len(shards):
        complete = f"{len(shards) - len(missing):,} of {len(shards):,} shards are complete"
        say(f"Continuing an interrupted build: {complete}.")
    total = sum(len(shard.images) for shard in shards)
    results = decode([image.path for shard in missing for image in shard.images])
    for shard in missing:
        with _removed_on_error(shard.path):
            with contextlib.closing(tf.io.TFRecordWriter(str(shard.path))) as writer:
                for image, result in zip(shard.images, results, strict=False):
                    log.add(image.image_id, result)
                    if progress:
                        progress(len(log.stats) + len(log.bad), total)
                    if (record := serialize(image, result)) is not None:
                        writer.write(record)
            _write_log(shard, log, keeps_bad=keeps_bad)


def _write_log(shard: Shard, log: BuildLog, *, keeps_bad: bool) -> None:
    """Marks a written shard as complete, see `write_shards`."""
    ids = [image.image_id for image in shard.images]
    bad = {image_id: log.bad[image_id] for image_id in ids if image_id in log.bad}
    if keeps_bad or not bad:
        stats = {name: list(log.stats[name]) for name in ids if name not in bad}
        written = ShardLog(size=shard.path.stat().st_size, stats=stats, bad=bad)
        write_json(shard.log_path, written)


@contextlib.contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    """Removes an incomplete shard if the block fails, for example because the disk is full."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _read_log(shard: Shard) -> ShardLog | None:
    """Returns the log of a complete shard, or None if the shard must be written again."""
    # TensorFlow takes seconds to load. A dataset that is already built is found without it.
    from cxr_tfds.reading.records import digest_split

    try:
        log = read_json(shard.log_path, ShardLog, "")
        if shard.path.stat().st_size != log["size"]:
            return None
        written: list[str] = []
        digest_split([str(shard.path)], [len(log["stats"])], written.extend)  # TFRecord's CRCs
    except (InputError, OSError, tf.errors.OpError):
        return None
    known = [image.image_id for image in shard.images if image.image_id not in log["bad"]]
    return log if written == known == list(log["stats"]) else None


def describe_splits(
    shards: Sequence[Shard], log: BuildLog, get_template: Callable[[str], Any]
) -> list[tfds.core.SplitInfo]:
    """Returns what TFDS stores of the splits; `get_template` returns its file names of a split."""
    infos = []
    for split, group in itertools.groupby(shards, lambda shard: shard.split):
        of_split = list(group)
        lengths = [sum(image.image_id in log.stats for image in shard.images) for shard in of_split]
        size = sum(shard.path.stat().st_size for shard in of_split)
        size -= _RECORD_OVERHEAD * sum(lengths)
        infos.append(tfds.core.SplitInfo(split, lengths, size, get_template(split)))
    return infos


@contextlib.contextmanager
def published_shards(
    shards: Sequence[Shard], paths: Mapping[str, Sequence[str]]
) -> Iterator[Mapping[str, Sequence[str]]]:
    """Yields where the shards of each split are checked, and moves them to `paths` afterwards.

    Until then, a build that is killed finds them again. If the check fails, they are removed.
    """
    if not shards:  # TFDS wrote them
        yield paths
        return
    folder = shards[0].path.parent
    try:
        yield {split: [str(x.path) for x in shards if x.split == split] for split in paths}
    except Exception:
        shutil.rmtree(folder)
        raise
    for shard, path in zip(shards, itertools.chain(*paths.values()), strict=True):
        shard.path.rename(path)
    shutil.rmtree(folder)
