"""Model files: written, read back, and refused if their bytes have changed."""

import dataclasses
import io
import json
import tracemalloc
import zipfile

import pytest

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.export.edge.model_file import (
    append_model_info,
    read_model,
)

TEXT = "# Model card\n\n- for nobody, zwei für ½\n"
FLATBUFFER = b"\x1c\x00\x00\x00TFL3" + bytes(range(256)) * 20


@pytest.fixture
def content(info):
    return append_model_info(FLATBUFFER, info)


@pytest.fixture
def described(info):
    return append_model_info(FLATBUFFER, info, TEXT)


def test_round_trip_of_the_model_card(tmp_path, info, described):
    path = tmp_path / "model.tflite"
    path.write_bytes(described)
    assert read_model(path) == read_model(described) == (FLATBUFFER, info, TEXT)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["labels.txt", "MODEL_CARD.md", "model.json"]
        assert archive.read("MODEL_CARD.md").decode() == TEXT
        assert archive.getinfo("MODEL_CARD.md").compress_type == zipfile.ZIP_STORED


@pytest.mark.parametrize(
    "counts",
    [
        [],
        {"COVID": {"images": [1], "positives": [1]}},
        {"PNEUMONIA": {"images": [1], "positives": [2]}},
        {"PNEUMONIA": {"images": [1, 1], "positives": [1]}},
        {"PNEUMONIA": {"images": ["1"], "positives": [1]}},
        {"PNEUMONIA": [1, 1]},
    ],
)
def test_refuses_impossible_reliability_counts(info, counts):
    with pytest.raises(InputError, match=r"reliability.*(expected|is not a label)"):
        dataclasses.replace(info, reliability=counts)


def test_refuses_a_long_model_card(info):
    with pytest.raises(InputError, match=r"^MODEL_CARD\.md has more than 1,048,576 bytes\."):
        append_model_info(FLATBUFFER, info, "a" * (2**20 + 1))


def test_reads_files_without_model_card(info, content):
    assert read_model(content) == (FLATBUFFER, info, None)


@pytest.mark.parametrize(
    "text", [{}, {"MODEL_CARD.md": "# Cures everything\n"}, {"MODEL_CARD.md": b"\xff"}]
)
def test_detects_a_changed_or_removed_model_card(described, text):
    entries = {
        "labels.txt": "NORMAL\nPNEUMONIA\n",
        "model.json": json.dumps(_fields(described)),
        **text,
    }
    with pytest.raises(InputError, match="is corrupt"):
        read_model(_with_entries(entries))


def test_detects_an_added_model_card(content):
    entries = {"labels.txt": "NORMAL\nPNEUMONIA\n", "model.json": json.dumps(_fields(content))}
    with pytest.raises(InputError, match="is corrupt"):
        read_model(_with_entries({**entries, "MODEL_CARD.md": TEXT}))


def test_round_trip_of_info_and_flatbuffer(tmp_path, info, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert read_model(path) == read_model(str(path)) == read_model(content)
    assert read_model(content) == (FLATBUFFER, info, None)


def test_round_trip_of_runtimes_and_heatmap(info):
    mapped = dataclasses.replace(
        info, runtimes=("litert",), heatmap=True, grid=(7, 7), quantization="int16x8"
    )
    assert read_model(append_model_info(FLATBUFFER, mapped)).info == mapped


def test_other_programs_find_the_entries(info, content):
    assert content.startswith(FLATBUFFER)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt") == b"NORMAL\nPNEUMONIA\n"
        assert json.loads(archive.read("model.json"))["threshold"] == info.threshold
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        # Offsets from the start of the file: readers that do not search for a prefix work too.
        assert archive.getinfo("labels.txt").header_offset == len(FLATBUFFER)


def test_output_is_deterministic(info, described):
    assert append_model_info(FLATBUFFER, info, TEXT) == described


def test_labels_in_any_language(info):
    three = dataclasses.replace(info, labels=("Normal", "Lungenentzündung", "肺炎"), threshold=None)
    assert read_model(append_model_info(FLATBUFFER, three)).info == three


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ("NORMAL",)}, "labels="),
        ({"labels": ("NORMAL", "NORMAL")}, "labels="),
        ({"labels": ("NORMAL", "A\nB")}, "labels="),
        ({"labels": ("NORMAL", " ")}, "labels="),
        ({"size": 0}, "size=0"),
        ({"size": "32"}, "size='32'"),
        ({"channels": 2}, "channels=2"),
        ({"fit": "squash"}, "fit='squash'"),
        ({"threshold": None}, "threshold=None; expected 0 to 1"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"labels": ("a", "b", "c")}, "threshold=0.5; expected None for 3 classes"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": float("inf")}, "temperature=inf"),
    ],
)
def test_model_info_checks_its_fields(info, change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(info, **change)


@pytest.fixture
def findings_info(info):
    return dataclasses.replace(
        info,
        labels=("Nodule", "Effusion", "Device"),
        several_findings=True,
        threshold=(0.5, 0.25, 1.0),
        temperature=(1.0, 2.0, 0.5),
        unknown="negative",
        reader={"table": "t.csv", "label": ["Nodule", "Effusion", "Device"]},
    )


def test_round_trip_of_several_findings(findings_info):
    assert read_model(append_model_info(FLATBUFFER, findings_info)).info == findings_info
    one = dataclasses.replace(
        findings_info, labels=("Nodule",), threshold=(0.5,), temperature=(1.0,)
    )
    assert read_model(append_model_info(FLATBUFFER, one)).info == one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ()}, r"labels=\(\); expected one or more names"),
        ({"labels": ("a", "a", "b")}, "labels="),
        ({"threshold": 0.5}, "threshold=0.5; expected 3 numbers, one for each finding"),
        ({"threshold": (0.5, 0.5)}, "threshold="),
        ({"threshold": (0.5, 0.5, 1.5)}, "threshold="),
        ({"threshold": (0.5, None, 0.5)}, "threshold="),
        ({"threshold": (0.5, "x", 0.5)}, "threshold="),
        ({"temperature": 1.0}, "temperature=1.0; expected 3 numbers, one for each finding"),
        ({"temperature": (1.0, 0.0, 1.0)}, "temperature="),
        ({"temperature": (1.0, float("nan"), 1.0)}, "temperature="),
        ({"unknown": "maybe"}, "unknown='maybe'; expected ignore or positive or negative"),
        ({"several_findings": False}, "threshold="),
        ({"reader": ["table"]}, "reader="),
    ],
)
def test_model_info_checks_several_findings(findings_info, change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(findings_info, **change)


def test_refuses_missing_file_and_folder(tmp_path):
    with pytest.raises(MissingData, match=r"none\.tflite does not exist"):
        read_model(tmp_path / "none.tflite")
    with pytest.raises(
        InputError, match=r"a folder, not a file; expected a \.tflite written by cxr-export"
    ):
        read_model(tmp_path)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_refuses_other_files(data):
    with pytest.raises(InputError, match="is not a TFLite model"):
        read_model(data)


def test_refuses_models_of_other_programs():
    with pytest.raises(
        InputError,
        match=r"contains no model\.json: another program wrote it, or its end is missing",
    ):
        read_model(FLATBUFFER)


def test_refuses_models_with_other_associated_files(info):
    foreign = _with_entries({"labelmap.txt": "cat\ndog\n"})
    with pytest.raises(InputError, match=r"contains no model\.json\. Export it with cxr-export"):
        read_model(foreign)


def test_detects_every_truncation(content):
    messages = set()
    for length in range(len(content)):
        with pytest.raises(
            InputError, match=r"not a TFLite model|end is missing|is truncated after \d+ bytes"
        ) as err:
            read_model(content[:length])
        messages.add(str(err.value)[-20:])
    assert len(messages) >= 3


@pytest.mark.slow
def test_detects_every_changed_byte_of_the_flatbuffer(content):
    for place in range(len(FLATBUFFER)):
        with pytest.raises(InputError, match=r"is corrupt|not a TFLite model"):
            read_model(_flipped(content, place))


def test_changed_bytes_of_the_zip_are_detected_or_harmless(info, described):
    detected = 0
    for place in range(len(FLATBUFFER), len(described)):
        try:
            found = read_model(_flipped(described, place))
            assert found == (FLATBUFFER, info, TEXT), place
        except InputError:
            detected += 1
    assert detected > 500


def test_refuses_contradictory_labels(content):
    fields = _fields(content)
    changed = _with_entries({"labels.txt": "PNEUMONIA\nNORMAL\n", "model.json": json.dumps(fields)})
    with pytest.raises(
        InputError, match=r"labels.txt contains PNEUMONIA, NORMAL, model.json contains NORMAL, PN"
    ):
        read_model(changed)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["PNEUMONIA", "NORMAL"]},
        {"threshold": 0.9},
        {"temperature": 2.0},
        {"dataset": {}},
    ],
)
def test_detects_an_edited_model_json(info, content, change):
    """Only files from before 2026-11, without that digest, can be edited."""
    fields = {**_fields(content), **change}
    entries = {
        "labels.txt": "".join(f"{label}\n" for label in fields["labels"]),
        "model.json": json.dumps(fields),
    }
    with pytest.raises(
        InputError,
        match=r"contains a changed model\.json\. Copy the file again\.$",
    ):
        read_model(_with_entries(entries))
    del fields["flatbuffer"]["card"]
    edited = read_model(_with_entries({**entries, "model.json": json.dumps(fields)})).info
    assert dataclasses.asdict(edited) == {
        **dataclasses.asdict(info),
        **change,
        "labels": tuple(fields["labels"]),
    }


@pytest.mark.parametrize("entry", ["labels.txt", "model.json", "MODEL_CARD.md"])
def test_refuses_entries_that_would_fill_the_memory(described, entry):
    """Neither expands 16 MiB of spaces from 16 KiB nor reads 2 MiB of stored bytes."""
    entries = {
        "labels.txt": "NORMAL\nPNEUMONIA\n",
        "model.json": json.dumps(_fields(described)),
        "MODEL_CARD.md": TEXT,
    }
    for size, packed in ((2**24, entry), (2**21, None)):
        model = _with_entries({**entries, entry: entries[entry] + " " * size}, packed)
        assert len(model) < 2**22
        tracemalloc.start()
        with pytest.raises(
            InputError, match=rf"contains {entry} compressed or with more than 1,048,576 bytes \("
        ):
            read_model(model)
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()


def test_refuses_a_newer_format(content):
    fields = {**_fields(content), "format": "cxr-tfds-2", "heads": 2}
    newer = _with_entries({"labels.txt": "NORMAL\nPNEUMONIA\n", "model.json": json.dumps(fields)})
    with pytest.raises(InputError, match="format='cxr-tfds-2'; this version reads 'cxr-tfds-1'"):
        read_model(newer)


@pytest.mark.parametrize("text", ["[]", "{", "{}", '"x"', "\xff"])
def test_refuses_invalid_model_json(text):
    with pytest.raises(InputError, match=r"model.json|corrupt"):
        read_model(_with_entries({"labels.txt": "NORMAL\nPNEUMONIA\n", "model.json": text}))


def _fields(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return json.loads(archive.read("model.json"))


def _with_entries(entries, packed=None):
    buffer = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, text in entries.items():
            archive.writestr(
                name, text, zipfile.ZIP_DEFLATED if name == packed else zipfile.ZIP_STORED
            )
    return buffer.getvalue()


def _flipped(content, place):
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]
