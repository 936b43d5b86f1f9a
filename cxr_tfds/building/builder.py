"""The base of every dataset builder: from scanned source files to checked TFRecords.

A dataset adds its class names, its findings, its instructions and `scan`; decoding, fitting,
splitting and the check before publication are here.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import click
import tensorflow_datasets as tfds
from absl import logging

from cxr_tfds.building.beam import checked_runner, pipeline, read_notes
from cxr_tfds.building.build_log import BuildLog
from cxr_tfds.building.build_report import build_report, screen_text, write_report
from cxr_tfds.building.config import CONFIG_NAME, RadiographConfig
from cxr_tfds.building.engines import fit_all
from cxr_tfds.building.examples import features, record
from cxr_tfds.building.file_stats import Facts
from cxr_tfds.building.fitting import Fitting
from cxr_tfds.building.publishing import beside, disk_is_full, full_disk_message, only_build, swap
from cxr_tfds.building.splits import (
    check_no_patient_twice,
    patient_splits,
    source_splits,
    split_notes,
)
from cxr_tfds.building.tfds_command import check_config, fail, is_running, overwrite_requested
from cxr_tfds.errors import BadImage, InputError, MissingData
from cxr_tfds.reading.names import config_option
from cxr_tfds.reading.records import read_back
from cxr_tfds.sources import SourceImage, check_links, kaggle

_NOTES = "notes"  # where the workers of a pipeline write what they saw, until it is read


class RadiographBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builds sharded TFRecords of fitted radiographs, whole or not at all."""

    CLASSES: Sequence[str]  # the negative class first; empty until `scan` has found them
    FINDINGS: Sequence[str]
    HOMEPAGE: ClassVar[str]
    PATIENT_NAMES: ClassVar[str]  # what file names a patient is read from
    KAGGLE: ClassVar[str] = (
        ""  # OWNER/NAME of the dataset there, to be downloaded where nothing is found
    )
    CUTS_TEST: ClassVar[bool] = False  # whether a test split is cut where the source has none
    BUILDER_CONFIGS = [RadiographConfig(name="224", description="224 x 224 greyscale, raw uint8")]  # noqa: RUF012
    builder_config: RadiographConfig

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # TFDS looks for README.md and the like beside the module's dotted name, where in an
        # editable install there is no folder.
        cls.pkg_dir_path = Path(inspect.getfile(cls)).parent
        check_config()  # the last occasion before TFDS reads it
        super().__init_subclass__(**kwargs)

    def __init__(self, *, config: str | RadiographConfig | None = None, **kwargs: Any) -> None:
        if isinstance(config, str) and config not in self.builder_configs:
            fail(
                InputError(
                    f"{self.name} has no config {config!r} of that name alone. Describe it:\n"
                    f"  tfds build {self.name} --imports cxr_tfds.builders --manual_dir FOLDER "
                    + config_option(config if CONFIG_NAME.fullmatch(config) else "512")
                )
            )
        if (
            isinstance(config, RadiographConfig)
            and self.builder_configs.get(config.name, config) is not config
        ):
            fail(
                InputError(
                    f"The config {config.name!r} has its settings; name yours otherwise, such as 224-mine."
                )
            )
        self._made_with = {"config": config, **kwargs}
        self.notes: list[
            str
        ] = []  # what `scan` has to say in the report, such as rows without an image
        super().__init__(config=config, **kwargs)

    @abc.abstractmethod
    def scan(self, source: Path) -> list[SourceImage]:
        """The images of the folder given by `--manual_dir`, without decoding any."""

    def _info(self) -> tfds.core.DatasetInfo:
        info = self.dataset_info_from_configs(
            features=features(self.builder_config, self.CLASSES, self.FINDINGS),
            supervised_keys=("image", "label"),
            homepage=self.HOMEPAGE,
            metadata=tfds.core.MetadataDict(self.builder_config.stored()),
        )
        # TFDS's bucket holds none of these datasets, and looking there leaves a temporary folder behind each time.
        info.initialize_from_bucket = lambda: None
        return info

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        images = self._scanned(dl_manager)
        for feature, names in (("label", self.CLASSES), ("finding", self.FINDINGS)):
            self.info.features[feature].names = list(names)
        self._planned = self._assign_splits(images)
        return {split: self._generate_examples(images) for split, images in self._planned.items()}

    def _scanned(self, dl_manager: tfds.download.DownloadManager) -> list[SourceImage]:
        try:
            source = Path(dl_manager.manual_dir)
        except (
            AssertionError,
            NotADirectoryError,
        ):  # missing, empty or a file: `scan` says it in our words
            source = Path(self._manual_dir)
        self.notes.clear()
        try:
            images = self.scan(source)
        except MissingData as err:
            how = self.MANUAL_DOWNLOAD_INSTRUCTIONS
            if not self.KAGGLE:
                raise MissingData(f"{err}\n\n{how}") from None
            if not kaggle.credentials():
                raise MissingData(f"{err}\n\n{how}\n{kaggle.GET_CREDENTIALS}") from None
            logging.warning(
                "No radiographs in %s: downloading %s from Kaggle.", source, self.KAGGLE
            )
            source = kaggle.download(dl_manager, self.KAGGLE)
            images = self.scan(source)
        self.check_links(source, images)
        return images

    def check_links(self, source: Path, images: Sequence[SourceImage]) -> None:
        """Refuses images reached by links that lead out of the source; a builder of several sources overrides it."""
        check_links(source, (image.path for image in images))

    def _assign_splits(self, images: list[SourceImage]) -> dict[str, list[SourceImage]]:
        if self.builder_config.split == "source":
            by_split = source_splits(images)
        else:
            by_split = patient_splits(images, cut_test=self.CUTS_TEST)
            self.notes += split_notes(images, by_split)
            if not all(image.patient_id for image in images):
                logging.warning(
                    "%s Names that tell a patient: %s", self.notes[-1], self.PATIENT_NAMES
                )
            own = '--config \'{"name": "224-source", "split": "source"}\''
            check_no_patient_twice(
                by_split, f"Remove them from one split, or keep the source's splits: {own}"
            )
        return {split: chosen for split, chosen in by_split.items() if chosen}

    def _generate_examples(self, images: Sequence[SourceImage]) -> Any:
        """The `(image_id, example)` of a split: an iterator, or the same as a Beam transform."""
        config = self.builder_config
        fitting = Fitting(config.size, config.channels, config.fit)
        skip = config.on_bad_image == "skip"
        example = partial(record, shape=None if skip else self.info.features["image"].shape)
        if self._as_pipeline:
            return pipeline(
                images[: self._most_per_split], fitting, example, self.data_path / _NOTES
            )
        return self._examples(images, fitting, example)

    def _examples(
        self,
        images: Sequence[SourceImage],
        fitting: Fitting,
        example: Callable[..., dict[str, Any] | None],
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        results = fit_all([image.path for image in images], fitting)
        for image, result in zip(images, results, strict=True):
            if isinstance(result, BadImage):
                self._bad[image.image_id] = str(result)
            else:
                self._facts[image.image_id] = result.facts
            if (made := example(image, result)) is not None:
                yield image.image_id, made

    def download_and_prepare(self, **kwargs: Any) -> None:
        """As TFDS does, but alone, and a dataset that stands there is kept until the new one is whole.

        One that is used as it is must have the same settings.
        """
        config = kwargs.get("download_config") or tfds.download.DownloadConfig()
        overwrite = config.download_mode.overwrite_dataset
        if self.data_path.exists() and not overwrite:
            logging.warning(
                "%s stands in %s and is used as it is; --overwrite builds it from the source again.",
                self.info.full_name,
                self.data_path,
            )
            super().download_and_prepare(**kwargs)
        elif "://" in self.data_dir:  # not on a file system of this machine
            self._build(super().download_and_prepare, **kwargs)
        else:
            self._build(self._build_alone, super().download_and_prepare, **kwargs)
        settings = dict(self.info.metadata.items())  # `get` would not read the file
        for name, asked in self.builder_config.stored().items():
            if (stored := settings.get(name)) != asked:
                raise InputError(
                    f"{self.data_path} was built with {name}={stored!r}; this config asks for {asked!r}. "
                    "Give the config another name, or build it again with --overwrite."
                )
        left_out = settings.get("bad_images")
        if left_out and self.builder_config.on_bad_image == "error":
            raise InputError(
                f"{self.data_path} was built without {left_out} images that could not be used (bad_images.csv); this "
                "config asks for all. Give the config another name, or build it again with --overwrite."
            )
        part = settings.get("max_examples_per_split")
        if part not in (None, config.max_examples_per_split):
            raise InputError(
                f"{self.data_path} holds only {part} examples of each split (--max_examples_per_split). "
                "Build the whole with --overwrite."
            )

    def _build(self, build: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        try:
            build(*args, **kwargs)
        except InputError as err:
            fail(err)
        except KeyboardInterrupt:
            if is_running():
                sys.exit(
                    "Interrupted. Nothing was published; the same command builds again from the start."
                )
            raise
        except Exception as err:  # TensorFlow, TFDS and Python each say it in their own way
            if not disk_is_full(err):
                raise
            fail(InputError(full_disk_message(Path(self.data_path))), err)

    def _build_alone(self, build: Callable[..., None], **kwargs: Any) -> None:
        folder = Path(self.data_path)
        with only_build(folder):
            if not folder.exists():
                build(**kwargs)
                return
            kwargs["download_dir"] = kwargs.get("download_dir") or self.data_dir_root / "downloads"
            with beside(folder) as room:
                new = type(self)(**(self._made_with | {"data_dir": room}))
                new.download_and_prepare(**kwargs)
                swap(folder, Path(new.data_path), room)
        self.info.read_from_directory(self.data_path)

    def is_prepared(self) -> bool:
        """As TFDS says, but "no" to `tfds build --overwrite`.

        That command deletes what is prepared before it builds; if the build then failed, both were gone.
        """
        return super().is_prepared() and not overwrite_requested()

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        """Builds, then refuses to publish what is not exactly the source: raising here leaves nothing."""
        if self.info.file_format is not tfds.core.FileFormat.TFRECORD:
            raise InputError(
                f"file format {self.info.file_format.value!r}; only 'tfrecord' is written and read here."
            )
        if download_config.max_examples_per_split == 0:
            raise InputError(
                "max_examples_per_split=0; a dataset needs 1 or more examples per split."
            )
        self._manual_dir = download_config.manual_dir or dl_manager.download_dir / "manual"
        self._facts: dict[str, Facts] = {}  # by image id
        self._bad: dict[str, str] = {}  # the reasons
        self._as_pipeline = bool(download_config.beam_options or download_config.beam_runner)
        self._most_per_split = download_config.max_examples_per_split
        if self._as_pipeline:
            runner = checked_runner(download_config.beam_options, download_config.beam_runner)
            download_config = dataclasses.replace(download_config, beam_runner=runner)
        try:
            super()._download_and_prepare(dl_manager, download_config)
        except InputError:
            raise
        except Exception:  # TFDS stops at a split without examples, and says less about it
            if self.builder_config.on_bad_image == "skip":
                self._log(wanted_by_beam=False).refuse_emptied()
            raise
        self._check_and_describe(self._log(), download_config.max_examples_per_split)

    def _log(self, *, wanted_by_beam: bool = True) -> BuildLog:
        if self._as_pipeline:
            wanted = [
                image
                for images in self._planned.values()
                for image in images[: self._most_per_split]
            ]
            ids = {image.image_id for image in wanted} if wanted_by_beam else set()
            self._facts, self._bad = read_notes(self.data_path / _NOTES, ids)
        return BuildLog(self._planned, self._bad, self._facts)

    def _check_and_describe(self, log: BuildLog, most: int | None) -> None:
        """Compares what was written with the scan of the source; then its fingerprint and the report.

        Args:
          most: examples per split, where less than everything was asked for.
        """
        if self.builder_config.on_bad_image == "error":
            log.refuse_bad()
        elif log.bad:
            log.refuse_emptied()
        digest = hashlib.sha256()
        splits = {}
        for split, images in log.planned.items():
            written, split_digest = read_back(
                [str(path) for path in self.info.splits[split].filepaths]
            )
            digest.update(f"{split} {split_digest} ".encode())
            if most is None:
                log.check_written(split, written)
            ids = set(written)
            splits[split] = [image for image in images if image.image_id in ids]
        self.info.metadata["fingerprint"] = digest.hexdigest()
        self.info.metadata["bad_images"] = len(log.bad)
        self.info.metadata["max_examples_per_split"] = most
        report = build_report(
            dataset=self.info.full_name.replace(f"/{self.version}", f":{self.version}"),
            settings=self.builder_config.stored(),
            splits=splits,
            facts=log.facts,
            classes=self.CLASSES,
            bad_images=log.bad,
            max_examples_per_split=most,
            notes=self.notes,
        )
        write_report(report, self.data_path)
        click.echo(f"\n\n{screen_text(report)}\n", err=True)  # below the progress bars
