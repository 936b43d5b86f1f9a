"""Writes the records of a planned dataset: shard by shard on this machine or Dask, or with Beam."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from cxr_tfds.building.beam import make_pipeline
from cxr_tfds.building.build_log import BuildLog
from cxr_tfds.building.complete_builder import CompleteBuilder
from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.building.engines import fit_all, list_versions
from cxr_tfds.building.examples import make_example, make_serializer
from cxr_tfds.building.fitting import FitSettings
from cxr_tfds.building.shards import Shard, describe_splits, plan_shards, write_shards
from cxr_tfds.imaging.grey_levels import GreyLevels
from cxr_tfds.sources import SourceImage

BEAM_LOG = "log"  # folder in the incomplete dataset to which Beam workers write


class RecordBuilder(CompleteBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Decodes the images of `_log.splits`, which `_split_generators` plans, and writes them."""

    CLASSES: Sequence[str] = ()
    FINDINGS: Sequence[str] = ()
    SEVERAL_FINDINGS: ClassVar[bool] = False  # whether an image may have several findings
    builder_config: RadiographConfig
    _levels: GreyLevels
    _log: BuildLog
    _max_examples: int | None  # per split
    _progress: Callable[[int, int], object] | None
    _shards: Sequence[Shard] = ()  # complete, but not yet published; none if TFDS writes them
    _uses_beam: bool

    def _generate_splits(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> Sequence[tfds.core.SplitInfo]:
        if self._uses_beam or self.unfinished is None:
            return super()._generate_splits(dl_manager, download_config)
        self._split_generators(dl_manager)
        config, features = self.builder_config, self.info.features
        splits = {split: x[: self._max_examples] for split, x in self._log.splits.items()}
        self._shards = plan_shards(
            splits,
            self.unfinished,
            self._list_settings(),
            math.prod(features["image"].shape) if config.size else None,
            download_config.get_shard_config(),
        )
        make = partial(make_example, placeholder_shape=None, has_states=self.SEVERAL_FINDINGS)
        write_shards(
            self._shards,
            self._log,
            partial(fit_all, settings=self._fit_settings()),
            make_serializer(features, make),
            keeps_bad=config.on_bad_image == "skip",
            progress=self._progress,
        )
        if config.on_bad_image == "error":
            self._log.check_no_bad_images()
        else:  # also ensures that no split is empty
            self._log.check_classes_remain()
        return describe_splits(self._shards, self._log, self._get_filename_template)

    def _list_settings(self) -> list[Any]:
        """Returns everything besides the images that decides the records, as JSON holds it."""
        config = self.builder_config
        dataset = (self.info.full_name, self.CLASSES, self.FINDINGS, self.SEVERAL_FINDINGS)
        settings = (config.stored(), config.on_bad_image, self._levels.to_metadata())
        return [*dataset, *settings, list_versions()]

    def _fit_settings(self) -> FitSettings:
        config = self.builder_config
        return FitSettings(config.size, config.channels, config.fit, self._levels)

    def _generate_examples(self, images: Sequence[SourceImage]) -> Any:
        """Returns the `(image_id, example)` pairs of a split: an iterator or a Beam transform."""
        # TFDS stops at a split without examples. With a placeholder for each unusable image it goes
        # on, and the build can list the unusable files of all splits.
        skips = self.builder_config.on_bad_image == "skip"
        shape = None if skips else self.info.features["image"].shape
        make = partial(make_example, placeholder_shape=shape, has_states=self.SEVERAL_FINDINGS)
        chosen = images[: self._max_examples]
        if self._uses_beam:
            return make_pipeline(chosen, self._fit_settings(), make, self.data_path / BEAM_LOG)
        return self._read_examples(chosen, make)

    def _read_examples(
        self, images: Sequence[SourceImage], make: Callable[..., dict[str, Any] | None]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the examples for TFDS, which writes the shards on a remote file system."""
        results = fit_all([image.path for image in images], self._fit_settings())
        for image, result in zip(images, results, strict=True):
            self._log.add(image.image_id, result)
            if (example := make(image, result)) is not None:
                yield image.image_id, example
