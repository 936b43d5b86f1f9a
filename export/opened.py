"""Opens a finished run for an export, and makes the model info of its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from cxr_tfds.errors import InputError
from cxr_tfds.reading.datasets import BuiltDataset
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import CARD, RunConfig, load_model
from cxr_tfds.task import Task
from cxr_tfds.training.settings import read_run_config

from .check import Comparison, Verdict
from .edge.model_info import DatasetIdentity, ModelInfo, RunIdentity, SplitRates
from .edge.runtime import HEATMAP, RUNTIMES
from .variants import Variant


class OpenRun(NamedTuple):
    """A finished run."""

    name: str
    config: RunConfig
    dataset: BuiltDataset
    model: Any  # Keras, float32, pixels to logits
    model_card: str | None  # MODEL_CARD.md, None if the run has none

    @property
    def several_findings(self) -> bool:
        """Whether an image may have several findings."""
        return self.config.task is Task.FINDINGS


def open_run(run: Path, data_dir: str | Path | None) -> OpenRun:
    """Opens a finished run. Raises MissingData or InputError if a part of it cannot be read."""
    config = read_run_config(run)
    dataset = open_run_dataset(config, data_dir)
    try:
        model_card = (run / CARD).read_text(encoding="utf-8")
    except FileNotFoundError:
        model_card = None
    except (OSError, ValueError) as err:
        raise InputError(
            f"Cannot read {run / CARD}: {err}. Write it again with: cxr-evaluate {run}"
        ) from err
    return OpenRun(run.resolve().name, config, dataset, load_model(run), model_card)


def make_model_info(
    opened: OpenRun,
    variant: Variant,
    name: str,
    verdict: Verdict,
    refused: dict[str, str],
    float_layers: Sequence[str],
    model: Any,
) -> ModelInfo:
    """Returns what a file of a run contains about itself.

    Args:
      opened: The run.
      variant: The variant of the file.
      name: The format of the file.
      verdict: Its temperature, threshold and metrics.
      refused: The runtimes that cannot run it.
      float_layers: The layers that stay float32.
      model: The Keras model of the variant.
    """
    config, is_rgb = opened.config, variant is Variant.RGB
    has_heatmap = isinstance(model.output, dict)
    run: RunIdentity = {
        "name": opened.name,
        "model": config.settings["model"],
        "environment": config.environment,
    }
    if verdict.threshold is not None:
        run["threshold_rule"] = config.settings.get("threshold_rule", "youden")
    if float_layers:
        run["float_layers"] = list(float_layers)
    return ModelInfo(
        labels=config.labels,
        size=config.shape[0],
        channels=3 if is_rgb else config.shape[2],
        fit=config.fit,
        grey_levels=config.grey_levels,
        reader=opened.dataset.reader,
        several_findings=opened.several_findings,
        unknown=opened.dataset.unknown,
        threshold=verdict.threshold,
        temperature=verdict.temperature,
        quantization=name,
        runtimes=tuple(runtime for runtime in RUNTIMES if runtime not in refused),
        heatmap=has_heatmap,
        grid=tuple(model.output[HEATMAP].shape[1:3]) if has_heatmap else None,
        input="rgb" if is_rgb else "grey",
        dataset=cast(DatasetIdentity, config.dataset),
        run=run,
        metrics={split: _metrics(table) for split, table in verdict.comparisons.items()},
    )


def _metrics(table: Comparison) -> SplitRates:
    metrics: SplitRates = {"auc": table.auc, "accuracy": table.accuracy}
    if table.findings:
        metrics["findings"] = {name: _metrics(each) for name, each in table.findings.items()}
    return metrics
