"""A TFDS builder that publishes complete datasets only and never loses one."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from cxr_tfds.building.shards import unfinished_folder
from cxr_tfds.building.tfds_command import is_absl_command, overwrite_requested
from cxr_tfds.deadline import deadlines, end_on_signals
from cxr_tfds.files import complete_folder, write_files
from cxr_tfds.reading.tfds_files import INFO, explain_corrupt


class CompleteBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builds under a lock and replaces an existing dataset only by a complete one.

    Attributes:
      unfinished: Folder for the complete shards of a build that may be interrupted, or None if the
        dataset is not on a local file system.
    """

    unfinished: Path | None = None

    def __init__(self, **kwargs: Any) -> None:
        """Creates a builder; see `tfds.core.DatasetBuilder`.

        Raises:
          InputError: The dataset exists, and its description is corrupt.
        """
        self._arguments = kwargs
        try:
            super().__init__(**kwargs)
        except Exception as err:  # TFDS has read the description of an existing dataset
            folder = Path(vars(self).get("_data_dir", ""))
            if (folder / INFO).is_file():
                explain_corrupt(folder, err)
            raise

    def check_stored(self, max_examples: int | None) -> None:
        """Checks that the dataset on disk is what was asked for; subclasses override it."""

    def check_source(self, source: Path) -> None:
        """Checks that the dataset on disk was built from this source; subclasses override it."""

    def is_prepared(self) -> bool:
        """Returns whether the dataset is built, but False under `tfds build --overwrite`.

        That command would delete a prepared dataset before it builds. If the build then failed,
        both would be lost.
        """
        return super().is_prepared() and not overwrite_requested()

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Builds the dataset, see `tfds.core.DatasetBuilder`.

        Only one process builds a dataset at a time. An existing dataset is reused if its settings
        match. To overwrite it, a new one is built first and then takes its place.

        Raises:
          InputError: The source or a setting cannot be used, the disk is full, another process
            builds the dataset, or the existing dataset has other settings or another source.
        """
        config = kwargs.get("download_config") or tfds.download.DownloadConfig()
        is_reused = self.data_path.exists() and not config.download_mode.overwrite_dataset
        if is_reused:
            logging.warning(
                "%s exists in %s and is reused. Add --overwrite to build it again from the source.",
                self.info.full_name,
                self.data_path,
            )
            super().download_and_prepare(**kwargs)
        else:
            # Only a command may be ended, not a notebook.
            ending = end_on_signals() if is_absl_command() else contextlib.nullcontext()
            with ending, _explain_interrupt(), deadlines():
                self._build(super().download_and_prepare, kwargs, config)
        self.check_stored(config.max_examples_per_split)
        if is_reused and config.manual_dir:
            self.check_source(Path(config.manual_dir))

    def _build(
        self,
        prepare: Callable[..., None],
        kwargs: dict[str, Any],
        config: tfds.download.DownloadConfig,
    ) -> None:
        if "://" in self.data_dir:  # not a local file system
            prepare(**kwargs)
            return
        kwargs["download_dir"] = kwargs.get("download_dir") or self.data_dir_root / "downloads"
        path = Path(self.data_path)
        with complete_folder(path) as folder:
            new = type(self)(**(self._arguments | {"data_dir": folder.parent}))
            new.unfinished = unfinished_folder(path)
            if config.download_mode.overwrite_dataset:  # from the start
                shutil.rmtree(new.unfinished, ignore_errors=True)
            super(CompleteBuilder, new).download_and_prepare(**kwargs)
            new_path = Path(new.data_path)
            # The name of the default config, which TFDS stores next to the configs.
            for file in (new_path.parents[1] / ".config").glob("*"):
                (path.parents[1] / ".config").mkdir(exist_ok=True)
                write_files({path.parents[1] / ".config" / file.name: file.read_bytes()})
            new_path.rename(folder)
        self.info.read_from_directory(self.data_path)


@contextlib.contextmanager
def _explain_interrupt() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if is_absl_command():
            sys.exit(
                "Interrupted. Nothing was published. Run the same command again to continue with "
                "the shards that are complete."
            )
        raise
