"""The card inside a `.tflite`: written, read back, and refused when the file is not what was written."""

import dataclasses
import io
import json
import tracemalloc
import zipfile

import pytest

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.export.edge.model_file import append_model_info, read_model_info, read_model, read_model_card

TEXT = "# Model card\n\n- for nobody, zwei für ½\n"
FLATBUFFER = b"\x1c\x00\x00\x00TFL3" + bytes(range(256)) * 20


@pytest.fixture
def content(card):
    return append_model_info(FLATBUFFER, card)


@pytest.fixture
def described(card):
    return append_model_info(FLATBUFFER, card, TEXT)


def test_the_model_card_comes_back(tmp_path, card, described):
    path = tmp_path / "model.tflite"
    path.write_bytes(described)
    assert read_model_card(path) == read_model_card(described) == TEXT
    assert read_model(path) == (FLATBUFFER, card)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["labels.txt", "MODEL_CARD.md", "model.json"]
        assert archive.read("MODEL_CARD.md").decode() == TEXT
        assert archive.getinfo("MODEL_CARD.md").compress_type == zipfile.ZIP_STORED


def test_a_model_card_too_long_to_be_read_back_is_refused(card):
    with pytest.raises(InputError, match=r"^MODEL_CARD\.md would have more than 1,048,576 bytes\."):
        append_model_info(FLATBUFFER, card, "a" * (2**20 + 1))


def test_a_file_without_model_card_stays_readable(card, content):
    assert read_model(content) == (FLATBUFFER, card)
    with pytest.raises(
        InputError,
        match=r"^The model has no MODEL_CARD\.md inside\. Export it again with cxr-export",
    ):
        read_model_card(content)


@pytest.mark.parametrize(
    "text", [{}, {"MODEL_CARD.md": "# Cures everything\n"}, {"MODEL_CARD.md": b"\xff"}]
)
def test_a_model_card_that_was_changed_or_taken_out_is_noticed(described, text):
    entries = {
        "labels.txt": "NORMAL\nPNEUMONIA\n",
        "model.json": json.dumps(_fields(described)),
        **text,
    }
    with pytest.raises(InputError, match="is damaged"):
        read_model_info(_with_entries(entries))


def test_a_model_card_that_was_put_in_is_noticed(content):
    entries = {"labels.txt": "NORMAL\nPNEUMONIA\n", "model.json": json.dumps(_fields(content))}
    with pytest.raises(InputError, match="is damaged"):
        read_model_info(_with_entries({**entries, "MODEL_CARD.md": TEXT}))


def test_card_and_flatbuffer_come_back(tmp_path, card, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert read_model(path) == (FLATBUFFER, card)
    assert read_model_info(str(path)) == read_model_info(content) == card


def test_runtimes_and_heatmap_come_back(card):
    mapped = dataclasses.replace(
        card, runtimes=("litert",), heatmap=True, grid=(7, 7), quantization="int16x8"
    )
    assert read_model_info(append_model_info(FLATBUFFER, mapped)) == mapped


def test_entries_are_stored_where_other_programs_find_them(card, content):
    assert content.startswith(FLATBUFFER)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt") == b"NORMAL\nPNEUMONIA\n"
        assert json.loads(archive.read("model.json"))["threshold"] == card.threshold
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        # Offsets from the start of the file: readers that do not search for a prefix work too.
        assert archive.getinfo("labels.txt").header_offset == len(FLATBUFFER)


def test_the_same_model_gives_the_same_bytes(card, described):
    assert append_model_info(FLATBUFFER, card, TEXT) == described


def test_labels_of_any_language(card):
    three = dataclasses.replace(card, labels=("Normal", "Lungenentzündung", "肺炎"), threshold=None)
    assert read_model_info(append_model_info(FLATBUFFER, three)) == three
    assert three.outputs == 3
    assert card.outputs == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "cxr-tfds-2"}, "format='cxr-tfds-2'; this version reads 'cxr-tfds-1'"),
        ({"labels": ("NORMAL",)}, "labels="),
        ({"labels": ("NORMAL", "NORMAL")}, "labels="),
        ({"labels": ("NORMAL", "A\nB")}, "labels="),
        ({"labels": ("NORMAL", " ")}, "labels="),
        ({"labels": "NORMAL"}, "labels="),
        ({"size": 0}, "size=0"),
        ({"size": "32"}, "size, channels="),
        ({"channels": 2}, "channels=2"),
        ({"fit": "squash"}, "fit='squash'"),
        ({"threshold": None}, "threshold=None; expected 0 to 1"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"labels": ("a", "b", "c")}, "expected None for more than two classes"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": True}, "temperature=True"),
        ({"quantization": "int4"}, "quantization='int4'"),
        ({"metrics": []}, "metrics="),
        ({"runtimes": "litert"}, "runtimes='litert'"),
        ({"runtimes": (1,)}, "runtimes="),
        ({"heatmap": True}, "grid=None; expected height and width of the heatmap"),
        ({"heatmap": True, "grid": (7, 0)}, "grid="),
        ({"grid": (7, 7)}, "grid="),
    ],
)
def test_card_checks_itself(card, change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(card, **change)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}])
def test_card_that_json_cannot_hold(card, value):
    with pytest.raises(InputError, match="cannot be written as JSON"):
        append_model_info(FLATBUFFER, dataclasses.replace(card, run={"loss": value}))


def test_nothing_is_appended_to_what_is_no_bare_flatbuffer(card, content):
    with pytest.raises(InputError, match="carries a zip already"):
        append_model_info(content, card)
    with pytest.raises(InputError, match="is no TFLite model"):
        append_model_info(b"PNG", card)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(MissingData, match=r"none\.tflite does not exist"):
        read_model_info(tmp_path / "none.tflite")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_model_info(tmp_path)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_no_tflite(data):
    with pytest.raises(InputError, match="is no TFLite model"):
        read_model_info(data)


def test_foreign_model():
    with pytest.raises(
        InputError, match="written by another program or its end is missing: no labels inside"
    ):
        read_model_info(FLATBUFFER)


def test_foreign_model_with_associated_files(card):
    foreign = _with_entries({"labelmap.txt": "cat\ndog\n"})
    with pytest.raises(
        InputError, match=r"no labels inside \(no model.json\)\. Export it with cxr-export"
    ):
        read_model_info(foreign)


def test_every_cut_is_noticed(content):
    messages = set()
    for length in range(len(content)):
        with pytest.raises(
            InputError, match=r"no TFLite model|end is missing|is cut off after \d+ bytes"
        ) as err:
            read_model_info(content[:length])
        messages.add(str(err.value)[-20:])
    assert len(messages) >= 3


def test_every_flipped_bit_of_the_flatbuffer_is_noticed(content):
    for place in range(len(FLATBUFFER)):
        with pytest.raises(InputError, match=r"is damaged|no TFLite model"):
            read_model_info(_flipped(content, place))


def test_a_flipped_bit_behind_the_flatbuffer_is_noticed_or_harmless(card, described):
    noticed = 0
    for place in range(len(FLATBUFFER), len(described)):
        try:
            flipped = _flipped(described, place)
            assert (read_model(flipped), read_model_card(flipped)) == ((FLATBUFFER, card), TEXT), (
                place
            )
        except InputError:
            noticed += 1
    assert noticed > 500


def test_labels_that_disagree(content):
    fields = _fields(content)
    changed = _with_entries({"labels.txt": "PNEUMONIA\nNORMAL\n", "model.json": json.dumps(fields)})
    with pytest.raises(
        InputError, match=r"labels.txt inside says PNEUMONIA, NORMAL, model.json says NORMAL, PN"
    ):
        read_model_info(changed)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["PNEUMONIA", "NORMAL"]},
        {"threshold": 0.9},
        {"temperature": 2.0},
        {"dataset": {}},
    ],
)
def test_a_card_that_was_edited(card, content, change):
    """In both places alike; a file from before cards had a hash can be edited so."""
    fields = {**_fields(content), **change}
    entries = {
        "labels.txt": "".join(f"{label}\n" for label in fields["labels"]),
        "model.json": json.dumps(fields),
    }
    with pytest.raises(
        InputError, match=r"model\.json inside was changed\. Copy it again, or export it again"
    ):
        read_model_info(_with_entries(entries))
    del fields["flatbuffer"]["card"]
    edited = read_model_info(_with_entries({**entries, "model.json": json.dumps(fields)}))
    assert dataclasses.asdict(edited) == {
        **dataclasses.asdict(card),
        **change,
        "labels": tuple(fields["labels"]),
    }


@pytest.mark.parametrize("entry", ["labels.txt", "model.json", "MODEL_CARD.md"])
def test_an_entry_that_fills_the_memory(described, entry):
    """16 MiB of spaces, packed to 16 KiB, are not unpacked; nor are 2 MiB read that stand there as they are."""
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
            InputError, match=rf"{entry} inside is packed or has more than 1,048,576 bytes \("
        ):
            read_model_info(model)
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()


def test_newer_format(content):
    fields = {**_fields(content), "format": "cxr-tfds-2", "heads": 2}
    newer = _with_entries({"labels.txt": "NORMAL\nPNEUMONIA\n", "model.json": json.dumps(fields)})
    with pytest.raises(InputError, match="cxr-tfds-2"):
        read_model_info(newer)


@pytest.mark.parametrize("text", ["[]", "{", "{}", '"x"', "\xff"])
def test_model_json_of_another_kind(text):
    with pytest.raises(InputError, match=r"model.json|damaged"):
        read_model_info(_with_entries({"labels.txt": "NORMAL\nPNEUMONIA\n", "model.json": text}))


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
