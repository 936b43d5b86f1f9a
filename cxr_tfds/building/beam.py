"""Builds a dataset as an Apache Beam pipeline, for the clusters that Beam supports."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from cxr_tfds.building.build_log import BuildLog
from cxr_tfds.building.engines import EXECUTOR, scheduler_address
from cxr_tfds.building.file_stats import FileStats
from cxr_tfds.building.fitting import FitSettings, fit_file
from cxr_tfds.errors import InputError
from cxr_tfds.imaging.pixels import DecodeResult

if TYPE_CHECKING:
    import apache_beam

    from cxr_tfds.sources import SourceImage

_LOCAL_RUNNERS = (
    "directrunner", "switchingdirectrunner", "bundlebaseddirectrunner", "fnapirunner",
    "inprocessrunner",
)  # fmt: skip
_INSTEAD = (
    "To use all cores of this machine, leave --beam_pipeline_options out; "
    f"to use several machines, set {EXECUTOR}."
)


def choose_runner(options: Any, runner: Any) -> Any:
    """Returns a Beam runner that keeps every example.

    Args:
      options: `PipelineOptions` from `tfds build --beam_pipeline_options`, or None.
      runner: A runner object, the name of one, or None.

    Raises:
      InputError: The runner is unknown, not installed or loses examples, or a Dask cluster is
        configured as well.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    if scheduler_address() is not None:
        raise InputError(f"Both a Beam pipeline and {EXECUTOR} are given; use only one of them.")
    options = options or PipelineOptions()
    runner = runner or options.view_as(StandardOptions).runner or "DirectRunner"
    if isinstance(runner, str):
        try:
            runner = beam.runners.create_runner(runner)
        except (ValueError, ImportError, AttributeError) as err:
            raise InputError(f"Beam has no runner {runner!r}: {err}") from err
    name = type(runner).__name__
    if name == "DaskRunner":
        # TFDS assigns shards by a side input that is empty there (Beam 2.77, TFDS 4.9.10).
        raise InputError(f"Beam's DaskRunner cannot write a TFDS dataset. {_INSTEAD}")
    if name.casefold() not in _LOCAL_RUNNERS:
        return runner
    mode = options.view_as(DirectOptions).direct_running_mode
    if mode != "in_memory":
        # Without an error: it lost 418 of 3,000 examples with two processes and 17 of 3,200 with
        # two threads (Beam 2.77; tensorflow/data-validation#247).
        raise InputError(
            f"direct_running_mode={mode}; expected in_memory. With several processes or threads, "
            f"Beam's local runner loses examples. {_INSTEAD}"
        )
    # The switching runner ends up with this one, but first tries to download another.
    return FnApiRunner()


def make_pipeline(
    images: Sequence[SourceImage],
    settings: FitSettings,
    make_example: Callable[[SourceImage, DecodeResult], dict[str, Any] | None],
    log_folder: epath.Path,
) -> apache_beam.PTransform:
    """Returns a transform to `(image_id, example)` pairs, in any order.

    Args:
      images: The images of one split.
      settings: How they are stored.
      make_example: Makes the example of an image from its decoding result, or None to leave it out.
        It is pickled and sent to the workers.
      log_folder: A folder all workers can write to, for `read_log`.
    """
    import apache_beam as beam

    path = str(log_folder / f"{uuid.uuid4().hex}.json")

    @beam.ptransform_fn
    def fit_split(begin: Any) -> Any:
        spread = begin | beam.Create(images) | beam.Reshuffle()
        results = spread | "Fit" >> beam.Map(lambda image: (image, fit_file(image.path, settings)))
        logs = results | "Log" >> beam.MapTuple(_log_result) | beam.combiners.ToList()
        _ = logs | "Write log" >> beam.Map(_write_log, path)
        examples = results | "Example" >> beam.MapTuple(
            lambda image, result: (image.image_id, make_example(image, result))
        )
        return examples | "Keep" >> beam.Filter(lambda pair: pair[1] is not None)

    return fit_split()


def _log_result(image: SourceImage, result: DecodeResult) -> BuildLog:
    log = BuildLog()
    log.add(image.image_id, result)
    return log


def _write_log(logs: list[BuildLog], path: str) -> None:
    # A repeated step writes the same file again.
    file = epath.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    content = [(log.stats, log.bad) for log in logs]
    file.write_text(json.dumps(content))


def read_log(folder: epath.Path, log: BuildLog) -> None:
    """Moves what the workers wrote to `folder` into `log`."""
    for file in folder.iterdir() if folder.exists() else ():
        for stats, bad in json.loads(file.read_text()):
            log.stats |= {image_id: FileStats(*values) for image_id, values in stats.items()}
            log.bad |= bad
    folder.rmtree(missing_ok=True)


def check_complete(log: BuildLog, image_ids: set[str]) -> None:
    """Checks that the workers logged every image.

    Raises:
      InputError: An image of `image_ids` was lost.
    """
    if lost := sorted(image_ids - log.stats.keys() - log.bad.keys()):
        raise InputError(
            f"Beam lost {len(lost)} of {len(image_ids)} images, such as {lost[:10]}. Nothing was "
            "published. Build again; if it happens again, use another runner."
        )
