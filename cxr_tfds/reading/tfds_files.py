"""The JSON files that TFDS writes next to the shards. Loads neither TFDS nor TensorFlow.

TFDS imports whatever class `features.json` names. Here the names are checked before it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

from msgspec import Meta

from cxr_tfds.errors import InputError
from cxr_tfds.schema import (
    AtLeastOne,
    Count,
    Fit,
    GreyLevelSettings,
    Origin,
    ReaderOptions,
    Text,
    fit_schema,
    read_json,
)

INFO, FEATURES, METADATA = "dataset_info.json", "features.json", "metadata.json"
_OWN_PACKAGE = "cxr_tfds."
_ADVICE = ""  # `open_dataset` adds the command that builds the dataset
_FEATURE_CLASS = re.compile(r"tensorflow_datasets\.core\.features\.[a-z_]+\.[A-Z]\w+")
# TFDS writes integers of 64 bits as text.
_Digits = Annotated[str, Meta(pattern=r"^\d{1,15}\Z")] | Count
_Dimension = Annotated[str, Meta(pattern=r"^-?\d{1,9}\Z")] | int


class _Split(TypedDict):
    name: Annotated[str, Meta(pattern=r"^[\w.-]+\Z")]


class SplitInfo(_Split, total=False):
    """A split; TFDS leaves zeros and empty lists out."""

    filepathTemplate: Annotated[
        str, Meta(pattern=r"^\{DATASET\}-\{SPLIT\}\.\{FILEFORMAT\}-\{SHARD_X_OF_Y\}\Z")
    ]
    shardLengths: list[_Digits]
    numBytes: _Digits


class _Info(TypedDict):
    name: Annotated[str, Meta(pattern=r"^[a-z]\w*\Z")]
    fileFormat: Annotated[str, Meta(pattern=r"^tfrecord\Z")]
    splits: Annotated[list[SplitInfo], Meta(min_length=1)]


class DatasetInfo(_Info, total=False):
    """The part of `dataset_info.json` that is used."""

    moduleName: str
    description: str


class _Shape(TypedDict, total=False):
    dimensions: list[_Dimension]


class _Tensor(TypedDict):
    dtype: Annotated[str, Meta(pattern="^(uint8|string)$")]
    encoding: Annotated[str, Meta(pattern="^(bytes|none)$")]
    shape: _Shape


class _Image(TypedDict):
    tensor: _Tensor


class _ClassCount(TypedDict):
    numClasses: _Digits


class _Label(TypedDict):
    classLabel: _ClassCount


class _Number(TypedDict):
    dtype: Text
    shape: _Shape


class _Scalar(TypedDict):
    tensor: _Number


class _Words(TypedDict):
    text: dict[str, Any]


class _Features(TypedDict):
    image: _Image
    label: _Label
    finding: _Label
    image_id: _Words
    patient_id: _Words
    height: _Scalar
    width: _Scalar


class _FeaturesDict(TypedDict):
    features: _Features


class _FeaturesFile(TypedDict):
    featuresDict: _FeaturesDict


class Features(NamedTuple):
    """The features of a dataset.

    Attributes:
      image_shape: (S, S, C), or () for source files.
      classes: Numbers of names of `label` and `finding`.
      has_states: Whether an image may have several findings.
    """

    image_shape: tuple[int, int, int] | tuple[()]
    classes: dict[str, int]
    has_states: bool


class _Metadata(TypedDict):
    size: Annotated[int, Meta(ge=1, le=4096)] | None
    channels: Annotated[int, Meta(ge=1, le=3)]
    fit: Fit
    split: Text
    fingerprint: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    bad_images: Count
    max_examples_per_split: AtLeastOne | None


class _Source(TypedDict):
    images: Count
    splits: dict[str, dict[str, Count]]
    digest: Text


class Metadata(_Metadata, GreyLevelSettings, ReaderOptions, total=False):
    """What the builders of cxr-tfds store, see `RadiographConfig.stored`; some since 2026-11."""

    fingerprint_version: AtLeastOne
    conflicting_images: Count
    several_findings: bool
    reader: ReaderOptions
    origin: Origin
    source: _Source
    # Settings of single builders.
    views: list[str]
    projections: list[str]
    view: Any
    modality: Any
    finding: Any
    seed: int
    normals_sha256: str | None


def read_info(folder: Path) -> DatasetInfo:
    """Reads `dataset_info.json`."""
    info = read_json(folder / INFO, DatasetInfo, _ADVICE, allow_unknown=True)
    names = [split["name"] for split in info["splits"]]
    if len(set(names)) < len(names):
        raise InputError(f"{folder / INFO} has two splits of one name: {', '.join(names)}.")
    return info


def read_features(folder: Path) -> Features:
    """Reads `features.json`.

    Raises:
      InputError: It does not describe a dataset of cxr-tfds, or names a class that is not a feature
        of TFDS.
    """
    path = folder / FEATURES
    content = read_json(path, dict[str, Any], _ADVICE)
    for name in _find_class_names(content):
        if not _FEATURE_CLASS.fullmatch(str(name)):
            raise InputError(
                f"{path} names the class {name!r}; expected a feature of TFDS. TFDS would import "
                f"it, so the dataset is not read."
            )
    features = fit_schema(content, _FeaturesFile, str(path), _ADVICE, allow_unknown=True)
    described = features["featuresDict"]["features"]
    tensor = described["image"]["tensor"]
    shape = tuple(map(int, tensor["shape"].get("dimensions", ())))
    is_image = len(shape) == 3 and shape[0] == shape[1] > 0 and shape[2] in (1, 3)
    if is_image != (tensor["dtype"] == "uint8") or (shape and not is_image):
        raise InputError(
            f"{path}: the images have the shape {shape} and the type {tensor['dtype']}; expected "
            f"uint8 (S, S, 1) or (S, S, 3), or source files of the type string."
        )
    classes = {
        "label": int(described["label"]["classLabel"]["numClasses"]),
        "finding": int(described["finding"]["classLabel"]["numClasses"]),
    }
    square = (shape[0], shape[1], shape[2]) if is_image else ()
    return Features(square, classes, "states" in content["featuresDict"]["features"])


def read_metadata(folder: Path, info: DatasetInfo) -> dict[str, Any]:
    """Reads `metadata.json`; the builder of another package may store settings of its own."""
    path = folder / METADATA
    content = read_json(path, dict[str, Any], _ADVICE)
    if "fingerprint" not in content:
        raise InputError(f"{folder} was not built by cxr-tfds: {METADATA} has no fingerprint.")
    is_own = info.get("moduleName", "").startswith(_OWN_PACKAGE)
    fitted = fit_schema(content, Metadata, str(path), _ADVICE, allow_unknown=not is_own)
    return {**content, **fitted}


def explain_corrupt(folder: Path, err: Exception) -> None:
    """Raises an InputError from `err` if it is a description in `folder` that TFDS cannot read."""
    try:
        read_metadata(folder, read_info(folder))
        read_features(folder)
    except (InputError, FileNotFoundError) as problem:
        raise InputError(
            f"{folder} is not a dataset that can be used: {problem} Remove it and build it again."
        ) from err


def read_names(folder: Path, feature: str, count: int) -> tuple[str, ...]:
    """Returns the names of the classes of a feature."""
    path = folder / f"{feature}.labels.txt"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as err:
        raise InputError(f"{path} is corrupt: {err}.") from err
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != count or len(set(names)) < count:
        raise InputError(
            f"{path} has {len(names)} names ({', '.join(names)}); expected {count} different ones, "
            f"as in {FEATURES}."
        )
    return names


def check_described(folder: Path, paths: Sequence[str]) -> None:
    """Raises an InputError if the folder holds a shard that is not among the described `paths`."""
    described = {Path(path).name for path in paths}
    found = {path.name for path in folder.glob("*.tfrecord-*-of-*")}
    if extra := sorted(found - described):
        raise InputError(f"{folder / INFO} does not describe {extra[0]}.")


def _find_class_names(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        if "pythonClassName" in value:
            yield value["pythonClassName"]
        for item in value.values():
            yield from _find_class_names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _find_class_names(item)
