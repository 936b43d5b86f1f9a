"""The formats a model can be exported in, by name. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Format:
    """What the converter is told. Names are those of TensorFlow's enumerations and types."""

    optimized: bool = True  # weights in fewer bits than float32
    weights: str | None = None  # the type of the weights where it is not int8
    calibrated: bool = False  # activations in whole numbers, whose ranges are measured on images
    operators: str = "TFLITE_BUILTINS"  # of `tf.lite.OpsSet`
    image: str = "float32"  # type of the input
    answer: str = "float32"  # type of the outputs
    # Per channel, dense layers of 1,024 weights and more become FULLY_CONNECTED version 12 in a model whose
    # activations stay float32; tflite-runtime 2.14 carries version 10 (tensorflow#80736).
    dense_per_channel: bool = True

    @property
    def selective(self) -> bool:
        """Whether single layers can be kept in float32."""
        return self.calibrated and self.operators == "TFLITE_BUILTINS_INT8"


# float16: weights only, a device computes in float32. dynamic: int8 weights, activations quantized while it
# runs. int8-float-io: int8 inside, for clients that hand over and take float32. int16x8: activations int16.
FORMATS = {
    "float32": Format(optimized=False),
    "float16": Format(weights="float16"),
    "dynamic": Format(dense_per_channel=False),
    "int8": Format(calibrated=True, operators="TFLITE_BUILTINS_INT8", image="int8", answer="int8"),
    "int8-float-io": Format(calibrated=True, operators="TFLITE_BUILTINS_INT8"),
    "int16x8": Format(
        calibrated=True,
        operators="EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8",
        image="int16",
        answer="int16",
    ),
}
# Those that `--input rgb` offers: int8-float-io would be int8 again, and the converter gives int16x8 no uint8 input.
RGB_FORMATS = ("float32", "float16", "dynamic", "int8")


def with_rgb(form: Format) -> Format:
    """The format for a model that takes uint8 pixels and gives float32 logits."""
    return dataclasses.replace(form, image="uint8", answer="float32")
