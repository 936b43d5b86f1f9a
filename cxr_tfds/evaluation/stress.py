"""How a model fares under `cxr_tfds.evaluation.conditions`, beside the same images as they are.

The images of another hospital differ in exposure, sharpness, compression and position. Where no such images
are at hand this is the honest stand-in: what the model loses here, it must be expected to lose there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cxr_tfds.evaluation.conditions import CONDITIONS, MODERATE, STRENGTHS, Condition
from cxr_tfds.evaluation.scoring import Kept, Scores, flat
from cxr_tfds.metrics.ranking import Ranking
from cxr_tfds.metrics.resampling import group_codes, resample
from cxr_tfds.metrics.summary import interval

_BATCH = 64
_RESAMPLES = 500
_NOTABLE = 0.01  # of the AUC: less is no lean


def stressed_logits(
    model: Any, images: np.ndarray, places: np.ndarray, condition: Condition, strength: str
) -> Any:
    """Logits of `model`, float32 (N,) or (N, K), for images (N, S, S, C) under a condition."""
    parts = [
        model.predict_on_batch(
            condition.apply(
                images[start : start + _BATCH], places[start : start + _BATCH], strength
            )
        )
        for start in range(0, len(images), _BATCH)
    ]
    return flat(np.concatenate(parts))


def stressed_copies(model: Any, scores: Scores, kept: Kept) -> tuple[np.ndarray, np.ndarray]:
    """Labels and calibrated probabilities of a split as it is and under each condition of each strength."""
    logits = [scores.logits[kept.places]]
    for condition in CONDITIONS:
        logits += [
            stressed_logits(model, kept.images, kept.places, condition, strength)
            for strength in STRENGTHS
        ]
    whole = scores._replace(logits=np.concatenate(logits))
    return np.tile(scores.labels[kept.places], len(logits)), whole.probabilities


def stress(
    model: Any,
    scores: Scores,
    kept: Kept,
    threshold: float | None,
    strengths: Sequence[str] = STRENGTHS,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measures `model` under every condition.

    Args:
      model: pixels to logits.
      scores: of the split as it is.
      kept: the split's images.
      threshold: decides two classes; None for more.
      strengths: of `STRENGTHS`; the moderate one is always among them.
      say: takes a line about how far it is.

    Returns:
      `images`, `clean` and `rows`: accuracy, sensitivity and specificity (of any class but the first), and where
      it is defined the auc, with the `drop` from clean as `{"value", "low", "high"}`, resampled by patient;
      `moderate`: the mean auc under moderate strength and its difference to clean; `verdict` in words.
    """
    strengths = [strength for strength in STRENGTHS if strength in (*strengths, MODERATE)]
    part = _part(scores, kept.places)
    codes = group_codes(part.patient_ids, len(part.labels))
    clean, drawn = _figures(part, threshold), _aucs(part, codes)
    rows: list[dict[str, Any]] = []
    for number, condition in enumerate(CONDITIONS):
        say(f"stress {number + 1} of {len(CONDITIONS)}: {condition.name}")
        for strength in strengths:
            logits = stressed_logits(model, kept.images, kept.places, condition, strength)
            changed = part._replace(logits=logits)
            row: dict[str, Any] = {
                "condition": condition.name,
                "strength": strength,
                "amount": condition.amount(strength),
            }
            row |= {"written": condition.written(strength), **_figures(changed, threshold)}
            if clean["auc"] is not None:
                row["drop"] = interval(clean["auc"] - row["auc"], drawn - _aucs(changed, codes), "")
            rows.append(row)
    table: dict[str, Any] = {"images": len(part.labels), "clean": clean, "rows": rows}
    if clean["auc"] is not None:
        mean = float(np.mean([row["auc"] for row in rows if row["strength"] == MODERATE]))
        table["moderate"] = {"auc": mean, "difference": mean - clean["auc"]}
    return {**table, "verdict": _verdict(table)}


def _part(scores: Scores, places: np.ndarray) -> Scores:
    return scores._replace(
        image_ids=[scores.image_ids[place] for place in places],
        patient_ids=[scores.patient_ids[place] for place in places],
        labels=scores.labels[places],
        logits=scores.logits[places],
        findings=None,
    )


def _figures(scores: Scores, threshold: float | None) -> dict[str, float | None]:
    decided, known = scores.decisions(threshold), scores.labels
    sick = known > 0
    auc = float(_aucs(scores)[0])
    return {
        "auc": None if np.isnan(auc) else auc,
        "accuracy": float((decided == known).mean()),
        "sensitivity": float((decided[sick] > 0).mean()) if sick.any() else None,
        "specificity": float((decided[~sick] == 0).mean()) if not sick.all() else None,
    }


def _aucs(scores: Scores, codes: np.ndarray | None = None) -> np.ndarray:
    """Area under the curve, of K > 2 classes the mean of each against the rest: (1,), or (R,) of resamples."""
    values = scores.logits if scores.logits.ndim == 1 else scores.probabilities.T
    if scores.logits.ndim == 1:
        rankings = [Ranking(scores.labels, values)]
    else:
        rankings = [
            Ranking((scores.labels == k).astype(np.int64), values[k]) for k in range(len(values))
        ]
    if codes is None:
        return np.mean([ranking.auc() for ranking in rankings], axis=0)
    drawn = resample(
        codes, _RESAMPLES, seed=0
    )  # the same draws for every condition: the drops are paired
    return np.concatenate(
        [np.mean([ranking.auc(weights) for ranking in rankings], axis=0) for weights in drawn]
    )


def _verdict(table: dict[str, Any]) -> str:
    """Which property of the image the model leans on, in words."""
    if table["clean"]["auc"] is None:
        return "With one class only there is no AUC, so nothing can be said about what the model leans on."
    moderate = [row for row in table["rows"] if row["strength"] == MODERATE]
    worst = max(moderate, key=lambda row: row["drop"]["value"])
    condition = next(each for each in CONDITIONS if each.name == worst["condition"])
    drop, at = worst["drop"], f"{worst['condition']} of moderate strength ({worst['written']})"
    mean = table["moderate"]
    average = f"On average over moderate conditions the AUC is {mean['auc']:.3f}, {mean['difference']:+.3f} from clean."
    if drop["value"] >= _NOTABLE and drop["low"] is not None and drop["low"] <= 0:
        said = (
            f"What the model leans on cannot be told from so few images: the AUC drops most under {at}, by "
            f"{drop['value']:.3f}, with a 95 % interval from {drop['low']:.3f} to {drop['high']:.3f}."
        )
    elif drop["value"] < _NOTABLE:
        said = (
            f"Under no condition of moderate strength does the AUC drop by {_NOTABLE} or more. It drops most, by "
            f"{max(drop['value'], 0):.3f}, under {at}: what the model leans on most, and not much, is "
            f"{condition.leans_on}."
        )
    else:
        said = (
            f"The model leans most on {condition.leans_on}: under {at} its AUC drops from "
            f"{table['clean']['auc']:.3f} to {worst['auc']:.3f}. In practice this is {condition.stands_for}."
        )
    return f"{said} {average} {_decisions(table['clean'], moderate)}"


def _decisions(clean: dict[str, Any], moderate: Sequence[dict[str, Any]]) -> str:
    """What becomes of the decisions: a threshold may fail where the order of the images still holds."""
    parts = []
    for name in ("specificity", "sensitivity"):
        worst = min(moderate, key=lambda row: row[name])
        change = f"from {clean[name]:.1%} to {worst[name]:.1%} under {worst['condition']}"
        parts.append(
            f"{name} drops at worst {change}"
            if worst[name] < clean[name]
            else f"{name} never drops"
        )
    return f"As for its decisions, {' and '.join(parts)}."


def as_text(table: dict[str, Any]) -> str:
    """A line for each condition and strength, then the verdict."""
    lines = [
        f"{'condition':<17} {'strength':<8} {'amount':<21} {'AUC':>6} {'drop (95 %)':>25}  "
        f"{'accuracy':>8} {'sens.':>6} {'spec.':>6}"
    ]
    lines.append(
        f"{'none':<17} {'':<8} {'':<21} {_number(table['clean']['auc'])} {'':>25}  {_rates(table['clean'])}"
    )
    for row in table["rows"]:
        drop = row.get("drop")
        shown = "" if drop is None else f"{drop['value']:+.4f}"
        if drop is not None and drop["low"] is not None:
            shown += f" ({drop['low']:+.4f} to {drop['high']:+.4f})"
        name = f"{row['condition']:<17} {row['strength']:<8} {row['written']:<21}"
        lines.append(f"{name} {_number(row['auc'])} {shown:>25}  {_rates(row)}")
    return "\n".join([*lines, "", table["verdict"]])


def _rates(row: dict[str, Any]) -> str:
    return (
        f"{_number(row['accuracy']):>8} {_number(row['sensitivity'])} {_number(row['specificity'])}"
    )


def _number(value: float | None) -> str:
    return f"{'-':>6}" if value is None else f"{value:6.4f}"
