"""The models by name. Importing the package loads no Keras; building a model does.

Every model maps pixels 0 to 255 (N, S, S, C) to float32 logits: (N, 1) for two classes, (N, K) for
K > 2 classes or K findings. It contains the normalization of the pixels, but no augmentation.
"""

from cxr_tfds.models.cost import multiply_adds
from cxr_tfds.models.registry import MODELS, ModelEntry, build_model, check_shape, list_models
from cxr_tfds.models.weights import backbone_layers, check_weights

__all__ = [
    "MODELS",
    "ModelEntry",
    "backbone_layers",
    "build_model",
    "check_shape",
    "check_weights",
    "list_models",
    "multiply_adds",
]
