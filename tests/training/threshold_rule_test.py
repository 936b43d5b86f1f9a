"""A threshold rule is checked before TensorFlow is loaded."""

import pytest

from cxr_tfds.errors import InputError
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.task import Task
from cxr_tfds.training.threshold_rule import check_threshold_rule


def config(labels, threshold):
    return RunConfig(
        settings={},
        dataset={},
        labels=labels,
        shape=(64, 64, 1),
        fit="stretch",
        precision="float32",
        environment={},
        task=Task.choose(labels, several_findings=isinstance(threshold, tuple)),
        threshold=threshold,
    )


@pytest.mark.parametrize("rule", ["youden", "youden-stress", "sensitivity>=0.95", "0.3"])
def test_takes_every_rule(rule):
    check_threshold_rule(config(("A", "B"), 0.5), rule)
    check_threshold_rule(config(("Effusion",), (0.5,)), rule)


def test_refuses_an_unknown_rule():
    with pytest.raises(InputError, match="expected youden, youden-stress, sensitivity>=X or X"):
        check_threshold_rule(config(("A", "B"), 0.5), "specificity>=0.9")


def test_more_than_two_classes_have_no_threshold():
    with pytest.raises(InputError, match=r"most probable of 3 classes .* and has no threshold"):
        check_threshold_rule(config(("A", "B", "C"), None), "youden")
