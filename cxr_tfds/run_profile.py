"""`profile.json`: where the time of a run went. `cxr-train --profile` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from cxr_tfds.errors import InputError
from cxr_tfds.schema import AtLeastOne, Count, NotNegative, Probability, Text, read_json
from cxr_tfds.text import fold_text, percent, screen_width, text_table

PROFILE = "profile.json"

# The stages of each epoch, which a longer run has more of.
READING, AUGMENTATION, STEP = "reading", "augmentation", "step"
VALIDATION, CHECKPOINTS = "validation", "checkpoints"
OF_AN_EPOCH = (READING, AUGMENTATION, STEP, VALIDATION, CHECKPOINTS)
# The stages that a run has once.
START, FIRST_STEP, RESULTS, MEASURING = "start", "first step", "results", "profile"
STAGES = (START, FIRST_STEP, *OF_AN_EPOCH, RESULTS, MEASURING)
MEANINGS = {
    START: "libraries, dataset and model",
    FIRST_STEP: "tracing and compiling, once for each phase",
    READING: "waiting for batches",
    AUGMENTATION: "estimated from calls of its own",
    STEP: "the rest: gradients and weights",
    VALIDATION: "after each epoch",
    CHECKPOINTS: "saving the state",
    RESULTS: "threshold, test and stress test",
    MEASURING: "timing the augmentation",
}
_ADVICE = "Remove it: nothing else depends on it."
_NOTABLE = 0.2  # of the time of all epochs


class ProfileTable(TypedDict):
    """The content of `profile.json`.

    Attributes:
      seconds: Wall time of each of `STAGES`, up to the writing of the report.
      steps: Number of steps, without the first of each phase.
      augmentation_ms: Time of the augmentation of one batch on one device.
      batches_ready: Fraction of the steps that found a batch ready; None without steps.
      cores: Number of processor cores of this process.
      processor: Used fraction of these cores in the steps; None without steps.
      gpus: Names of the GPUs of this process.
      gpu: Fraction of the time in which they computed; None without a GPU or without the package
        nvidia-ml-py.
      gpu_bytes: Largest memory on one GPU; None without one.
      bottleneck: A sentence that names what to change first.
    """

    seconds: dict[str, NotNegative]
    steps: Count
    augmentation_ms: NotNegative
    batches_ready: Probability | None
    cores: AtLeastOne
    processor: Probability | None
    gpus: list[str]
    gpu: Probability | None
    gpu_bytes: Count | None
    bottleneck: Text


def read_profile(run: Path) -> ProfileTable | None:
    """Returns the profile of a run, or None if it has none."""
    path = run / PROFILE
    if not path.is_file():
        return None
    table = read_json(path, ProfileTable, _ADVICE)
    if table["seconds"].keys() != set(STAGES):
        raise InputError(
            f"{path} is corrupt: expected the seconds of {', '.join(STAGES)}. {_ADVICE}"
        )
    return table


def find_bottleneck(seconds: Mapping[str, float], *, has_gpu: bool) -> str:
    """Returns a sentence that names the slowest part of an epoch, and what to try.

    The step is the work itself, so another stage is named first if it takes a fifth of the time.
    """
    total = sum(seconds[stage] for stage in OF_AN_EPOCH)
    if not total:
        return "No step was trained."
    others = [stage for stage in OF_AN_EPOCH if stage != STEP]
    largest = max(others, key=lambda stage: seconds[stage])
    stage = largest if seconds[largest] >= _NOTABLE * total else STEP
    share = percent(seconds[stage] / total)
    return {
        READING: f"Reading: the step waits {share} of an epoch for images. Try a faster "
        "disk, or a dataset that is built at one size.",
        AUGMENTATION: f"Augmentation takes {share} of an epoch. Try --augment classic or none"
        f"{'' if has_gpu else ', or a GPU'}.",
        STEP: f"The step itself takes {share} of an epoch. Try a smaller model or smaller images"
        f"{', or more GPUs' if has_gpu else ', or a GPU'}.",
        VALIDATION: f"Validation takes {share} of an epoch. Try fewer epochs with more steps "
        "(--steps-per-epoch).",
        CHECKPOINTS: f"Checkpoints take {share} of an epoch. Try a longer --checkpoint-every, or a "
        "run folder on a faster disk.",
    }[stage]


def format_profile(table: ProfileTable) -> str:
    """Returns a profile for a terminal: a row for each stage, then what was busy."""
    seconds = table["seconds"]
    total = sum(seconds.values()) or 1
    rows = [
        (stage, f"{seconds[stage]:,.1f} s", percent(seconds[stage] / total, 1), MEANINGS[stage])
        for stage in STAGES
    ]
    load = ". ".join(describe_load(table))
    below = fold_text(f"{load}.\n{table['bottleneck']}", screen_width())
    return f"{text_table(rows, align='<>><')}\n{below}"


def describe_load(table: ProfileTable) -> list[str]:
    """Returns sentences without periods: the queue of batches, the processor and the GPUs."""
    sentences = []
    if table["batches_ready"] is not None:
        wait = f"{1000 * table['seconds'][READING] / max(table['steps'], 1):.1f} ms"
        ready = f"{percent(table['batches_ready'])} of the steps found it ready"
        sentences.append(f"A step waited {wait} for its batch on average; {ready}")
    if table["processor"] is not None:
        cores = f"{table['cores']} core{'s' if table['cores'] > 1 else ''}"
        sentences.append(f"The steps used {percent(table['processor'])} of {cores}")
    if not table["gpus"]:
        return [*sentences, "No GPU"]
    busy = "an unknown part (install nvidia-ml-py)"
    if table["gpu"] is not None:
        busy = percent(table["gpu"])
    memory = f"{(table['gpu_bytes'] or 0) / 2**30:.1f} GiB"
    names = ", ".join(dict.fromkeys(table["gpus"]))
    return [*sentences, f"{names}: busy {busy} of the time, at most {memory} of memory"]
