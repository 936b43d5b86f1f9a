"""Trained weights for a new model: ImageNet's, a file of a backbone's, or those of an earlier run."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.models.backbones import BACKBONES, WEIGHTS_URL, bare

NEW, IMAGENET = "none", "imagenet"
_LOGITS = "logits"


def find_weights(name: str, weights: str) -> Path | None:
    """The file that `weights` stands for, None for new weights; fetches ImageNet's unless they are there.

    Args:
      name: of the model.
      weights: "none", "imagenet", or the path of a file: model.keras of a run of the same model, or, for a
        network of `keras.applications`, .weights.h5 or .h5 with its weights without the top layers.

    Raises:
      InputError: the model has no such weights, the file does not exist or is of another kind, or the
        weights cannot be fetched.
    """
    if weights == NEW:
        return None
    if weights == IMAGENET:
        if name not in BACKBONES:
            raise InputError(
                f"model {name} has no ImageNet weights; {', '.join(BACKBONES)} have. Give --weights {NEW}, or the "
                f"{run_folder.MODEL} of a run of {name}."
            )
        return _imagenet(name)
    path = Path(weights).expanduser()
    if path.is_dir():
        raise InputError(
            f"weights {path}: a folder; expected a file, such as {path / run_folder.MODEL}."
        )
    if not path.is_file():
        raise InputError(f"weights {path} do not exist; expected {NEW}, {IMAGENET} or a file.")
    if path.name != run_folder.MODEL and not (path.suffix == ".h5" and name in BACKBONES):
        others = ", or the .h5 of its network without the top layers" if name in BACKBONES else ""
        raise InputError(
            f"weights {path}: {name} takes the {run_folder.MODEL} of a run of {name}{others}."
        )
    return path


def load_weights(model: Any, path: Path) -> None:
    """Puts the weights of a file that `find_weights` gave into all layers of `model` before its logits.

    The logits take theirs from a run with as many classes, and stay new otherwise.

    Raises:
      InputError: the file is damaged, or holds the weights of another network or another image size.
    """
    if path.name == run_folder.MODEL:
        other = run_folder.load_model(path.parent)
        if other.name != model.name:
            raise InputError(f"weights {path}: of model {other.name}; expected {model.name}.")
    else:
        other = _backbone(model, path)
    source, target = ([of.get_layer(name) for name in backbone_layers(of)] for of in (other, model))
    if _shapes(source) != _shapes(target):
        raise InputError(
            f"weights {path}: their layers do not fit {model.name} for images of {_size(model)}; they were trained "
            f"on {_size(other)}."
        )
    heads = [layer for of in (other, model) for layer in of.layers if layer.name == _LOGITS]
    if len(heads) == 2 and _shapes(heads[:1]) == _shapes(heads[1:]):
        source.append(heads[0])
        target.append(heads[1])
    for trained, new in zip(source, target, strict=True):
        new.set_weights(trained.get_weights())


def backbone_layers(model: Any) -> list[str]:
    """Names of the layers that trained weights go into, in their order: all that have weights but the logits.

    To freeze one, set its `trainable` to False before the optimizer is built: Keras then leaves its weights
    as they are, and a batch norm normalizes with the mean and variance it was loaded with, in training, too.
    """
    return [layer.name for layer in model.layers if layer.weights and layer.name != _LOGITS]


def _imagenet(name: str) -> Path:
    import keras

    backbone = BACKBONES[name]
    url = f"{WEIGHTS_URL}{backbone.folder}/{backbone.file}"
    try:
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # Keras tells of its progress; stdout is for results
            return Path(
                keras.utils.get_file(
                    backbone.file, url, cache_subdir="models", file_hash=backbone.md5
                )
            )
    except Exception as err:  # `get_file` raises a bare one where there is no network
        place = Path(os.environ.get("KERAS_HOME", "~/.keras")) / "models" / backbone.file
        raise InputError(
            f"the ImageNet weights of {name} cannot be fetched: {err}. Download {url} where there is a network and "
            f"put it at {place}, or give its path to --weights."
        ) from err


def _backbone(model: Any, path: Path) -> Any:
    """The network as Keras builds it, with the weights of `path`."""
    body = bare(model.name, input_shape=(*model.input_shape[1:3], 3))
    try:
        body.load_weights(path)
    except Exception as err:  # Keras and h5py each raise their own
        function = BACKBONES[model.name].function
        raise InputError(
            f"weights {path}: not those of {function} without its top layers (include_top=False), or damaged: "
            f"{str(err).splitlines()[0] if str(err) else type(err).__name__}"
        ) from err
    return body


def _shapes(layers: Sequence[Any]) -> list[list[tuple[int, ...]]]:
    return [[tuple(variable.shape) for variable in layer.weights] for layer in layers]


def _size(model: Any) -> str:
    return " x ".join(map(str, model.input_shape[1:]))
