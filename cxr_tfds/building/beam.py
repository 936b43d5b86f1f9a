"""The same build as an Apache Beam pipeline, for the clusters Beam runs on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from cxr_tfds.building.engines import EXECUTOR, scheduler_address
from cxr_tfds.building.file_stats import Facts
from cxr_tfds.building.fitting import Fitted, Fitting, fit_file
from cxr_tfds.errors import BadImage, InputError

if TYPE_CHECKING:
    import apache_beam

    from cxr_tfds.sources import SourceImage

_LOCAL_RUNNERS = (
    "directrunner",
    "switchingdirectrunner",
    "bundlebaseddirectrunner",
    "fnapirunner",
    "inprocessrunner",
)
_INSTEAD = f"For all cores of this machine leave --beam_pipeline_options out; for several machines set {EXECUTOR}."


def checked_runner(options: Any, runner: Any) -> Any:
    """The runner for the options of `tfds build --beam_pipeline_options`, if it is one that keeps every example.

    Args:
      options: `PipelineOptions`, or None.
      runner: the runner object or its name, where the caller gave one.

    Raises:
      InputError: the runner is unknown or not installed, loses examples, or a Dask cluster is named, too.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    if scheduler_address() is not None:
        raise InputError(
            f"A Beam pipeline and {EXECUTOR} both say where to build; give one of them."
        )
    options = options or PipelineOptions()
    chosen = runner or options.view_as(StandardOptions).runner or "DirectRunner"
    if isinstance(chosen, str):
        try:
            chosen = beam.runners.create_runner(chosen)
        except (ValueError, ImportError, AttributeError) as err:
            raise InputError(f"Beam has no runner {chosen!r} here: {err}") from err
    name = type(chosen).__name__
    if name == "DaskRunner":
        # TFDS assigns shards by a side input that arrives empty there (Beam 2.77, TFDS 4.9.10).
        raise InputError(f"Beam's DaskRunner cannot write a TFDS dataset. {_INSTEAD}")
    if name.casefold() not in _LOCAL_RUNNERS:
        return chosen
    mode = options.view_as(DirectOptions).direct_running_mode
    if mode != "in_memory":
        # Now and then, without an error: 418 of 3,000 examples with two processes, 17 of 3,200 with two threads
        # (Beam 2.77; tensorflow/data-validation#247).
        raise InputError(
            f"direct_running_mode={mode}: Beam's local runner loses examples with several processes or threads; "
            f"expected in_memory. {_INSTEAD}"
        )
    # What the switching runner ends up with; before, it would try to download another.
    return FnApiRunner()


def pipeline(
    images: Sequence[SourceImage],
    fitting: Fitting,
    example: Callable[[SourceImage, Fitted | BadImage], dict[str, Any] | None],
    notes: epath.Path,
) -> apache_beam.PTransform:
    """A transform that gives `(image_id, example)` of each of `images`, in any order.

    Args:
      images: of one split.
      fitting: how they are stored.
      example: makes an example of an image and what was read of it, or None to leave it out. It is sent
        to the workers.
      notes: folder that all workers see, where one of them writes what `read_notes` gives.
    """
    import apache_beam as beam

    path = str(notes / f"{uuid.uuid4().hex}.json")

    @beam.ptransform_fn
    def split(begin: Any) -> Any:
        spread = begin | beam.Create(images) | beam.Reshuffle()
        read = spread | "Fit" >> beam.Map(lambda image: (image, fit_file(image.path, fitting)))
        noted = read | "Note" >> beam.MapTuple(_note) | beam.combiners.ToList()
        _ = noted | "Write notes" >> beam.Map(_write_notes, path)
        made = read | "Example" >> beam.MapTuple(
            lambda image, result: (image.image_id, example(image, result))
        )
        return made | "Keep" >> beam.Filter(lambda pair: pair[1] is not None)

    return split()


def _note(image: SourceImage, result: Fitted | BadImage) -> tuple[str, str | None, tuple | None]:
    if isinstance(result, BadImage):
        return image.image_id, str(result), None
    return image.image_id, None, result.facts


def _write_notes(notes: list[tuple[str, str | None, tuple | None]], path: str) -> None:
    # A step that is run again writes the same file again.
    file = epath.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(notes))


def read_notes(folder: epath.Path, wanted: set[str]) -> tuple[dict[str, Facts], dict[str, str]]:
    """By image id, what the files tell, and why the others cannot be used. Removes the folder.

    Raises:
      InputError: an image of `wanted`, the ids of all images, is not among them.
    """
    facts: dict[str, Facts] = {}
    bad: dict[str, str] = {}
    for file in folder.iterdir() if folder.exists() else ():
        for image_id, reason, told in json.loads(file.read_text()):
            if reason is None:
                facts[image_id] = Facts(*told)
            else:
                bad[image_id] = reason
    folder.rmtree(missing_ok=True)
    if lost := sorted(wanted - facts.keys() - bad.keys()):
        raise InputError(
            f"Beam lost {len(lost)} of {len(wanted)} images, such as {lost[:10]}. Nothing was published; "
            "build again, on another runner if it happens again."
        )
    return facts, bad
