"""The lines of a run while it trains."""

import pytest

from cxr_tfds.training.progress import Progress


def test_the_line_of_an_epoch_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "epoch": 100,
        "loss": 0.00123456,
        "accuracy": 0.98765,
        "val_loss": 0.00234567,
        "val_auc": 0.98765,
        "val_accuracy": 0.98765,
        "learning_rate": 1.23456e-05,
    }
    with Progress(0, 100, 1) as progress:
        progress.print_epoch(row)
    (line,) = (text for text in capsys.readouterr().err.splitlines() if "epoch" in text)
    assert "val_auc 0.988" in line
    assert len(line) <= 80
