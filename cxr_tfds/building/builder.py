"""The base class of every dataset builder: source files to checked TFRecords.

A dataset adds its class names, findings, instructions and `scan`. Decoding, fitting, splitting and
the checks before publication are here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from absl import logging

from cxr_tfds.building.beam import check_complete, choose_runner, make_pipeline, read_log
from cxr_tfds.building.build_log import BuildLog
from cxr_tfds.building.build_report import SCREEN_ROWS, build_report, format_report, write_report
from cxr_tfds.building.complete_builder import CompleteBuilder
from cxr_tfds.building.config import CONFIG_NAME, RadiographConfig
from cxr_tfds.building.croissant import write_croissant
from cxr_tfds.building.engines import fit_all
from cxr_tfds.building.examples import make_example, make_features
from cxr_tfds.building.fitting import FitSettings
from cxr_tfds.building.grey_range import check_grey_levels, resolve_levels
from cxr_tfds.building.identical import find_identical_files, find_identical_pixels
from cxr_tfds.building.plan import find_contradiction, plan_splits
from cxr_tfds.building.source_record import describe_source, explain_other_source
from cxr_tfds.building.tfds_command import install_error_handler
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.reading.names import config_option
from cxr_tfds.reading.records import read_back
from cxr_tfds.sources import (
    Listing,
    ReaderSettings,
    SourceImage,
    check_links,
    kaggle,
    read_source,
)
from cxr_tfds.sources.config_json import propose_config, repeat_settings
from cxr_tfds.sources.origin import ORIGIN_TEXTS, describe_origin, parse_readme, read_origin
from cxr_tfds.sources.patients import EXAMPLES
from cxr_tfds.sources.recognition import propose_builder
from cxr_tfds.text import screen_width

_PROJECT_PAGE = "https://github.com/cxr-tfds/cxr-tfds"
_BEAM_LOG = "log"  # folder in the incomplete dataset to which Beam workers write

install_error_handler()


class RadiographBuilder(CompleteBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builds sharded TFRecords of fitted radiographs, complete or not at all.

    Attributes:
      CLASSES: Names of the classes, the negative class first; empty if the source determines them.
      FINDINGS: Names of the findings; empty if they are the classes.
      READER: How the source is read, unless the builder overrides `scan`.
    """

    CLASSES: Sequence[str] = ()
    FINDINGS: Sequence[str] = ()
    READER: ClassVar[ReaderSettings] = ReaderSettings()
    SEVERAL_FINDINGS: ClassVar[bool] = False  # whether an image may have several findings
    HOMEPAGE: ClassVar[str] = ""  # of a published dataset
    PATIENT_NAMES: ClassVar[str] = EXAMPLES  # where patients are recognized, for a warning
    KAGGLE: ClassVar[str] = ""  # OWNER/NAME on Kaggle, downloaded if no images are found
    CUTS_TEST: ClassVar[bool] = False  # whether to cut a test split if the source has none
    BUILDER_CONFIGS = [RadiographConfig(name="224", description="224 x 224 greyscale, raw uint8")]  # noqa: RUF012
    builder_config: RadiographConfig

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Points TFDS to where README.md and the other metadata files are.

        TFDS derives the folder from the module name, which has no folder in an editable install.
        """
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
        if isinstance(config, str) and config not in self.builder_configs:
            option = config_option(config if CONFIG_NAME.fullmatch(config) else "512")
            raise InputError(
                f"{self.name} lists no config {config!r}. Give its settings:\n  tfds build "
                f"{self.name} --imports cxr_tfds.builders --manual_dir FOLDER {option}"
            )
        if isinstance(config, RadiographConfig) and (
            self.builder_configs.get(config.name, config) is not config
        ):
            with repeat_settings(config.list_given()):
                option = propose_config()
            raise InputError(
                f"The name {config.name!r} belongs to a listed config with its own settings. "
                f"Choose another name: {option}"
            )
        self._identical: list[Sequence[str]] = []
        self._log = BuildLog()
        super().__init__(config=config, **kwargs)
        self._progress = progress
        self._arguments["progress"] = progress
        self._read = 0
        self.builder_config.reader_settings(self.READER)  # checks them

    def scan(self, source: Path) -> Listing:
        """Returns the images in the folder given by `--manual_dir`, without decoding any."""
        settings = self.builder_config.reader_settings(self.READER)
        return read_source(source, settings)

    def check_links(self, source: Path, images: Sequence[SourceImage]) -> None:
        """Refuses links that lead out of the source. Builders with several sources override it."""
        check_links(source, (image.path for image in images))

    def check_stored(self, max_examples: int | None) -> None:
        """Compares the metadata of the dataset on disk with the config."""
        stored = dict(self.info.metadata.items())  # `get` would not read the file
        for name, value in self._list_origin_settings().items():
            if (known := stored.get("origin", {}).get(name)) != value:
                raise InputError(
                    f"{self.data_path} was built with {name}={known!r}, but this config has "
                    f"{value!r}. Give the config another name, or build again with --overwrite."
                )
        self.builder_config.check_metadata(stored, self.data_path, max_examples)

    def check_source(self, source: Path) -> None:
        """Compares a source with the one from which the dataset on disk was built."""
        stored = dict(self.info.metadata.items()).get("source")
        if stored is None:  # built by an earlier version
            return
        try:
            with repeat_settings(self.builder_config.list_given()):
                listing = self.scan(source)
        except MissingData:  # the images were moved, or came from Kaggle
            return
        if describe_source(listing)["digest"] != stored["digest"]:
            shards = [str(path) for split in self.info.splits.values() for path in split.filepaths]
            raise explain_other_source(Path(self.data_path), stored, shards, source, listing)

    def _list_origin_settings(self) -> dict[str, str]:
        config = self.builder_config
        # The description of a listed config is about the config.
        names = ORIGIN_TEXTS if config.name not in self.builder_configs else ORIGIN_TEXTS[1:]
        return {name: value for name in names if (value := getattr(config, name))}

    def _info(self) -> tfds.core.DatasetInfo:
        info = self.dataset_info_from_configs(
            features=make_features(
                self.builder_config,
                self.CLASSES,
                self.FINDINGS,
                has_states=self.SEVERAL_FINDINGS,
            ),
            supervised_keys=("image", "label"),
            homepage=self.HOMEPAGE or _PROJECT_PAGE,  # TFDS would name a page of its catalog
            metadata=tfds.core.MetadataDict(self.builder_config.stored()),
        )
        # TFDS's bucket holds none of these datasets; each look leaves a temporary folder behind.
        info.initialize_from_bucket = lambda: None
        return info

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        with repeat_settings(self.builder_config.list_given()):
            self._build_checked(dl_manager, download_config)

    def _build_checked(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        # TFDS publishes the dataset after this method: an error here leaves nothing behind.
        if self.info.file_format is not tfds.core.FileFormat.TFRECORD:
            raise InputError(f"file_format={self.info.file_format.value!r}; expected 'tfrecord'.")
        self._max_examples = download_config.max_examples_per_split
        if self._max_examples == 0:
            raise InputError("max_examples_per_split=0; expected 1 or more.")
        self._manual_dir = download_config.manual_dir or dl_manager.download_dir / "manual"
        self._log = BuildLog()
        self._uses_beam = bool(download_config.beam_options or download_config.beam_runner)
        if self._uses_beam:
            runner = choose_runner(download_config.beam_options, download_config.beam_runner)
            download_config = dataclasses.replace(download_config, beam_runner=runner)
        self._identical = []
        while True:
            self._write_shards(super()._download_and_prepare, dl_manager, download_config)
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

    def _write_shards(
        self,
        prepare: Callable[..., None],
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        self._log = BuildLog()
        try:
            prepare(dl_manager, download_config)
        except InputError:
            raise
        except Exception:  # TFDS stops at a split without examples, but does not list the files
            if self.builder_config.on_bad_image == "skip":
                read_log(self.data_path / _BEAM_LOG, self._log)
                self._log.check_classes_remain()
            raise
        if self._uses_beam:
            read_log(self.data_path / _BEAM_LOG, self._log)
            planned = (images[: self._max_examples] for images in self._log.splits.values())
            check_complete(self._log, {image.image_id for images in planned for image in images})

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        listing = self._find_images(dl_manager)
        self.CLASSES = listing.classes
        self.FINDINGS = type(self).FINDINGS or listing.findings
        reader = self.builder_config.reader_settings(self.READER)
        self.info.metadata["reader"] = reader.to_config()
        self.info.metadata["several_findings"] = listing.several_findings
        if not self.FINDINGS:
            labelled = [image._replace(finding=image.label or None) for image in listing.images]
            listing = listing._replace(images=labelled)
            self.FINDINGS = self.CLASSES
        for feature, names in (("label", self.CLASSES), ("finding", self.FINDINGS)):
            self.info.features[feature].names = list(names)
        plan = plan_splits(
            listing,
            self.builder_config,
            cuts_test=self.CUTS_TEST,
            identical=[*find_identical_files(listing.images), *self._identical],
        )
        if plan.images_without_patient:
            logging.warning(
                "%d of %d images have no known patient. Names with a patient id: %s",
                plan.images_without_patient,
                len(listing.images),
                self.PATIENT_NAMES,
            )
        images = [image for images in plan.splits.values() for image in images]
        self._levels, notes = resolve_levels(images, self.builder_config.grey_levels)
        self.info.metadata["grey_range"] = self._levels.to_metadata()["grey_range"]
        self.info.metadata["conflicting_images"] = plan.conflicting_images
        self._log.splits, self._notes = plan.splits, plan.notes + notes
        self._read = 0
        return {
            split: self._generate_examples(images) for split, images in self._log.splits.items()
        }

    def _find_images(self, dl_manager: tfds.download.DownloadManager) -> Listing:
        try:
            source = Path(dl_manager.manual_dir)
        except (
            AssertionError,
            NotADirectoryError,
        ):  # missing or a file: `scan` has better messages
            source = Path(self._manual_dir)
        try:
            source, listing = kaggle.scan_or_download(
                self.scan, source, dl_manager, self.KAGGLE, self.MANUAL_DOWNLOAD_INSTRUCTIONS
            )
        except MissingData as err:
            raise propose_builder(err, source, self.name) from None
        self.check_links(source, listing.images)
        self.info.metadata["source"] = describe_source(listing)
        origin = read_origin(source, listing.images)
        if self.HOMEPAGE and not origin.get("drawn"):  # a published dataset
            origin = parse_readme((self.pkg_dir_path / "README.md").read_text(encoding="utf-8"))
        self.info.metadata["origin"] = describe_origin(origin | self._list_origin_settings())
        return listing

    def _generate_examples(self, images: Sequence[SourceImage]) -> Any:
        """Returns the `(image_id, example)` pairs of a split: an iterator or a Beam transform."""
        config = self.builder_config
        settings = FitSettings(config.size, config.channels, config.fit, self._levels)
        # TFDS stops at a split without examples. With a placeholder for each unusable image it goes
        # on, and the build can list the unusable files of all splits.
        shape = None if config.on_bad_image == "skip" else self.info.features["image"].shape
        make = partial(make_example, placeholder_shape=shape, has_states=self.SEVERAL_FINDINGS)
        chosen = images[: self._max_examples]
        if self._uses_beam:
            return make_pipeline(chosen, settings, make, self.data_path / _BEAM_LOG)
        return self._read_examples(chosen, settings, make)

    def _read_examples(
        self,
        images: Sequence[SourceImage],
        settings: FitSettings,
        make: Callable[..., dict[str, Any] | None],
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        results = fit_all([image.path for image in images], settings)
        total = sum(len(all_of[: self._max_examples]) for all_of in self._log.splits.values())
        for image, result in zip(images, results, strict=True):
            self._log.add(image.image_id, result)
            self._read += 1
            if self._progress:
                self._progress(self._read, total)
            if (example := make(image, result)) is not None:
                yield image.image_id, example

    def _check_and_describe(self) -> None:
        """Compares the shards with the source, then stores the fingerprint and the report."""
        log = self._log
        if self.builder_config.on_bad_image == "error":
            log.check_no_bad_images()
        elif log.bad:
            log.check_classes_remain()
        digest = hashlib.sha256()
        splits = {}
        for split, images in log.splits.items():
            ids, split_digest = read_back([str(p) for p in self.info.splits[split].filepaths])
            digest.update(f"{split} {split_digest} ".encode())
            if self._max_examples is None:
                log.check_written(split, ids)
            present = set(ids)
            splits[split] = [image for image in images if image.image_id in present]
        self.info.metadata["fingerprint"] = digest.hexdigest()
        self.info.metadata["bad_images"] = len(log.bad)
        self.info.metadata["max_examples_per_split"] = self._max_examples
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
            # Blank lines separate it from the progress bars.
            text = format_report(report, SCREEN_ROWS, width=screen_width(sys.stderr))
            sys.stderr.write(f"\n\n{text}\n\n")
