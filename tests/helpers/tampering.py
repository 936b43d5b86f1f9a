"""Changes of built datasets with valid checksums, as an accident or an attacker makes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.fingerprint import FILE, SIGNATURE, digest_records

Fields = Any  # the mutable fields of an example


def edit_records(shard: str, edit: Callable[[list[Fields]], object]) -> None:
    """Writes a shard again after `edit` changed the fields of its examples."""
    records = tf.data.TFRecordDataset(shard).as_numpy_iterator()
    examples = [tf.train.Example.FromString(record) for record in records]
    edit([example.features.feature for example in examples])
    with tf.io.TFRecordWriter(shard) as writer:
        for example in examples:
            writer.write(example.SerializeToString(deterministic=True))


def invert_labels(examples: list[Fields]) -> None:
    for fields in examples:
        fields["label"].int64_list.value[0] ^= 1


def swap_images(examples: list[Fields]) -> None:
    """Swaps the images of the first two examples of different classes."""
    first = examples[0]
    second = next(x for x in examples if x["label"] != first["label"])
    image = first["image"].bytes_list.value[0]
    first["image"].bytes_list.value[0] = second["image"].bytes_list.value[0]
    second["image"].bytes_list.value[0] = image


def swap_examples(examples: list[Fields]) -> None:
    """Swaps two examples, so that only their order changes."""
    first, second = (dict(x.items()) for x in examples[:2])
    copies = [
        {name: value.SerializeToString() for name, value in x.items()} for x in (first, second)
    ]
    for fields, copy in zip(examples[:2], reversed(copies), strict=True):
        for name, value in copy.items():
            fields[name].ParseFromString(value)


def edit_json(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Writes a JSON file again after `edit` changed its content."""
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def swap_lines(path: Path) -> None:
    """Writes a text file again with its lines in reverse order."""
    lines = path.read_text(encoding="utf-8").split()
    path.write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")


def forge_fingerprint(dataset: BuiltDataset) -> None:
    """Writes the fingerprint of the changed dataset, as an attacker can."""
    from cxr_tfds.reading.description import read_description
    from cxr_tfds.reading.fingerprint import describe_settings, write_fingerprint
    from cxr_tfds.reading.records import digest_split

    folder = dataset.folder
    signature = (folder / SIGNATURE).read_bytes() if (folder / SIGNATURE).exists() else None
    age_fingerprint(dataset)
    stored = read_description(folder)
    digests = {name: digest_split(x.paths, x.sizes) for name, x in stored.splits.items()}
    settings = describe_settings(
        stored.labels, stored.findings, stored.image_shape, stored.metadata
    )
    metadata = write_fingerprint(folder, digests, settings, stored.metadata)
    edit_json(folder / "metadata.json", lambda content: content.update(metadata))
    if signature is not None:
        (folder / SIGNATURE).write_bytes(signature)


def age_fingerprint(dataset: BuiltDataset) -> None:
    """Replaces the fingerprint with what an earlier version wrote."""
    assert dataset.recorded is not None
    splits = dataset.recorded["content"]["splits"]
    digest = digest_records({name: split["records"] for name, split in splits.items()})
    (dataset.folder / FILE).unlink()
    (dataset.folder / SIGNATURE).unlink(missing_ok=True)

    def age(metadata: dict[str, Any]) -> None:
        del metadata["fingerprint_version"]
        metadata["fingerprint"] = digest

    edit_json(dataset.folder / "metadata.json", age)
