"""Trained weights for a new model: from ImageNet, a backbone file or an earlier run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.models.backbones import BACKBONES, bare_network

NEW, IMAGENET = "none", "imagenet"
_LOGITS = "logits"


def check_weights(name: str, weights: str) -> None:
    """Raises an InputError if a model has no such weights; does not read or download them."""
    if weights == NEW or (weights == IMAGENET and name in BACKBONES):
        return
    if weights == IMAGENET:
        raise InputError(
            f"Model {name} has no ImageNet weights; these models do: {', '.join(BACKBONES)}. "
            f"Give --weights {NEW} or the {run_folder.MODEL} of a run of {name}."
        )
    path = Path(weights).expanduser()
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(
            f"--weights {path} {problem}; expected {NEW}, {IMAGENET} or a file, such as "
            f"{run_folder.MODEL}."
        )
    if path.name != run_folder.MODEL and not (path.suffix == ".h5" and name in BACKBONES):
        other = " or an .h5 file of its network without the top layers" * (name in BACKBONES)
        raise InputError(
            f"--weights {path}: {name} takes the {run_folder.MODEL} of a run of {name}{other}."
        )


def load_weights(model: Any, weights: str) -> None:
    """Loads checked weights into `model`, and into its logits if these have the same shape."""
    if weights == NEW:
        return
    path = Path(weights).expanduser()
    if path.name == run_folder.MODEL:
        other = run_folder.load_model(path.parent)
        if other.name != model.name:
            raise InputError(
                f"--weights {path} is of model {other.name}; expected model {model.name}."
            )
    else:
        other = _trained_backbone(model, weights)
    source, target = ([layer for layer in m.layers if layer.weights] for m in (other, model))
    if _shapes(source) != _shapes(target):  # no logits, or of another shape
        source, target = (
            [m.get_layer(name) for name in backbone_layers(m)] for m in (other, model)
        )
    if _shapes(source) != _shapes(target):
        raise InputError(
            f"--weights {path} does not fit {model.name} for images of {_image_size(model)}; it is "
            f"for images of {_image_size(other)}."
        )
    for trained, new in zip(source, target, strict=True):
        new.set_weights(trained.get_weights())


def backbone_layers(model: Any) -> list[str]:
    """Returns the names of all layers with weights except the logits, in order."""
    return [layer.name for layer in model.layers if layer.weights and layer.name != _LOGITS]


def _trained_backbone(model: Any, weights: str) -> Any:
    """Returns the bare network of `model` with weights of ImageNet or of a file."""
    if weights == IMAGENET:
        try:
            # Keras prints the progress of its download, but stdout is for results. The weights fit
            # images of any size; Keras warns at others than 224.
            with contextlib.redirect_stdout(sys.stderr):
                return bare_network(model.name, IMAGENET, input_shape=(224, 224, 3))
        except Exception as err:  # without a network, Keras raises a bare Exception
            raise InputError(
                f"Cannot download the ImageNet weights of {model.name}: {err}. Download the file "
                "on a machine with a network and give its path to --weights."
            ) from err
    body = bare_network(model.name, input_shape=(*model.input_shape[1:3], 3))
    try:
        body.load_weights(Path(weights).expanduser())
    except Exception as err:  # Keras and h5py have different exceptions
        function = BACKBONES[model.name].function
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise InputError(
            f"--weights {weights} is corrupt or does not hold the weights of {function} without "
            f"its top layers (include_top=False): {reason}"
        ) from err
    return body


def _shapes(layers: Sequence[Any]) -> list[list[tuple[int, ...]]]:
    return [[tuple(variable.shape) for variable in layer.weights] for layer in layers]


def _image_size(model: Any) -> str:
    return " x ".join(map(str, model.input_shape[1:]))
