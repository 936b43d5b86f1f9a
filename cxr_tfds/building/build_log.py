"""What a build learns of the images while it reads them once: facts of the good ones, reasons of the bad."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from cxr_tfds.building.file_stats import Facts
from cxr_tfds.errors import InputError
from cxr_tfds.sources import SourceImage
from cxr_tfds.sources.places import shown


@dataclasses.dataclass
class BuildLog:
    """Of one build.

    Attributes:
      planned: the images of each split, in the order they are read.
      bad: image id to the reason why it cannot be used.
      facts: image id to what its file tells.
    """

    planned: Mapping[str, Sequence[SourceImage]]
    bad: Mapping[str, str]
    facts: Mapping[str, Facts]

    def refuse_bad(self) -> None:
        """Raises:
        InputError: an image cannot be used; the message names them all.
        """
        if self.bad:
            raise InputError(
                f"{self._bad_listed()}\nNothing was built. Replace or remove what is listed and build again, or leave "
                'it out with --config \'{"name": "224-skip", "on_bad_image": "skip"}\'.'
            )

    def refuse_emptied(self) -> None:
        """Raises:
        InputError: no image of a class can be used in a split that had some.
        """
        before = {
            (split, image.label) for split, images in self.planned.items() for image in images
        }
        after = {
            (split, image.label)
            for split, images in self.planned.items()
            for image in images
            if image.image_id not in self.bad
        }
        if emptied := sorted(before - after):
            left = " and ".join(f"{label} in {split}" for split, label in emptied)
            raise InputError(
                f"{self._bad_listed()}\nWithout them no image is left of {left}. Nothing was built. "
                "Replace what is listed and build again."
            )

    def _bad_listed(self) -> str:
        paths = {image.image_id: image.path for images in self.planned.values() for image in images}
        rows = "\n".join(
            f"  {shown(paths[image_id])} {shown(reason)}"
            for image_id, reason in sorted(self.bad.items())
        )
        files = "1 file" if len(self.bad) == 1 else f"{len(self.bad)} files"
        return f"{files} cannot be used:\n{rows}"

    def check_written(self, split: str, written: Sequence[str]) -> None:
        """Compares the ids in the shards of a split with the scan of the source, by count and by id.

        Raises:
          InputError: an image that can be used is missing, doubled, or not of the source.
        """
        wanted = [image.image_id for image in self.planned[split] if image.image_id not in self.bad]
        if sorted(written) == sorted(wanted):
            return
        missing, unexpected = sorted(set(wanted) - set(written)), sorted(set(written) - set(wanted))
        raise InputError(
            f"split {split}: {len(wanted)} images in the source, {len(written)} examples written; "
            f"missing {missing[:10]}, unexpected {unexpected[:10]}. Nothing was published; build again."
        )
