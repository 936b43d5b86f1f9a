"""Built datasets that were changed after the build, with valid checksums of every record."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import tampering
from helpers.json_edits import edits
from helpers.keys import KeyPair, write_keys
from helpers.runs import config_of
from helpers.tampering import edit_json, edit_records

from cxr_tfds.commands.data import cli
from cxr_tfds.commands.train import train
from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.evaluation.scoring import score
from cxr_tfds.export.command import export
from cxr_tfds.export.inference import image_batches
from cxr_tfds.reading.datasets import BuiltDataset, open_dataset
from cxr_tfds.reading.fingerprint import FILE, SIGNATURE
from cxr_tfds.reading.run_data import open_run_dataset
from cxr_tfds.reading.sequential import read_columns
from cxr_tfds.reading.verify import sign_dataset

NAME = "chest_xray_pneumonia/64"
Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return write_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(own: BuiltDataset, keys: KeyPair) -> BuiltDataset:
    sign_dataset(own, keys.private)
    return own


def reopen(dataset: BuiltDataset) -> BuiltDataset:
    return open_dataset(NAME, dataset.data_dir)


def run_command(command: Any, *arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


def change_patient(examples: list[Any]) -> None:
    patient = examples[0]["patient_id"].bytes_list.value
    patient[0] = patient[0][:-1] + b"x"


def change_height(examples: list[Any]) -> None:
    examples[-1]["height"].int64_list.value[0] ^= 1


class Blind:
    """A model that gives the same logits for every image."""

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), 1), np.float32)


RECORDS = {
    "inverted labels": (tampering.invert_labels, "test: the label of examples differ"),
    "swapped images": (tampering.swap_images, "test: examples differ"),
    "swapped examples": (tampering.swap_examples, "test: "),
    "another patient": (change_patient, "test: examples differ"),
    "another height": (change_height, "test: examples differ"),
}


@pytest.mark.parametrize("change", RECORDS)
def test_verify_finds_changed_records(own: BuiltDataset, change: str) -> None:
    edit, message = RECORDS[change]
    shard = own.shards["test"][2]
    edit_records(shard, edit)
    opened = reopen(own)
    with pytest.raises(InputError, match=rf"(?s)changed after it was built:\n  {message}") as err:
        opened.verify()
    assert f"first in {Path(shard).name}." in str(err.value)
    assert "train" not in str(err.value)


def test_verify_finds_shards_that_changed_places(own: BuiltDataset) -> None:
    first, second = map(Path, own.shards["test"][:2])
    first.rename(own.folder / "moved")
    second.rename(first)
    (own.folder / "moved").rename(second)
    with pytest.raises(InputError, match=rf"test: .* first in {first.name}"):
        reopen(own).verify()


def test_verify_lists_every_split_and_corrupt_bytes(own: BuiltDataset) -> None:
    edit_records(own.shards["validation"][0], tampering.invert_labels)
    shard = Path(own.shards["train"][1])
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError) as err:
        reopen(own).verify()
    lines = str(err.value).splitlines()
    assert lines[1].startswith(f"  {shard} is corrupt: example ")
    assert lines[2].startswith("  validation: the label of examples differ")


@pytest.mark.parametrize("field", ["label", "finding"])
def test_changed_labels_are_found_when_they_are_read(own: BuiltDataset, field: str) -> None:
    """Without --verify: training, evaluation and export read them anyway."""

    def change(examples: list[Any]) -> None:
        examples[0][field].int64_list.value[0] ^= 1

    edit_records(own.shards["test"][0], change)
    opened = reopen(own).targeted(field)
    read_columns(opened, "train", "label")
    for read in (
        lambda: read_columns(opened, "test", "label"),
        lambda: list(image_batches(opened, "test")),
        lambda: score(Blind(), opened, "test"),
    ):
        with pytest.raises(InputError, match=r"The labels of split 'test' .* were changed after"):
            read()


def test_a_changed_finding_of_several_is_found(findings_data: Path, tmp_path: Path) -> None:
    shutil.copytree(findings_data, tmp_path / "data")
    opened = open_dataset("xray_table/64", tmp_path / "data")
    opened.verify()

    def change(examples: list[Any]) -> None:
        states = examples[0]["states"].int64_list.value
        states[0] = 0 if states[0] else 1

    edit_records(opened.shards["test"][0], change)
    with pytest.raises(InputError, match=r"The labels of split 'test' .* were changed after"):
        read_columns(opened, "test", "label")
    with pytest.raises(InputError, match="test: the states of examples differ"):
        opened.verify()


def set_metadata(**values: Any) -> Edit:
    return lambda folder: edit_json(folder / "metadata.json", lambda stored: stored.update(values))


def move_count(folder: Path) -> None:
    """Moves the last example of a shard to the next one, on paper."""

    def edit(info: dict[str, Any]) -> None:
        for split, change in ((info["splits"][0], -1), (info["splits"][1], 1)):
            split["shardLengths"][0] = str(int(split["shardLengths"][0]) + change)

    edit_json(folder / "dataset_info.json", edit)


def change_origin(folder: Path) -> None:
    edit_json(folder / "metadata.json", lambda stored: stored["origin"].update(drawn=False))


SETTINGS: dict[str, tuple[Edit, str]] = {
    "swapped class names": (
        lambda folder: tampering.swap_lines(folder / "label.labels.txt"),
        "labels: PNEUMONIA, NORMAL instead of NORMAL, PNEUMONIA",
    ),
    "swapped findings": (
        lambda folder: tampering.swap_lines(folder / "finding.labels.txt"),
        "findings: virus, bacteria, none instead of none, bacteria, virus",
    ),
    "fit": (set_metadata(fit="crop"), "fit: 'crop' instead of 'stretch'"),
    "bits": (set_metadata(bits=12), "bits: 12 instead of None"),
    "window": (set_metadata(window=[40, 400]), "window: 40.0, 400.0 instead of None"),
    "findings for classes": (set_metadata(several_findings=True), "several_findings: True instead"),
    "sizes of splits": (move_count, r"images in train: \d+ instead of \d+; images in validation"),
    "reader": (set_metadata(reader={"negative": "PNEUMONIA"}), "reader: "),
    "limit": (set_metadata(max_examples_per_split=3), "max_examples_per_split: 3 instead of None"),
    "origin": (change_origin, "origin: "),
    "fingerprint": (set_metadata(fingerprint="0" * 64), f"fingerprint of {FILE} and metadata.json"),
    "fingerprint.json": (
        lambda folder: edit_json(
            folder / FILE, lambda stored: stored["content"]["splits"]["test"].update(records="x")
        ),
        f"fingerprint of {FILE} and metadata.json",
    ),
}


@pytest.mark.parametrize("change", SETTINGS)
def test_a_changed_setting_is_found_when_the_dataset_is_opened(
    own: BuiltDataset, change: str
) -> None:
    edit, message = SETTINGS[change]
    edit(own.folder)
    with pytest.raises(InputError, match=f"It was changed after it was built: .*{message}"):
        reopen(own)


def test_every_edit_of_the_fingerprint_is_found(own: BuiltDataset) -> None:
    path = own.folder / FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    changes = {name: edited for name, edited in edits(content) if edited != content}
    del changes["dropped $.description.max_examples_per_split"]  # absent means null
    accepted = []
    for name, edited in changes.items():
        path.write_text(json.dumps(edited), encoding="utf-8")
        with contextlib.suppress(InputError):
            accepted.append((name, reopen(own)))
    assert len(changes) - len(accepted) > 100
    assert len(accepted) > 5
    for name, opened in accepted[::6]:  # they only locate changes, so only `verify` reads them
        assert "$.shards" in name
        with pytest.raises(InputError, match=r"fingerprint\.json has other digests of the shards"):
            opened.verify()
    assert not [name for name, _ in accepted if "$.shards" not in name]


def test_reports_a_missing_fingerprint_and_a_removed_shard(own: BuiltDataset) -> None:
    (own.folder / FILE).rename(own.folder / "kept")
    with pytest.raises(MissingData, match=r"fingerprint\.json is missing\. Remove"):
        reopen(own)
    (own.folder / "kept").rename(own.folder / FILE)
    Path(own.shards["train"][3]).unlink()
    with pytest.raises(MissingData, match=r"train\.tfrecord-00003-of-00004 is missing\. Remove"):
        reopen(own)


def test_verify_accepts_a_signed_dataset(signed: BuiltDataset, keys: KeyPair) -> None:
    key = reopen(signed).verify(keys.public)
    assert key is not None
    assert len(key) == 16


def test_verify_refuses_unsigned_and_other_keys(
    own: BuiltDataset, keys: KeyPair, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is not signed"):
        own.verify(keys.public)
    sign_dataset(own, write_keys(tmp_path).private)
    with pytest.raises(InputError, match="is signed with another key"):
        own.verify(keys.public)


@pytest.mark.parametrize("name", [FILE, SIGNATURE])
def test_verify_refuses_changed_files_of_the_signature(
    signed: BuiltDataset, keys: KeyPair, name: str
) -> None:
    path = signed.folder / name
    content = path.read_bytes()
    for changed in (b" " + content, content + b" ", content[:-2], content * 2):
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"is not signed|was changed|another key"):
            signed.verify(keys.public)


def test_a_forged_fingerprint_is_refused_by_its_signature(
    signed: BuiltDataset, keys: KeyPair
) -> None:
    edit_records(signed.shards["test"][0], tampering.invert_labels)
    tampering.forge_fingerprint(signed)
    reopen(signed).verify()  # a fingerprint alone detects accidents
    with pytest.raises(InputError, match="was changed after it was signed"):
        reopen(signed).verify(keys.public)


def test_a_downgraded_fingerprint_is_refused(signed: BuiltDataset, keys: KeyPair) -> None:
    """The signed file stays, but the metadata pretend that an earlier version built the dataset."""
    kept = {name: (signed.folder / name).read_bytes() for name in (FILE, SIGNATURE)}
    tampering.age_fingerprint(signed)
    with pytest.raises(InputError, match="is not signed"):
        reopen(signed).verify(keys.public)
    opened = reopen(signed)
    for name, content in kept.items():
        (signed.folder / name).write_bytes(content)
    with pytest.raises(InputError, match="was changed while it was read"):
        opened.verify(keys.public)
    with pytest.raises(InputError, match=r"fingerprint of fingerprint\.json and metadata"):
        reopen(signed)


def test_signs_no_changed_dataset(own: BuiltDataset, keys: KeyPair) -> None:
    edit_records(own.shards["train"][0], tampering.swap_images)
    with pytest.raises(InputError, match="train: examples differ"):
        sign_dataset(own, keys.private)
    assert not (own.folder / SIGNATURE).exists()


def test_datasets_of_earlier_versions(own: BuiltDataset, keys: KeyPair) -> None:
    tampering.age_fingerprint(own)
    old = reopen(own)
    assert old.recorded is None
    old.verify()
    with pytest.raises(InputError, match="was built by an earlier version"):
        sign_dataset(old, keys.private)
    edit_records(own.shards["test"][0], tampering.invert_labels)
    with pytest.raises(InputError, match=r"The records differ from the fingerprint\."):
        reopen(own).verify()


def test_runs_of_earlier_versions_accept_the_dataset_built_again(
    own: BuiltDataset, dataset: BuiltDataset
) -> None:
    tampering.age_fingerprint(own)
    config = config_of(reopen(own))
    assert open_run_dataset(config, own.data_dir).recorded is None
    assert open_run_dataset(config, dataset.data_dir).recorded is not None
    for change in ({"labels": ("PNEUMONIA", "NORMAL")}, {"fit": "pad"}):
        changed = dataclasses.replace(config, **change)
        with pytest.raises(InputError, match=f"has {next(iter(change))}=.*, but the run was"):
            open_run_dataset(changed, dataset.data_dir)


def test_commands_verify_and_sign(own: BuiltDataset, keys: KeyPair) -> None:
    place = (NAME, "--data-dir", own.data_dir)
    code, output = run_command(cli, "verify", *place)
    assert code == 0
    assert f"is unchanged: {own.sizes['train']} in train, " in output
    assert own.fingerprint in output
    assert run_command(cli, "sign", *place, "--key", keys.private)[0] == 0
    code, output = run_command(cli, "verify", *place, "--trust", keys.public, "--json")
    assert code == 0
    assert '"covers": "records and settings"' in output
    edit_records(own.shards["test"][3], tampering.swap_images)
    code, output = run_command(cli, "verify", *place)
    assert code == 1
    assert "test: examples differ" in output


def test_train_and_export_verify_on_request(
    own: BuiltDataset, keys: KeyPair, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config_of(own).write(run)
    (run / "model.keras").touch()
    edit_records(own.shards["train"][0], tampering.swap_images)
    training = ("--dataset", NAME, "--data-dir", own.data_dir, "--out", tmp_path / "new")
    for command, arguments in (
        (train, (*training, "--verify")),
        (export, (run, "--out", tmp_path / "models", "--verify")),
    ):
        code, output = run_command(command, *arguments)
        assert code == 1
        assert "train: examples differ, first in" in output
    code, output = run_command(train, *training, "--trust", keys.public)
    assert code == 1
    assert "is not signed" in output
    assert not (tmp_path / "new").exists()


def test_the_fingerprint_does_not_depend_on_the_shards(
    dataset: BuiltDataset, built: Path, tmp_path: Path
) -> None:
    """`built` has the same source in one shard per split."""
    other = open_dataset(NAME, built)
    assert [len(shards) for shards in other.shards.values()] == [1, 1, 1]
    assert other.fingerprint == dataset.fingerprint
    shutil.copytree(built, tmp_path / "copy")
    open_dataset(NAME, tmp_path / "copy").verify()
