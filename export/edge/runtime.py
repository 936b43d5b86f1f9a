"""Runs models with LiteRT, or with tflite-runtime where LiteRT cannot be installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
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
NO_HEATMAP = "The model has no heatmap. Export it with: cxr-export --variant heatmap"
_QUANTIZED = (np.int8, np.uint8, np.int16)
_TOO_OLD = (
    " The model needs a newer runtime: use --runtime litert, or export the model in another format."
)
_TYPES = "int8, uint8, int16 or float32"


class Session:
    """A loaded model: maps uint8 pixels to float32 outputs, whatever the types of its tensors.

    Threads must not share a session; they may share a `Classifier`.

    Attributes:
      name: Name of the runtime, a key of `RUNTIMES`.
      version: Version of the runtime.
      shape: (1, S, S, C), the shape that `run` takes.
      output: Name of the output, `OUTPUT` or `PROBABILITIES`.
      outputs: K, the number of logits or probabilities.
      grid: (h, w) of the heatmap, or None.
    """

    def __init__(self, interpreter: Any, name: str, version: str) -> None:
        self.name = name
        self.version = version
        signatures = interpreter.get_signature_list()
        found = signatures.get(SIGNATURE, {})
        outputs = [name for name in (OUTPUT, PROBABILITIES) if name in found.get("outputs", ())]
        if list(found.get("inputs", ())) != [INPUT] or len(outputs) != 1:
            raise InputError(
                f"The model has signatures {signatures}; expected {SIGNATURE!r} "
                f"from {INPUT!r} to {OUTPUT!r} or {PROBABILITIES!r}. Export it with cxr-export."
            )
        (self.output,) = outputs
        # Before the runner: its first call resizes the input, and tflite-runtime 2.14 then runs
        # float32 models without XNNPACK (7.7 ms instead of 2.5 ms for a 224x224x1 image, x86-64,
        # 2026-11).
        interpreter.allocate_tensors()
        self._runner = interpreter.get_signature_runner(SIGNATURE)
        image = self._runner.get_input_details()[INPUT]
        self._details = self._runner.get_output_details()
        self.shape = tuple(int(side) for side in image["shape"])
        self.outputs = int(self._details[self.output]["shape"][-1])
        self.grid = None
        if HEATMAP in self._details:
            self.grid = tuple(map(int, self._details[HEATMAP]["shape"][1:3]))
        self._table = make_quantization_table(image["dtype"], *image["quantization"])

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Returns logits or probabilities float32 (K,) of pixels uint8 (1, S, S, C), 0 to 255.

        Raises:
          InputError: The pixels have another shape or type.
        """
        return self._dequantize(self.output, self._invoke(pixels)).reshape(-1)

    def run_with_heatmap(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the result of `run` and the class activation map, or raises InputError.

        The map is float32 (h, w) of the finding for K = 1, (h, w, K) otherwise. Its mean over h and
        w is the logit minus the bias of the last layer.
        """
        if self.grid is None:
            raise InputError(NO_HEATMAP)
        tensors = self._invoke(pixels)
        heatmap = self._dequantize(HEATMAP, tensors)[0]
        output = self._dequantize(self.output, tensors).reshape(-1)
        return output, heatmap[..., 0] if self.outputs == 1 else heatmap

    def _invoke(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        if pixels.shape != self.shape or pixels.dtype != np.uint8:
            raise InputError(
                f"pixels {pixels.dtype} {pixels.shape}; the model takes uint8 {self.shape}."
            )
        return self._runner(**{INPUT: self._table[pixels]})

    def _dequantize(self, name: str, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """Returns an output as float32."""
        values = tensors[name]
        if values.dtype == np.float32:
            return values
        scale, zero_point = self._details[name]["quantization"]
        return (values.astype(np.float32) - zero_point) * np.float32(scale)


def make_quantization_table(dtype: Any, scale: float, zero_point: int) -> np.ndarray:
    """Returns the input value of each pixel value 0 to 255, as (256,) of `dtype`.

    float32 takes pixel values unchanged, and so does uint8 without a scale, which the model casts.
    int8, uint8 and int16 take round(value / scale) + zero_point, clipped to the range of the type;
    halves are rounded away from zero, as in TFLite's QUANTIZE operator.

    Raises:
      InputError: The type is another, or the scale is not positive.
    """
    values = np.arange(256, dtype=np.float32)
    kind = np.dtype(dtype)
    if kind == np.float32 or (kind == np.uint8 and scale == 0):
        return values.astype(kind)
    if kind not in _QUANTIZED or not scale > 0:
        raise InputError(f"{INPUT!r} is {kind} with scale {scale}; expected {_TYPES}.")
    limits = np.iinfo(kind)
    steps = np.floor(values / np.float32(scale) + np.float32(0.5)) + zero_point
    return np.clip(steps, limits.min, limits.max).astype(kind)


def installed_runtimes() -> tuple[str, ...]:
    """Returns the runtimes that are installed, in the order in which "auto" prefers them."""
    return tuple(name for name, module in RUNTIMES.items() if importlib.util.find_spec(module))


def loadable_runtimes() -> tuple[str, ...]:
    """Returns the installed runtimes that work with the installed NumPy."""
    return tuple(x for x in installed_runtimes() if x != "tflite-runtime" or not _is_numpy_2())


def _is_numpy_2() -> bool:
    return int(np.__version__.partition(".")[0]) >= 2


def load(model: bytes, runtime: str = "auto", threads: int = 1) -> Session:
    """Loads a flatbuffer, which must not be corrupt: interpreters may crash on corrupt bytes.

    `cxr_tfds.export.edge.model_file.read_model` returns flatbuffers whose digest was checked.

    Args:
      model: The flatbuffer, without the zip after it.
      runtime: "litert", "tflite-runtime", or "auto" for the first of these that is installed.
      threads: Number of threads of the interpreter.

    Raises:
      InputError: The runtime is unknown, not installed or does not fit NumPy; the model needs an
        operator that the runtime lacks; or its inputs and outputs have other names.
    """
    name = choose_runtime(runtime)
    if threads < 1:
        raise InputError(f"threads={threads}; expected at least 1.")
    # Its import succeeds with NumPy 2, but the first Interpreter() fails.
    if name == "tflite-runtime" and _is_numpy_2():
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
            "(pip install 'cxr-tfds[edge]'), or run cxr-infer in a process of its own."
        )
    try:
        version = importlib.import_module(RUNTIMES[name]).__version__
        interpreter_class = importlib.import_module(f"{RUNTIMES[name]}.interpreter").Interpreter
    except ImportError as err:
        raise InputError(f"{name} is installed but cannot be loaded: {err}") from err
    try:
        return Session(interpreter_class(model_content=model, num_threads=threads), name, version)
    except InputError:
        raise
    except (ValueError, RuntimeError, MemoryError) as err:
        reason = str(err).strip().partition("\n")[0].rstrip(".")
        is_too_old = "op for builtin opcode" in reason or "custom op" in reason
        raise InputError(
            f"{name} {version} cannot load the model: {reason}.{_TOO_OLD if is_too_old else ''}"
        ) from err


def choose_runtime(runtime: str) -> str:
    """Returns the name of the runtime that `load` uses.

    Raises:
      InputError: The runtime is unknown or not installed.
    """
    if runtime != "auto" and runtime not in RUNTIMES:
        raise InputError(f"runtime: {did_you_mean(runtime, ['auto', *RUNTIMES])}")
    found = installed_runtimes()
    if runtime in found:
        return runtime
    if runtime == "auto" and found:
        return found[0]
    extras = {"litert": ["edge"], "tflite-runtime": ["tflite-runtime"]}
    ways = extras.get(runtime, ["edge", "tflite-runtime"])
    if sys.version_info >= (3, 12):  # tflite-runtime was never built for these
        ways = ["edge"]
    commands = " or ".join(f"pip install 'cxr-tfds[{extra}]'" for extra in ways)
    if runtime == "auto":
        raise InputError(f"No runtime is installed. Install one with: {commands}")
    if runtime == "tflite-runtime" and ways == ["edge"]:
        python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
        raise InputError(f"tflite-runtime does not exist for {python}. Use litert: {commands}")
    raise InputError(f"{runtime} is not installed. Install it with: {commands}")
