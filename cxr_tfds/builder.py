"""The base of every dataset builder: from scanned source files to checked TFRecords.

A dataset adds its class names, its findings, its instructions and `scan`; decoding, fitting,
splitting and the check before publication are here.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from cxr_tfds.datasets import config_option, named_settings
from cxr_tfds.errors import BadImage, InputError, MissingData
from cxr_tfds.parallel import all_cores, ordered_map
from cxr_tfds.pixels import check_fit, radiograph
from cxr_tfds.records import read_back
from cxr_tfds.splits import check_no_patient_twice, validation_ids

SPLIT_POLICIES = ("patient", "source")
_TFDS_COMMAND = "tensorflow_datasets.scripts.cli.main"
UNKNOWN_FINDING = -1  # how TFDS writes "no label"
_CONFIG_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # it becomes a folder
_STORED_SETTINGS = ("size", "channels", "fit", "split")


@dataclasses.dataclass(eq=False, kw_only=True)
class RadiographConfig(tfds.core.BuilderConfig):
    """How the images of a dataset are stored and split.

    Attributes:
      size: S of the stored (S, S, channels) uint8 tensor, pixels; None stores the source files as they
        are (config `original`), to be fitted when they are read.
      channels: 1, or 3 to repeat the grey value.
      fit: "stretch", "pad" or "crop", see `cxr_tfds.pixels.radiograph`.
      split: "patient" cuts validation from train and the source's own validation, whole patients at
        a time; "source" keeps the splits as they came.

    Raises:
      InputError: a value is not allowed, or the name says something else, see `named_settings`.
    """

    size: int | None = 224
    channels: int = 1
    fit: str = "stretch"
    split: str = "patient"

    def __post_init__(self) -> None:
        if self.size is not None:
            check_fit(self.size, self.channels, self.fit)
        elif (self.channels, self.fit) != (1, "stretch"):
            raise InputError("source files are stored as they are; give channels and fit when they are read.")
        if self.split not in SPLIT_POLICIES:
            raise InputError(f"split={self.split!r}; expected one of {', '.join(SPLIT_POLICIES)}.")
        if not isinstance(self.name, str) or not _CONFIG_NAME.fullmatch(self.name):
            raise InputError(
                f"config name {self.name!r}; expected letters, digits, '-', '_' or '.', as in \"224-rgb\"."
            )
        for setting, said in named_settings(self.name).items():
            if (given := getattr(self, setting)) != said:
                raise InputError(
                    f"config {self.name!r} has {setting}={given!r}. Write what its name says, "
                    f"{config_option(self.name)}, or choose another name."
                )


_Read = tuple[np.ndarray | bytes, int, int]  # what is stored, and height and width of the source


class SourceImage(NamedTuple):
    """One image to build, as its source describes it."""

    path: Path
    split: str  # of the source
    label: str
    finding: str | None  # None: the source does not tell
    image_id: str
    patient_id: str


class RadiographBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builds sharded TFRecords of fitted radiographs, whole or not at all."""

    CLASSES: ClassVar[Sequence[str]]  # the negative class first
    FINDINGS: ClassVar[Sequence[str]]
    HOMEPAGE: ClassVar[str]
    PATIENT_NAMES: ClassVar[str]  # what file names a patient is read from
    BUILDER_CONFIGS = [RadiographConfig(name="224", description="224 x 224 greyscale, raw uint8")]  # noqa: RUF012
    builder_config: RadiographConfig

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # TFDS looks for README.md and the like beside the module's dotted name, where in an
        # editable install there is no folder.
        cls.pkg_dir_path = Path(inspect.getfile(cls)).parent
        super().__init_subclass__(**kwargs)

    def __init__(self, *, config: str | RadiographConfig | None = None, **kwargs: Any) -> None:
        if isinstance(config, str) and config not in self.builder_configs:
            _fail(
                InputError(
                    f"{self.name} has no config {config!r} of that name alone. Describe it:\n"
                    f"  tfds build {self.name} --imports cxr_tfds.builders {config_option(config)}"
                )
            )
        super().__init__(config=config, **kwargs)

    @abc.abstractmethod
    def scan(self, source: Path) -> list[SourceImage]:
        """The images of the folder given by `--manual_dir`, without decoding any."""

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        if config.size is None:
            image = tfds.features.Tensor(shape=(), dtype=np.object_, doc="The source file.")
        else:
            image = tfds.features.Tensor(
                shape=(config.size, config.size, config.channels),
                dtype=np.uint8,
                encoding=tfds.features.Encoding.BYTES,
                doc="Greyscale, 0 to 255, bone is bright (MONOCHROME2).",
            )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": image,
                    "label": tfds.features.ClassLabel(names=list(self.CLASSES)),
                    "finding": tfds.features.ClassLabel(names=list(self.FINDINGS)),
                    "image_id": tfds.features.Text(doc="split/class/name in the source, unique."),
                    "patient_id": tfds.features.Text(doc="Empty where the source does not tell."),
                    "height": tfds.features.Scalar(np.int32, doc="Of the source image, pixels."),
                    "width": tfds.features.Scalar(np.int32, doc="Of the source image, pixels."),
                }
            ),
            supervised_keys=("image", "label"),
            homepage=self.HOMEPAGE,
            metadata=tfds.core.MetadataDict({name: getattr(config, name) for name in _STORED_SETTINGS}),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        try:
            source = Path(dl_manager.manual_dir)
        except (AssertionError, NotADirectoryError):  # missing, empty or a file: `scan` says it in our words
            source = Path(self._manual_dir)
        try:
            images = self.scan(source)
        except MissingData as err:
            raise MissingData(f"{err}\n\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}") from None
        self._planned = self._assign_splits(images)
        return {split: self._generate_examples(images) for split, images in self._planned.items()}

    def _assign_splits(self, images: list[SourceImage]) -> dict[str, list[SourceImage]]:
        by_split: dict[str, list[SourceImage]] = {"train": [], "validation": [], "test": []}
        for image in images:
            by_split[image.split].append(image)
        if self.builder_config.split == "patient":
            if unknown := sum(not image.patient_id for image in images):
                logging.warning(
                    "%d of %d file names tell no patient: these are split by image, and one patient's images may "
                    "stand in two splits. Names that tell: %s",
                    unknown,
                    len(images),
                    self.PATIENT_NAMES,
                )
            pool = by_split["train"] + by_split["validation"]
            chosen = validation_ids(pool)
            by_split["train"] = [image for image in pool if image.image_id not in chosen]
            by_split["validation"] = [image for image in pool if image.image_id in chosen]
            own = '--config \'{"name": "224-source", "split": "source"}\''
            check_no_patient_twice(by_split, f"Remove them from one split, or keep the source's splits: {own}")
        return {split: chosen for split, chosen in by_split.items() if chosen}

    def _generate_examples(self, images: Sequence[SourceImage]) -> Iterator[tuple[str, dict[str, Any]]]:
        with all_cores() as executor:
            for image, result in ordered_map(_reader(self.builder_config), images, executor):
                if isinstance(result, BadImage):
                    self._bad[image.image_id] = f"{image.path} {result}"
                    # TFDS stops at a split without examples; going on finds the bad files of all splits.
                    result = self._placeholder()
                yield image.image_id, _example(image, *result)

    def _placeholder(self) -> _Read:
        shape = self.info.features["image"].shape
        return (np.zeros(shape, np.uint8) if shape else b""), 0, 0

    def download_and_prepare(self, **kwargs: Any) -> None:
        """As TFDS does, but a dataset that stands there under the same name must have the same settings."""
        if self.is_prepared():
            logging.warning(
                "%s stands in %s and is used as it is; --overwrite builds it from the source again.",
                self.info.full_name,
                self.data_path,
            )
        try:
            super().download_and_prepare(**kwargs)
        except InputError as err:
            _fail(err)
        for name in _STORED_SETTINGS:
            stored, asked = self.info.metadata.get(name), getattr(self.builder_config, name)
            if stored != asked:
                raise InputError(
                    f"{self.data_path} was built with {name}={stored!r}; this config asks for {asked!r}. "
                    "Give the config another name, or build it again with --overwrite."
                )

    def _download_and_prepare(
        self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig
    ) -> None:
        """Builds, then refuses to publish what is not exactly the source: raising here leaves nothing."""
        if self.info.file_format is not tfds.core.FileFormat.TFRECORD:
            raise InputError(f"file format {self.info.file_format.value!r}; only 'tfrecord' is written and read here.")
        if download_config.max_examples_per_split == 0:
            raise InputError("max_examples_per_split=0; a dataset needs 1 or more examples per split.")
        self._manual_dir = download_config.manual_dir or dl_manager.download_dir / "manual"
        self._bad: dict[str, str] = {}
        super()._download_and_prepare(dl_manager, download_config)
        if self._bad:
            rows = "\n".join(f"  {reason}" for _, reason in sorted(self._bad.items()))
            files = "1 file" if len(self._bad) == 1 else f"{len(self._bad)} files"
            raise InputError(
                f"{files} cannot be used:\n{rows}\nNothing was built. Replace or remove what is listed and build again."
            )
        whole = download_config.max_examples_per_split is None  # --max_examples_per_split asks for less
        digest = hashlib.sha256()
        for split, images in self._planned.items():
            written, split_digest = read_back([str(path) for path in self.info.splits[split].filepaths])
            digest.update(f"{split} {split_digest} ".encode())
            if whole:
                _check_written(split, [image.image_id for image in images], written)
        self.info.metadata["fingerprint"] = digest.hexdigest()


def _fail(err: InputError) -> NoReturn:
    """Raises `err`; to a person who runs the `tfds` command, without forty lines of traceback above it."""
    if _TFDS_COMMAND in sys.modules:
        sys.exit(f"Error: {err}")
    raise err


def _check_written(split: str, wanted: list[str], written: list[str]) -> None:
    """Compares what stands in the shards with the scan of the source, by count and by id."""
    if sorted(written) == sorted(wanted):
        return
    missing, unexpected = sorted(set(wanted) - set(written)), sorted(set(written) - set(wanted))
    raise InputError(
        f"split {split}: {len(wanted)} images in the source, {len(written)} examples written; "
        f"missing {missing[:10]}, unexpected {unexpected[:10]}. Nothing was published; build again."
    )


def _reader(config: RadiographConfig) -> Callable[[SourceImage], tuple[SourceImage, _Read | BadImage]]:
    def read(image: SourceImage) -> tuple[SourceImage, _Read | BadImage]:
        try:
            data = image.path.read_bytes()
            # Source files are decoded, too: a broken one must not be found in the middle of training.
            decoded = radiograph(data, config.size or 224, fit=config.fit, channels=config.channels)
        except BadImage as err:
            return image, err
        except OSError as err:
            return image, BadImage(f"cannot be read: {err.strerror}")
        return image, (data if config.size is None else decoded.pixels, decoded.height, decoded.width)

    return read


def _example(image: SourceImage, stored: np.ndarray | bytes, height: int, width: int) -> dict[str, Any]:
    return {
        "image": stored,
        "label": image.label,
        "finding": UNKNOWN_FINDING if image.finding is None else image.finding,
        "image_id": image.image_id,
        "patient_id": image.patient_id,
        "height": height,
        "width": width,
    }
