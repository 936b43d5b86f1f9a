"""The Croissant description of a built dataset: JSON-LD that search engines and libraries read.

Croissant 1.0: https://docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cxr_tfds.files import write_json

FILE_NAME = "croissant.json"
_SHARDS, _EXAMPLES, _SPLITS = "shards", "examples", "splits"  # ids in the description
# Croissant names formats without a registered media type by a page that describes them.
_TFRECORD = "https://www.tensorflow.org/tutorials/load_data/tfrecord"
_LICENCE = re.compile(r"\*\*Licen[cs]e\*\*:\s*(?P<text>.+?)(?=\n\s*[-*] |\n\s*\n|\Z)", re.S)
_CREATIVE_COMMONS = re.compile(r"CC (?P<kind>BY(?:-NC)?(?:-SA|-ND)?) (?P<version>\d\.\d)")
_NO_LICENCE = "The licence of the source images."
_NO_CITATION = "Cite the source of the images."
# The context that the specification prescribes, and the terms that mlcroissant adds to it.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
} | {
    term: f"cr:{term}"
    for term in (
        "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty",
        "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField",
        "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
        "separator", "source", "subField", "transform",
    )
}  # fmt: skip


def write_croissant(info: tfds.core.DatasetInfo, folder: Path, classes: Sequence[str] = ()) -> Path:
    """Writes `folder`/croissant.json and returns its path.

    mlcroissant reads the record sets of the splits and class names. It has no reader of TFRecord,
    so the examples are described but are read with TFDS.

    Args:
      info: The dataset, with its splits and the names of its classes.
      folder: The folder of its shards, which are read for their checksums.
      classes: Names of the findings, if the images have a vector of findings instead of a class.
    """
    name = info.full_name.rpartition("/")[0]
    files = sorted(
        Path(folder, Path(path).name) for split in info.splits.values() for path in split.filepaths
    )
    record_sets = _describe_names(info, classes)
    description = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": info.description,
        "version": str(info.version),
        "datePublished": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "license": _find_licence(info.description),
        "citeAs": info.citation or _NO_CITATION,
        # `info.homepage` would be a page of TFDS's catalog, which does not list these datasets.
        "url": next(iter(info.as_proto.location.urls), ""),
        "distribution": [_describe_shards(info.name), *map(_describe_file, files)],
        "recordSet": [
            _describe_splits(info),
            *record_sets.values(),
            {
                "@type": "cr:RecordSet",
                "@id": _EXAMPLES,
                "name": _EXAMPLES,
                "description": "One record for each image, stored as a tf.train.Example.",
                "key": {"@id": f"{_EXAMPLES}/image_id"},
                "field": [
                    _describe_split_field(info),
                    *(
                        _describe_feature(key, feature, record_sets)
                        for key, feature in info.features.items()
                    ),
                ],
            },
        ],
    }
    path = Path(folder, FILE_NAME)
    write_json(path, {key: value for key, value in description.items() if value})
    return path


def _find_licence(description: str) -> str:
    """Returns the licence that the README of the builder states, as an address if it is known."""
    match = _LICENCE.search(description)
    text = " ".join(match["text"].split()) if match else _NO_LICENCE
    if known := _CREATIVE_COMMONS.fullmatch(text.rstrip(".")):
        kind, version = known["kind"].lower(), known["version"]
        return f"https://creativecommons.org/licenses/{kind}/{version}/"
    return text


def _describe_file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = _sha256(file)
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _TFRECORD,
        "sha256": digest,
    }


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _describe_shards(dataset: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": _SHARDS,
        "name": _SHARDS,
        "description": "TFRecord files of tf.train.Example. Read them with "
        "tfds.builder_from_directory or cxr_tfds.open_dataset.",
        "encodingFormat": _TFRECORD,
        "includes": f"{dataset}-*.tfrecord-*",
    }


def _describe_splits(info: tfds.core.DatasetInfo) -> dict[str, Any]:
    records = [
        {"name": name, "num_examples": split.num_examples} for name, split in info.splits.items()
    ]
    return _inline_records(
        _SPLITS, "The splits.", "name", {"name": "sc:Text", "num_examples": "cr:Int64"}, records
    ) | {"dataType": "cr:Split"}


def _describe_names(
    info: tfds.core.DatasetInfo, classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Returns feature to the record set that names its class numbers or its positions."""
    names = {}
    for key, feature in info.features.items():
        if isinstance(feature, tfds.features.ClassLabel):
            known, meaning = feature.names, f"Names of the numbers in the field {key}."
        elif key != "image" and len(feature.shape) == 1 and feature.shape[0] == len(classes):
            known, meaning = classes, f"Names of the findings at the positions of the field {key}."
        else:
            continue
        names[key] = _inline_records(
            f"{key}_names",
            meaning,
            "number",
            {"number": "cr:Int64", "name": "sc:Text"},
            [{"number": number, "name": name} for number, name in enumerate(known)],
        ) | {"dataType": "sc:Enumeration"}
    return names


def _inline_records(
    name: str,
    meaning: str,
    key: str,
    types: dict[str, str],
    records: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": meaning,
        "key": {"@id": f"{name}/{key}"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{field}",
                "name": field,
                "dataType": data_type,
            }
            for field, data_type in types.items()
        ],
        "data": [
            {f"{name}/{field}": value for field, value in record.items()} for record in records
        ],
    }


def _describe_split_field(info: tfds.core.DatasetInfo) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{_EXAMPLES}/split",
        "name": "split",
        "description": "The split, from the name of the file.",
        "dataType": "sc:Text",
        "references": {"field": {"@id": f"{_SPLITS}/name"}},
        "source": {
            "fileSet": {"@id": _SHARDS},
            "extract": {"fileProperty": "filename"},
            "transform": {"regex": f"^{re.escape(info.name)}-(.+)\\.tfrecord-.*$"},
        },
    }


def _describe_feature(
    key: str, feature: tfds.features.FeatureConnector, names: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{_EXAMPLES}/{key}",
        "name": key,
        "dataType": _data_type(key, feature),
        "source": {"fileSet": {"@id": _SHARDS}, "extract": {"column": key}},
    }
    meaning = [feature.doc.desc] if feature.doc and feature.doc.desc else []
    if isinstance(feature, tfds.features.ClassLabel):
        meaning.append(f"Number of a name in {key}_names; -1 if unknown.")
        described["references"] = {"field": {"@id": f"{key}_names/number"}}
    elif feature.shape:
        shape = " x ".join(map(str, feature.shape))
        meaning.append(f"{np.dtype(feature.np_dtype).name} of shape {shape}, row by row.")
        if key in names:
            meaning.append(f"One value for each name in {key}_names.")
        if key != "image":
            described["repeated"] = True
    if meaning:
        described["description"] = " ".join(meaning)
    return described


def _data_type(key: str, feature: tfds.features.FeatureConnector) -> str:
    if key == "image":
        return "sc:ImageObject"
    if isinstance(feature, tfds.features.Text):
        return "sc:Text"
    if np.dtype(feature.np_dtype).kind in "iu":
        return "cr:Int64"  # tf.train.Example holds no other integers
    return "sc:Boolean" if np.dtype(feature.np_dtype).kind == "b" else "sc:Float"
