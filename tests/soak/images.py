"""Corrupt, hostile and intact images and DICOM files in one folder, predicted by the device."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from helpers.corruptions import corrupt, draw_images
from helpers.hostile_images import HOSTILE
from helpers.sources import dicom_file
from PIL import Image

from .process import DEVICE_MB
from .stage import Stage
from .trial import Kind, Outcome, draw, narrow

_INTACT = 3  # images in each batch
_HOSTILE_EVERY = 50  # trials
Make = Callable[[np.random.Generator, int], tuple[str, bytes]]  # -> suffix and content


def make_image(rng: np.random.Generator, number: int) -> tuple[str, bytes]:
    """Returns the suffix and the content of a corrupt image, or of a hostile one."""
    if number % _HOSTILE_EVERY == 0:
        suffix = list(HOSTILE)[number // _HOSTILE_EVERY % len(HOSTILE)]
        return suffix, _draw_hostile(suffix)
    suffixes = list(seeds := _draw_images())
    suffix = suffixes[number % len(suffixes)]
    return suffix, corrupt(seeds[suffix], rng)


def make_dicom(rng: np.random.Generator, number: int) -> tuple[str, bytes]:
    """Returns the suffix and the content of a corrupt DICOM file."""
    seeds = _draw_dicom()
    seed = seeds[number % len(seeds)]
    if rng.integers(2):
        return "dcm", corrupt(seed, rng)
    changed = bytearray(seed)  # in the elements, which the preamble of 128 bytes precedes
    for place in rng.integers(132, min(len(seed), 900), rng.integers(1, 6)):
        changed[place] = rng.integers(256)
    return "dcm", bytes(changed)


@cache
def _draw_hostile(suffix: str) -> bytes:
    return HOSTILE[suffix]()


_draw_images = cache(draw_images)


@cache
def _draw_dicom() -> list[bytes]:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

    values = np.linspace(0, 4095, 24 * 40).round().astype(np.uint16).reshape(24, 40)
    grey = (values >> 4).astype(np.uint8)

    def compressed(syntax: str, form: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, form, **options)
        return dicom_file(grey, syntax, PixelData=encapsulate([buffer.getvalue()]))

    literal = b"".join(b"\x7f" + grey.tobytes()[at : at + 128] for at in range(0, grey.size, 128))
    frame = np.array([1, 64, *[0] * 14], "<u4").tobytes() + literal
    return [
        dicom_file(values, BitsStored=12),
        dicom_file(values, BitsStored=12, WindowCenter=2048, WindowWidth=4096),
        dicom_file(values.astype(np.int16)),
        compressed(JPEGBaseline8Bit, "JPEG"),
        compressed(JPEG2000Lossless, "JPEG2000", no_jp2=True),
        dicom_file(grey, RLELossless, PixelData=encapsulate([frame])),
    ]


def _run(
    kind: str, make: Make, stage: Stage, folder: Path, numbers: Sequence[int]
) -> list[Outcome]:
    return narrow(partial(_predict, stage, kind, make), folder, numbers)


def _predict(
    stage: Stage, kind: str, make: Make, folder: Path, numbers: Sequence[int]
) -> tuple[list[Outcome], str]:
    for number in numbers:
        suffix, content = make(draw(stage.seed, kind, number), number)
        (folder / f"{number:07}.{suffix}").write_bytes(content)
    expected = dict(list(stage.rows.items())[:_INTACT])
    for image in stage.images[:_INTACT]:
        shutil.copy(image, folder)
    line = ("cxr-infer", "predict", "--json", "--model", stage.model, folder)
    done = stage.commands.spawn(*line, limit_mb=DEVICE_MB).wait(30 + 2 * len(numbers))
    if done.problem:
        return [], done.problem
    rows = {Path(row.pop("file")).name: row for row in json.loads(done.stdout)}
    if len(rows) != len(numbers) + _INTACT:
        return [], f"{len(rows)} rows for {len(numbers) + _INTACT} files"
    for name, row in expected.items():
        if rows.pop(name) != row:
            return [], f"the prediction of the intact image {name} changed"
    return list(_judge(rows)), ""


def _judge(rows: dict[str, dict]) -> Iterator[Outcome]:
    for name, row in rows.items():
        number = int(name.partition(".")[0])
        if "error" not in row:
            yield Outcome(number, "prediction")
        else:
            has_reason = row["error"].strip() and "Error" not in row["error"]
            yield Outcome(number, "refused", "" if has_reason else f"{name}: {row['error']!r}")


IMAGES = Kind("images", partial(_run, "images", make_image), batch=100, share=1.0)
DICOM = Kind("dicom", partial(_run, "dicom", make_dicom), batch=100, share=0.7)
