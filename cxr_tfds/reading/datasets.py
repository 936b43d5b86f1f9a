"""Built datasets on disk. Importing the module does not load TensorFlow."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.reading import POLICIES, Shard
from cxr_tfds.reading.description import read_description
from cxr_tfds.reading.fingerprint import Fingerprint
from cxr_tfds.reading.locating import find_folder
from cxr_tfds.reading.names import DatasetName, build_line, config_option
from cxr_tfds.schema import GreyLevelSettings, Origin, ReaderOptions
from cxr_tfds.sources.origin import describe_origin
from cxr_tfds.task import Task

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "validation", "test")
_FITTED_SIZE = 224  # of source files, unless another size is requested
_NO_FINDING, _STATES = "none", "states"
_GREY_LEVELS = ("bits", "window", "percentile", "grey_range")  # see `GreyLevels.from_metadata`


@dataclasses.dataclass(frozen=True)
class BuiltDataset:
    """A dataset on disk.

    Attributes:
      name: dataset/config:version.
      shape: (S, S, C) of its uint8 images.
      labels: Names of the classes to learn, the negative class first; or of several findings.
      fit: How source images were fitted to S x S, see `cxr_tfds.imaging.pixels`.
      fingerprint: SHA-256 of all examples, class names and settings; datasets with the same one
        teach a model the same.
      recorded: Digests from the build; None if an earlier version built the dataset.
      shards: Split to the paths of its shards, in order.
      shard_sizes: Split to the number of examples in each shard.
      encoded: Whether it stores source files (config `original`), which are fitted when read.
      findings: Names of the findings, such as bacteria and virus, which are finer than the labels;
        empty if it has none.
      grey_levels: How values of more than 8 bits became grey values, see
        `cxr_tfds.imaging.grey_levels.GreyLevels.to_metadata`.
      target: The field read as the label: "label", "finding" or, for several findings, "states".
      uncertain: What an uncertain finding is trained as: "ignore", "positive" or "negative".
      unknown: What an unknown finding means in every split: "ignore", "positive" or "negative".
      reader: The settings that were given to read the source, see `cxr_tfds.sources.settings`.
      origin: Where the images come from: "description", "licence" and "population", which may be
        "not described", and "drawn", whether a program drew them.
    """

    name: str
    shape: tuple[int, int, int]
    labels: tuple[str, ...]
    fit: str
    fingerprint: str
    shards: dict[str, list[str]]
    shard_sizes: dict[str, list[int]]
    encoded: bool = False
    findings: tuple[str, ...] = ()
    grey_levels: GreyLevelSettings = dataclasses.field(default_factory=GreyLevelSettings)
    target: str = "label"
    uncertain: str = "ignore"
    unknown: str = "ignore"
    reader: ReaderOptions = dataclasses.field(default_factory=ReaderOptions)
    origin: Origin = dataclasses.field(default_factory=lambda: describe_origin(None))
    recorded: Fingerprint | None = None

    @property
    def task(self) -> Task:
        """What a model predicts about its images."""
        return Task.choose(self.labels, several_findings=self.target == _STATES)

    @property
    def outputs(self) -> int:
        """Number of logits of a model for it."""
        return self.task.outputs(self.labels)

    def train(
        self,
        batch_size: int = 32,
        seed: int = 0,
        *,
        first_batch: int = 0,
        cache: str = "auto",
        cache_dir: str | Path | None = None,
        shard: Shard = Shard(),  # noqa: B008
        split: str = "train",
    ) -> tf.data.Dataset:
        """Returns endless shuffled batches for training.

        An epoch is ceil(N / (batch_size * shard.count)) batches and holds every example exactly
        once; its last batch may be smaller. The order of each epoch is a permutation drawn from
        `seed` and the number of the epoch, whatever the cache.

        All checksums are verified first. Images are then copied from the shards, which are mapped
        into memory and must not be shortened while they are read: that ends the process (SIGBUS).

        Args:
          batch_size: Images in a batch.
          seed: Seed of the orders.
          first_batch: Number of the first batch of this reader, from 0, to continue an interrupted
            run; nothing before it is read. A reader for several devices counts a batch for each.
            This number is the complete state of a reader, as `get_state` of Grain: with the same
            arguments the order continues as if it had not been interrupted.
          cache: For a dataset of source files (config `original`): "file" writes the fitted images
            to one file and reads from it, which saves decoding in every epoch. "none" decodes in
            every epoch. "auto" is "file" if the file takes at most a quarter of the free disk space
            and its folder can be written, and "none" otherwise. Other datasets need no cache.
          cache_dir: Folder of that file; by default `cache/` next to the shards.
          shard: Share of each epoch, if several readers share it.
          split: Name of the split.

        Returns:
          A prefetched dataset of (images uint8 (B, S, S, C), labels float32 (B, 1)); for K > 2
          classes the labels are one-hot, float32 (B, K). If an image may have K findings, they are
          float32 (B, K): 1 present, 0 absent, NaN where the finding does not count.

        Raises:
          InputError: The split is empty or smaller than a batch of all readers, `cache` is unknown,
            the file does not fit on the disk, or a shard is corrupt.
        """
        from cxr_tfds.reading.pipeline import train_batches

        folder = Path(cache_dir) if cache_dir else None
        return train_batches(self, split, batch_size, seed, first_batch, cache, folder, shard)

    def batches(
        self, split: str, batch_size: int = 32, *, with_ids: bool = False
    ) -> tf.data.Dataset:
        """Returns every example of a split once, in stored order, for evaluation.

        Args:
          split: Name of the split.
          batch_size: Images in a batch; the last one may be smaller.
          with_ids: Whether to yield a third element, which Keras does not take: a dictionary of
            `image_id` and `patient_id` string (B,), "" if unknown, `label` (the class number) and
            `finding` int64 (B,), -1 if unknown. If an image may have several findings, `label` is
            int64 (B, K): 1 present, 0 absent, -1 uncertain, -2 unknown.

        Returns:
          A dataset of images and labels as `train` returns them; uncertain findings never count.

        Raises:
          InputError: The split does not exist or is empty.
        """
        from cxr_tfds.reading.sequential import evaluation_batches

        return evaluation_batches(self, split, batch_size, with_ids=with_ids)

    def targeted(self, target: str) -> BuiltDataset:
        """Returns the dataset with the field `target`, "label" or "finding", as its label.

        Raises:
          InputError: The dataset has no findings that are finer than its label.
        """
        several = self.task is Task.FINDINGS
        if target == self.target or (several and target == "label"):
            return self
        if several:
            raise InputError(
                f"{self.name} has no target {target!r}: its images may have several "
                "findings, which are learned together. Omit the target."
            )
        if target != "finding" or len(self.findings) < 2:
            raise InputError(
                f"{self.name} has no target {target!r}; it has {len(self.findings)} findings and "
                "a label."
            )
        # An image without a finding belongs to the negative class.
        labels = tuple(self.labels[0] if name == _NO_FINDING else name for name in self.findings)
        return dataclasses.replace(self, target=target, labels=labels)

    def labelled(self, *, uncertain: str = "ignore", unknown: str = "ignore") -> BuiltDataset:
        """Returns the dataset with other targets where its source is uncertain or silent.

        Args:
          uncertain: What an uncertain finding is trained as: "ignore", "positive" or "negative";
            U-Ignore, U-Ones and U-Zeros of https://arxiv.org/abs/1901.07031, section 3.
          unknown: The same for a finding that the source does not mention, in every split.

        Raises:
          InputError: A value is unknown, or the images have one class each.
        """
        for name, policy in (("uncertain", uncertain), ("unknown", unknown)):
            if policy not in POLICIES:
                raise InputError(f"{name}={policy!r}; expected one of {', '.join(POLICIES)}.")
            if policy != "ignore" and self.task is not Task.FINDINGS:
                raise InputError(
                    f"{name}={policy!r} is for datasets whose images may have several findings; "
                    f"every image of {self.name} has one class. Omit it."
                )
        return dataclasses.replace(self, uncertain=uncertain, unknown=unknown)

    def fitted(self, size: int, *, channels: int = 1, fit: str = "stretch") -> BuiltDataset:
        """Returns a dataset of source files with another size, number of channels or fit.

        Raises:
          InputError: The images were fitted when the dataset was built, or a value is out of range.
        """
        if not self.encoded:
            raise InputError(
                f"{self.name} holds images of {self.shape[0]} x {self.shape[1]}; only the config "
                "`original` can be read at another size. Build the size you want with: "
                f"{config_option(str(size)) or 'config 224'}"
            )
        from cxr_tfds.imaging.pixels import check_fit  # slow to import: NumPy and Pillow

        check_fit(size, channels, fit)
        return dataclasses.replace(self, shape=(size, size, channels), fit=fit)

    def verify(self, trust: str | Path | None = None) -> str | None:
        """Reads every record and compares it with the fingerprint of the build.

        Opening a dataset compares its class names, settings and numbers of images; labels are
        compared whenever a complete split is read.

        Args:
          trust: File of the Ed25519 public key that must have signed the fingerprint.

        Returns:
          The id of that key, or None.

        Raises:
          InputError: The dataset was changed after it was built, or is not signed by `trust`.
        """
        from cxr_tfds.reading.verify import verify_dataset

        return verify_dataset(self, trust)

    @property
    def data_dir(self) -> Path:
        """The folder the dataset was opened in."""
        return self.folder.parents[2]

    @property
    def folder(self) -> Path:
        """The folder of the shards."""
        return Path(next(iter(self.shards.values()))[0]).parent

    @property
    def sizes(self) -> dict[str, int]:
        """Split to its number of examples."""
        return {split: sum(sizes) for split, sizes in self.shard_sizes.items()}

    def check_split(self, split: str) -> None:
        """Raises an InputError if the dataset has no such split or the split is empty."""
        if not self.sizes.get(split):
            found = ", ".join(f"{s} ({n} images)" for s, n in self.sizes.items())
            missing = "example in split" if split in self.sizes else "split"
            raise InputError(f"{self.name} has no {missing} {split!r}; it has {found}.")


def open_dataset(name: str | DatasetName, data_dir: str | Path) -> BuiltDataset:
    """Opens a built dataset by its description; the code of its builder is not needed.

    Args:
      name: `dataset/config` or `dataset/config:version`; the newest version by default.
      data_dir: Folder given to `tfds build --data_dir`.

    Raises:
      MissingData: The dataset is not built in `data_dir` (the message holds the command that builds
        it), or a shard is missing.
      InputError: The name is invalid, the dataset was not built by cxr-tfds, or its description or
        a shard is corrupt.
    """
    data_dir = Path(data_dir)
    name = DatasetName.parse(name) if isinstance(name, str) else name
    folder = find_folder(name, data_dir)
    rebuild = f"Remove {folder} and build it again:\n  {build_line(name, data_dir)}"
    try:
        description = read_description(folder)
    except FileNotFoundError as err:
        raise MissingData(f"{err.filename} is missing. {rebuild}") from err
    except (OSError, InputError) as err:
        raise InputError(f"Cannot read {folder} as a dataset: {err}\n{rebuild}") from err
    metadata = description.metadata
    grey_levels: Any = {name: metadata[name] for name in _GREY_LEVELS if name in metadata}
    if limit := metadata.get("max_examples_per_split"):
        logging.getLogger(__name__).warning(
            "%s holds only %d examples of each split (--max_examples_per_split).", folder, limit
        )
    splits = {s: description.splits[s] for s in SPLITS if s in description.splits}
    return BuiltDataset(
        name=f"{name.dataset}/{name.config}:{folder.name}",
        shape=description.image_shape or (_FITTED_SIZE, _FITTED_SIZE, 1),
        labels=description.labels,
        fit=metadata["fit"],
        fingerprint=metadata["fingerprint"],
        shards={split: stored.paths for split, stored in splits.items()},
        shard_sizes={split: stored.sizes for split, stored in splits.items()},
        encoded=description.image_shape == (),
        findings=description.findings,
        grey_levels=grey_levels,
        target=_STATES if metadata.get("several_findings") else "label",
        reader=metadata.get("reader", {}),
        origin=describe_origin(metadata.get("origin")),
        recorded=description.recorded,
    )
