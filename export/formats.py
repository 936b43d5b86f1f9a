"""The formats of an export, by name. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Format:
    """Settings of TensorFlow's converter. Values name TensorFlow's enumerations and types."""

    quantizes_weights: bool = True
    weights: str | None = None  # type of the weights if it is not int8
    quantizes_activations: bool = False  # their ranges are measured on images
    operators: str = "TFLITE_BUILTINS"  # member of `tf.lite.OpsSet`
    input_type: str = "float32"
    output_type: str = "float32"
    # One scale per channel makes dense layers of 1,024 weights and more FULLY_CONNECTED version 12
    # if activations are float32; tflite-runtime 2.14 supports up to version 10 (tensorflow#80736).
    dense_per_channel: bool = True

    @property
    def can_keep_float(self) -> bool:
        """Whether single layers can stay in float32."""
        return self.operators == "TFLITE_BUILTINS_INT8"


# float16 and dynamic compute in float32: float16 shrinks the weights only, dynamic quantizes
# activations at run time. int8-float-io is int8 inside for clients that pass and expect float32.
_INT8 = Format(quantizes_activations=True, operators="TFLITE_BUILTINS_INT8")
FORMATS = {
    "float32": Format(quantizes_weights=False),
    "float16": Format(weights="float16"),
    "dynamic": Format(dense_per_channel=False),
    "int8": dataclasses.replace(_INT8, input_type="int8", output_type="int8"),
    "int8-float-io": _INT8,
    "int16x8": Format(
        quantizes_activations=True,
        operators="EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8",
        input_type="int16",
        output_type="int16",
    ),
}
# The RGB variant takes uint8 and gives float32 in every format: int8-float-io would equal int8, and
# the converter supports no uint8 input for int16x8.
RGB_FORMATS = ("float32", "float16", "dynamic", "int8")
