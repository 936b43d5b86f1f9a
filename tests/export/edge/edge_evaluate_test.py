"""`cxr-infer evaluate`: metrics, how the source is read, errors and exit codes."""

import dataclasses
import json
import shutil

import pytest

from cxr_tfds.building.config import RadiographConfig
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.evaluate import BUILD_SETTINGS, find_labelled_images
from cxr_tfds.export.edge.model_file import append_model_info
from cxr_tfds.metrics.summary import evaluate_split

pytestmark = pytest.mark.slow


@pytest.fixture
def model_of(flatbuffers, info, tmp_path):
    """Returns a function that writes the two-class model with other model info."""

    def write(**changes):
        path = tmp_path / "changed.tflite"
        changed = dataclasses.replace(info, **changes)
        path.write_bytes(append_model_info(flatbuffers["float32"], changed))
        return path

    return write


@pytest.fixture
def draw_names(draw, tmp_path):
    """Returns a function that draws images of any names, dark if they contain "normal"."""

    def draw_all(*names, folder=tmp_path / "source"):
        for number, name in enumerate(names):
            draw(name, (40 if "normal" in name.lower() else 160) + number, folder=folder)
        return folder

    return draw_all


def evaluate_json(infer, model, *arguments):
    done = infer("evaluate", "--model", model, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_prints_json(models, test_set, infer):
    done = infer("evaluate", "--model", models["float32"], test_set, "--json")
    assert done.exit_code == 0
    assert done.stderr == "Left out, folders that are not among the classes: 1 (other/).\n"
    result = json.loads(done.stdout)
    assert (result["images"], result["skipped"], result["threshold"]) == (24, [], 0.5)
    assert result["confusion_matrix"] == {"tn": 11, "fp": 1, "fn": 1, "tp": 11}
    assert result["accuracy"]["value"] == pytest.approx(22 / 24)
    assert result["sensitivity"]["low"] < 11 / 12 < result["sensitivity"]["high"]
    model = Classifier(models["float32"])
    paths = sorted(test_set.glob("normal/*")) + sorted(test_set.glob("Pneumonia/*/*"))
    probabilities = [model(path).probability for path in paths]
    assert result["auc"] == evaluate_split([0] * 12 + [1] * 12, probabilities, threshold=0.5)["auc"]


def test_prints_text(models, test_set, infer):
    done = infer("evaluate", "--model", models["float32"], test_set)
    lines = done.stdout.splitlines()
    # 121 of 144 pairs without the two misclassified images; each of these wins 3 and ties
    # once: 128 / 144.
    assert lines[1].split()[:4] == ["auc", "0.8889", "(95%", "CI"]
    assert lines[-1].split() == ["images", "24"]


def test_three_classes(models, draw, tmp_path, infer):
    for name, grey in {"NORMAL": 20, "BACTERIA": 100, "VIRUS": 220}.items():
        for more in range(3):
            draw(f"{name}/{more}.png", grey + more, folder=tmp_path)
    result = json.loads(infer("evaluate", "--model", models["three"], tmp_path, "--json").stdout)
    assert result["accuracy"] == {"value": 1, "low": 1, "high": 1}
    assert result["threshold"] is None
    assert result["confusion_matrix"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    assert {name: table["support"] for name, table in result["classes"].items()} == {
        "NORMAL": 3,
        "BACTERIA": 3,
        "VIRUS": 3,
    }


def test_skips_bad_images(models, test_set, infer):
    (test_set / "normal" / "0.png").write_bytes(b"")
    done = infer("evaluate", "--model", models["float32"], test_set, "--json")
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert result["images"] == 23
    assert result["skipped"] == [{"file": "normal/0.png", "error": "empty file (0 bytes)"}]
    assert "Error: 1 of 24 images could not be read." in done.stderr


def test_refuses_a_missing_class(models, test_set, infer):
    (test_set / "normal").rename(test_set / "healthy")
    done = infer("evaluate", "--model", models["float32"], test_set)
    assert done.exit_code == 1
    assert f"{test_set} has no folder NORMAL.\nFound there: Pneumonia/, healthy/," in done.stderr
    assert done.stderr.endswith(
        "The classes of the model are NORMAL, PNEUMONIA. If they have other names in this source, "
        'add: --set \'classes={"NORMAL": ["NAME"], "PNEUMONIA": ["NAME"]}\'\n'
    )
    config = '{"classes": {"NORMAL": ["healthy"], "pneumonia": ["Pneumonia"]}}'
    assert evaluate_json(infer, models["float32"], test_set, "--config", config)["images"] == 24
    setting = f"classes={json.dumps(json.loads(config)['classes'])}"
    assert evaluate_json(infer, models["float32"], test_set, "--set", setting)["images"] == 24


def test_refuses_an_empty_class(models, test_set, infer):
    for path in (test_set / "normal").iterdir():
        path.unlink()
    done = infer("evaluate", "--model", models["float32"], test_set)
    assert done.exit_code == 1
    assert f"{test_set / 'normal'} contains no images." in done.stderr
    for name in ("normal/0.png", "normal/1.png"):
        (test_set / name).write_bytes(b"")
    done = infer("evaluate", "--model", models["float32"], test_set)
    assert done.exit_code == 1
    assert "No readable radiograph of NORMAL was found." in done.stderr


@pytest.mark.parametrize(
    ("names", "notes"),
    [
        (["Normal/a.png", "pneumonia/b.png"], []),
        (["normal/deep/a.png", "pneumonia/b.PNG", "pneumonia/c"], []),
        (
            [
                "normal/images/a.png",
                "normal/masks/a.png",
                "Pneumonia/b.png",
                "Pneumonia/b_mask.png",
            ],
            ["masks and annotations: 2 (Pneumonia/b_mask.png, normal/masks/a.png)"],
        ),
        (
            ["normal/a.png", "normal/notes.txt", "Pneumonia/b.png", "labels.csv", "other/x.png"],
            ["folders that are not among the classes: 1 (other/)", "files that are not images: 1"],
        ),
        (["ward/normal/a.png", "ward/pneumonia/b.png"], []),
        (
            [
                "test/normal/a.png",
                "test/pneumonia/b.png",
                "train/normal/c.png",
                "train/pneumonia/d.png",
            ],
            [],
        ),
    ],
)
def test_reads_what_summary_reads(names, notes, info, models, draw_names, infer, tmp_path):
    from click.testing import CliRunner

    from cxr_tfds.commands.data import cli

    images = [name for name in names if name.endswith((".png", ".PNG"))]
    source = draw_names(*images)
    for name in set(names) - set(images):
        file = source / name
        file.write_bytes(b"text") if file.suffix else shutil.copy(source / images[-1], file)
    config = json.dumps({"classes": ["NORMAL", "PNEUMONIA"]})
    done = CliRunner().invoke(cli, ["summary", str(source), "--json", "--config", config])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    counts = {split: table["images"] for split, table in report["splits"].items()}
    labelled = find_labelled_images(source, info)
    assert len(labelled.images) == counts.get("test", counts["train"])
    for note in notes:
        assert any(note in line for line in labelled.notes)
    left_out = [note for note in report["notes"] if note.startswith("Left out")]
    if "test" in counts:
        split = f"{counts['test']} of {sum(counts.values())} images"
        left_out.append(f"Measured on the test split: {split}.")
    assert labelled.notes == left_out
    result = evaluate_json(infer, models["float32"], source)
    assert result["images"] == len(labelled.images)
    assert result["confusion_matrix"]["fp"] == result["confusion_matrix"]["fn"] == 0


def test_reads_archives(models, draw_names, infer, tmp_path):
    source = draw_names("normal/a.png", "normal/b.png", "pneumonia/c.png")
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", source)
    shutil.rmtree(source)
    assert evaluate_json(infer, models["float32"], archive)["images"] == 3
    with open(archive, "r+b") as file:  # noqa: PTH123
        content = file.read()
        start = content.index(b"a.png") + 30
        file.seek(start)
        file.write(b"0000")
    done = infer("evaluate", "--model", models["float32"], archive, "--json")
    assert done.exit_code == 1
    (skipped,) = json.loads(done.stdout)["skipped"]
    assert skipped["file"] == "normal/a.png"
    assert skipped["error"]


def test_measures_the_test_split_only(models, draw_names, infer):
    splits = {"train": 3, "val": 2, "test": 1}
    names = [
        f"{split}/{label}/{number}.png"
        for split, count in splits.items()
        for label in ("normal", "pneumonia")
        for number in range(count)
    ]
    source = draw_names(*names)
    assert evaluate_json(infer, models["float32"], source)["images"] == 2
    assert evaluate_json(infer, models["float32"], source / "val")["images"] == 4
    shutil.rmtree(source / "test")
    done = infer("evaluate", "--model", models["float32"], source)
    assert done.exit_code == 1
    assert f"{source} has no test split; its splits are train, validation. Give" in done.stderr


def test_resamples_patients(models, draw, tmp_path, infer):
    labels, patients = [], []
    for number in range(20):
        for more, grey in enumerate((60, 80 + 2 * number, 120)):
            name = ("normal", "pneumonia")[number % 2]
            draw(f"{name}/{number:08}_{more:03}.png", grey, folder=tmp_path / "nih")
            patients.append(str(number))
            labels.append(number % 2)
    result = evaluate_json(infer, models["float32"], tmp_path / "nih")
    model = Classifier(models["float32"])
    order = sorted(range(60), key=lambda index: labels[index])  # that of the folders
    labels, patients = ([values[index] for index in order] for values in (labels, patients))
    values = [model(path).probability for path in sorted((tmp_path / "nih").rglob("*.png"))]
    assert result["auc"] == evaluate_split(labels, values, 0.5, patients)["auc"]
    assert result["auc"] != evaluate_split(labels, values, 0.5)["auc"]


def test_settings_of_the_model_merge_classes(model_of, draw_names, infer):
    reader = {"classes": {"NORMAL": ["normal-a"], "PNEUMONIA": ["bacteria", "virus"]}}
    source = draw_names("normal-a/1.png", "virus/2.png", "Bacteria/3.png", "covid/4.png")
    done = infer("evaluate", "--model", model_of(reader=reader), source, "--json")
    assert done.exit_code == 0, done.output
    assert done.stderr == "Left out, folders that are not among the classes: 1 (covid/).\n"
    matrix = json.loads(done.stdout)["confusion_matrix"]
    assert matrix == {"tn": 1, "fp": 0, "fn": 0, "tp": 2}
    # Folders may also have the names of the classes.
    shutil.rmtree(source)
    source = draw_names("normal/1.png", "pneumonia/2.png")
    assert evaluate_json(infer, model_of(reader=reader), source)["images"] == 2


def test_settings_of_the_model_find_classes_in_names(model_of, draw_names, infer):
    reader = {"class_pattern": "^([a-z]+)", "classes": {"NORMAL": ["normal"], "PNEUMONIA": ["tb"]}}
    source = draw_names("normal-1.png", "tb-2.png", "tb-3.png", "none-4.png")
    done = infer("evaluate", "--model", model_of(reader=reader), source, "--json")
    assert done.exit_code == 0, done.output
    assert "names that class_pattern does not match: 1 (none-4.png)" in done.stderr
    assert json.loads(done.stdout)["confusion_matrix"] == {"tn": 1, "fp": 0, "fn": 0, "tp": 2}


def test_settings_of_the_model_read_a_table(model_of, draw_names, infer):
    reader = {"table": "t.csv", "classes": {"NORMAL": ["0"], "PNEUMONIA": ["1"]}}
    source = draw_names("x/normal-1.png", "x/2.png", "x/3.png", "x/4.png")
    rows = ["image,label,patient,split", "normal-1,0,a,test", "2,1,b,test", "3,1,c,test"]
    (source / "t.csv").write_text("\n".join([*rows, "4,1,d,train"]))
    model = model_of(reader=reader)
    assert evaluate_json(infer, model, source)["images"] == 3
    (source / "t.csv").unlink()
    done = infer("evaluate", "--model", model, source)
    assert done.exit_code == 1
    assert f"No table t.csv in {source}." in done.stderr
    assert (
        "Give the settings of this source with --config; '{}' takes class folders." in done.stderr
    )
    folders = draw_names("normal/1.png", "pneumonia/2.png", folder=source / "folders")
    assert evaluate_json(infer, model, folders, "--config", "{}")["images"] == 2


def test_classes_of_the_dataset_may_be_coarser_than_the_model(flatbuffers, info, draw_names):
    reader = {"classes": {"HEALTHY": ["normal"], "ILL": ["bacteria", "virus"]}}
    labels = ("normal", "bacteria", "virus")
    finer = dataclasses.replace(info, labels=labels, threshold=None, reader=reader)
    source = draw_names("normal/1.png", "virus/2.png", "bacteria/3.png")
    images = find_labelled_images(source, finer).images
    assert {image.label for image in images} == set(labels)


def test_several_findings_need_another_model(model_of, draw_names, infer):
    source = draw_names("1.png", "2.png")
    (source / "t.csv").write_text("image,normal,pneumonia\n1,1,0\n2,1,1\n")
    config = '{"table": "t.csv", "label": ["normal", "pneumonia"], "negative": "none"}'
    done = infer("evaluate", "--model", model_of(), source, "--config", config)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"The images of {source} may have several findings (NORMAL, PNEUMONIA), but the" in (
        done.stderr
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "--config '{' is not a JSON object: Expecting"),
        ("[]", "--config '[]' is not a JSON object; expected settings such as"),
        ('{"clases": []}', "Did you mean 'classes'?"),
        ('{"classes": ["NORMAL", "TB"]}', "classes: 'TB'"),
        ('{"classes": "NORMAL"}', "expected a list"),
        ('{"table": 3}', "expected a file name"),
    ],
)
def test_refuses_wrong_settings(models, test_set, infer, config, message):
    done = infer("evaluate", "--model", models["float32"], test_set, "--config", config)
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr


def test_ignores_settings_of_a_build(models, test_set, infer):
    config = '{"name": "224-mine", "size": 64, "split": "source"}'
    done = infer("evaluate", "--model", models["float32"], test_set, "--config", config)
    assert done.exit_code == 0
    assert done.stderr.endswith("Ignored, because only a build uses them: size, split.\n")


def test_all_settings_of_a_dataset_are_known():
    inherited = {field.name for field in dataclasses.fields(RadiographConfig.__base__)}
    inherited -= {"name", "description"}
    own = {field.name for field in dataclasses.fields(RadiographConfig)} - inherited
    assert own == {*BUILD_SETTINGS, "on_conflict"}
