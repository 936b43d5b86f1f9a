"""The model card: what a model is for, how well it performs, and its limitations."""

from __future__ import annotations

from typing import Any, NamedTuple

from cxr_tfds.metrics.table import class_and_finding_rows, format_metric, of_class
from cxr_tfds.models import MODELS, multiply_adds
from cxr_tfds.plotting import TIMES
from cxr_tfds.report.dataset import DatasetSummary
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.sources.origin import DRAWN, ORIGIN_TEXTS
from cxr_tfds.task import Task
from cxr_tfds.text import DISCLAIMER

_METRICS = (
    "auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "ece",
)  # fmt: skip
_LABELS = {
    "auc": "AUC",
    "ppv": "positive predictive value (PPV)",
    "npv": "negative predictive value (NPV)",
    "f1": "F1 score",
    "brier": "Brier score",
    "ece": "expected calibration error (ECE)",
}
_POLICIES = {
    "ignore": "are left out",
    "positive": "count as present",
    "negative": "count as absent",
}
_PREVALENCES = (0.01, 0.1)


class Section(NamedTuple):
    """A titled list of plain-text points."""

    title: str
    lines: list[str]


def write_sections(
    config: RunConfig,
    model: Any,
    split: str,
    metrics: dict[str, Any],
    stress: dict[str, Any] | None,
    data: DatasetSummary,
) -> list[Section]:
    """Returns the content of the model card, for `MODEL_CARD.md` and the report.

    `metrics` and `stress` are the tables of `split` in `metrics.json` and `stress.json`.
    """
    return [
        Section("Intended use", _intended_use(config)),
        Section("Model", _model(config, model)),
        Section(f"Performance on the {split} split", _performance(metrics)),
        Section("Stress test", [stress["verdict"] if stress else "Not measured."]),
        Section("Data", _data(config, data)),
        Section("Limitations", _limitations(config, split, metrics, data)),
    ]


def metric_label(name: str, table: dict[str, Any] | None = None) -> str:
    """Returns the name of a metric for people, with the class it is about in a table."""
    return _LABELS.get(name, name.replace("_", " ")) + of_class(name, table or {})


def _intended_use(config: RunConfig) -> list[str]:
    purpose = f"Classifies radiographs as {_join(config.labels)}"
    if config.task is Task.FINDINGS:
        purpose = f"Detects findings in radiographs ({', '.join(config.labels)})"
    return [
        DISCLAIMER,
        f"{purpose}, to compare methods, to teach, and to try classification on small devices.",
        "Must not be used for decisions about patients. No authority has approved it, and its "
        "benefit has not been studied.",
    ]


def _model(config: RunConfig, model: Any) -> list[str]:
    name = config.settings["model"]
    lines = [
        f"{name}, {model.count_params():,} parameters, {multiply_adds(model) / 1e6:,.0f} million "
        "multiply-adds per image."
    ]
    if name in MODELS:
        lines.append(f"Source: {MODELS[name].source}.")
    side = f" {TIMES} ".join(map(str, config.shape))
    lines.append(f"Input: {side} grey values from 0 to 255 (fit: {config.fit}).")
    if isinstance(config.temperature, tuple) and isinstance(config.threshold, tuple):
        return lines + _describe_findings(config, config.temperature, config.threshold)
    temperature = f"{config.temperature:.3f}"
    if len(config.labels) > 2:
        output = "one logit per class. Probabilities are the softmax of logits"
    else:
        output = f"the logit of {config.labels[1]}. Its probability is the sigmoid of logit"
    lines.append(f"Output: {output} / {temperature} (temperature).")
    if isinstance(config.threshold, float):
        lines.append(
            f"{config.labels[1]} is predicted from a probability of {config.threshold:.3f}. This "
            "threshold was chosen on the validation split by the rule "
            f"{config.settings.get('threshold_rule', 'youden')}."
        )
    return lines


def _describe_findings(
    config: RunConfig, temperatures: tuple[float, ...], thresholds: tuple[float, ...]
) -> list[str]:
    """Returns what the output means if an image may have several findings."""
    settings = config.settings
    lines = [
        "Output: one logit per finding. The probability of a finding is the sigmoid of its logit "
        "divided by its temperature. A finding is predicted from its threshold on, independently "
        "of the others.",
        "Temperatures and thresholds were fitted on the validation split, thresholds by the rule "
        f"{settings['threshold_rule']}.",
        f"Findings that the source calls uncertain {_POLICIES[settings['uncertain']]} in training "
        "and are left out of the metrics. Findings that it does not mention "
        f"{_POLICIES[settings['unknown']]} in all splits.",
    ]
    rows = zip(config.labels, temperatures, thresholds, strict=True)
    for name, temperature, threshold in rows:
        fitted = " (not fitted: validation lacks images)" if name in config.not_fitted else ""
        lines.append(f"{name}: temperature {temperature:.3f}, threshold {threshold:.3f}{fitted}.")
    return lines


def _performance(metrics: dict[str, Any]) -> list[str]:
    names = [name for name in _METRICS if name in metrics]
    several = metrics.get("task") == "findings"
    mean = "mean " if several else ""
    rows = [(mean + metric_label(name, metrics), format_metric(metrics[name], 3)) for name in names]
    rows += _finding_rows(metrics) if several else class_and_finding_rows(metrics, 3)
    return [
        f"{metrics['images']:,} images. Confidence intervals (CI) are from a bootstrap that "
        "resamples patients, or images where the patient is unknown.",
        *(f"{name}: {text}" for name, text in rows),
    ]


def _finding_rows(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            name,
            f"AUC {format_metric(table['auc'], 3)}; sensitivity "
            f"{format_metric(table['sensitivity'], 3)}; specificity "
            f"{format_metric(table['specificity'], 3)}; {table['positives']:,} of "
            f"{table['images']:,} images positive",
        )
        for name, table in metrics["findings"].items()
    ]


def _data(config: RunConfig, data: DatasetSummary) -> list[str]:
    lines = [DRAWN] if data.origin["drawn"] else []
    lines += [f"{name.capitalize()}: {data.origin[name].rstrip('.')}." for name in ORIGIN_TEXTS]
    if data.source:
        lines.append(f"Source: {data.source}")
    if data.label_source:
        lines.append(f"Labels: {data.label_source}")
    for split, counts in data.splits.items():
        classes = ", ".join(f"{name} {count:,}" for name, count in counts.classes.items())
        known = counts.patients is not None
        patients = f"{counts.patients:,} patients" if known else "patients unknown"
        classes = f"present: {classes}" if config.task is Task.FINDINGS else classes
        lines.append(f"{split}: {counts.images:,} images, {patients} ({classes})")
    name, fingerprint = config.dataset["name"], config.dataset["fingerprint"]
    return [*lines, f"Dataset {name}, fingerprint {fingerprint[:16]}…"]


def _limitations(
    config: RunConfig, split: str, metrics: dict[str, Any], data: DatasetSummary
) -> list[str]:
    known = (
        f"The model knows only {_join(config.labels)}. It assigns one of them to every image, even "
        "if the image shows something else."
    )
    if config.task is Task.FINDINGS:
        known = (
            "The model knows only the findings above. An image in which it predicts none of them "
            "may show something else."
        )
    lines = [
        known,
        "It was tested only on patients, views and equipment like those in its training data. "
        "Elsewhere, performance is usually lower and the threshold may not fit.",
    ]
    if split != "test":
        lines.append(
            "There is no test split: temperature and threshold were fitted on the same images that "
            "were measured here."
        )
    lines += [f"Dataset warning: {warning.rstrip('.')}." for warning in data.warnings]
    if not data.searched_for_shortcuts:
        lines.append(
            "The dataset was not checked for properties outside the lungs that separate the "
            "classes."
        )
    elif not data.warnings:
        lines.append(
            "The build found no file property, such as size or JPEG quality, that separates the "
            "classes."
        )
    if any(counts.without_patient for counts in data.splits.values()):
        lines.append(
            "The patients of some images are unknown: images of one patient may be in two splits."
        )
    if text := _predictive_values(config, metrics):
        lines.append(text)
    return lines


def _predictive_values(config: RunConfig, metrics: dict[str, Any]) -> str:
    """Returns a sentence about positive predictions where the finding is rarer, or ""."""
    if not isinstance(config.threshold, float):
        return ""
    sensitivity, specificity = metrics["sensitivity"]["value"], metrics["specificity"]["value"]
    if sensitivity is None or specificity is None or (sensitivity == 0 and specificity == 1):
        return ""
    parts = []
    for prevalence in _PREVALENCES:
        true, false = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
        parts.append(f"{true / (true + false):.0%} if {prevalence:.0%} of people had it")
    counts, name = metrics["confusion_matrix"], config.labels[1]
    share = (counts["tp"] + counts["fn"]) / metrics["images"]
    return (
        f"{share:.0%} of the measured images show {name}. At the same sensitivity and specificity, "
        f"the share of correct positive predictions would be {' and '.join(parts)}."
    )


def _join(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
