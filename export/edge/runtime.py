"""One face for the two interpreters: LiteRT, and tflite-runtime where nothing newer can be installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

import numpy as np

from cxr_tfds.errors import InputError
from cxr_tfds.text import did_you_mean

from .structure import check_structure

# In the order "auto" prefers them. On x86-64 an int8 CNN took 9.2 ms with tflite-runtime 2.14, whose
# XNNPACK has no quantized kernels there, and 0.70 ms with LiteRT 2.3 (224x224x1, one thread, 2026-11).
RUNTIMES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
SIGNATURE, INPUT, OUTPUT, HEATMAP = "serving_default", "image", "logits", "heatmap"
PROBABILITIES = "probabilities"  # instead of the logits in a model of `cxr-export --input rgb`
_QUANTIZED = (np.int8, np.uint8, np.int16)
_TYPES = "int8, uint8, int16 or float32"


class Session:
    """A loaded model: uint8 pixels in, float32 logits or probabilities out, whatever the tensors inside are.

    Not safe to share between threads; `Classifier` is.

    Attributes:
      name: of the runtime, a key of `RUNTIMES`.
      version: of the runtime.
      shape: (1, S, S, C), what `run` takes.
      output: the name of what it gives, `OUTPUT` or `PROBABILITIES`.
      outputs: K, the number of logits or probabilities.
      grid: (h, w) of the heatmap, None for a model without.
    """

    def __init__(self, interpreter: Any, name: str, version: str) -> None:
        self.name = name
        self.version = version
        signatures = interpreter.get_signature_list()
        found = signatures.get(SIGNATURE, {})
        answers = [name for name in (OUTPUT, PROBABILITIES) if name in found.get("outputs", ())]
        if list(found.get("inputs", ())) != [INPUT] or len(answers) != 1:
            raise InputError(
                f"The model's signatures are {signatures}; expected {SIGNATURE!r} "
                f"from {INPUT!r} to {OUTPUT!r} or {PROBABILITIES!r}. Export it with cxr-export."
            )
        (self.output,) = answers
        # Before the runner: its first call resizes the input, and in tflite-runtime 2.14 a float32 model
        # then stays without XNNPACK (7.7 ms against 2.5 ms a 224x224x1 image, x86-64, 2026-11).
        interpreter.allocate_tensors()
        self._runner = interpreter.get_signature_runner(SIGNATURE)
        image = self._runner.get_input_details()[INPUT]
        self._details = self._runner.get_output_details()
        self.shape = tuple(int(side) for side in image["shape"])
        self.outputs = int(self._details[self.output]["shape"][-1])
        self.grid = (
            tuple(map(int, self._details[HEATMAP]["shape"][1:3]))
            if HEATMAP in self._details
            else None
        )
        self._table = quantization_table(image["dtype"], *image["quantization"])
        for name, detail in self._details.items():
            if np.dtype(detail["dtype"]) not in (*_QUANTIZED, np.float32):
                raise InputError(f"{name!r} is {np.dtype(detail['dtype'])}; expected {_TYPES}.")

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Logits, or probabilities, float32 (K,) of one radiograph, pixels uint8 (1, S, S, C), 0 to 255.

        Raises:
          InputError: the pixels have another shape or type.
        """
        return self._real(self.output, self._invoke(pixels)).reshape(-1)

    def run_with_heatmap(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `run` gives, and in the same pass what each place adds to them.

        Returns:
          float32 (K,), and the class activation map float32: (h, w) of the finding for K = 1,
          (h, w, K) otherwise. Its mean over h and w is the logit less the bias of the last layer.

        Raises:
          InputError: the pixels have another shape or type, or the model has no heatmap.
        """
        if self.grid is None:
            raise InputError("The model has no heatmap. Export it with: cxr-export --heatmap")
        answer = self._invoke(pixels)
        heatmap = self._real(HEATMAP, answer)[0]
        return self._real(self.output, answer).reshape(-1), heatmap[
            ..., 0
        ] if self.outputs == 1 else heatmap

    def _invoke(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        if pixels.shape != self.shape or pixels.dtype != np.uint8:
            raise InputError(
                f"pixels {pixels.dtype} {pixels.shape}; the model takes uint8 {self.shape}."
            )
        return self._runner(**{INPUT: self._table[pixels]})

    def _real(self, name: str, answer: dict[str, np.ndarray]) -> np.ndarray:
        """The values float32 that an output's steps stand for."""
        values = answer[name]
        if values.dtype == np.float32:
            return values
        scale, zero_point = self._details[name]["quantization"]
        return (values.astype(np.float32) - zero_point) * np.float32(scale)


def quantization_table(dtype: Any, scale: float, zero_point: int) -> np.ndarray:
    """What each pixel value 0 to 255 becomes in the input tensor: (256,) of `dtype`.

    float32 takes the value itself; int8, uint8 and int16 take round(value / scale) + zero_point, halves
    away from zero as in TFLite's QUANTIZE operator, clipped to the type's range. uint8 without a scale takes
    the value itself, too: the model casts it.

    Raises:
      InputError: another dtype, or a scale that is not positive.
    """
    values = np.arange(256, dtype=np.float32)
    kind = np.dtype(dtype)
    if kind == np.float32:
        return values
    if kind == np.uint8 and scale == 0:
        return values.astype(np.uint8)
    if kind not in _QUANTIZED or not scale > 0:
        raise InputError(f"{INPUT!r} is {kind} with scale {scale}; expected {_TYPES}.")
    limits = np.iinfo(kind)
    steps = np.floor(values / np.float32(scale) + np.float32(0.5)) + zero_point
    return np.clip(steps, limits.min, limits.max).astype(kind)


def installed() -> tuple[str, ...]:
    """The runtimes that can be imported here, in the order "auto" prefers them."""
    return tuple(name for name, module in RUNTIMES.items() if importlib.util.find_spec(module))


def loadable() -> tuple[str, ...]:
    """The installed runtimes, less tflite-runtime where NumPy is too new for it."""
    return tuple(name for name in installed() if name != "tflite-runtime" or not _numpy_2())


def _numpy_2() -> bool:
    return int(np.__version__.partition(".")[0]) >= 2


def load(model: bytes, runtime: str = "auto", threads: int = 1) -> Session:
    """Hands a flatbuffer to an interpreter, if its parts fit each other: one that is damaged may crash it.

    Args:
      model: the flatbuffer, without what stands behind it.
      runtime: "litert", "tflite-runtime", or "auto" for the first of these that is installed.
      threads: the interpreter's own.

    Raises:
      InputError: the runtime is unknown, not installed or at odds with NumPy, the model is damaged, needs an
        operator that the runtime or `kernels` does not know, or its inputs and outputs have other names.
    """
    name = choose(runtime)
    if threads < 1:
        raise InputError(f"threads={threads}; expected at least 1.")
    # Its import succeeds under NumPy 2, then the first Interpreter() raises.
    if name == "tflite-runtime" and _numpy_2():
        raise InputError(
            f"tflite-runtime was built for NumPy 1 and NumPy {np.__version__} is installed. "
            "Install it with: pip install 'numpy<2'"
        )
    # Loaded after TensorFlow it mistakes TensorFlow's symbols for its own: every model then fails with
    # "vector::reserve" or std::bad_alloc (tflite-runtime 2.14, TensorFlow 2.21, Linux).
    if (
        name == "tflite-runtime"
        and "tensorflow" in sys.modules
        and "tflite_runtime" not in sys.modules
    ):
        raise InputError(
            "tflite-runtime cannot be loaded into a process that has loaded TensorFlow. "
            "Take litert (pip install 'cxr-tfds[edge]'), or run cxr-infer as a process of its own."
        )
    try:
        version = importlib.import_module(RUNTIMES[name]).__version__
        interpreter_class = importlib.import_module(f"{RUNTIMES[name]}.interpreter").Interpreter
    except ImportError as err:
        raise InputError(f"{name} is installed but cannot be loaded: {err}") from err
    check_structure(model)
    try:
        return Session(interpreter_class(model_content=model, num_threads=threads), name, version)
    except InputError:
        raise
    except (ValueError, RuntimeError, MemoryError) as err:
        reason = str(err).strip().partition("\n")[0]
        hint = ""
        if "op for builtin opcode" in reason or "custom op" in reason:
            hint = " The model needs a newer runtime: use --runtime litert, or export it in another format."
        raise InputError(
            f"{name} {version} cannot load the model: {reason.rstrip('.')}.{hint}"
        ) from err


def choose(runtime: str) -> str:
    """The name of the interpreter that `load` takes.

    Raises:
      InputError: the runtime is unknown or not installed.
    """
    if runtime != "auto" and runtime not in RUNTIMES:
        raise InputError(f"runtime: {did_you_mean(runtime, ['auto', *RUNTIMES])}")
    here = installed()
    if runtime in here:
        return runtime
    if runtime == "auto" and here:
        return here[0]
    python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    extras = {
        "litert": ["edge"],
        "tflite-runtime": ["tflite-runtime"],
        "auto": ["edge", "tflite-runtime"],
    }[runtime]
    if sys.version_info >= (3, 12):  # no tflite-runtime was built for it
        extras = ["edge"]
    ways = " or ".join(f"pip install 'cxr-tfds[{extra}]'" for extra in extras)
    if runtime == "auto":
        raise InputError(f"No interpreter is installed here. Install one with: {ways}")
    if runtime == "tflite-runtime" and extras == ["edge"]:
        raise InputError(f"tflite-runtime was never built for {python}. Take litert: {ways}")
    raise InputError(f"{runtime} is not installed here. Install it with: {ways}")
