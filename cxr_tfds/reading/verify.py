"""Compares the records of a dataset with the fingerprint of its build."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from cxr_tfds.errors import InputError
from cxr_tfds.progress import progress_bar
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.fingerprint import (
    FILE,
    LABEL_FIELDS,
    Fingerprint,
    SplitDigests,
    check_trust,
    digest_records,
    sign_fingerprint,
)
from cxr_tfds.signing import load_private_key


def verify_dataset(dataset: BuiltDataset, trust: str | Path | None = None) -> str | None:
    """Implements `BuiltDataset.verify`."""
    # The signature covers the digests, so it is checked first.
    key = None if trust is None else check_trust(dataset.folder, dataset.recorded, trust)
    digests, changes = {}, []
    with progress_bar(f"verifying {dataset.name}", sum(dataset.sizes.values())) as advance:
        for split in dataset.shards:
            try:
                digests[split] = _digest(dataset, split, advance)
            except InputError as err:  # names the corrupt shard
                changes.append(str(err).partition(" Remove ")[0])
    if dataset.recorded is not None:
        for split, found in digests.items():
            changes += _find_changes(dataset, dataset.recorded, split, found)
    elif not changes:
        records = {split: found.records for split, found in digests.items()}
        if digest_records(records) != dataset.fingerprint:
            changes.append("The records differ from the fingerprint.")
    if changes:
        listed = "\n".join(f"  {change}" for change in changes)
        raise InputError(
            f"{dataset.folder} was changed after it was built:\n{listed}\nRemove the folder and "
            "build it again, or copy it again."
        )
    return key


def sign_dataset(dataset: BuiltDataset, key: str | Path) -> Path:
    """Signs the fingerprint of a dataset after comparing all records with it.

    Returns:
      The file of the signature.

    Raises:
      MissingData: The file of the key does not exist.
      InputError: It holds no Ed25519 private key, the dataset was changed after it was built, or an
        earlier version built it.
    """
    loaded = load_private_key(key)
    check_has_fingerprint(dataset)
    verify_dataset(dataset)
    return sign_fingerprint(dataset.folder, loaded)


def check_has_fingerprint(dataset: BuiltDataset) -> None:
    """Raises an InputError if the fingerprint covers the records only."""
    if dataset.recorded is None:
        raise InputError(
            f"{dataset.folder} was built by an earlier version: its fingerprint does not cover "
            "class names and settings. Remove the folder and build it again."
        )


def _digest(dataset: BuiltDataset, split: str, advance: Callable[[int], object]) -> SplitDigests:
    from cxr_tfds.reading.records import digest_split
    from cxr_tfds.reading.sequential import name_corrupt_shard

    shards, sizes = dataset.shards[split], dataset.shard_sizes[split]
    own = dataclasses.replace(dataset, shards={split: shards}, shard_sizes={split: sizes})
    with name_corrupt_shard(own):
        return digest_split(shards, sizes, lambda ids: advance(len(ids)))


def _find_changes(
    dataset: BuiltDataset, recorded: Fingerprint, split: str, found: SplitDigests
) -> list[str]:
    """Returns what differs from the fingerprint in a split, in words."""
    built = dict(recorded["content"]["splits"][split])
    ends = recorded["shards"].get(split, [])
    if found.content() == built:
        same = found.shards == ends
        return [] if same else [f"{split}: {FILE} has other digests of the shards."]
    fields = [name for name in LABEL_FIELDS if found.labels[name] != built[name]]
    what = f"the {' and the '.join(fields)} of examples" if fields else "examples"
    for shard, end, built_end in zip(dataset.shards[split], found.shards, ends, strict=False):
        if end != built_end:
            return [f"{split}: {what} differ, first in {Path(shard).name}."]
    return [f"{split}: {what} differ."]
