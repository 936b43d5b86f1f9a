"""Every JSON file is read by a schema: an edited file is refused by name, never half understood."""

import copy
import json
import subprocess
import sys
import zipfile

import pytest
from helpers import json_files
from helpers.json_edits import edits

from cxr_tfds import __version__
from cxr_tfds.building.build_report import format_report
from cxr_tfds.building.report_file import read_report
from cxr_tfds.errors import InputError
from cxr_tfds.export.edge.model_info import ModelInfo
from cxr_tfds.export.results import read_rows
from cxr_tfds.reading.tfds_files import read_features, read_info, read_metadata, read_names
from cxr_tfds.run_folder import RunConfig, check_model_file, read_metrics
from cxr_tfds.run_profile import format_profile, read_profile
from cxr_tfds.schema import check_fields, fit_schema, parse_json
from cxr_tfds.training.cluster import read_cluster


def _write(folder, name, content):
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def _read_model_info(content):
    return fit_schema(content, ModelInfo, "model.json", "Export it again.")


OF_OTHER_SOFTWARE = ("$",)  # its files may have more keys, and numbers as text
# Content, how it is read, and where such an edit makes another valid file.
FILES = {
    "config.json": (
        json_files.RUN_CONFIG,
        lambda content, folder: RunConfig.read(_write(folder, "config.json", content)),
        ("$.settings", "list in an item at $.not_fitted"),
    ),
    "metrics.json": (
        {"test": json_files.METRICS},
        lambda content, folder: read_metrics(_write(folder, "metrics.json", content)),
        ("huge number for null at $.test.ppv.value",),
    ),
    "stress.json": (
        {"test": json_files.STRESS},
        lambda content, folder: read_metrics(_write(folder, "stress.json", content), "stress.json"),
        (),
    ),
    "profile.json": (
        json_files.PROFILE,
        lambda content, folder: format_profile(
            read_profile(_write(folder, "profile.json", content))
        ),
        (),
    ),
    "build_report.json": (
        json_files.BUILD_REPORT,
        lambda content, folder: format_report(
            read_report(_write(folder, "build_report.json", content))
        ),
        (
            "$.settings",
            ".classes",
            ".findings",
            "$.pixels.train.A",
            "at $.duplicates.across_classes",
        ),
    ),
    "export.json": (
        json_files.EXPORT,
        lambda content, folder: read_rows(_write(folder, "export.json", content)),
        ("list for a number at $.files.0.temperature", "list for a number at $.files.0.threshold"),
    ),
    "model.json": (json_files.MODEL_INFO, lambda content, _: _read_model_info(content), ()),
    "metadata.json": (
        json_files.METADATA,
        lambda content, folder: read_metadata(
            _write(folder, "metadata.json", content), json_files.DATASET_INFO
        ),
        ("$.reader", "$.source.splits.train"),
    ),
    "features.json": (
        json_files.FEATURES,
        lambda content, folder: read_features(_write(folder, "features.json", content)),
        OF_OTHER_SOFTWARE,
    ),
    "dataset_info.json": (
        json_files.DATASET_INFO,
        lambda content, folder: read_info(_write(folder, "dataset_info.json", content)),
        OF_OTHER_SOFTWARE,
    ),
    "TF_CONFIG": (
        json_files.CLUSTER,
        lambda content, _: read_cluster(json.dumps(content)),
        OF_OTHER_SOFTWARE,
    ),
}
# An edit of these kinds makes a file that no command writes.
IMPOSSIBLE = (
    "added key", "text for", "number for", "list for", "NaN", "list in an item",
    "huge number for null",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_an_edited_file_is_read_or_refused(tmp_path, name):
    content, read, allowed = FILES[name]
    read(content, tmp_path)
    accepted, refused = [], []
    for what, edited in edits(content):
        try:
            read(edited, tmp_path)
        except InputError:
            refused.append(what)
        else:
            accepted.append(what)
    assert len(refused) > len(accepted)
    if allowed != OF_OTHER_SOFTWARE:
        impossible = [what for what in accepted if what.startswith(IMPOSSIBLE)]
        assert [what for what in impossible if not what.endswith(allowed)] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [64, 64]}, r"\$\.shape=\[64, 64\]; expected a list of length 3, got 2"),
        ({"temperature": "warm"}, r"\$\.temperature='warm'; expected a number or a list, got text"),
        ({"temperature": -1}, r"\$\.temperature=-1; expected a number more than 0"),
        ({"fit": "squash"}, r"\$\.fit='squash'; expected stretch or pad or crop"),
        ({"dataset": {"name": "a"}}, r"\$\.dataset lacks the key `fingerprint`"),
        ({"labels": ["A", "A"]}, r"labels=\('A', 'A'\); expected different names"),
        ({"labels": ["A", "B", "C"]}, "task='binary' contradicts 3 labels"),
        ({"threshold": [0.5, 0.5]}, r"threshold=\(0\.5, 0\.5\); expected one number"),
    ],
)
def test_the_message_has_file_path_value_and_advice(tmp_path, change, message):
    _write(tmp_path, "config.json", json_files.RUN_CONFIG | change)
    with pytest.raises(InputError, match=rf"config\.json is corrupt: {message}.* Expected the"):
        RunConfig.read(tmp_path)


def test_a_key_of_a_newer_version_names_the_version(tmp_path):
    content = copy.deepcopy(json_files.RUN_CONFIG)
    content["dataset"]["origin"]["country"] = "none"
    _write(tmp_path, "config.json", content)
    message = (
        rf"the unknown key \$\.dataset\.origin\.country; cxr-tfds {__version__} does not know it\. "
        "If a newer version wrote the file, install that version"
    )
    with pytest.raises(InputError, match=message):
        RunConfig.read(tmp_path)


@pytest.mark.parametrize("key", ["task", "not_fitted", "grey_levels"])
def test_reads_the_config_of_an_earlier_version(tmp_path, key):
    content = {name: value for name, value in json_files.RUN_CONFIG.items() if name != key}
    assert RunConfig.read(_write(tmp_path, "config.json", content)).labels == ("A", "B")


def test_reads_the_build_report_of_an_earlier_version(tmp_path):
    content = {
        name: value
        for name, value in json_files.BUILD_REPORT.items()
        if name not in ("near_duplicates", "pixels")
    }
    assert "Byte-identical" in format_report(
        read_report(_write(tmp_path, "build_report.json", content))
    )


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff", b"NaN", b'{"a": 1e999}', b"[" * 100_000, b'{"a": "\\ud800"}',
        b'{"a": "\xff"}', b'{"\xc3": 1}', '{"a": "\ud800"}',
    ],
)  # fmt: skip
def test_refuses_what_is_not_json(content):
    with pytest.raises(InputError, match=r"^x\.json is corrupt: not valid JSON \(.+\)\. Copy it"):
        parse_json(content, dict, "x.json", "Copy it.")


def test_fields_are_checked_outside_of_files_too():
    info = ModelInfo(("A", "B"), 64, 1, "stretch", 0.5, 1.0, "int8")
    check_fields(info)
    with pytest.raises(InputError, match=r"runtimes=\(3,\); expected text, got a whole number at"):
        ModelInfo(("A", "B"), 64, 1, "stretch", 0.5, 1.0, "int8", runtimes=(3,))


@pytest.mark.parametrize("name", ["os.path", "writes_a_file.Feature", "builtins.eval", "", 3, None])
def test_features_name_classes_of_tfds_only(tmp_path, monkeypatch, name):
    written = tmp_path / "written"
    (tmp_path / "writes_a_file.py").write_text(
        f"from pathlib import Path\nPath({str(written)!r}).touch()\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    content = copy.deepcopy(json_files.FEATURES)
    content["featuresDict"]["features"]["states"] = {"pythonClassName": name}
    _write(tmp_path, "features.json", content)
    with pytest.raises(InputError, match=r"names the class .* expected a feature of TFDS"):
        read_features(tmp_path)
    assert not written.exists()
    assert "writes_a_file" not in sys.modules


def test_another_package_may_store_its_settings(tmp_path):
    _write(tmp_path, "metadata.json", json_files.METADATA | {"scanner": "A"})
    other = json_files.DATASET_INFO | {"moduleName": "hospital.hospital_dataset_builder"}
    assert read_metadata(tmp_path, other)["scanner"] == "A"
    with pytest.raises(InputError, match=r"the unknown key \$\.scanner"):
        read_metadata(tmp_path, json_files.DATASET_INFO)


@pytest.mark.parametrize("text", ["A\n", "A\nB\nC\n", "A\nA\n", ""])
def test_names_agree_with_the_features(tmp_path, text):
    (tmp_path / "label.labels.txt").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"label\.labels\.txt has .* expected 2 different ones"):
        read_names(tmp_path, "label", 2)


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        ({"module": "keras.layers", "class_name": "Lambda"}, "Lambda"),
        ({"module": "keras.layers", "class_name": "TFSMLayer"}, "TFSMLayer"),
        ({"module": "os", "class_name": "system"}, r"os\.system"),
        ({"module": "keras_evil.layers", "class_name": "Dense"}, r"keras_evil\.layers\.Dense"),
        ({"module": "builtins", "class_name": "eval"}, r"builtins\.eval"),
        ({"module": None, "class_name": "Mine", "registered_name": "mine>Mine"}, "Mine mine>Mine"),
        (
            {"class_name": "Dense", "config": {"activation": {"class_name": "__lambda__"}}},
            "__lambda__",
        ),
    ],
)
def test_a_model_with_code_is_called_that(tmp_path, layer, code):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(json_files.model_config(layer)))
    with pytest.raises(InputError, match=rf"model\.keras contains code \({code}\), which is not"):
        check_model_file(path)


def test_a_model_of_keras_layers_has_no_code(tmp_path):
    relu = {"module": "builtins", "class_name": "function", "config": "relu"}
    dense = {"module": "keras.layers", "class_name": "Dense", "config": {"activation": relu}}
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(json_files.model_config(dense)))
    check_model_file(tmp_path / "model.keras")


def test_the_reader_loads_little():
    code = "import sys, cxr_tfds.schema; print(sorted({'numpy', 'attr', 'PIL'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
