"""How long `cxr-data summary` takes, compared with decoding every image once.

Run: python benchmarks/summary.py (about 2 minutes).

Both read the files of --source, a folder with a folder for each class, or 5,000 drawn phantoms of
which no two are equal. Decoding fits each image to 224 x 224 on all cores and keeps nothing. The
summary also lists the source, compares the files, plans the splits, looks for shortcuts and formats
its report. Start-up and imports are not measured.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import many_phantoms
import measure
from measure import Column, Target

SIZE = 224
TOY_IMAGES = 60
REQUIRED = 1.2  # summary ÷ decoding


def find_source(options: argparse.Namespace) -> Path:
    """Returns the folder to read; draws it unless it exists."""
    if options.source is not None:
        return options.source
    files = many_phantoms.draw_files(
        measure.WORK / f"many_{options.images}",
        options.images,
        10 if options.toy else many_phantoms.DISTINCT,
    )
    return many_phantoms.link_kaggle(files, measure.WORK / f"summary_{options.images}")


def list_files(source: Path) -> list[Path]:
    """Returns the images that a build would read."""
    from cxr_tfds.looking.survey import scan_source

    return [Path(str(image.path)) for image in scan_source(source, None, {}).listing.images]


def decode(source: Path) -> measure.Measure:
    """Decodes and fits every image once, on all cores."""
    from concurrent.futures import ThreadPoolExecutor

    from cxr_tfds.imaging.pixels import decode as decode_image
    from cxr_tfds.parallel import core_count

    files = list_files(source)
    pool = ThreadPoolExecutor(core_count())

    def load(file: Path) -> int:
        return decode_image(file.read_bytes(), SIZE).pixels.size

    def once(_: float) -> measure.Figures:
        start, cpu = time.perf_counter(), time.process_time()
        return _figures(sum(1 for _ in pool.map(load, files)), start, cpu)

    return once


def summary(source: Path) -> measure.Measure:
    """Does what `cxr-data summary` does."""
    from cxr_tfds.looking.survey import format_survey, scan_source, survey_source

    def once(_: float) -> measure.Figures:
        start, cpu = time.perf_counter(), time.process_time()
        scanned = scan_source(source, None, {})
        text = format_survey(survey_source(scanned).report)
        assert text
        return _figures(len(scanned.listing.images), start, cpu)

    return once


def _figures(images: int, start: float, cpu: float) -> measure.Figures:
    passed, used = time.perf_counter() - start, time.process_time() - cpu
    return {
        "images": images,
        "images_per_s": images / passed,
        "cpu_ms": 1000 * used / images,
        "peak_mb": measure.peak_mb(),
    }


CONTENDERS: dict[str, tuple[str, Callable[[Path], measure.Measure]]] = {
    "decode": ("decode and fit, all cores, nothing kept", decode),
    "summary": ("**ours**, `cxr-data summary`", summary),
}


COLUMNS = {
    "images": Column("images", ",.0f"),
    "images_per_s": Column("images/s", ",.0f", spread=True),
    "cpu_ms": Column("CPU ms an image", ".2f"),
    "peak_mb": Column("peak MB", ",.0f"),
}


def report(found: Mapping[str, measure.Figures], *, is_toy: bool) -> None:
    """Prints and saves what was measured, and the ratio next to the required one."""
    result = measure.Report(__file__, is_toy=is_toy)
    result.table(
        [Column("way"), *COLUMNS.values()],
        [
            (title, *(found[name][key] for key in COLUMNS))
            for name, (title, _) in CONTENDERS.items()
        ],
    )
    ratio = found["decode"]["images_per_s"] / found["summary"]["images_per_s"]
    result.targets([Target("time of the summary ÷ decoding once", ratio, "<=", REQUIRED)])
    result.save()


def main(options: argparse.Namespace) -> None:
    """Runs the benchmark, or one contender in a child process."""
    if options.toy:
        options.images = TOY_IMAGES
    given = [f"--images={options.images}"]
    given += [f"--source={options.source}"] if options.source else []
    source = find_source(options)
    if options.only:
        measure.serve(CONTENDERS[options.only][1](source))
        return
    options.seconds = 0  # each measurement reads all images once
    contenders = {name: functools.partial(make, source) for name, (_, make) in CONTENDERS.items()}
    report(measure.compare(__file__, contenders, options, given), is_toy=options.toy)


if __name__ == "__main__":
    parser = measure.options(__doc__)
    parser.add_argument("--source", type=Path, help="Folder to read; by default drawn phantoms.")
    parser.add_argument("--images", type=int, default=5000, help="Phantoms to draw. [%(default)s]")
    main(parser.parse_args())
