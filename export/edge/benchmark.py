"""How fast a model answers here, and in how much memory: each interpreter and thread count in a process of its own."""

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

from cxr_tfds.errors import BadImage, InputError
from cxr_tfds.memory import peak_mb
from cxr_tfds.native import suppress_native_stderr
from cxr_tfds.parallel import core_count

_IMAGES = 32  # decoded, then answered in turns
_WARM_UP, _ANSWERS, _SECONDS = (
    5,
    1000,
    3.0,
)  # measured are so many answers, or those of so many seconds
_LIMIT_S = 300  # a child that takes longer hangs
_CHILD = "import sys; from cxr_tfds.export.edge.benchmark import child; child(sys.argv[1:])"


def benchmark(model: Path, images: Path | None) -> Iterator[dict[str, Any]]:
    """A row for each installed runtime and for 1 thread to as many as there are cores.

    A row holds runtime, version and threads, and either `error` or, in milliseconds:
    load_ms (imports and loading), first_ms (the first answer of the loaded model), answer_ms (start of
    the process to that answer, decoding included), median_ms and p95_ms (of one run of the interpreter),
    decode_ms (median of decoding and fitting one image), and peak_mb (None where it cannot be told).
    """
    from .runtime import installed

    for name in installed() or ("auto",):  # auto: the child tells what to install
        for threads in range(1, core_count() + 1):
            yield {
                "runtime": name,
                "threads": threads,
                **_in_a_process(model, images, name, threads),
            }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for people."""
    columns = ("load_ms", "first_ms", "answer_ms", "median_ms", "p95_ms", "decode_ms", "peak_mb")
    text = [f"{'runtime':<21} {'threads':>7} " + " ".join(f"{name:>9}" for name in columns)]
    for row in rows:
        head = f"{row['runtime'] + ' ' + row.get('version', ''):<21} {row['threads']:>7} "
        cells = ("-" if row.get(name) is None else f"{row[name]:.2f}" for name in columns)
        text.append(
            head + (row["error"] if "error" in row else " ".join(f"{cell:>9}" for cell in cells))
        )
    return "\n".join(text)


def child(arguments: Sequence[str]) -> None:
    """The process of one row: prints it as JSON."""
    model, images, name, threads, started = arguments
    try:
        row = measure(
            Path(model), Path(images) if images else None, name, int(threads), float(started)
        )
    except (InputError, OSError) as err:
        row = {"error": str(err)}
    sys.stdout.write(json.dumps(row) + "\n")


def measure(
    model: Path, images: Path | None, name: str, threads: int, started: float
) -> dict[str, Any]:
    """The figures of this process, which started at `started` of `time.monotonic`.

    Raises:
      InputError: the model cannot be loaded, or there is no image that can be read.
    """
    before = time.perf_counter()
    from .classifier import Classifier

    with suppress_native_stderr():
        classifier = Classifier(model, name, threads)
    load = time.perf_counter() - before
    sources = _sources(images)
    first_pixels = _first(classifier, sources)
    before = time.perf_counter()
    classifier.predict(first_pixels)
    first = time.perf_counter() - before
    answered = time.monotonic() - started
    pixels, decoding = _decoded(classifier, sources)
    running = _timed(classifier, [first_pixels, *pixels])
    return {
        "version": classifier.version,
        "images": len(pixels),
        "load_ms": 1000 * load,
        "first_ms": 1000 * first,
        # Drawing the image is no part of an answer.
        "answer_ms": 1000 * answered if images else None,
        "median_ms": 1000 * _part(running, 0.5),
        "p95_ms": 1000 * _part(running, 0.95),
        "decode_ms": 1000 * _part(decoding, 0.5),
        "peak_mb": peak_mb(),
    }


def _in_a_process(model: Path, images: Path | None, name: str, threads: int) -> dict[str, Any]:
    arguments = [model, images or "", name, threads, time.monotonic()]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"gave no answer within {_LIMIT_S} s"}
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        return {"error": f"ended with code {done.returncode}{': ' + last if last else ''}"}
    return json.loads(done.stdout)


def _sources(images: Path | None) -> list[Path | bytes]:
    """Files, or one that is drawn."""
    if images is None:
        return [_drawn()]
    from .listing import images_in

    regular = (Path(file.name) for file in images_in(images) if file.error is None)
    return list(islice(regular, _IMAGES))


def _drawn() -> bytes:
    """A radiograph of the usual size as JPEG."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (110, 128), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((1280, 1100), Image.Resampling.BICUBIC).save(
        file, "JPEG", quality=90
    )
    return file.getvalue()


def _first(classifier: Any, sources: Sequence[Path | bytes]) -> Any:
    for source in sources:
        try:
            return classifier.pixels(source)
        except BadImage:
            continue
    raise InputError("There is no image that can be read.")


def _decoded(classifier: Any, sources: Sequence[Path | bytes]) -> tuple[list[Any], list[float]]:
    """Pixels of the readable images, and the seconds each took without the disk; a single one several times."""
    pixels, seconds = [], []
    for source in sources if len(sources) > 1 else [*sources] * 9:
        content = source if isinstance(source, bytes) else source.read_bytes()
        before = time.perf_counter()
        try:
            image = classifier.pixels(content)
        except BadImage:
            continue
        seconds.append(time.perf_counter() - before)
        pixels.append(image)
    return pixels, seconds


def _timed(classifier: Any, pixels: Sequence[Any]) -> list[float]:
    """Seconds of each answer after the warm-up."""
    seconds: list[float] = []
    end = time.perf_counter() + _SECONDS
    for number in range(_WARM_UP + _ANSWERS):
        before = time.perf_counter()
        classifier.predict(pixels[number % len(pixels)])
        seconds.append(time.perf_counter() - before)
        if number > 2 * _WARM_UP and before > end:
            break
    return seconds[_WARM_UP:]


def _part(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]
