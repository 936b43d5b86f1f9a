"""The stress test: how a model performs under the conditions of `cxr_tfds.evaluation.conditions`.

Images of another hospital differ in exposure, sharpness, compression and position. If no such
images are available, this test is a substitute: expect losses measured here to occur there as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cxr_tfds.evaluation.conditions import CONDITIONS, MODERATE, STRENGTHS, Condition
from cxr_tfds.evaluation.scoring import (
    ImageSample,
    Scores,
    Threshold,
    squeeze_logits,
    stratify,
)
from cxr_tfds.metrics.ranking import rank_classes
from cxr_tfds.metrics.resampling import bootstrap_interval, bootstrap_weights, number_groups
from cxr_tfds.models.cost import multiply_adds
from cxr_tfds.progress import progress_bar
from cxr_tfds.text import fold_text, say, screen_width, text_table

_BATCH = 64
_RESAMPLES = 500
_NOTABLE_DROP = 0.01  # of the AUC
# What changing and scoring one image takes on 2 cores (x86-64, 2026-11): 5 ms for `edge`, 36 ms for
# `xray-cnn5` at 500 x 500.
_SECONDS_PER_MULTIPLY_ADD, _SECONDS_PER_PIXEL = 25e-12, 60e-9
_BUDGET_S = 120  # estimated time of all changes of a sample
_FEWEST_IMAGES = 40  # of a sample, even if they take longer
_METRICS = ("auc", "accuracy", "sensitivity", "specificity")


def within_budget(
    model: Any, scores: Scores, sample: ImageSample, strengths: Sequence[str] = STRENGTHS
) -> ImageSample:
    """Returns the images that a stress test of about two minutes can change and score.

    These are all, or a random sample stratified by class, which a line on stderr states. The time
    is estimated from the size of `model`, a Keras model, and of the images. A measured time would
    make the threshold of a run depend on the speed of the machine.
    """
    images = sample.images
    cost = multiply_adds(model) * _SECONDS_PER_MULTIPLY_ADD + images[0].size * _SECONDS_PER_PIXEL
    limit = max(int(_BUDGET_S / (cost * len(CONDITIONS) * len(strengths))), _FEWEST_IMAGES)
    if limit >= len(images):
        return sample
    chosen = stratify(np.nan_to_num(scores.labels[sample.indices], nan=-1), limit)
    say(
        f"stress test with {limit:,} of {len(images):,} images, drawn at random by class: more "
        f"would take longer than about {_BUDGET_S // 60} minutes on 2 cores"
    )
    return ImageSample(sample.indices[chosen], images[chosen])


def stressed_logits(
    model: Any,
    sample: ImageSample,
    condition: Condition,
    strength: str,
    advance: Callable[[int], object] = lambda count: None,
) -> Any:
    """Returns logits of a sample under a condition, float32 (M,) or (M, K).

    `advance` takes the number of images of each finished batch.
    """
    parts = []
    for start in range(0, len(sample.images), _BATCH):
        batch = slice(start, start + _BATCH)
        images = condition.apply(sample.images[batch], sample.indices[batch], strength)
        parts.append(model.predict_on_batch(images))
        advance(len(images))
    return squeeze_logits(np.concatenate(parts))


def score_stressed_copies(
    model: Any, scores: Scores, sample: ImageSample
) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and probabilities of a sample and of its copies under every condition."""
    scores = scores.select(sample.indices)
    logits = [scores.logits]
    total = len(sample.images) * len(CONDITIONS) * len(STRENGTHS)
    with progress_bar("choosing the threshold: changed images", total) as advance:
        for condition in CONDITIONS:
            for strength in STRENGTHS:
                changed = stressed_logits(model, sample, condition, strength, advance)
                logits.append(changed.reshape(scores.logits.shape))
    labels = np.concatenate([scores.labels] * len(logits))
    copies = scores._replace(labels=labels, logits=np.concatenate(logits))
    return labels, copies.probabilities


def run_stress_test(
    model: Any,
    scores: Scores,
    sample: ImageSample,
    threshold: Threshold,
    strengths: Sequence[str] = STRENGTHS,
    *,
    labels: Sequence[str] = (),
) -> dict[str, Any]:
    """Measures `model` under every condition, as `stress.json` stores it.

    `strengths` includes moderate. `labels` are the names of the findings, if an image may have
    several.

    Returns:
      `images`, `split_images` (of the complete split), `clean` (original images) and `rows`:
      accuracy, sensitivity and specificity (positive is any class but the first), auc, and the
      `drop` of the auc from clean as
      `{"value", "low", "high"}`, resampled by patient. `moderate`: mean auc at moderate strength
      and its difference from clean. `verdict`: the result in words. `drop` and `moderate` are left
      out if the auc is undefined. For several findings, each metric is the mean over those for
      which it is defined, and `findings` has the metrics of each.
    """
    split_images, scores = len(scores.labels), scores.select(sample.indices)
    groups = number_groups(scores.patient_ids, len(scores.labels))
    clean, clean_aucs = _measure(scores, threshold, labels), _resampled_aucs(scores, groups)
    rows: list[dict[str, Any]] = []
    total = len(sample.images) * len(CONDITIONS) * len(strengths)
    with progress_bar("stress test: changed images", total) as advance:
        for condition, strength in itertools.product(CONDITIONS, strengths):
            logits = stressed_logits(model, sample, condition, strength, advance)
            changed = scores._replace(logits=logits.reshape(scores.logits.shape))
            row: dict[str, Any] = {
                "condition": condition.name,
                "strength": strength,
                "amount": condition.amount(strength),
                "written": condition.format_amount(strength),
                **_measure(changed, threshold, labels),
            }
            if clean["auc"] is not None:
                drops = clean_aucs - _resampled_aucs(changed, groups)
                row["drop"] = bootstrap_interval(clean["auc"] - row["auc"], drops)
            rows.append(row)
    table: dict[str, Any] = {
        "images": len(scores.labels),
        "split_images": split_images,
        "clean": clean,
        "rows": rows,
    }
    if clean["auc"] is not None:
        mean = float(np.mean([row["auc"] for row in rows if row["strength"] == MODERATE]))
        table["moderate"] = {"auc": mean, "difference": mean - clean["auc"]}
    return {**table, "verdict": _verdict(table)}


def _measure(scores: Scores, threshold: Threshold, names: Sequence[str] = ()) -> dict[str, Any]:
    if isinstance(threshold, tuple):
        findings = {
            name: _measure(scores.of_finding(k)[1], threshold[k]) for k, name in enumerate(names)
        }
        means: dict[str, Any] = {}
        for metric in _METRICS:
            values = [table[metric] for table in findings.values() if table[metric] is not None]
            means[metric] = float(np.mean(values)) if values else None
        return {**means, "findings": findings}
    if not len(scores.labels):
        return dict.fromkeys(_METRICS)
    predicted, labels = scores.decisions(threshold), scores.labels
    positive = labels > 0
    auc = float(_aucs(scores, None)[0])
    return {
        "auc": None if np.isnan(auc) else auc,
        "accuracy": float((predicted == labels).mean()),
        "sensitivity": float((predicted[positive] > 0).mean()) if positive.any() else None,
        "specificity": float((predicted[~positive] == 0).mean()) if not positive.all() else None,
    }


def _aucs(scores: Scores, weights: np.ndarray | None) -> np.ndarray:
    """Returns the AUC (R,), for K > 2 classes the mean of each against the rest.

    For several findings returns the mean over those that are present and absent in the images.
    """
    if scores.several_findings:
        columns = []
        for number in range(scores.logits.shape[1]):
            counted, alone = scores.of_finding(number)
            if len(np.unique(alone.labels)) == 2:
                part = None if weights is None else weights[:, counted]
                columns.append(_aucs(alone, part))
        return np.mean(columns, axis=0) if columns else np.full(1, np.nan)
    values = scores.logits if scores.logits.ndim == 1 else scores.probabilities
    rankings = rank_classes(scores.labels, values)
    return np.mean([ranking.auc(weights) for ranking in rankings], axis=0)


def _resampled_aucs(scores: Scores, groups: np.ndarray) -> np.ndarray:
    """Returns the AUC of each resample. All conditions share the resamples, so drops are paired."""
    weights = bootstrap_weights(groups, _RESAMPLES, seed=0)
    return np.concatenate([_aucs(scores, part) for part in weights])


def _verdict(table: dict[str, Any]) -> str:
    """Returns in words which image property the model relies on and how its decisions change."""
    several = "findings" in table["clean"]
    if table["clean"]["auc"] is None:
        return (
            "No finding is both present and absent in these images: without an AUC, the test "
            "cannot show which image property the model relies on."
            if several
            else "All images belong to one class: without an AUC, the test cannot show which image "
            "property the model relies on."
        )
    moderate = [row for row in table["rows"] if row["strength"] == MODERATE]
    worst = max(moderate, key=lambda row: row["drop"]["value"])
    condition = next(each for each in CONDITIONS if each.name == worst["condition"])
    auc = "mean AUC of the findings" if several else "AUC"
    drop, where = worst["drop"], f"{worst['condition']} at moderate strength ({worst['written']})"
    if drop["value"] < _NOTABLE_DROP:
        text = (
            f"No condition at moderate strength lowers the {auc} by {_NOTABLE_DROP} or more. The "
            f"largest drop is {max(drop['value'], 0):.3f}, under {where}."
        )
    elif drop["low"] is not None and drop["low"] <= 0:
        text = (
            "There are too few images to show which image property the model relies on. The "
            f"largest drop of the {auc} is {drop['value']:.3f} (95% CI {drop['low']:.3f} to "
            f"{drop['high']:.3f}), under {where}."
        )
    else:
        text = (
            f"The model relies most on {condition.relies_on}: {where} lowers the {auc} from "
            f"{table['clean']['auc']:.3f} to {worst['auc']:.3f}. Typical causes are "
            f"{condition.causes}."
        )
    mean = table["moderate"]
    parts = [
        text,
        f"Averaged over all conditions at moderate strength, the {auc} is {mean['auc']:.3f} "
        f"({mean['difference']:+.3f} from the original images).",
    ]
    # A threshold may fail while the ranking of the images, and so the AUC, still holds.
    for name in ("sensitivity", "specificity"):
        worst, clean = min(moderate, key=lambda row: row[name]), table["clean"][name]
        if worst[name] < clean:
            change = f"falls from {clean:.1%} to {worst[name]:.1%} under {worst['condition']}"
        elif clean:
            change = f"does not fall below {clean:.1%}"
        else:
            change = "is 0.0% on the original images, too"
        subject = f"The mean {name}" if several else name.capitalize()
        parts.append(f"{subject} {change}.")
    if table["images"] < table["split_images"]:
        parts.append(
            f"Measured on {table['images']:,} of {table['split_images']:,} images, drawn at random "
            "by class, because all would take too long."
        )
    return " ".join(parts)


def format_stress_table(table: dict[str, Any]) -> str:
    """Returns a line for each condition and strength, then the verdict."""
    head = ("condition", "strength", "AUC", "drop (95% CI)", "accuracy", "sensitivity")
    rows = [(*head, "specificity", "amount")]
    clean = {"condition": "original images", "strength": "", "written": "", **table["clean"]}
    for row in (clean, *table["rows"]):
        drop, change = row.get("drop"), ""
        if drop is not None:
            change = f"{drop['value']:+.4f}"
            if drop["low"] is not None:
                change += f" ({drop['low']:+.4f} to {drop['high']:+.4f})"
        auc, *rates = (
            "-" if row[name] is None else f"{row[name]:.4f}"
            for name in ("auc", "accuracy", "sensitivity", "specificity")
        )
        rows.append((row["condition"], row["strength"], auc, change, *rates, row["written"]))
    verdict = fold_text(table["verdict"], screen_width())
    return f"{text_table(rows, '<<>>>>>', keys=2)}\n\n{verdict}"
