"""`cxr-train`: exit codes, messages, settings from options, and interruption."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from cxr_tfds import run_folder
from cxr_tfds.commands.train import train
from cxr_tfds.evaluation.scoring import score
from cxr_tfds.metrics.ranking import auc
from cxr_tfds.models import list_models
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.run_folder import RunConfig
from cxr_tfds.run_profile import read_profile
from cxr_tfds.training import run as training
from cxr_tfds.training.recipes import RECIPES
from cxr_tfds.training.settings import TrainSettings

pytestmark = pytest.mark.slow

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
    """Replaces training and the checks before it, and returns the arguments of its calls."""
    calls = []
    for name in ("open_training_data", "check_unfinished"):
        monkeypatch.setattr(f"cxr_tfds.commands.train.{name}", lambda _: None)
    monkeypatch.setattr(
        training,
        "run_training",
        lambda settings, run, *, resume, **_: calls.append((settings, run, resume)) or {},
    )
    return calls


def test_options_become_settings(args, built, tmp_path, no_training):
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
def test_prints_the_command_that_builds_a_missing_dataset(tmp_path, config, more):
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
        "  cxr-data build FOLDER_OF_THE_IMAGES --dataset chest_xray_pneumonia "
        f"--data-dir {data_dir}{more}\n"
        f"{data_dir} does not exist. If the datasets were moved, give their new folder with "
        "--data-dir.\n"
    )
    assert not (tmp_path / "run").exists()


def test_build_command_quotes_a_folder_with_a_space(tmp_path):
    result = invoke(
        "--dataset", DATASET, "--data-dir", tmp_path / "my data", "--out", tmp_path / "run"
    )
    assert f"--data-dir '{tmp_path / 'my data'}' --config" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
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
        ("--cache", "memory", "'memory' is not one of 'auto', 'file', 'none'."),
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
            "class_weight='1,x'; expected none, balanced, or one positive number per class",
        ),
        ("--threshold-rule", "best", "threshold_rule='best'; expected youden, "),
        ("--label-smoothing", "1", "1.0 is not in the range 0<=x<1."),
        ("--channels", "2", "'2' is not one of '1', '3'."),
        (
            "--data-service",
            "localhost:5050",
            "Invalid data service address 'localhost:5050'; expected grpc://HOST:PORT, such as ",
        ),
        (
            "--augment-set",
            "rotation_deg",
            "'rotation_deg': expected NAME=VALUE, such as rotation_deg=5.",
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
        ("--checkpoint-every", "0s", "'0s'; expected a duration above 0, such as 60s, 5m or 1h."),
        ("--learning-rate", "0", "0.0 is not in the range 0<x<1."),
        ("--weight-decay", "1", "1.0 is not in the range 0<=x<1."),
        ("--seed", "-1", "-1 is not in the range 0<=x<=2147483647."),
    ],
)
def test_refuses_invalid_options(args, option, value, message, no_training, tmp_path):
    result = invoke(*args, option, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr
    assert message in result.stderr
    assert not no_training
    assert not (tmp_path / "run").exists()


def test_refuses_options_that_exclude_each_other(args, tmp_path):
    result = invoke(*args, "--resume", "--overwrite")
    assert result.exit_code == 2
    assert "--resume and --overwrite exclude each other. Give only one." in result.stderr
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    result = invoke(*args, "--recipe", "edge", "--config", tmp_path / "config.json")
    assert result.exit_code == 2
    assert "--recipe and --config exclude each other. Give only one." in result.stderr


def test_refuses_a_folder_that_is_not_empty(args, tmp_path, no_training):
    out = tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    result = invoke(*args)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {out} exists and is not empty. Choose another folder, or add "
        "--overwrite to write to it anyway or --resume to continue.\n"
    )
    assert not no_training
    for option, resume in (("--overwrite", False), ("--resume", True)):
        assert invoke(*args, option).exit_code == 0
        assert no_training.pop()[2] == resume


def test_overwrite_keeps_other_files(args, tmp_path, monkeypatch):
    def stop(*_args):
        raise training.InputError("far enough")

    monkeypatch.setattr(training, "_fit", stop)
    out = tmp_path / "run"
    (out / "checkpoint").mkdir(parents=True)
    for name in ("notes.txt", "model.keras", "report.html"):
        (out / name).write_text("x", encoding="utf-8")
    result = invoke(*args, "--overwrite")
    assert result.exit_code == 1
    assert result.stderr.endswith("\nError: far enough\n")
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "notes.txt"]


def test_refuses_to_resume_a_missing_run(args, tmp_path):
    result = invoke(*args, "--resume")
    out = tmp_path / "run"
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"Error: {out} does not exist. Make a run folder with: cxr-train --out {out}"
    )


def test_refuses_a_file_as_run_folder(args, tmp_path):
    (tmp_path / "run").write_text("x", encoding="utf-8")
    assert invoke(*args).exit_code == 2


@pytest.fixture
def config(built, tmp_path):
    """Returns the path of a config.json with some settings."""
    settings = TrainSettings(
        dataset=DATASET, data_dir=str(built), epochs=7, augment_changes={"flip": 0.0}
    )
    RunConfig(
        settings=dataclasses.asdict(settings),
        dataset={"name": "a", "fingerprint": "b"},
        labels=("NORMAL", "PNEUMONIA"),
        shape=(64, 64, 1),
        fit="stretch",
        precision="float32",
        environment={},
    ).write(tmp_path)
    return tmp_path / "config.json"


def test_config_repeats_a_run_and_options_override_it(config, built, no_training, tmp_path):
    out = tmp_path / "run"
    assert invoke("--out", out, "--config", config).exit_code == 0
    settings = {"dataset": DATASET, "data_dir": str(built), "augment_changes": {"flip": 0.0}}
    assert no_training.pop() == (TrainSettings(**settings, epochs=7), out, False)
    more = ["--epochs", 30, "--augment", "none", "--data-dir", tmp_path]
    assert invoke("--out", out, "--config", config, *more).exit_code == 0
    expected = TrainSettings(**settings | {"data_dir": str(tmp_path)}, epochs=30, augment="none")
    assert no_training.pop()[0] == expected


def test_resume_uses_the_settings_of_the_run(config, no_training):
    assert invoke("--out", config.parent, "--resume").exit_code == 0
    ((settings, _, resume),) = no_training
    assert (settings.epochs, settings.augment_changes, resume) == (7, {"flip": 0.0}, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is corrupt: "),
        ('{"format": 2}', "Expected the config.json that cxr-train writes."),
        ('{"model_type": "vit"}', "has format None; this version of cxr-tfds reads format 2."),
    ],
)
def test_refuses_a_file_that_is_not_a_config(tmp_path, content, message, no_training):
    (tmp_path / "other.json").write_text(content, encoding="utf-8")
    result = invoke("--out", tmp_path / "run", "--config", tmp_path / "other.json")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {tmp_path / 'other.json'} ")
    assert message in result.stderr
    assert not no_training
    assert invoke("--out", tmp_path / "run", "--config", tmp_path / "absent").exit_code == 2


def test_refuses_unknown_and_invalid_settings_of_a_config(config, tmp_path, no_training):
    content = json.loads(config.read_text(encoding="utf-8"))
    for setting, message in (
        ({"epoch": 3}, "Unknown training setting: 'epoch' is not one of"),
        ({"epochs": "3"}, "epochs='3'; expected a whole number, got text."),
    ):
        changed = {**content, "settings": content["settings"] | setting}
        config.write_text(json.dumps(changed), encoding="utf-8")
        result = invoke("--out", tmp_path / "run", "--config", config)
        assert result.exit_code == 1
        assert message in result.stderr


def test_requires_a_dataset(tmp_path):
    result = invoke("--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "Missing option '--dataset'." in result.stderr


@pytest.mark.slow
def test_interrupted_run_explains_how_to_continue_and_continues(built, tmp_path):
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
        "Error: Interrupted. Continue from the last checkpoint with: "
        f"cxr-train --out '{out}' --resume"
    )
    assert errors.splitlines()[-1] == message
    assert "Traceback" not in errors
    assert printed == ""
    ended = tmp_path / "ended"
    shutil.copytree(out, ended)
    assert errors.splitlines()[-2].endswith(f"cxr-train --out '{out}' --resume --epochs 1")
    assert invoke("--out", ended, "--resume", "--seed", 3).stderr.startswith(
        f"Error: {ended} was started with different settings: seed 0, now 3. "
    )
    result = invoke("--out", ended, "--resume", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "epoch 2" not in result.stderr
    assert run_folder.RunConfig.read(ended).settings["epochs"] == 1
    assert set(run_folder.read_metrics(ended)) == {"validation", "test"}
    result = invoke("--out", out, "--resume", "--profile")
    assert result.exit_code == 0, result.output
    assert "epoch 1/2" not in result.stderr
    assert "epoch 2/2" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "validation:"
    assert "test:" in lines
    assert lines[-3:] == [
        read_profile(out)["bottleneck"],
        f"run: {out}",
        f"report: {out / 'report.html'}",
    ]
    test = run_folder.read_metrics(out)["test"]
    assert f"{test['auc']['value']:.4f}" in result.stdout
    model = run_folder.load_model(out)
    scores = score(model, open_run_dataset(run_folder.RunConfig.read(out)), "test")
    assert auc(scores.labels, scores.logits) == test["auc"]["value"]


def test_recipe_sets_what_options_do_not(built, tmp_path, no_training):
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
    ("recipe", "dataset", "message"),
    [
        (
            "edge",
            DATASET,
            f"Recipe edge was made for images of 224 x 224 pixels; {DATASET} has 64 x 64 and is "
            "used unchanged.\n",
        ),
        ("edge", "chest_xray_pneumonia/224", ""),
        ("edge", "chest_xray_pneumonia/original", ""),
        ("pneumonia-cnn1", "chest_xray_pneumonia/64-rgb", ""),
    ],
)
def test_recipe_notes_another_image_size(built, tmp_path, no_training, recipe, dataset, message):
    result = invoke(
        "--dataset", dataset, "--data-dir", built, "--out", tmp_path / "run", "--recipe", recipe
    )
    assert result.exit_code == 0
    assert result.stderr == message


def test_refuses_a_recipe_whose_model_does_not_fit(args):
    result = invoke(*args, "--recipe", "xray-cnn5")
    assert result.exit_code == 1
    assert "Model xray-cnn5 takes images of at least 94 x 94 pixels" in result.stderr
    assert "Build a suitable one with your other settings and --config" in result.stderr


def test_list_models():
    result = CliRunner().invoke(train, ["--list-models"])
    assert result.exit_code == 0
    assert result.stdout == list_models() + "\n"


def test_only_the_chief_checks_the_run_folder(args, tmp_path, monkeypatch, no_training):
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
