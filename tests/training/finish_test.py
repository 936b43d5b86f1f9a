"""The end of a run: fitted temperature and threshold, image samples and written files."""

import dataclasses
import json

import numpy as np
import pytest

from cxr_tfds import run_folder
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation import scoring
from cxr_tfds.evaluation.scoring import ImageSample, Scores, measure, score_and_sample
from cxr_tfds.evaluation.stress import score_stressed_copies
from cxr_tfds.metrics.temperature import fit_temperature
from cxr_tfds.metrics.thresholds import best_threshold
from cxr_tfds.models import build_model
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.names import DatasetName
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.training import finish

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(built):
    return open_dataset(DatasetName.parse("chest_xray_pneumonia/64"), built)


@pytest.fixture(scope="module")
def model(dataset):
    return build_model("edge", dataset.shape, 1)


def config_of(dataset, rule="youden"):
    return RunConfig(
        settings={"model": "edge", "threshold_rule": rule},
        dataset={"name": dataset.name, "fingerprint": dataset.fingerprint},
        labels=dataset.labels,
        shape=dataset.shape,
        fit=dataset.fit,
        precision="float32",
        environment={"python": "3.11"},
    )


def started(folder):
    (folder / run_folder.CHECKPOINT).mkdir(parents=True)
    (folder / run_folder.HISTORY).write_text(
        "epoch,loss,val_loss,val_auc\n1,0.7,0.6,0.5\n2,0.6,0.5,0.7\n", encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def finished(dataset, model, tmp_path_factory):
    """Returns a finished run folder."""
    folder = started(tmp_path_factory.mktemp("runs") / "run")
    measured = finish.finish_run(model, dataset, folder, config_of(dataset))
    assert measured == run_folder.read_metrics(folder)
    return folder


def test_run_folder_is_complete(finished):
    files = {
        "config.json",
        "history.csv",
        "metrics.json",
        "model.keras",
        "report.html",
        "stress.json",
    }
    assert {path.name for path in finished.iterdir()} == files | {"MODEL_CARD.md", "pictures"}


def test_temperature_and_threshold_are_fitted_on_validation(finished, dataset, model):
    config = RunConfig.read(finished)
    validation, _ = score_and_sample(model, dataset, "validation")
    assert config.temperature == pytest.approx(
        fit_temperature(validation.labels, validation.logits)
    )
    scaled = validation._replace(temperature=config.temperature)
    assert config.threshold == pytest.approx(
        best_threshold(validation.labels, scaled.probabilities)
    )
    for split, table in run_folder.read_metrics(finished).items():
        assert table["threshold"] == config.threshold
        assert table == measure(
            score_and_sample(model, dataset, split, config.temperature)[0], config
        )


def test_metrics_use_the_temperature():
    labels, logits = np.array([0, 0, 1, 1]), np.array([-4, 1, 2, 6], np.float32)
    config = dataclasses.replace(CONFIG, threshold=0.6, temperature=2.0)
    table = measure(Scores(list("abcd"), [""] * 4, labels, logits, temperature=2.0), config)
    probabilities = 1 / (1 + np.exp(-logits / 2))
    assert table["brier"]["value"] == pytest.approx(np.mean((probabilities - labels) ** 2))
    assert table["confusion_matrix"] == {"tn": 1, "fp": 1, "fn": 0, "tp": 2}  # sigmoid(0.5) is 0.62


CONFIG = RunConfig(
    settings={},
    dataset={},
    labels=("WELL", "SICK"),
    shape=(64, 64, 1),
    fit="stretch",
    precision="float32",
    environment={},
)


def test_stores_findings_and_stress(finished):
    measured = run_folder.read_metrics(finished)
    assert set(measured["test"]["findings"]) == {"bacteria", "virus"}
    assert list(measured["test"]["classes"]) == ["NORMAL", "PNEUMONIA"]
    (split,) = json.loads((finished / "stress.json").read_text(encoding="utf-8")).items()
    assert (split[0], split[1]["images"]) == ("test", 40)
    assert {row["strength"] for row in split[1]["rows"]} == {"moderate"}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("0.7", lambda labels, values, copies: 0.7),
        (
            "sensitivity>=0.9",
            lambda labels, values, copies: best_threshold(labels, values, "sensitivity>=0.9"),
        ),
        ("youden-stress", lambda labels, values, copies: best_threshold(*copies)),
    ],
)
def test_threshold_follows_the_rule_of_the_settings(dataset, model, rule, expected):
    validation, kept = score_and_sample(model, dataset, "validation")
    config = finish.fit_decision(model, validation, kept, config_of(dataset, rule))
    scores = validation._replace(temperature=config.temperature)
    copies = score_stressed_copies(model, scores, kept)
    assert config.threshold == expected(scores.labels, scores.probabilities, copies)


def test_refuses_a_validation_split_of_one_class():
    validation = Scores(["a", "b"], ["", ""], np.array([0, 0]), np.array([-1, 1], np.float32))
    with pytest.raises(
        InputError, match="the threshold is undefined: none of the 2 images is labelled 1"
    ):
        finish.fit_decision(
            None,
            validation,
            ImageSample(np.arange(2), np.zeros((2, 4, 4, 1))),
            config_of_rule("youden"),
        )


def config_of_rule(rule):
    return dataclasses.replace(CONFIG, settings={"threshold_rule": rule})


def test_three_classes_get_a_temperature_but_no_threshold():
    logits = np.random.default_rng(0).normal(0, 3, (30, 3))
    validation = Scores([""] * 30, [""] * 30, np.arange(30) % 3, logits)
    config = finish.fit_decision(
        None, validation, ImageSample(np.arange(0), np.empty(0)), config_of_rule("youden-stress")
    )
    assert config.threshold is None
    assert config.temperature > 1.5


def test_samples_a_large_split(dataset, model):
    all_scores, everything = score_and_sample(model, dataset, "test")
    scores, kept = score_and_sample(model, dataset, "test", sample_bytes=10 * 64 * 64)
    np.testing.assert_array_equal(scores.logits, all_scores.logits)
    assert len(kept.indices) == len(set(kept.indices)) == 10
    assert list(kept.indices) == sorted(kept.indices)
    np.testing.assert_array_equal(kept.images, everything.images[kept.indices])
    assert everything.images.shape == (40, 64, 64, 1)


@pytest.mark.parametrize(("positives", "kept"), [(1, {1}), (20, {4}), (38, {7})])
def test_sample_is_stratified_with_at_least_one_image_per_class(
    dataset, monkeypatch, positives, kept
):
    labels = np.random.default_rng(1).permutation(np.arange(40) < positives).astype(np.int64)
    monkeypatch.setattr(scoring, "read_columns", lambda *_: {"label": labels})
    places = scoring.stratified_sample(dataset, "test", 8)
    assert {int(labels[places].sum())} == kept
    assert len(set(places)) == 8


def test_threshold_under_stress_from_one_image_per_class(dataset, model):
    validation, kept = score_and_sample(model, dataset, "validation", sample_bytes=2 * 64 * 64)
    assert sorted(validation.labels[kept.indices]) == [0, 1]
    config = finish.fit_decision(model, validation, kept, config_of(dataset, "youden-stress"))
    assert 0 < config.threshold < 1


@pytest.mark.parametrize("temperature", [1.0, 0.37, 4.2])
def test_probabilities_are_exact_and_never_zero(temperature):
    logits = np.concatenate([np.linspace(-90, 90, 1001), [-200, 200]]).astype(np.float32)
    found = scoring.probabilities(logits, temperature)
    expected = np.exp(-np.logaddexp(0, -logits.astype(np.float64) / temperature))
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    assert found.min() > 0  # confident negatives keep their order
    of_three = scoring.probabilities(
        np.array([[3e38, 0, -3e38], [1, 2, 3]], np.float32), temperature
    )
    powers = np.exp(np.array([-2, -1, 0]) / temperature)
    np.testing.assert_allclose(of_three, [[1, 0, 0], powers / powers.sum()], rtol=1e-14)


def test_auc_is_computed_from_logits():
    labels, logits = np.array([0, 1, 0, 1]), np.array([40, 50, -900, -800], np.float32)
    table = measure(
        Scores(list("abcd"), [""] * 4, labels, logits), dataclasses.replace(CONFIG, threshold=0.6)
    )
    assert table["auc"]["value"] == 0.75
