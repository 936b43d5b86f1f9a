"""A TFDS builder that publishes complete datasets only and never loses one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from cxr_tfds import files
from cxr_tfds.building.tfds_command import is_absl_command, overwrite_requested
from cxr_tfds.errors import InputError


class CompleteBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builds under a lock and replaces an existing dataset only by a complete one."""

    def __init__(self, **kwargs: Any) -> None:
        """Creates a builder; see `tfds.core.DatasetBuilder`."""
        self._arguments = kwargs
        super().__init__(**kwargs)

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
            with self._explain_failure():
                self._build(super().download_and_prepare, kwargs)
        self.check_stored(config.max_examples_per_split)
        if is_reused and config.manual_dir:
            self.check_source(Path(config.manual_dir))

    def _build(self, prepare: Callable[..., None], kwargs: dict[str, Any]) -> None:
        if "://" in self.data_dir:  # not a local file system
            prepare(**kwargs)
            return
        folder = Path(self.data_path)
        with files.lock_folder(folder):
            if not folder.exists():
                prepare(**kwargs)
                return
            kwargs["download_dir"] = kwargs.get("download_dir") or self.data_dir_root / "downloads"
            with files.temporary_folder(folder) as temporary:
                new = type(self)(**(self._arguments | {"data_dir": temporary}))
                new.download_and_prepare(**kwargs)
                files.replace_folder(folder, Path(new.data_path), temporary)
        self.info.read_from_directory(self.data_path)

    @contextlib.contextmanager
    def _explain_failure(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            if is_absl_command():
                sys.exit(
                    "Interrupted. Nothing was published. Run the same command again to build from "
                    "the start."
                )
            raise
        except Exception as err:  # TensorFlow, TFDS and Python report a full disk differently
            if isinstance(err, InputError) or not files.is_disk_full(err):
                raise
            free = files.free_megabytes(Path(self.data_path))
            raise InputError(
                f"The disk of {self.data_dir} is full: {free:,.0f} MB are free after the "
                "incomplete dataset was removed. Nothing was published. Free some space or choose "
                "another --data_dir, then build again."
            ) from err
