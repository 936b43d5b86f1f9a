"""The HTML of the page. Every text from outside is escaped. No Streamlit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from cxr_tfds.errors import BadImage
from cxr_tfds.text import DISCLAIMER, html, percent, plain_markdown

from ..html_card import data_url, scale_url
from ..model_info import ModelInfo
from ..prediction import FindingPrediction, Prediction
from .uploads import Result
from .wording import (
    UNKNOWN_MEANING,
    count_outcomes,
    describe_label,
    describe_model,
    explain_probability,
    explain_rule,
)

_data_url = partial(data_url, form="JPEG", quality=90)
# Streamlit's upload field has the role "presentation", which hides its name from screen readers.
_UPLOAD_FIELD = """<script>
const nameUploadField = () => {
  const field = document.querySelector('[data-testid="stFileUploaderDropzone"]');
  if (field && field.getAttribute("role") !== "group") field.setAttribute("role", "group");
};
new MutationObserver(nameUploadField).observe(document.body, {childList: true, subtree: true});
nameUploadField();
</script>"""


class Picture(NamedTuple):
    """An image with its description for screen readers and its caption."""

    image: Image.Image
    alt: str
    caption: str
    has_scale: bool = False  # whether the scale of the colours follows the caption


def escape(text: str) -> str:
    """Returns text as HTML; numbers stay on the line of their percent sign."""
    return html(text).replace(" %", "&nbsp;%")


def style() -> str:
    """Returns the style sheet."""
    css = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    return f"<style>{css}</style>"


def upload_field() -> str:
    """Returns a script that makes the upload field known to screen readers."""
    return _UPLOAD_FIELD


def header(info: ModelInfo) -> str:
    """Returns the title of the page, and the notice that is always in view."""
    question = "Findings" if info.several_findings else "Classes"
    names = "".join(f"<li>{escape(name)}</li>" for name in info.labels)
    return (
        '<header class="cxr-header"><h1>Chest radiograph classifier</h1>'
        f"<p>{escape(describe_model(info))}</p>"
        f'<ul class="cxr-names" aria-label="{question}">{names}</ul></header>'
        f'<aside class="cxr-notice" aria-label="Notice">{_disclaimer()}</aside>'
    )


def _disclaimer() -> str:
    first, rest = DISCLAIMER.split(". ", 1)
    return f"<p><strong>{escape(first)}.</strong> {escape(rest)}</p>"


def gallery(pictures: Iterable[Picture]) -> str:
    """Returns pictures next to each other, below each other on a phone."""
    figures = "".join(
        f'<figure><img src="{_data_url(x.image)}" alt="{escape(x.alt)}">'
        f"<figcaption>{escape(x.caption)}{_scale() if x.has_scale else ''}</figcaption></figure>"
        for x in pictures
    )
    return f'<div class="cxr-gallery">{figures}</div>'


def _scale() -> str:
    bar = f'<img src="{scale_url()}" alt="">'
    return f'<span class="cxr-scale">nothing {bar} most in this image</span>'


def introduction(info: ModelInfo, examples: Iterable[Image.Image]) -> str:
    """Returns what the page does, with thumbnails of the drawn examples."""
    names = "each finding" if info.several_findings else info.labels[1]
    if len(info.labels) > 2 and not info.several_findings:
        names = "each class"
    steps = [
        f"The probability of {names}, and the decision it leads to.",
        "What such a probability meant in the images of the validation split.",
    ]
    if info.heatmap:
        steps.append("Where in the image the evidence is.")
    points = "".join(f"<li>{escape(step)}</li>" for step in steps)
    images = "".join(f'<img src="{_data_url(image)}" alt="">' for image in examples)
    return (
        '<section class="cxr-card cxr-intro"><div><h2>What you get for each image</h2>'
        f'<ul>{points}</ul></div><div class="cxr-strip">{images}</div></section>'
    )


def result_card(result: Result, info: ModelInfo) -> str:
    """Returns a prediction with its probabilities, the rule and what they meant on validation."""
    prediction = result.outcome
    if isinstance(prediction, BadImage):
        return error_card(result)
    title = f'<h2 class="cxr-file">{escape(result.name)}</h2>'
    if prediction.findings:
        return f'<section class="cxr-card">{title}{_findings(prediction, info)}</section>'
    (statement,) = prediction.statements()
    name = statement.name
    reading = explain_probability(info, name, prediction.probabilities[name])
    return (
        f'<section class="cxr-card">{title}'
        f'<p class="cxr-label">Predicted class</p>'
        f'<p class="cxr-outcome {_kind(prediction, info)}">'
        f"{escape(prediction.label)}</p>"
        f'<p class="cxr-label">Probability of {escape(name)}</p>'
        f'<p class="cxr-number">{escape(statement.probability)}</p>'
        f"{_bars(prediction)}"
        f"<p>{escape(explain_rule(statement, info))}</p>"
        f"{_reading(reading)}</section>"
    )


def _bars(prediction: Prediction) -> str:
    """Returns the bar of the positive class; without a threshold, a bar for each class."""
    if prediction.positive is not None:
        return _bar(prediction.positive, prediction.probability, prediction.threshold)
    rows = "".join(
        f"<li{' class=chosen' if name == prediction.label else ''}><span>{escape(name)}</span>"
        f"<b>{escape(percent(value))}</b>{_bar(name, value, None)}</li>"
        for name, value in prediction.probabilities.items()
    )
    return f'<ul class="cxr-bars">{rows}</ul>'


def _findings(prediction: Prediction, info: ModelInfo) -> str:
    rows = "".join(
        f"<li{' class=chosen' if finding.is_present else ''}>"
        f"<span>{escape(finding.name)}</span>"
        f"<b>{escape(statement.probability)} {escape(statement.outcome)}</b>"
        f"{_bar(finding.name, finding.probability, finding.threshold)}"
        f"<small>{escape(explain_rule(statement, info))} "
        f"{escape(_explain_finding(finding, info))}</small></li>"
        for finding, statement in zip(prediction.findings, prediction.statements(), strict=True)
    )
    return (
        '<p class="cxr-label">Predicted</p>'
        f'<p class="cxr-outcome {_kind(prediction, info)}">'
        f'{escape(describe_label(prediction))}</p><ul class="cxr-bars">{rows}</ul>'
        f"{'' if info.reliability else _reading(UNKNOWN_MEANING)}"
    )


def _explain_finding(finding: FindingPrediction, info: ModelInfo) -> str:
    """Returns what the probability meant; "" if the file states it for no finding."""
    if not info.reliability:
        return ""
    return explain_probability(info, finding.name, finding.probability)


def _reading(text: str) -> str:
    return f'<p class="cxr-reading">{escape(text)}</p>'


def _bar(name: str, value: float, threshold: float | None) -> str:
    label, mark = f"Probability of {name}: {percent(value)}", ""
    if threshold is not None:
        label += f", threshold {percent(threshold)}"
        mark = f'<u style="left:{100 * min(threshold, 1):.1f}%"></u>'
    return (
        f'<div class="cxr-bar" role="img" aria-label="{escape(label)}">'
        f'<i style="width:{100 * value:.1f}%"></i>{mark}</div>'
    )


def error_card(result: Result) -> str:
    """Returns why a file has no prediction."""
    reason = result.outcome.reason if isinstance(result.outcome, BadImage) else ""
    return (
        f'<section class="cxr-card cxr-error" role="alert"><h2 class="cxr-file">'
        f"{escape(result.name)}</h2><p>{escape(reason)}</p></section>"
    )


def result_table(results: Sequence[Result], info: ModelInfo) -> str:
    """Returns a table with a row for each file.

    The roles keep it a table for screen readers where the style sheet stacks the cells of a row.
    """
    heads = "".join(
        f'<th role="columnheader" scope="col">{head}</th>'
        for head in ("File", "Predicted", "Probability")
    )
    rows = "".join(f'<tr role="row">{_row(result, info)}</tr>' for result in results)
    return (
        f'<h2 class="cxr-count">{escape(count_outcomes(results))}</h2>'
        '<div class="cxr-card"><table class="cxr-table" role="table">'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table></div>'
    )


def _row(result: Result, info: ModelInfo) -> str:
    image = f'<img src="{_data_url(result.thumbnail)}" alt="">' if result.thumbnail else "<i></i>"
    name = f'<th role="rowheader" scope="row">{image}<span>{escape(result.name)}</span></th>'
    prediction = result.outcome
    if isinstance(prediction, BadImage):
        return f'{name}<td role="cell" class="bad" colspan="2">{escape(prediction.reason)}</td>'
    label = escape(describe_label(prediction))
    statements = prediction.statements()
    if prediction.findings:  # the ones that are present, or the most probable one
        best = max(x.probability for x in prediction.findings)
        statements = [
            statement
            for statement, x in zip(statements, prediction.findings, strict=True)
            if x.is_present or (not prediction.label and x.probability == best)
        ]
    texts = [f"{escape(x.name)} <b>{escape(x.probability)}</b>" for x in statements]
    bar = ""
    if not prediction.findings:
        named = statements[0].name
        bar = _bar(named, prediction.probabilities[named], prediction.threshold)
    return (
        f'{name}<td role="cell" class="{_kind(prediction, info)}">{label}</td>'
        f'<td role="cell">{", ".join(texts)}{bar}</td>'
    )


def _kind(prediction: Prediction, info: ModelInfo) -> str:
    """Returns the CSS class of a decision."""
    negative = "" if prediction.findings else info.labels[0]
    return "negative" if prediction.label == negative else "positive"


def note(text: str) -> str:
    """Returns a remark on the field above."""
    return f'<p class="cxr-note">{escape(text)}</p>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Returns a list of names and values."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f'<dl class="cxr-facts">{items}</dl>'


def model_card(markdown: str) -> str:
    """Returns the headings, points and paragraphs of a model card.

    Nothing else of Markdown becomes HTML: a picture would be loaded from another server.
    """
    parts: list[str] = []
    in_list = False
    for line in filter(None, map(str.strip, markdown.splitlines())):
        is_point = line.startswith("- ")
        if is_point != in_list:
            parts.append("<ul>" if is_point else "</ul>")
            in_list = is_point
        if is_point:
            parts.append(f"<li>{plain_markdown(_bold(escape(line[2:])))}</li>")
        elif line.startswith("#"):
            parts.append(f"<h3>{plain_markdown(escape(line.lstrip('# ')))}</h3>")
        else:
            parts.append(f"<p>{plain_markdown(escape(line))}</p>")
    return f'<div class="cxr-modelcard">{"".join(parts)}{"</ul>" if in_list else ""}</div>'


def _bold(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
