"""Several findings an image, from the drawn table to the run folder."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.findings import FINDINGS, SETTINGS, draw_findings_source
from helpers.sources import build

from cxr_tfds import run_folder
from cxr_tfds.commands.evaluate import evaluate
from cxr_tfds.commands.train import train as train_command
from cxr_tfds.errors import InputError
from cxr_tfds.evaluation.scoring import ImageSample, Scores, score
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.metrics.temperature import fit_temperature
from cxr_tfds.metrics.thresholds import best_threshold
from cxr_tfds.reading.datasets import open_dataset
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.task import Task
from cxr_tfds.training.checkpoint import validation_metrics
from cxr_tfds.training.decision import fit_decision
from cxr_tfds.training.labels import check_labels
from cxr_tfds.training.run import train

pytestmark = pytest.mark.slow

NAN = np.nan
NAME = "xray_table/64"


@pytest.fixture(scope="module")
def run(findings_data, tmp_path_factory):
    """Returns a finished run folder."""
    out = tmp_path_factory.mktemp("runs") / "findings"
    dataset = open_dataset(NAME, findings_data).labelled(unknown="negative")
    train(
        dataset,
        out,
        epochs=6,
        batch_size=16,
        learning_rate=3e-3,
        augment="none",
        augment_changes={"mixup": 0.1},
        class_weight="balanced",
        label_smoothing=0.05,
        threshold_rule="youden",
    )
    return out


@pytest.fixture(scope="module")
def scores(run):
    config = RunConfig.read(run)
    model = run_folder.load_model(run)
    assert model.output_shape == (None, 3)
    return score(model, open_run_dataset(config), "test", config.temperature)


def test_config_holds_what_each_finding_needs(run):
    content = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert (content["task"], content["labels"]) == ("findings", list(FINDINGS))
    assert (content["settings"]["uncertain"], content["settings"]["unknown"]) == (
        "ignore",
        "negative",
    )
    assert len(content["temperature"]) == len(content["threshold"]) == 3
    assert content["not_fitted"] == []
    config = RunConfig.read(run)
    assert config.task is Task.FINDINGS
    assert isinstance(config.temperature, tuple)
    assert isinstance(config.threshold, tuple)
    assert open_run_dataset(config).unknown == "negative"


def test_metrics_are_those_of_each_finding(run, scores):
    config, table = RunConfig.read(run), run_folder.read_metrics(run)["test"]
    assert table["task"] == "findings"
    assert list(table["findings"]) == list(FINDINGS)
    for k, (name, metrics) in enumerate(table["findings"].items()):
        known = ~np.isnan(scores.labels[:, k])
        labels, logits = scores.labels[known, k].astype(int), scores.logits[known, k]
        assert metrics["auc"]["value"] == auc(labels, logits)
        assert metrics["auc"]["low"] < metrics["auc"]["value"] <= metrics["auc"]["high"]
        assert metrics["images"] == known.sum() < 48, name
        predicted = 1 / (1 + np.exp(-logits / config.temperature[k])) >= config.threshold[k]
        assert metrics["confusion_matrix"]["tp"] == (predicted & (labels == 1)).sum()
    values = [metrics["auc"]["value"] for metrics in table["findings"].values()]
    assert table["auc"]["value"] == pytest.approx(np.mean(values))
    assert max(values) > 0.8


def test_history_and_stress_have_the_mean_auc(run):
    history = run_folder.read_history(run)
    assert all(0 <= row["val_auc"] <= 1 for row in history)
    stress = run_folder.read_metrics(run, run_folder.STRESS)["test"]
    assert stress["clean"]["auc"] == pytest.approx(
        run_folder.read_metrics(run)["test"]["auc"]["value"]
    )
    assert len(stress["rows"]) == 10
    for row in (stress["clean"], *stress["rows"]):
        own = [row["findings"][name]["auc"] for name in FINDINGS]
        assert row["auc"] == pytest.approx(np.mean(own))
    assert "mean AUC of the findings" in stress["verdict"]


def test_report_and_card_have_a_row_for_each_finding(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Metrics by finding" in page
    for name in FINDINGS:
        assert f'<td class="class">{name}</td>' in page
    assert "class activation map" in page
    card = (run / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Detects findings in radiographs (Nodule, Effusion, Device)" in card
    assert "- Nodule: temperature" in card
    names = {path.stem for path in (run / "pictures").glob("*.png")}
    assert {"roc", "precision-recall", "reliability", "stress", "loss", "metrics"} <= names
    assert names <= {path.stem for path in run_folder.own_pictures(run)}


def test_evaluate_prints_one_finding_to_a_line(run):
    done = CliRunner().invoke(evaluate, [str(run), "--split", "validation"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["validation:", "finding", *FINDINGS, "mean"]
    done = CliRunner().invoke(evaluate, [str(run), "--json"])
    assert list(json.loads(done.stdout)["findings"]) == list(FINDINGS)


def test_train_refuses_the_target_finding(findings_data, tmp_path):
    options = ["--dataset", NAME, "--data-dir", str(findings_data), "--target", "finding"]
    done = CliRunner().invoke(train_command, [*options, "--out", str(tmp_path / "run")])
    assert done.exit_code == 1
    assert "its images may have several findings" in done.output


def drawn_scores(labels):
    labels = np.array(labels, np.float32)
    logits = np.random.default_rng(0).normal(np.nan_to_num(labels), 1).astype(np.float32)
    names = [f"{i}" for i in range(len(labels))]
    return Scores(names, names, labels, logits)


LABELS = [[1, 0], [0, 0], [1, NAN], [NAN, 0], [0, 0], [1, 0]]


def config_of(rule):
    return RunConfig(
        settings={"threshold_rule": rule},
        dataset={},
        labels=("a", "b"),
        shape=(64, 64, 1),
        fit="stretch",
        precision="float32",
        environment={},
        task=Task.FINDINGS,
    )


@pytest.mark.parametrize(
    ("rule", "fallback"), [("youden", 0.5), ("sensitivity>=0.9", 0.5), ("0.3", 0.3)]
)
def test_each_finding_is_fitted_alone_or_not_at_all(rule, fallback, capsys):
    scores = drawn_scores(LABELS)
    sample = ImageSample(np.arange(6), np.empty((6, 64, 64, 1), np.uint8))
    config = fit_decision(None, scores, sample, config_of(rule))
    known = [0, 1, 2, 4, 5]
    labels, logits = scores.labels[known, 0].astype(int), scores.logits[known, 0]
    temperature = fit_temperature(labels, logits)
    threshold = best_threshold(labels, 1 / (1 + np.exp(-logits / temperature)), rule)
    assert config.temperature == (pytest.approx(temperature), 1.0)
    assert config.threshold == (pytest.approx(threshold), fallback)
    assert config.not_fitted == ("b",)
    assert "warning: validation does not have both present and absent images of b" in (
        capsys.readouterr().err
    )


def test_validation_metrics_leave_out_what_does_not_count():
    scores = drawn_scores(LABELS)
    known = ~np.isnan(scores.labels)
    signed = np.where(scores.labels[known] == 1, -1, 1) * scores.logits[known]
    found = validation_metrics(scores)
    assert found["val_loss"] == pytest.approx(np.log1p(np.exp(signed)).mean(), rel=1e-5)
    correct = (scores.labels[known] == 1) == (scores.logits[known] > 0)
    assert found["val_accuracy"] == pytest.approx(correct.mean())
    first = known[:, 0]
    assert found["val_auc"] == auc(scores.labels[first, 0].astype(int), scores.logits[first, 0])


def test_counts_of_labels_follow_the_policies(findings_data, capsys):
    dataset = open_dataset(NAME, findings_data)
    plain = check_labels(dataset)
    uncertain = check_labels(dataset.labelled(uncertain="positive"))
    unknown = check_labels(dataset.labelled(unknown="negative"))
    assert plain.shape == (2, 3)
    assert (uncertain[1] > plain[1]).all()
    np.testing.assert_array_equal(uncertain[0], plain[0])
    assert (unknown[0] > plain[0]).all()
    np.testing.assert_array_equal(unknown[1], plain[1])
    assert not capsys.readouterr().err


def test_a_table_that_mentions_only_what_is_present(tmp_path, capsys):
    from cxr_tfds.builders.xray_table.xray_table_dataset_builder import Builder

    source = draw_findings_source(tmp_path / "source")
    table = source / "labels.csv"
    rows = table.read_text(encoding="utf-8").splitlines()
    # Nodule and Effusion are never 0; Device is stated completely.
    rows[1:] = [
        ",".join(
            "" if column in (3, 4) and cell == "0" else cell
            for column, cell in enumerate(row.split(","))
        )
        for row in rows[1:]
    ]
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    build(Builder, source, tmp_path / "data", name="64", size=64, **SETTINGS)
    dataset = open_dataset(NAME, tmp_path / "data")
    counts = check_labels(dataset)
    np.testing.assert_array_equal(counts[0] > 0, [False, False, True])
    messages = capsys.readouterr().err
    assert "warning: split 'train' of xray_table/64:1.0.0 lacks images where these" in messages
    assert "use --unknown negative" in messages
    assert (check_labels(dataset.labelled(unknown="negative")) > 0).all()
    table.write_text(
        "\n".join(",".join(row.split(",")[:5]) for row in rows) + "\n", encoding="utf-8"
    )
    settings = SETTINGS | {"label": ["Nodule", "Effusion"]}
    build(Builder, source, tmp_path / "two", name="64", size=64, **settings)
    with pytest.raises(InputError, match=r"Split 'train' of .* lacks images where .*--unknown"):
        check_labels(open_dataset(NAME, tmp_path / "two"))
