"""Checks whether tflite-runtime 2.14, which need not be installed, supports a flatbuffer."""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

# The highest version of each operator in tflite-runtime 2.14: measured 2026-11 by renaming an
# operator of a model until its interpreter refused it; equal to TensorFlow 2.14's
# tensorflow/lite/core/kernels/register.cc. Operators that are not listed are unknown, so refused.
# The `min_runtime_version` inside a model does not help: it is 1.14.0 for every int8 model.
SUPPORTED = {
    "ADD": 5, "AVERAGE_POOL_2D": 3, "CAST": 5, "CONCATENATION": 4, "CONV_2D": 7,
    "DEPTHWISE_CONV_2D": 7, "DEQUANTIZE": 5, "DIV": 2, "ELU": 1, "EXP": 2, "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 10, "GELU": 2, "HARD_SWISH": 1, "LEAKY_RELU": 2, "LOGISTIC": 3, "MAXIMUM": 4,
    "MAX_POOL_2D": 3, "MEAN": 3, "MINIMUM": 4, "MUL": 7, "PAD": 4, "PRELU": 1, "QUANTIZE": 3,
    "REDUCE_MAX": 3, "RELU": 3, "RELU6": 3, "RESHAPE": 1, "RSQRT": 2, "SOFTMAX": 3,
    "SQUARED_DIFFERENCE": 2, "SQUEEZE": 2, "SUB": 5, "SUM": 2, "TANH": 3, "TRANSPOSE": 6,
}  # fmt: skip
_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}


def operator_versions(flatbuffer: bytes) -> dict[str, int]:
    """Returns the highest version of each operator in use, by the operator's name."""
    model = schema.Model.GetRootAsModel(flatbuffer, 0)
    versions: dict[str, int] = {}
    for number in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(number)
        name = _NAMES[code.BuiltinCode()]
        versions[name] = max(versions.get(name, 0), code.Version())
    return versions


def explain_too_new(flatbuffer: bytes) -> str | None:
    """Returns why tflite-runtime 2.14 cannot run the flatbuffer, or None."""
    reasons = []
    for name, version in sorted(operator_versions(flatbuffer).items()):
        highest = SUPPORTED.get(name)
        if highest is None:
            reasons.append(f"{name} (unknown)")
        elif version > highest:
            reasons.append(f"{name} version {version} (highest: {highest})")
    return f"tflite-runtime 2.14 does not support {', '.join(reasons)}" if reasons else None
