"""The models by name. Importing this loads no Keras; building one does.

Every model maps pixels 0 to 255 (N, S, S, C) to logits, float32: (N, 1) for two classes, (N, K)
for K > 2. Normalization is inside, augmentation is not.
"""

from cxr_tfds.models.cost import multiply_adds
from cxr_tfds.models.registry import MODELS, ModelEntry, build_model, check_shape, list_models
from cxr_tfds.models.weights import backbone_layers, find_weights

__all__ = [
    "MODELS",
    "ModelEntry",
    "backbone_layers",
    "build_model",
    "check_shape",
    "find_weights",
    "list_models",
    "multiply_adds",
]
