"""The base class of every dataset builder: source files to checked TFRecords.

A dataset adds its class names, findings, instructions and `scan`. Decoding, fitting, splitting and
the checks before publication are here.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from absl import logging

from cxr_tfds.building.beam import check_complete, choose_runner, read_log
from cxr_tfds.building.build_log import BuildLog
from cxr_tfds.building.build_report import build_report, print_report, write_report
from cxr_tfds.building.config import RadiographConfig, check_choice
from cxr_tfds.building.croissant import write_croissant
from cxr_tfds.building.examples import make_features
from cxr_tfds.building.grey_range import check_grey_levels, resolve_levels
from cxr_tfds.building.identical import find_identical_files, find_identical_pixels
from cxr_tfds.building.plan import find_contradiction, plan_splits
from cxr_tfds.building.record_builder import BEAM_LOG, RecordBuilder
from cxr_tfds.building.shards import published_shards
from cxr_tfds.building.source_record import check_same_source, describe_source
from cxr_tfds.building.tfds_command import install_error_handler
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.reading.fingerprint import describe_settings, write_fingerprint
from cxr_tfds.reading.names import DEFAULT_CONFIG
from cxr_tfds.reading.tfds_files import read_info, read_metadata
from cxr_tfds.sources import Listing, ReaderSettings, kaggle, read_source
from cxr_tfds.sources.config_json import repeat_settings
from cxr_tfds.sources.origin import describe_origin, parse_readme, read_origin
from cxr_tfds.sources.patients import EXAMPLES
from cxr_tfds.sources.recognition import propose_builder

_PROJECT_PAGE = "https://github.com/cxr-tfds/cxr-tfds"

install_error_handler()


class RadiographBuilder(RecordBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builds sharded TFRecords of fitted radiographs, complete or not at all.

    Attributes:
      CLASSES: Names of the classes, the negative class first; empty if the source determines them.
      FINDINGS: Names of the findings; empty if they are the classes.
      READER: How the source is read, unless the builder overrides `scan`.
      CONFIG: Class of the configs.
    """

    CLASSES: Sequence[str] = ()
    FINDINGS: Sequence[str] = ()
    READER: ClassVar[ReaderSettings] = ReaderSettings()
    HOMEPAGE: ClassVar[str] = ""  # of a published dataset
    PATIENT_NAMES: ClassVar[str] = EXAMPLES  # where patients are recognized, for a warning
    KAGGLE: ClassVar[str] = ""  # OWNER/NAME on Kaggle, downloaded if no images are found
    CUTS_TEST: ClassVar[bool] = False  # whether to cut a test split if the source has none
    CONFIG: ClassVar[type[RadiographConfig]] = RadiographConfig

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Lists the default config, and points TFDS to README.md and the other metadata files.

        TFDS derives the folder from the module name, which has no folder in an editable install.
        """
        if "BUILDER_CONFIGS" not in vars(cls):
            description = "224 x 224 greyscale, raw uint8"
            cls.BUILDER_CONFIGS = [cls.CONFIG(name=DEFAULT_CONFIG, description=description)]
        cls.pkg_dir_path = Path(inspect.getfile(cls)).parent
        super().__init_subclass__(**kwargs)

    def __init__(
        self,
        *,
        config: str | RadiographConfig | None = None,
        progress: Callable[[int, int], object] | None = None,
        **kwargs: Any,
    ) -> None:
        """Creates a builder; see `tfds.core.DatasetBuilder`.

        Args:
          config: Name of a listed config, or a config of its own.
          progress: Called with the number of images that were read, and of all images. Without it,
            the build report is printed to stderr.
          kwargs: For TFDS.

        Raises:
          InputError: `config` names no listed config, or is another one with the name of a listed
            config.
        """
        check_choice(config, self.builder_configs, self.name)
        super().__init__(config=config, **kwargs)
        self._progress = progress
        self._arguments["progress"] = progress
        self.builder_config.reader_settings(self.READER)  # checks them

    def scan(self, source: Path) -> Listing:
        """Returns the images in the folder given by `--manual_dir`, without decoding any."""
        return read_source(source, self.builder_config.reader_settings(self.READER))

    def check_stored(self, max_examples: int | None) -> None:
        """Compares the metadata of the dataset on disk with the config."""
        stored = read_metadata(self.data_path, read_info(self.data_path))
        self.builder_config.check_metadata(stored, self.data_path, max_examples)

    def check_source(self, source: Path) -> None:
        """Compares a source with the one from which the dataset on disk was built."""
        stored = read_metadata(self.data_path, read_info(self.data_path)).get("source")
        if stored is None:  # built by an earlier version
            return
        try:
            with repeat_settings(self.builder_config.list_given()):
                listing = self.scan(source)
        except MissingData:  # the images were moved, or came from Kaggle
            return
        shards = [str(path) for split in self.info.splits.values() for path in split.filepaths]
        check_same_source(Path(self.data_path), stored, shards, source, listing)

    def _info(self) -> tfds.core.DatasetInfo:
        info = self.dataset_info_from_configs(
            features=make_features(
                self.builder_config, self.CLASSES, self.FINDINGS, has_states=self.SEVERAL_FINDINGS
            ),
            supervised_keys=("image", "label"),
            homepage=self.HOMEPAGE or _PROJECT_PAGE,  # TFDS would name a page of its catalog
            metadata=tfds.core.MetadataDict(self.builder_config.stored()),
        )
        # TFDS's bucket holds none of these datasets; each look leaves a temporary folder behind.
        info.initialize_from_bucket = lambda: None
        return info

    def _download_and_prepare(self, **kwargs: Any) -> None:
        with repeat_settings(self.builder_config.list_given()):
            self._build_checked(**kwargs)

    def _build_checked(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        # TFDS publishes the dataset after this method: an error here publishes nothing.
        if self.info.file_format is not tfds.core.FileFormat.TFRECORD:
            raise InputError(f"file_format={self.info.file_format.value!r}; expected 'tfrecord'.")
        self._max_examples = download_config.max_examples_per_split
        if self._max_examples == 0:
            raise InputError("max_examples_per_split=0; expected 1 or more.")
        self._manual_dir = download_config.manual_dir or dl_manager.download_dir / "manual"
        self._uses_beam = bool(download_config.beam_options or download_config.beam_runner)
        if self._uses_beam:
            runner = choose_runner(download_config.beam_options, download_config.beam_runner)
            download_config = dataclasses.replace(download_config, beam_runner=runner)
        self._identical: list[Sequence[str]] = []
        while True:
            self._write_shards(partial(super()._download_and_prepare, dl_manager, download_config))
            # Identical pixels are known only now. In most sources they are in identical files,
            # which were found before; otherwise the build starts again.
            images = [image for images in self._log.splits.values() for image in images]
            identical = find_identical_pixels(images, self._log.stats)
            if not find_contradiction(self._log.splits, identical, self.builder_config):
                break
            logging.info("Found identical images in different files. Building again.")
            self._identical += identical
            for path in self.data_path.iterdir():
                path.rmtree() if path.is_dir() else path.unlink()
        self._check_and_describe()

    def _write_shards(self, prepare: Callable[[], None]) -> None:
        self._log = BuildLog()
        try:
            prepare()
        except InputError:
            raise
        except Exception:  # TFDS stops at a split without examples, but does not list the files
            if self.builder_config.on_bad_image == "skip":
                read_log(self.data_path / BEAM_LOG, self._log)
                self._log.check_classes_remain()
            raise
        if self._uses_beam:
            read_log(self.data_path / BEAM_LOG, self._log)
            planned = (images[: self._max_examples] for images in self._log.splits.values())
            check_complete(self._log, {image.image_id for images in planned for image in images})

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        listing = self._find_images(dl_manager)
        self.CLASSES = listing.classes
        self.FINDINGS = type(self).FINDINGS or listing.findings
        self.info.metadata["reader"] = self.builder_config.reader_settings(self.READER).to_config()
        self.info.metadata["several_findings"] = listing.several_findings
        if not self.FINDINGS:
            labelled = [image._replace(finding=image.label or None) for image in listing.images]
            listing = listing._replace(images=labelled)
            self.FINDINGS = self.CLASSES
        for feature, names in (("label", self.CLASSES), ("finding", self.FINDINGS)):
            self.info.features[feature].names = list(names)
        identical = [*find_identical_files(listing.images), *self._identical]
        plan = plan_splits(
            listing, self.builder_config, cuts_test=self.CUTS_TEST, identical=identical
        )
        if count := plan.images_without_patient:
            text = "%d of %d images have no known patient. Names with a patient id: %s"
            logging.warning(text, count, len(listing.images), self.PATIENT_NAMES)
        images = [image for images in plan.splits.values() for image in images]
        self._levels, notes = resolve_levels(images, self.builder_config.grey_levels)
        self.info.metadata["grey_range"] = self._levels.to_metadata()["grey_range"]
        self.info.metadata["conflicting_images"] = plan.conflicting_images
        self._log.splits, self._notes = plan.splits, plan.notes + notes
        return {split: self._generate_examples(images) for split, images in plan.splits.items()}

    def _find_images(self, dl_manager: tfds.download.DownloadManager) -> Listing:
        try:
            source = Path(dl_manager.manual_dir)
        except (AssertionError, NotADirectoryError):  # `scan` has better messages
            source = Path(self._manual_dir)
        try:
            source, listing = kaggle.scan_or_download(
                self.scan, source, dl_manager, self.KAGGLE, self.MANUAL_DOWNLOAD_INSTRUCTIONS
            )
        except MissingData as err:
            raise propose_builder(err, source, self.name) from None
        self.info.metadata["source"] = describe_source(listing)
        origin = read_origin(source, listing.images)
        if self.HOMEPAGE and not origin.get("drawn"):  # a published dataset
            origin = parse_readme((self.pkg_dir_path / "README.md").read_text(encoding="utf-8"))
        self.info.metadata["origin"] = describe_origin(origin | self.builder_config.origin_texts())
        return listing

    def _check_and_describe(self) -> None:
        """Compares the shards with the source, then stores the fingerprint and the report."""
        log, metadata = self._log, self.info.metadata
        if self.builder_config.on_bad_image == "error":
            log.check_no_bad_images()
        elif log.bad:
            log.check_classes_remain()
        paths = {split: list(map(str, self.info.splits[split].filepaths)) for split in log.splits}
        sizes = {split: self.info.splits[split].shard_lengths for split in log.splits}
        with published_shards(self._shards, paths) as shards:
            splits, digests = log.read_back(shards, sizes, is_complete=self._max_examples is None)
        shape = self.info.features["image"].shape
        metadata.update(bad_images=len(log.bad), max_examples_per_split=self._max_examples)
        settings = describe_settings(self.CLASSES, self.FINDINGS, shape, metadata)
        metadata.update(write_fingerprint(Path(self.data_path), digests, settings, metadata))
        written = [image for images in splits.values() for image in images]
        self._notes += check_grey_levels(written, log.stats)
        report = build_report(
            dataset=self.info.full_name.replace(f"/{self.version}", f":{self.version}"),
            settings=self.builder_config.stored(),
            splits=splits,
            stats=log.stats,
            classes=self.CLASSES,
            bad_images=log.bad,
            max_examples_per_split=self._max_examples,
            notes=self._notes,
        )
        write_report(report, self.data_path)
        names = self.CLASSES if self.info.metadata["several_findings"] else ()
        write_croissant(self.info, Path(self.data_path), names)
        if self._progress is None:
            print_report(report)
