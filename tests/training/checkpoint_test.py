"""What is measured after an epoch, and which epoch is the best."""

import math

import numpy as np
import pytest

from cxr_tfds.evaluation.scoring import Scores
from cxr_tfds.training import checkpoint


@pytest.mark.parametrize(
    ("labels", "logits", "expected"),
    [
        # log(1 + e^-2) of a right answer, log(1 + e^1) of a wrong one.
        ([1, 0], [2.0, 1.0], {"val_loss": (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2, "val_auc": 1.0}),
        ([1, 0], [-1000.0, 1000.0], {"val_loss": 1000.0, "val_auc": 0.0}),
        (
            [0, 2],
            [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
            {"val_loss": (math.log(3) + math.log(math.e + 2)) / 2, "val_accuracy": 0.5},
        ),
    ],
)
def test_validation_row_worked_by_hand(labels, logits, expected):
    row = checkpoint.validation_row(Scores([], [], np.array(labels), np.array(logits, np.float32)))
    assert row == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0.9, 1.0), (0.95, 2.0), (0.7, 0.1)], 2),
        ([(0.9, 1.0), (0.9, 0.5), (0.9, 0.7)], 2),  # equal: the lower loss
        ([(0.9, 0.5), (0.9, 0.5)], 1),
    ],
)
@pytest.mark.parametrize("key", ["val_auc", "val_accuracy"])
def test_best_epoch(rows, best, key):
    table = [{"epoch": number, key: value, "val_loss": loss} for number, (value, loss) in enumerate(rows, 1)]
    assert checkpoint.best_epoch(table) == best
