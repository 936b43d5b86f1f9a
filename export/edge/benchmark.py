"""Measures speed and memory of a model, each runtime and number of threads in its own process."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.memory import peak_mb
from cxr_tfds.native import suppress_native_stderr
from cxr_tfds.parallel import core_count
from cxr_tfds.schema import parse_json
from cxr_tfds.text import text_table, to_json

_TIMES = ("load_ms", "first_ms", "startup_ms", "median_ms", "p95_ms", "decode_ms", "peak_mb")
_MAX_IMAGES = 32
_WARM_UP = 5  # predictions
_MAX_PREDICTIONS, _MAX_SECONDS = 1000, 3.0  # the measurement ends with the first of these
_TIMEOUT_S = 300
_CHILD = ("-m", "cxr_tfds.export.edge.benchmark")  # this module, see `main`


def count_rows() -> int:
    """Returns the number of rows that `benchmark_runtimes` yields."""
    from .runtime import installed_runtimes

    return max(len(installed_runtimes()), 1) * core_count()


def benchmark_runtimes(model: Path, images: Path | None) -> Iterator[dict[str, Any]]:
    """Yields a row for each installed runtime and number of threads, up to the number of cores.

    A row contains runtime and threads, and either `error` or the result of `measure_process`.
    """
    from .runtime import installed_runtimes

    for name in installed_runtimes() or ("auto",):  # auto: the child reports what to install
        for threads in range(1, core_count() + 1):
            arguments = (model, images or "", name, threads, time.monotonic())
            try:
                row = run_process(name, (*_CHILD, *arguments), _TIMEOUT_S)
            except InputError as err:
                row = {"error": str(err)}
            yield {"runtime": name, "threads": threads, **row}


def run_process(runtime: str, arguments: Sequence[Any], timeout_s: int) -> dict[str, Any]:
    """Runs Python, which runs a model in `runtime`, and returns the JSON that it prints.

    Raises:
      InputError: The JSON contains an `error`, or the process failed or took longer.
    """
    command = [sys.executable, *map(str, arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as err:
        raise InputError(f"{runtime} did not run the model within {timeout_s} s.") from err
    if done.returncode:
        last_line = done.stderr.strip().rpartition("\n")[2]
        raise InputError(
            f"{runtime} exited with code {done.returncode} while it ran the model. "
            f"{last_line}".rstrip()
        )
    row = parse_json(done.stdout, dict[str, Any], f"The output of {runtime}", "")
    if "error" in row:
        raise InputError(row["error"])
    return row


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as a table for people."""
    table: list[tuple[Any, ...]] = [("runtime", "threads", *_TIMES)]
    for row in rows:
        cells = ("-" if row.get(name) is None else f"{row[name]:.2f}" for name in _TIMES)
        name = f"{row['runtime']} {row.get('version', '')}"
        table.append((name, row["threads"], *cells, row.get("error", "")))
    return text_table(table, "<" + ">" * (1 + len(_TIMES)), keys=2)


def main() -> None:
    """Measures one row in this process and prints it as JSON."""
    model, images, name, threads, started = sys.argv[1:]
    try:
        row = measure_process(model, images, name, int(threads), float(started))
    except (InputError, OSError) as err:
        row = {"error": str(err)}
    sys.stdout.write(to_json(row) + "\n")


def measure_process(
    model: str, images: str, name: str, threads: int, started: float
) -> dict[str, Any]:
    """Returns the row of this process, which `started` then, in seconds of `time.monotonic`.

    startup_ms is None for a generated image, and peak_mb if the system does not report it.
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
    startup = time.monotonic() - started
    repeated = sources if len(sources) > 1 else sources * 9
    pixels, decoding = zip(*_decode(classifier, repeated), strict=True)
    running = time_predictions(classifier.predict, [first_pixels, *pixels])
    return {
        "version": classifier.version,
        "images": len(pixels),
        "load_ms": 1000 * load,
        "first_ms": 1000 * first,
        "startup_ms": 1000 * startup if images else None,
        "median_ms": 1000 * float(np.median(running)),
        "p95_ms": 1000 * float(np.quantile(running, 0.95)),
        "decode_ms": 1000 * float(np.median(decoding)),
        "peak_mb": peak_mb(),
    }


def _list_sources(images: str) -> list[Path | bytes]:
    from PIL import Image

    from .input_files import list_images

    if not images:
        jpeg = io.BytesIO()
        noise = Image.effect_noise((128, 110), 60).resize((1280, 1100), Image.Resampling.BICUBIC)
        noise.save(jpeg, "JPEG", quality=90)
        return [jpeg.getvalue()]
    regular = (Path(file.name) for file in list_images(images) if file.content is None)
    return list(islice(regular, _MAX_IMAGES))


def _decode(classifier: Any, sources: Sequence[Path | bytes]) -> Iterator[tuple[Any, float]]:
    """Yields pixels of readable images and the seconds that each took, without reading the disk."""
    from cxr_tfds.imaging.pixels import Radiograph
    from cxr_tfds.regular_files import read_or_explain

    for source in sources:
        data = source if isinstance(source, bytes) else read_or_explain(source)
        if isinstance(data, BadImage):
            continue
        before = time.perf_counter()
        image = classifier.decode(data)
        seconds = time.perf_counter() - before
        if isinstance(image, Radiograph):
            yield image.pixels, seconds


def time_predictions(
    predict: Callable[[Any], Any], pixels: Sequence[Any], most: int = _MAX_PREDICTIONS
) -> list[float]:
    """Returns the seconds of each prediction after the warm-up."""
    seconds: list[float] = []
    end = time.perf_counter() + _MAX_SECONDS
    for number in range(_WARM_UP + most):
        before = time.perf_counter()
        predict(pixels[number % len(pixels)])
        seconds.append(time.perf_counter() - before)
        if number > 2 * _WARM_UP and before > end:
            break
    return seconds[_WARM_UP:]


if __name__ == "__main__":
    main()
