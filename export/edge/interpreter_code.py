"""Python that runs a model file with the interpreter alone, for programs without cxr-tfds."""

from __future__ import annotations

from os import PathLike

import numpy as np

from .model_info import ModelInfo
from .runtime import INPUT, OUTPUT, RUNTIMES, SIGNATURE, Session

_FITS = {
    "stretch": "{}.resize({}, Image.Resampling.BILINEAR)",
    "pad": "ImageOps.pad({}, {}, Image.Resampling.BILINEAR)",
    "crop": "ImageOps.fit({}, {}, Image.Resampling.BILINEAR)",
}


def write_code(model: str | PathLike[str], info: ModelInfo, session: Session) -> str:
    """Returns Python that loads a model, then in six lines prints the probabilities of an image.

    The image is `image.jpeg`, which has 8 bits and is upright. It is read like `cxr-infer` does.
    """
    mode, size = ("RGB" if info.input == "rgb" else "L"), (info.size, info.size)
    fitted = _FITS[info.fit].format(f'image.convert("{mode}")', size)
    note = ""
    if np.any(info.shift):
        note = "# The file shifts its probabilities so that 0.5 decides. This line undoes it.\n"
    return f"""\
import numpy as np
from PIL import Image{"" if info.fit == "stretch" else ", ImageOps"}
from {RUNTIMES[session.name]}.interpreter import Interpreter

model = Interpreter({str(model)!r}).get_signature_runner("{SIGNATURE}")

image = Image.open("image.jpeg")
image.draft("{mode}", {size})  # of JPEG only: decodes it at a reduced size
pixels = np.asarray({fitted})
values = {_quantize(session)}
{session.output} = {_run(info, session)}
{note}print({_describe(info, session)})
"""


def _quantize(session: Session) -> str:
    """Returns the expression of input values; see `runtime.make_quantizer`."""
    kind, (scale, zero_point) = np.dtype(session.input_type), session.input_quantization
    if scale == 0:
        return f"pixels.astype(np.{kind})"
    steps = f"np.floor(pixels / np.float32({np.float32(scale)!s}) + 0.5)"
    limits = np.iinfo(kind)
    return f"np.clip({_shift(steps, zero_point)}, {limits.min}, {limits.max}).astype(np.{kind})"


def _run(info: ModelInfo, session: Session) -> str:
    """Returns the expression of the output, float (K,)."""
    batch = "values[np.newaxis, ..., np.newaxis]"
    if info.input == "rgb":
        batch = "values[np.newaxis]"
    elif info.channels > 1:
        batch += f".repeat({info.channels}, axis=-1)"
    output = f'model({INPUT}={batch})["{session.output}"][0]'
    scale, zero_point = session.output_quantization
    if scale == 0:
        return output
    return f"({_shift(f'{output}.astype(float)', -zero_point)}) * {np.float32(scale)!s}"


def _shift(expression: str, steps: int) -> str:
    return f"{expression} {'-' if steps < 0 else '+'} {abs(steps)}" if steps else expression


def _describe(info: ModelInfo, session: Session) -> str:
    """Returns the expression of the probabilities by name."""
    names = list(info.labels)
    if session.output != OUTPUT and not np.any(info.shift):
        return f"dict(zip({names}, {session.output}.tolist()))"
    if session.output != OUTPUT:  # of two classes or several findings
        powers = f"np.exp({_format_numbers(0 - np.asarray(info.shift))})"
        shifted = session.output
        if not info.several_findings:
            names, shifted = names[1:], f"{shifted}[1:]"
        return f"dict(zip({names}, (1 / (1 + (1 / {shifted} - 1) * {powers})).tolist()))"
    if len(names) > 2 and not info.several_findings:
        powers = f"np.exp((logits - logits.max()) / {info.temperature:.9g})"
        return f"dict(zip({names}, ({powers} / {powers}.sum()).tolist()))"
    if not info.several_findings:
        names = names[1:]
    divisor = _format_numbers(np.asarray(info.temperature))
    return f"dict(zip({names}, (1 / (1 + np.exp(-logits / {divisor}))).tolist()))"


def _format_numbers(values: np.ndarray) -> str:
    """Returns a number, or a list of numbers."""
    if values.ndim == 0:
        return f"{values:.9g}"
    return f"[{', '.join(f'{value:.9g}' for value in values)}]"
