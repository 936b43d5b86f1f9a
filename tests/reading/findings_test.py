"""Targets of images that may have several findings, from every way to read them."""

import csv
import shutil

import numpy as np
import pytest
import tensorflow as tf
from helpers.findings import COUNTS, FINDINGS, SETTINGS, TABLE
from helpers.sources import build

from cxr_tfds.builders.xray_table.xray_table_dataset_builder import Builder
from cxr_tfds.errors import InputError
from cxr_tfds.reading import Shard
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.pipeline import with_mixup
from cxr_tfds.task import Task

pytestmark = pytest.mark.slow

NAN = np.nan
CELLS = {"1": 1, "0": 0, "-1": -1, "": -2}


@pytest.fixture(scope="module")
def dataset(findings_data):
    return open_dataset("xray_table/64", findings_data)


@pytest.fixture(scope="module")
def stated(findings_source):
    """States of each image in the table, by path."""
    with (findings_source / TABLE).open(encoding="utf-8") as file:
        return {
            row["Path"]: [CELLS[row[name]] for name in FINDINGS] for row in csv.DictReader(file)
        }


def read(batches):
    """Returns the states and targets of all batches by path."""
    rows = {}
    for _, targets, ids in batches.as_numpy_iterator():
        for image_id, states, target in zip(ids["image_id"], ids["label"], targets, strict=True):
            path = image_id.decode().partition("/")[2]  # without the split
            rows[path] = states.tolist(), target
    return rows


def test_opens_as_several_findings(dataset):
    assert (dataset.labels, dataset.task, dataset.outputs) == (FINDINGS, Task.FINDINGS, 3)
    assert dataset.sizes == COUNTS
    assert dataset.targeted("label") == dataset


@pytest.mark.parametrize(
    ("policies", "uncertain", "unknown"),
    [
        ({}, NAN, NAN),
        # Uncertain findings are never measured.
        ({"uncertain": "positive", "unknown": "negative"}, NAN, 0),
        ({"uncertain": "negative", "unknown": "positive"}, NAN, 1),
    ],
)
def test_evaluation_targets(dataset, stated, policies, uncertain, unknown):
    rows = read(dataset.labelled(**policies).batches("test", 20, with_ids=True))
    assert len(rows) == COUNTS["test"]
    expected = {1: 1, 0: 0, -1: uncertain, -2: unknown}
    for path, (states, target) in rows.items():
        assert states == stated[path]
        assert target.dtype == np.float32
        np.testing.assert_array_equal(target, [expected[state] for state in states])
    assert {state for states, _ in rows.values() for state in states} == {1, 0, -1, -2}


def test_training_targets(dataset):
    own = dataset.labelled(uncertain="positive")
    states = {
        image.tobytes(): ids
        for images, _, batch in own.batches("train", 32, with_ids=True).as_numpy_iterator()
        for image, ids in zip(images, batch["label"], strict=True)
    }
    expected = {1: 1, 0: 0, -1: 1, -2: NAN}
    batches = own.train(24).take(4)
    seen = 0
    for images, targets in batches.as_numpy_iterator():
        for image, target in zip(images, targets, strict=True):
            wanted = [expected[state] for state in states[image.tobytes()]]
            np.testing.assert_array_equal(target, wanted)
        seen += len(images)
    assert seen == COUNTS["train"]


def test_mixtures_count_only_what_counts_in_both_images():
    targets = tf.constant([[1, NAN, 0], [0, 1, 1]], tf.float32)
    batches = tf.data.Dataset.from_tensors((tf.zeros((2, 4, 4, 1)), targets))
    ((_, shares), mixed) = next(iter(with_mixup(batches, 0.4, seed=0, shard=Shard())))
    first, second = shares.numpy()
    expected = [[first, NAN, 1 - first], [1 - second, NAN, second]]
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=1e-6)


def test_refuses_the_target_finding(dataset):
    with pytest.raises(
        InputError,
        match=r"has no target 'finding': its images may have several findings, which are learned "
        r"together\. Omit the target\.",
    ):
        dataset.targeted("finding")


def test_refuses_policies_that_do_not_exist_or_do_not_apply(dataset, built):
    with pytest.raises(
        InputError, match="uncertain='maybe'; expected one of ignore, positive, negative"
    ):
        dataset.labelled(uncertain="maybe")
    single = open_dataset("chest_xray_pneumonia/64", built)
    assert single.labelled() == single
    with pytest.raises(InputError, match="unknown='negative' is for datasets whose images may"):
        single.labelled(unknown="negative")


def test_another_state_gives_another_fingerprint(dataset, findings_source, tmp_path):
    source = shutil.copytree(findings_source, tmp_path / "source")
    lines = (source / TABLE).read_text(encoding="utf-8").splitlines()
    number = next(i for i, line in enumerate(lines) if line.endswith(",1"))
    lines[number] = f"{lines[number][:-1]}0"
    (source / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    build(Builder, source, tmp_path / "data", name="64", size=64, **SETTINGS)
    other = open_dataset("xray_table/64", tmp_path / "data")
    assert other.sizes == dataset.sizes
    assert other.fingerprint != dataset.fingerprint
