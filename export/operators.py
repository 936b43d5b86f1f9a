"""Whether the operators of a flatbuffer are old enough for tflite-runtime 2.14, without having it."""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

# The highest version of each operator that tflite-runtime 2.14 carries: measured 2026-11 by renaming an
# operator of a model until its interpreter refused it; the same as in TensorFlow 2.14's
# tensorflow/lite/core/kernels/register.cc. The `min_runtime_version` inside a model is useless: it says 1.14.0
# for every int8 model. Operators that are not listed are unknown, and so refused.
CARRIED = {
    "ADD": 5,
    "AVERAGE_POOL_2D": 3,
    "CAST": 5,
    "CONCATENATION": 4,
    "CONV_2D": 7,
    "DEPTHWISE_CONV_2D": 7,
    "DEQUANTIZE": 5,
    "DIV": 2,
    "ELU": 1,
    "EXP": 2,
    "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 10,
    "GELU": 2,
    "HARD_SWISH": 1,
    "LEAKY_RELU": 2,
    "LOGISTIC": 3,
    "MAXIMUM": 4,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MINIMUM": 4,
    "MUL": 7,
    "PAD": 4,
    "PRELU": 1,
    "QUANTIZE": 3,
    "REDUCE_MAX": 3,
    "RELU": 3,
    "RELU6": 3,
    "RESHAPE": 1,
    "RSQRT": 2,
    "SOFTMAX": 3,
    "SQUARED_DIFFERENCE": 2,
    "SQUEEZE": 2,
    "SUB": 5,
    "SUM": 2,
    "TANH": 3,
    "TRANSPOSE": 6,
}
_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}


def operator_versions(flatbuffer: bytes) -> dict[str, int]:
    """The highest version of each operator in use, by the operator's name."""
    model = schema.Model.GetRootAsModel(flatbuffer, 0)
    found: dict[str, int] = {}
    for number in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(number)
        # Codes up to 126 stand in the older field as well, which files of old converters have alone.
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _NAMES.get(builtin, f"operator {builtin}")
        found[name] = max(found.get(name, 0), code.Version())
    return found


def too_new(flatbuffer: bytes) -> str | None:
    """Why tflite-runtime 2.14 cannot run the flatbuffer, or None."""
    reasons = []
    for name, version in sorted(operator_versions(flatbuffer).items()):
        most = CARRIED.get(name)
        if most is None:
            reasons.append(f"{name} (not known to be in it)")
        elif version > most:
            reasons.append(f"{name} version {version} (it carries up to {most})")
    return f"tflite-runtime 2.14 does not carry {', '.join(reasons)}" if reasons else None
