"""Runs models with LiteRT, or with tflite-runtime where LiteRT cannot be installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.text import did_you_mean

# In the order in which "auto" prefers them. On x86-64 an int8 CNN took 9.2 ms with tflite-runtime
# 2.14, whose XNNPACK has no quantized kernels there, and 0.70 ms with LiteRT 2.3 (224x224x1, one
# thread, 2026-11).
RUNTIMES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
SIGNATURE, INPUT, OUTPUT, HEATMAP = "serving_default", "image", "logits", "heatmap"
PROBABILITIES = "probabilities"  # replaces the logits in models of `cxr-export --variant rgb`
_INSTALL = {
    "litert": "pip install 'cxr-tfds[edge]'",
    "tflite-runtime": "pip install 'cxr-tfds[tflite-runtime]'",
}


class Session:
    """A loaded model: maps uint8 pixels to float32 outputs, whatever the types of its tensors.

    Threads must not share a session; they may share a `Classifier`.
    """

    def __init__(self, interpreter: Any, name: str, version: str) -> None:
        self.name = name
        self.version = version
        interpreter.allocate_tensors()
        # The runner only describes the tensors: each of its calls resizes the input, and
        # tflite-runtime 2.14 then runs float32 models without XNNPACK.
        runner = interpreter.get_signature_runner(SIGNATURE)
        image = runner.get_input_details()[INPUT]
        self._interpreter = interpreter
        self._input: int = image["index"]
        self._details = runner.get_output_details()
        self.output = OUTPUT if OUTPUT in self._details else PROBABILITIES
        # (1, S, S, C)
        self.shape = tuple(int(side) for side in image["shape"])
        # Scale and zero point; the scale is 0 if a tensor is not quantized.
        self.input_type, self.input_quantization = image["dtype"], image["quantization"]
        self.output_quantization = self._details[self.output]["quantization"]
        self._quantize = make_quantizer(self.input_type, *self.input_quantization)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Returns logits or probabilities float32 (K,) of pixels uint8 (1, S, S, C), 0 to 255."""
        return self.run_with_heatmap(pixels)[0]

    def run_with_heatmap(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the result of `run` and the class activation map, None if the model has none.

        The map is float32 (h, w) of the positive class for K = 1, (h, w, K) otherwise. Its mean
        over h and w is the logit minus the bias of the last layer.
        """
        if pixels.shape != self.shape or pixels.dtype != np.uint8:
            raise InputError(
                f"pixels {pixels.dtype} {pixels.shape}; the model takes uint8 {self.shape}."
            )
        self._interpreter.set_tensor(self._input, self._quantize(pixels))
        self._interpreter.invoke()
        output = self._read(self.output)[0]
        if HEATMAP not in self._details:
            return output, None
        heatmap = self._read(HEATMAP)[0]
        return output, heatmap[..., 0] if len(output) == 1 else heatmap

    def _read(self, name: str) -> np.ndarray:
        """Returns an output as float32."""
        details = self._details[name]
        values = self._interpreter.get_tensor(details["index"])
        if values.dtype == np.float32:
            return values
        scale, zero_point = details["quantization"]
        return (values.astype(np.float32) - zero_point) * np.float32(scale)


def make_quantizer(dtype: Any, scale: float, zero_point: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from pixels uint8 to the input values of a model, of the same shape.

    float32 takes pixel values unchanged, and so does uint8 without a scale, which the model casts.
    int8, uint8 and int16 take round(value / scale) + zero_point, clipped to the range of the type;
    halves are rounded away from zero, as in TFLite's QUANTIZE operator.
    """
    values, kind = np.arange(256, dtype=np.float32), np.dtype(dtype)
    if kind == np.float32 or (kind == np.uint8 and scale == 0):
        return lambda pixels: pixels.astype(kind)
    limits = np.iinfo(kind)
    steps = np.floor(values / np.float32(scale) + np.float32(0.5)) + zero_point
    table = np.clip(steps, limits.min, limits.max).astype(kind)
    if kind == np.int8 and np.array_equal(table, np.arange(-128, 128)):
        # The usual case: 4 us instead of 60 us for 224 x 224 pixels.
        return lambda pixels: (pixels ^ 128).view(np.int8)
    return lambda pixels: table[pixels]


def installed_runtimes() -> tuple[str, ...]:
    """Returns the runtimes that are installed, in the order in which "auto" prefers them."""
    return tuple(name for name, module in RUNTIMES.items() if importlib.util.find_spec(module))


def loadable_runtimes() -> tuple[str, ...]:
    """Returns the installed runtimes that work with the installed NumPy."""
    # tflite-runtime was built for NumPy 1: its import succeeds, but the first Interpreter() fails.
    fails = "tflite-runtime" if int(np.__version__.partition(".")[0]) >= 2 else ""
    return tuple(name for name in installed_runtimes() if name != fails)


def load(model: bytes, runtime: str = "auto", threads: int = 1) -> Session:
    """Loads a flatbuffer, which must not be corrupt: interpreters may crash on corrupt bytes.

    `cxr_tfds.export.edge.model_file.read_model` returns flatbuffers whose digest was checked. The
    runtime is "litert", "tflite-runtime", or "auto" for the first of these that is installed.

    Raises:
      InputError: The runtime is unknown, not installed or does not fit NumPy, or it cannot load the
        model, for example because the model needs an operator that it lacks.
    """
    name = choose_runtime(runtime)
    if name not in loadable_runtimes():
        raise InputError(
            f"tflite-runtime was built for NumPy 1, but NumPy {np.__version__} is installed. "
            "Install NumPy 1 with: pip install 'numpy<2'"
        )
    # Loaded after TensorFlow it binds to TensorFlow's symbols, and every model fails with
    # "vector::reserve" or std::bad_alloc (tflite-runtime 2.14, TensorFlow 2.21, Linux).
    is_loaded = "tflite_runtime" in sys.modules
    if name == "tflite-runtime" and "tensorflow" in sys.modules and not is_loaded:
        raise InputError(
            "tflite-runtime cannot be loaded into a process that has loaded TensorFlow. Use litert "
            f"({_INSTALL['litert']}), or run cxr-infer in a process of its own."
        )
    try:
        version = importlib.import_module(RUNTIMES[name]).__version__
        interpreter_class = importlib.import_module(f"{RUNTIMES[name]}.interpreter").Interpreter
    except ImportError as err:
        raise InputError(f"{name} is installed but cannot be loaded: {err}") from err
    try:
        return Session(interpreter_class(model_content=model, num_threads=threads), name, version)
    except Exception as err:  # an interpreter may raise any
        message = f"{name} {version} cannot load the model: "
        message += str(err).strip().partition("\n")[0].rstrip(".") + "."
        if "op for builtin opcode" in message or "custom op" in message:
            message += (
                " The model needs a newer runtime: use --runtime litert, or export the model in "
                "another format."
            )
        raise InputError(message) from err


def choose_runtime(runtime: str) -> str:
    """Returns the name of the runtime that `load` uses, or raises InputError."""
    if runtime != "auto" and runtime not in RUNTIMES:
        raise InputError(f"runtime: {did_you_mean(runtime, ['auto', *RUNTIMES])}")
    found = installed_runtimes()
    if runtime in found:
        return runtime
    if runtime == "auto" and found:
        return found[0]
    ways = dict(_INSTALL)
    if sys.version_info >= (3, 12):  # tflite-runtime was never built for these
        del ways["tflite-runtime"]
    if runtime == "auto":
        commands = " or ".join(ways.values())
        raise InputError(f"No runtime is installed. Install one with: {commands}")
    if runtime not in ways:
        python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
        raise InputError(f"{runtime} does not exist for {python}. Use litert: {_INSTALL['litert']}")
    raise InputError(f"{runtime} is not installed. Install it with: {ways[runtime]}")
