"""Scores of a split and samples of its images; `tests/training/finish_test.py` scores datasets."""

import numpy as np
import pytest

from cxr_tfds.evaluation.scoring import Scores, squeeze_logits

SCORES = Scores(
    ["a", "b", "c"],
    ["p", "", "q"],
    np.array([0, 1, 1]),
    np.float32([-2, 2, 4]),
    ["none", "virus", ""],
    temperature=2.0,
)


def test_temperature_divides_the_logits():
    assert SCORES.probabilities.tolist() == pytest.approx([0.26894, 0.73106, 0.88080], abs=1e-5)
    assert SCORES.decisions(0.8).tolist() == [0, 0, 1]


@pytest.mark.parametrize("findings", [["none", "virus", ""], None])
def test_select_keeps_every_column_aligned(findings):
    part = SCORES._replace(findings=findings).select(np.array([2, 0]))
    assert (part.image_ids, part.patient_ids) == (["c", "a"], ["q", "p"])
    assert (part.labels.tolist(), part.logits.tolist()) == ([1, 0], [4, -2])
    assert part.findings == (None if findings is None else ["", "none"])
    assert part.temperature == 2


def test_squeeze_logits():
    assert squeeze_logits(np.array([[1.0], [2.0]])).tolist() == [1, 2]
    assert squeeze_logits(np.ones((2, 3))).shape == (2, 3)
