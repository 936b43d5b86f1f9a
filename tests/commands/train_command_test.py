"""`cxr-train`: exit codes, exact texts, what its options become, and how it is interrupted."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from cxr_tfds import run_folder
from cxr_tfds.commands.train import sigterm_as_interrupt, train
from cxr_tfds.evaluation.scoring import dataset_of, score
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.models import list_models
from cxr_tfds.training import run as training
from cxr_tfds.training.recipes import RECIPES
from cxr_tfds.training.settings import TrainSettings

DATASET = "chest_xray_pneumonia/64"


def invoke(*args):
    return CliRunner().invoke(train, [str(arg) for arg in args])


@pytest.fixture
def args(built, tmp_path):
    return [
        "--dataset",
        DATASET,
        "--data-dir",
        built,
        "--out",
        tmp_path / "run",
        "--epochs",
        1,
        "--batch-size",
        8,
    ]


@pytest.fixture
def no_training(monkeypatch):
    """Puts a stand-in for training, and gives the calls it got."""
    calls = []
    monkeypatch.setattr(
        training,
        "train",
        lambda settings, run, *, resume: calls.append((settings, run, resume)) or {},
    )
    return calls


def test_settings_reach_the_training(args, built, tmp_path, no_training):
    more = [
        "--learning-rate",
        "0.01",
        "--seed",
        "7",
        "--precision",
        "mixed_bfloat16",
        "--cache",
        "file",
    ]
    more += ["--cache-dir", tmp_path, "--data-service", "grpc://localhost:5050"]
    more += [
        "--augment-set",
        "rotation_deg=5",
        "--augment-set",
        "fill=reflect",
        "--augment-set",
        "flip=0",
    ]
    assert invoke(*args, *more).exit_code == 0
    ((settings, run, resume),) = no_training
    assert (settings.dataset, settings.data_dir) == (DATASET, str(built.resolve()))
    assert (settings.epochs, settings.batch_size, settings.learning_rate, settings.seed) == (
        1,
        8,
        0.01,
        7,
    )
    assert (settings.precision, settings.cache, settings.cache_dir) == (
        "mixed_bfloat16",
        "file",
        str(tmp_path),
    )
    assert settings.data_service == "grpc://localhost:5050"
    assert settings.augment_changes == {"rotation_deg": 5, "fill": "reflect", "flip": 0}
    assert (settings.augmentation.rotation_deg, settings.augmentation.fill) == (5, "reflect")
    assert (run, resume) == (tmp_path / "run", False)


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ("224", ""),
        ("64", ' --config \'{"name": "64", "size": 64}\''),
        ("original", ' --config \'{"name": "original", "size": null}\''),
    ],
)
def test_a_dataset_that_is_not_built_is_answered_with_the_line_that_builds_it(
    tmp_path, config, more
):
    data_dir = tmp_path / "data"
    result = invoke(
        "--dataset",
        f"chest_xray_pneumonia/{config}",
        "--data-dir",
        data_dir,
        "--out",
        tmp_path / "run",
    )
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: chest_xray_pneumonia/{config} is not built in {data_dir}. Build it with:\n"
        f"  tfds build chest_xray_pneumonia --imports cxr_tfds.builders --data_dir {data_dir} "
        f"--manual_dir FOLDER_OF_THE_IMAGES{more}\n"
    )
    assert not (tmp_path / "run").exists()


def test_the_building_line_quotes_a_folder_with_a_space(tmp_path):
    result = invoke(
        "--dataset", DATASET, "--data-dir", tmp_path / "my data", "--out", tmp_path / "run"
    )
    assert f"--data_dir '{tmp_path / 'my data'}' --manual_dir" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        (
            "--dataset",
            "chest_xray_pneumona/64",
            "'chest_xray_pneumona' is not one of 'chest_xray_pneumonia'",
        ),
        ("--dataset", "chest_xray_pneumona/64", "Did you mean 'chest_xray_pneumonia'?"),
        ("--dataset", "Chest X-ray", "expected DATASET/CONFIG such as chest_xray_pneumonia/224."),
        ("--model", "egde", "'egde' is not one of 'edge', 'xray-cnn5', "),
        (
            "--precision",
            "float16",
            "'float32', 'mixed_float16', 'mixed_bfloat16'. Did you mean 'mixed_float16'?",
        ),
        (
            "--augment",
            "nome",
            "'nome' is not one of 'none', 'classic', 'default', 'strong'. Did you mean 'none'?",
        ),
        ("--cache", "memory", "'memory' is not one of 'auto', 'ram', 'file', 'none'."),
        ("--epochs", "0", "0 is not in the range x>=1."),
        (
            "--target",
            "findings",
            "'findings' is not one of 'label', 'finding'. Did you mean 'finding'?",
        ),
        ("--recipe", "edg", "'edg' is not one of 'edge', 'xray-cnn5', "),
        (
            "--class-weight",
            "1,x",
            "class_weight='1,x'; expected none, balanced, or a positive number for each class",
        ),
        ("--threshold-rule", "best", "threshold_rule='best'; expected youden, "),
        ("--label-smoothing", "1", "1.0 is not in the range 0<=x<1."),
        ("--channels", "2", "'2' is not one of '1', '3'."),
        (
            "--data-service",
            "localhost:5050",
            "data service 'localhost:5050'; expected grpc://HOST:PORT, such as ",
        ),
        (
            "--augment-set",
            "rotation_deg",
            "'rotation_deg'; expected NAME=VALUE such as rotation_deg=5.",
        ),
        ("--augment-set", "rotate=5", "'rotate' is not one of 'fill', 'rotation_deg', "),
        (
            "--augment-set",
            "rotation_deg=200",
            "'rotation_deg=200': rotation_deg=200.0; expected 0 to 180.",
        ),
        ("--augment-set", "zoom=far", "'zoom=far': expected a number from 0 to 0.9."),
        ("--augment-set", "zoom=", "'zoom=': expected a number from 0 to 0.9."),
        ("--augment-set", "zoom=nan", "'zoom=nan': zoom=nan; expected 0 to 0.9."),
        ("--augment-set", "fill=green", "'fill=green': fill='green'; expected one of "),
        ("--batch-size", "0", "0 is not in the range x>=1."),
        ("--learning-rate", "0", "0.0 is not in the range 0<x<1."),
        ("--weight-decay", "1", "1.0 is not in the range 0<=x<1."),
        ("--seed", "-1", "-1 is not in the range 0<=x<=2147483647."),
    ],
)
def test_wrong_usage_names_the_choices(args, option, value, said, no_training, tmp_path):
    result = invoke(*args, option, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': " in result.stderr
    assert said in result.stderr
    assert not no_training
    assert not (tmp_path / "run").exists()


def test_resume_and_overwrite_together_are_wrong_usage(args):
    result = invoke(*args, "--resume", "--overwrite")
    assert result.exit_code == 2
    assert (
        "--resume goes on with a run and --overwrite replaces it; give one of them."
        in result.stderr
    )


def test_a_folder_that_holds_something_is_refused(args, tmp_path, no_training):
    out = tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    result = invoke(*args)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {out} exists and is not empty. Choose another folder, or give --overwrite to replace what "
        "stands there or --resume to go on.\n"
    )
    assert not no_training
    for option, resume in (("--overwrite", False), ("--resume", True)):
        assert invoke(*args, option).exit_code == 0
        assert no_training.pop()[2] == resume


def test_overwriting_leaves_foreign_files_alone(args, tmp_path, monkeypatch):
    def stop(*_args):
        raise training.InputError("far enough")

    monkeypatch.setattr(training, "_fit", stop)
    out = tmp_path / "run"
    (out / "checkpoint").mkdir(parents=True)
    for name in ("notes.txt", "model.keras", "report.html"):
        (out / name).write_text("x", encoding="utf-8")
    result = invoke(*args, "--overwrite")
    assert (result.exit_code, result.stderr) == (1, "Error: far enough\n")
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "notes.txt"]


def test_resuming_what_is_no_run_says_so(args, tmp_path):
    result = invoke(*args, "--resume")
    out = tmp_path / "run"
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"Error: {out} does not exist. Make one with: cxr-train --out {out}"
    )


def test_a_file_as_folder_is_wrong_usage(args, tmp_path):
    (tmp_path / "run").write_text("x", encoding="utf-8")
    assert invoke(*args).exit_code == 2


def test_resume_takes_the_settings_of_the_run(built, no_training, tmp_path):
    from cxr_tfds.run_folder import RunConfig

    out = tmp_path / "run"
    out.mkdir()
    settings = TrainSettings(
        dataset="chest_xray_pneumonia/64", data_dir=str(built), epochs=7, batch_size=5
    )
    RunConfig(
        settings=dataclasses.asdict(settings),
        dataset={"name": "a", "fingerprint": "b"},
        labels=("NORMAL", "PNEUMONIA"),
        shape=(64, 64, 1),
        fit="stretch",
        precision="float32",
        environment={},
    ).write(out)
    assert invoke("--out", out, "--resume").exit_code == 0
    assert no_training.pop()[0] == settings


def test_neither_dataset_nor_resume(tmp_path):
    result = invoke("--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "Missing option '--dataset'." in result.stderr


def test_interrupted_in_its_second_epoch_it_says_how_to_go_on_and_does_so_and_prints_the_figures(
    built, tmp_path
):
    out = tmp_path / "my run"
    args = [
        "--dataset",
        DATASET,
        "--data-dir",
        built,
        "--out",
        out,
        "--batch-size",
        8,
        "--augment",
        "none",
    ]
    args += [
        "--epochs",
        2,
        "--steps-per-epoch",
        20,
        "--threshold-rule",
        "youden",
        "--learning-rate",
        0.01,
    ]
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from cxr_tfds.commands.train import train; train()",
            *map(str, args),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = next(line for line in process.stderr if "epoch 1/2" in line)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1, said + errors
    message = (
        f"Error: stopped. Go on from the last finished epoch with: cxr-train --out '{out}' --resume"
    )
    assert errors.splitlines()[-1] == message
    assert "Traceback" not in errors
    assert printed == ""
    ended = tmp_path / "ended"
    shutil.copytree(out, ended)
    assert errors.splitlines()[-2].endswith(f"cxr-train --out '{out}' --resume --epochs 1")
    assert invoke("--out", ended, "--resume", "--seed", 3).stderr.startswith(
        f"Error: {ended} was started with other settings: seed 0, now 3. "
    )
    result = invoke("--out", ended, "--resume", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "epoch 2" not in result.stderr
    assert run_folder.RunConfig.read(ended).settings["epochs"] == 1
    assert set(run_folder.read_metrics(ended)) == {"validation", "test"}
    result = invoke("--out", out, "--resume")
    assert result.exit_code == 0, result.output
    assert "epoch 1/2" not in result.stderr
    assert "epoch 2/2" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "validation:"
    assert "test:" in lines
    assert lines[-2:] == [f"run: {out}", f"report: {out / 'report.html'}"]
    test = run_folder.read_metrics(out)["test"]
    assert f"{test['auc']['value']:.4f}" in result.stdout
    model = run_folder.load_model(out)
    scores = score(model, dataset_of(run_folder.RunConfig.read(out)), "test")
    assert auc(scores.labels, scores.logits) == test["auc"]["value"]


def test_sigterm_ends_it_as_ctrl_c_does():
    def ended():
        with sigterm_as_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        ended()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_recipe_gives_the_settings_that_are_not_given(built, tmp_path, no_training):
    named = ["--data-dir", built, "--out", tmp_path / "run", "--recipe", "xray-cnn5", "--epochs", 3]
    assert invoke("--dataset", DATASET, *named).exit_code == 0
    chosen = no_training.pop()[0]
    recipe = RECIPES["xray-cnn5"]
    assert chosen.model == "xray-cnn5"
    assert {name: getattr(chosen, name) for name in recipe.settings} == recipe.settings | {
        "epochs": 3
    }
    assert (chosen.size, chosen.channels) == (None, None)
    original = ["--dataset", "chest_xray_pneumonia/original", *named]
    assert invoke(*original).exit_code == 0
    chosen = no_training.pop()[0]
    assert (chosen.size, chosen.channels) == (500, 1)
    assert invoke(*original, "--size", 200, "--channels", 3, "--model", "edge").exit_code == 0
    chosen = no_training.pop()[0]
    assert (chosen.size, chosen.channels, chosen.model, chosen.batch_size) == (200, 3, "edge", 16)


@pytest.mark.parametrize(
    ("recipe", "dataset", "said"),
    [
        (
            "edge",
            DATASET,
            f"recipe edge was made for images of 224 x 224; {DATASET} holds them at 64 x 64",
        ),
        ("edge", "chest_xray_pneumonia/224", ""),
        ("edge", "chest_xray_pneumonia/original", ""),
        ("pneumonia-cnn1", "chest_xray_pneumonia/64-rgb", ""),
    ],
)
def test_a_recipe_tells_of_images_of_another_size(
    built, tmp_path, no_training, recipe, dataset, said
):
    result = invoke(
        "--dataset", dataset, "--data-dir", built, "--out", tmp_path / "run", "--recipe", recipe
    )
    assert result.exit_code == 0
    assert result.stderr == (f"{said}, and so it is trained\n" if said else "")


def test_a_recipe_whose_images_the_dataset_has_not(args):
    result = invoke(*args, "--recipe", "xray-cnn5")
    assert result.exit_code == 1
    assert "model xray-cnn5 takes images of at least 94 x 94 pixels" in result.stderr
    assert "Build one that fits with: tfds build" in result.stderr


def test_list_models():
    result = CliRunner().invoke(train, ["--list-models"])
    assert result.exit_code == 0
    assert result.stdout == list_models() + "\n"


def test_other_machines_leave_the_folder_to_the_chief(args, tmp_path, monkeypatch, no_training):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}", encoding="utf-8")
    cluster = {"worker": ["localhost:1", "localhost:2"]}
    for index, code in ((0, 1), (1, 0)):
        monkeypatch.setenv(
            "TF_CONFIG",
            json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
        )
        result = invoke(*args)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
