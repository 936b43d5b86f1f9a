"""What a build learns about its images while it reads them, and the checks that follow from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from cxr_tfds.building.file_stats import FileStats
from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.imaging.pixels import DecodeResult
from cxr_tfds.reading.fingerprint import SplitDigests
from cxr_tfds.sources import SourceImage
from cxr_tfds.sources.config_json import propose_config
from cxr_tfds.text import printable


@dataclasses.dataclass
class BuildLog:
    """The images of one build.

    Attributes:
      splits: The images of each split, in the order they are read.
      stats: Image id to the statistics of its file, for usable images.
      bad: Image id to the reason why the image cannot be used.
    """

    splits: Mapping[str, Sequence[SourceImage]] = dataclasses.field(default_factory=dict)
    stats: dict[str, FileStats] = dataclasses.field(default_factory=dict)
    bad: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, image_id: str, result: DecodeResult) -> None:
        """Records the result of decoding one image."""
        if isinstance(result, BadImage):
            self.bad[image_id] = result.reason
        else:
            self.stats[image_id] = FileStats.from_image(result)

    def check_no_bad_images(self) -> None:
        """Refuses a build with unusable images.

        Raises:
          InputError: Some images cannot be used; the message lists them all.
        """
        if self.bad:
            raise InputError(
                f"{self._list_bad()}\nNothing was built. Replace or remove these files and build "
                f"again, or leave them out: {propose_config(on_bad_image='skip')}"
            )

    def check_classes_remain(self) -> None:
        """Refuses a build that leaves out all images of a class in a split.

        Raises:
          InputError: A class has no usable image in a split where the source has some.
        """
        planned, usable = (
            {
                (split, image.label)
                for split, images in self.splits.items()
                for image in images
                if image.image_id not in left_out
            }
            for left_out in ({}, self.bad)
        )
        if emptied := sorted(planned - usable):
            classes = " and ".join(f"{label} in {split}" for split, label in emptied)
            raise InputError(
                f"{self._list_bad()}\nWithout these files, no image of {classes} is left. Nothing "
                "was built. Replace these files and build again."
            )

    def _list_bad(self) -> str:
        paths = {image.image_id: image.path for images in self.splits.values() for image in images}
        rows = "\n".join(
            f"  {printable(paths[image_id])}: {printable(reason)}"
            for image_id, reason in sorted(self.bad.items())
        )
        return f"{len(self.bad)} unusable {'file' if len(self.bad) == 1 else 'files'}:\n{rows}"

    def read_back(
        self,
        shards: Mapping[str, Sequence[str]],
        sizes: Mapping[str, Sequence[int]],
        *,
        is_complete: bool,
    ) -> tuple[dict[str, list[SourceImage]], dict[str, SplitDigests]]:
        """Compares the shards with the source.

        Args:
          shards: Paths of the shards of each split.
          sizes: Number of examples in each of them.
          is_complete: Whether they contain all usable images.

        Returns:
          The images of each split that the shards contain, and the digests of each split.

        Raises:
          InputError: A usable image is missing, written twice, or not in the source.
        """
        # TensorFlow takes seconds to load, and a survey uses this module without it.
        from cxr_tfds.reading.records import digest_split

        digests, splits = {}, {}
        for split, images in self.splits.items():
            ids: list[str] = []
            digests[split] = digest_split(shards[split], sizes[split], ids.extend)
            if is_complete:
                self._check_written(split, ids)
            present = set(ids)
            splits[split] = [image for image in images if image.image_id in present]
        return splits, digests

    def _check_written(self, split: str, written: Sequence[str]) -> None:
        """Compares the image ids in the shards of a split with the source."""
        wanted = [image.image_id for image in self.splits[split] if image.image_id not in self.bad]
        if sorted(written) == sorted(wanted):
            return
        missing, unexpected = sorted(set(wanted) - set(written)), sorted(set(written) - set(wanted))
        raise InputError(
            f"Split {split}: {len(wanted)} images in the source, but {len(written)} examples "
            f"written; missing {missing[:10]}, unexpected {unexpected[:10]}. Nothing was "
            "published. Build again."
        )
