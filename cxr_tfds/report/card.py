"""The model card: what a run's model is for, how good it is, and what it must not be trusted with."""

from __future__ import annotations

from typing import Any, NamedTuple

from cxr_tfds.metrics.table import in_words
from cxr_tfds.models import MODELS, multiply_adds
from cxr_tfds.plotting import TIMES
from cxr_tfds.report.data import DataFacts
from cxr_tfds.run_folder import RunConfig

NO_DEVICE = (
    "No medical device. For research and teaching. Not for diagnosis, screening or treatment."
)
_PREVALENCES = (0.01, 0.1)


class Section(NamedTuple):
    title: str
    lines: list[str]  # plain text, a point each


def sections(
    config: RunConfig,
    model: Any,
    split: str,
    table: dict[str, Any],
    stress: dict[str, Any] | None,
    data: DataFacts,
) -> list[Section]:
    """The card, the same for the page and for `MODEL_CARD.md`.

    Args:
      config: of the run.
      model: Keras.
      split: the one that `table` holds the figures of.
      table: of `metrics.json`.
      stress: of `stress.json`, None where it was not measured.
      data: of the dataset.
    """
    return [
        Section("Intended use", _use(config)),
        Section("Model", _model(config, model)),
        Section(f"How good it is, on the {split} split", _figures(config, table)),
        Section("Under other conditions", [stress["verdict"]] if stress else ["Not measured."]),
        Section("Data", _data(config, data)),
        Section("Limits", _limits(config, split, table, data)),
    ]


def _use(config: RunConfig) -> list[str]:
    return [
        NO_DEVICE,
        f"Sorts radiographs into {_listed(config.labels)}: to compare methods, to teach, and to try a small device.",
        "No decision about a patient may rest on it. It has no approval of any authority, and nobody has shown that it "
        "helps anyone.",
    ]


def _model(config: RunConfig, model: Any) -> list[str]:
    name = config.settings["model"]
    source = f" Source: {MODELS[name].source}." if name in MODELS else ""
    side, _, channels = config.shape
    lines = [
        f"{name}, {model.count_params():,} parameters, {multiply_adds(model) / 1e6:,.0f} million multiply-adds an "
        f"image.{source}",
        f"In: {side} {TIMES} {side} {TIMES} {channels}, grey values 0 to 255, fitted by {config.fit}. Out: "
        + (
            "the logit of " + config.labels[1]
            if len(config.labels) == 2
            else "a logit for each class"
        )
        + f", divided by the temperature {config.temperature:.3f} before it becomes a probability.",
    ]
    if config.threshold is not None:
        lines.append(
            f"{config.labels[1]} is called from a probability of {config.threshold:.3f}, chosen on validation by the "
            f"rule {config.settings.get('threshold_rule', 'youden')}."
        )
    return lines


def _figures(config: RunConfig, table: dict[str, Any]) -> list[str]:
    lines = [
        f"{table['images']:,} images. Intervals are resampled by patient, by image where the patient is unknown."
    ]
    shown = (
        "auc",
        "accuracy",
        "balanced_accuracy",
        "sensitivity",
        "specificity",
        "ppv",
        "npv",
        "ece",
    )
    lines += [f"{spelled(name)}: {in_words(table[name], 3)}" for name in shown if name in table]
    for kind, of_kind in table.get("findings", {}).items():
        lines.append(
            f"found of {kind}: {in_words(of_kind['sensitivity'], 3)}, of {of_kind['images']} images"
        )
    if config.threshold is None:
        for name, of_class in table.get("classes", {}).items():
            lines.append(
                f"recall of {name}: {in_words(of_class['recall'], 3)}, of {of_class['support']} images"
            )
    return lines


def _data(config: RunConfig, data: DataFacts) -> list[str]:
    lines = [data.about] if data.about else []
    lines += [
        f"{title}: {text}"
        for title, text in (("Source", data.source), ("Labels", data.label_source))
        if text
    ]
    for split, facts in data.splits.items():
        classes = ", ".join(f"{name} {count:,}" for name, count in facts.classes.items())
        patients = "patients unknown" if facts.patients is None else f"{facts.patients:,} patients"
        lines.append(f"{split}: {facts.images:,} images, {patients}; {classes}")
    return [
        *lines,
        f"Dataset {config.dataset['name']}, fingerprint {config.dataset['fingerprint'][:16]}…",
    ]


def _limits(config: RunConfig, split: str, table: dict[str, Any], data: DataFacts) -> list[str]:
    lines = [
        f"It knows nothing but {_listed(config.labels)}: every image, a healthy hand too, becomes one of them.",
        "It knows patients, views and equipment like those it was trained on. Other ages, views, hospitals or "
        "countries were not tested; figures there are usually worse, and the threshold may not fit.",
    ]
    if split != "test":
        lines.append(
            "There is no test split: temperature and threshold were fitted on the very images measured here."
        )
    lines += [f"Warning of the dataset: {warning.rstrip('.')}." for warning in data.warnings]
    if not data.warnings and data.searched:
        lines.append(
            "The build found no property of the files, such as size or JPEG quality, that tells the classes."
        )
    if not data.warnings and not data.searched:
        lines.append(
            "Nobody has looked whether something beside the lung tells the classes of this dataset apart."
        )
    if any(facts.without_patient for facts in data.splits.values()):
        lines.append(
            "Of some images the patient is unknown: one patient's images may stand in two splits."
        )
    if text := _prevalence(config, table):
        lines.append(text)
    return lines


def _prevalence(config: RunConfig, table: dict[str, Any]) -> str:
    """What a positive call would be worth where the finding is rarer."""
    if config.threshold is None:
        return ""
    found, spared = table["sensitivity"]["value"], table["specificity"]["value"]
    if found is None or spared is None:
        return ""
    parts = []
    for share in _PREVALENCES:
        right, wrong = share * found, (1 - share) * (1 - spared)
        if right + wrong:
            parts.append(
                f"where {share:.0%} have it, {right / (right + wrong):.0%} of the calls would be right"
            )
    counts = table["confusion_matrix"]
    own = (counts["tp"] + counts["fn"]) / table["images"]
    return (
        f"{own:.0%} of the images measured here show {config.labels[1]}. At the same sensitivity and specificity, "
        f"{' and '.join(parts)}."
        if parts
        else ""
    )


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]])


def spelled(metric: str) -> str:
    """How a metric is called in the page."""
    special = {
        "auc": "AUC",
        "ppv": "PPV",
        "npv": "NPV",
        "f1": "F1",
        "ece": "calibration error (ECE)",
    }
    return special.get(metric, metric.replace("_", " "))
