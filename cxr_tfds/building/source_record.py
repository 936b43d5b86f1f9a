"""What a built dataset remembers of its source, to notice a build from another one.

In the metadata under `source`, without a local path:

    {"images": 140, "splits": {"train": {"NORMAL": 70, "PNEUMONIA": 70}}, "digest": "3f2a…"}

`digest` is the SHA-256 of the ids, file sizes and labels of all images. `splits` counts the
source's own splits. A zip and its extracted copy are the same source.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr_tfds.errors import InputError
from cxr_tfds.native import load_tensorflow
from cxr_tfds.sources import Listing
from cxr_tfds.sources.archives import SourcePath
from cxr_tfds.sources.image import get_labels


def describe_source(listing: Listing) -> dict[str, Any]:
    """Returns what the metadata of a dataset hold of its source."""
    splits: dict[str, Counter[str]] = {}
    digest = hashlib.sha256()
    for image in sorted(listing.images, key=lambda image: image.image_id):
        labels = get_labels(image, listing.classes)
        splits.setdefault(image.split, Counter()).update(labels)
        states = " ".join(str(int(state)) for state in image.states)
        line = f"{image.image_id}\t{_get_size(image.path)}\t{image.label}\t{states}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return {
        "images": len(listing.images),
        "splits": {split: dict(sorted(counts.items())) for split, counts in sorted(splits.items())},
        "digest": digest.hexdigest(),
    }


def _get_size(path: SourcePath) -> int:
    """Returns the size of a file in bytes, -1 if it cannot be read."""
    if not isinstance(path, Path):
        return path.entry.file_size if path.entry else -1
    try:
        return path.stat().st_size
    except OSError:
        return -1


def check_same_source(
    folder: Path,
    stored: Mapping[str, Any],
    shards: Sequence[str],
    source: Path,
    listing: Listing,
) -> None:
    """Compares a source with the one from which a dataset was built.

    Args:
      folder: The dataset.
      stored: What its metadata hold of its source.
      shards: Of all its splits.
      source: The other source.
      listing: Its images.

    Raises:
      InputError: They differ; the message describes both.
    """
    described = describe_source(listing)
    if described["digest"] == stored["digest"]:
        return
    load_tensorflow()  # which takes seconds, only now: most sources are the same
    from cxr_tfds.reading.records import digest_split

    built, found = set[str](), {image.image_id for image in listing.images}
    digest_split(shards, (), built.update)
    difference = (
        f"{len(built - found):,} image ids of the dataset are not in {source}, "
        f"{len(found - built):,} of {source} are not in the dataset."
    )
    if built == found:
        difference = "The image ids are the same, but the files or the labels have changed."
    raise InputError(
        f"{folder} was built from another source.\n"
        f"  Built: {_format(stored)}\n"
        f"  {source}: {_format(described)}\n"
        f"{difference}\nKeep both by giving the config another name (cxr-data build: --set "
        "name=224-other), choose another folder for datasets, or replace the dataset with "
        "--overwrite."
    )


def _format(source: Mapping[str, Any]) -> str:
    splits = [
        f"{split} {', '.join(f'{name} {count:,}' for name, count in counts.items())}"
        for split, counts in source["splits"].items()
    ]
    return f"{source['images']:,} images ({'; '.join(splits)})"
