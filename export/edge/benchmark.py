"""Measures speed and memory of a model, each runtime and number of threads in its own process."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cxr_tfds.errors import InputError
from cxr_tfds.memory import peak_mb
from cxr_tfds.native import suppress_native_stderr
from cxr_tfds.parallel import core_count
from cxr_tfds.text import text_table

_TIMES = ("load_ms", "first_ms", "answer_ms", "median_ms", "p95_ms", "decode_ms", "peak_mb")
_MAX_IMAGES = 32
_WARM_UP = 5  # predictions
_MAX_PREDICTIONS, _MAX_SECONDS = 1000, 3.0  # the measurement ends with the first of these
_TIMEOUT_S = 300
_CHILD = "import sys; from cxr_tfds.export.edge.benchmark import run_child; run_child(sys.argv[1:])"


def benchmark_runtimes(model: Path, images: Path | None) -> Iterator[dict[str, Any]]:
    """Yields a row for each installed runtime and number of threads, up to the number of cores.

    A row contains runtime and threads, and either `error` or the result of `measure_process`.
    """
    from .runtime import installed_runtimes

    for name in installed_runtimes() or ("auto",):  # auto: the child reports what to install
        for threads in range(1, core_count() + 1):
            row = _measure_in_process(model, images, name, threads)
            yield {"runtime": name, "threads": threads, **row}


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as a table for people."""
    table: list[tuple[Any, ...]] = [("runtime", "threads", *_TIMES)]
    for row in rows:
        cells = ("-" if row.get(name) is None else f"{row[name]:.2f}" for name in _TIMES)
        name = f"{row['runtime']} {row.get('version', '')}"
        table.append((name, row["threads"], *cells, row.get("error", "")))
    return text_table(table, "<" + ">" * (1 + len(_TIMES)))


def run_child(arguments: Sequence[str]) -> None:
    """Measures one row in this process and prints it as JSON."""
    model, images, name, threads, started = arguments
    try:
        row = measure_process(model, images, name, int(threads), float(started))
    except (InputError, OSError) as err:
        row = {"error": str(err)}
    sys.stdout.write(json.dumps(row) + "\n")


def measure_process(
    model: str, images: str, name: str, threads: int, started: float
) -> dict[str, Any]:
    """Returns the row of this process, which `started` then, in seconds of `time.monotonic`.

    The row contains load_ms (imports and loading), first_ms (first prediction), answer_ms (process
    start to first prediction, None for a generated image), median_ms and p95_ms (prediction),
    decode_ms (median of decoding and fitting), peak_mb (None if the system does not report it), the
    version of the runtime and the number of images.

    Raises:
      InputError: The model cannot be loaded, or no image can be read.
    """
    before = time.perf_counter()
    import numpy as np

    from .classifier import Classifier

    with suppress_native_stderr():
        classifier = Classifier(model, name, threads)
    load = time.perf_counter() - before
    sources = _list_sources(images)
    first_pixels, _ = next(_decode(classifier, sources), (None, 0))
    if first_pixels is None:
        raise InputError("None of the images can be read.")
    before = time.perf_counter()
    classifier.predict(first_pixels)
    first = time.perf_counter() - before
    answer = time.monotonic() - started
    repeated = sources if len(sources) > 1 else sources * 9
    pixels, decoding = zip(*_decode(classifier, repeated), strict=True)
    running = _time_predictions(classifier, [first_pixels, *pixels])
    return {
        "version": classifier.version,
        "images": len(pixels),
        "load_ms": 1000 * load,
        "first_ms": 1000 * first,
        "answer_ms": 1000 * answer if images else None,
        "median_ms": 1000 * float(np.median(running)),
        "p95_ms": 1000 * float(np.quantile(running, 0.95)),
        "decode_ms": 1000 * float(np.median(decoding)),
        "peak_mb": peak_mb(),
    }


def _measure_in_process(
    model: Path, images: Path | None, name: str, threads: int
) -> dict[str, Any]:
    arguments = [model, images or "", name, threads, time.monotonic()]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no result within {_TIMEOUT_S} s"}
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        return {"error": f"process ended with code {done.returncode}: {last}".rstrip(": ")}
    return json.loads(done.stdout)


def _list_sources(images: str) -> list[Path | bytes]:
    if not images:
        return [_generate_jpeg()]
    from .input_files import list_images

    regular = (Path(file.name) for file in list_images(images) if file.content is None)
    return list(islice(regular, _MAX_IMAGES))


def _generate_jpeg() -> bytes:
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (110, 128), dtype=np.uint8)
    image = Image.fromarray(noise).resize((1280, 1100), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def _decode(classifier: Any, sources: Sequence[Path | bytes]) -> Iterator[tuple[Any, float]]:
    """Yields pixels of readable images and the seconds that each took, without reading the disk."""
    from cxr_tfds.imaging.pixels import Radiograph

    for source in sources:
        data = source if isinstance(source, bytes) else source.read_bytes()
        before = time.perf_counter()
        image = classifier.decode(data)
        seconds = time.perf_counter() - before
        if isinstance(image, Radiograph):
            yield image.pixels, seconds


def _time_predictions(classifier: Any, pixels: Sequence[Any]) -> list[float]:
    """Returns the seconds of each prediction after the warm-up."""
    seconds: list[float] = []
    end = time.perf_counter() + _MAX_SECONDS
    for number in range(_WARM_UP + _MAX_PREDICTIONS):
        before = time.perf_counter()
        classifier.predict(pixels[number % len(pixels)])
        seconds.append(time.perf_counter() - before)
        if number > 2 * _WARM_UP and before > end:
            break
    return seconds[_WARM_UP:]
