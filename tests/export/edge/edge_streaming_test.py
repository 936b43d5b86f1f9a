"""Many images, standard input, vanishing files, Ctrl-C and a full disk."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from cxr_tfds.export.edge import input_files, output
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.input_files import InputFile, list_images
from cxr_tfds.export.edge.predict import predict_files
from cxr_tfds.parallel import IN_FLIGHT_PER_CORE, core_count

pytestmark = pytest.mark.slow

FULL = "/dev/full"
needs_full = pytest.mark.skipif(not Path(FULL).exists(), reason=f"no {FULL}")


@pytest.fixture
def many(draw, tmp_path):
    """Creates a folder with `count` images, all links to one file."""

    def make(count, name="many"):
        folder = tmp_path / name
        folder.mkdir()
        image = draw("x.png", 150)
        for number in range(count):
            os.link(image, folder / f"{number:05}.png")
        return folder

    return make


def test_predicts_standard_input(models, draw, infer):
    path = draw("x.png", 140)
    done = infer("predict", "--model", models["int8"], "--json", "-", path, input=path.read_bytes())
    first, second = json.loads(done.stdout)
    assert done.exit_code == 0
    assert first == {**second, "file": "-"}


@pytest.mark.parametrize(
    ("content", "error"), [(b"", "empty file (0 bytes)"), (b"text", "not an image in a known")]
)
def test_reports_bad_standard_input(models, content, error, infer):
    done = infer("predict", "--model", models["int8"], "--json", "-", input=content)
    assert done.exit_code == 1
    assert error in json.loads(done.stdout)[0]["error"]


def test_refuses_standard_input_twice(models, infer):
    done = infer("predict", "--model", models["int8"], "-", "-", input=b"")
    assert done.exit_code == 2
    assert "give - only once" in done.stderr


def test_reports_closed_standard_input(models, command_line):
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *command_line("predict", "--model", models["int8"], "-")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert done.stdout == "?          -: closed\n"


def test_reports_vanished_files_and_predicts_the_others(models, many, monkeypatch, infer):
    folder = many(IN_FLIGHT_PER_CORE * core_count() + 20)
    predict = Classifier.predict

    def remove_the_last(classifier, pixels):
        for path in sorted(folder.iterdir())[-3:]:
            if path.name > "00010":
                path.unlink()
        monkeypatch.setattr(Classifier, "predict", predict)
        return predict(classifier, pixels)

    monkeypatch.setattr(Classifier, "predict", remove_the_last)
    done = infer("predict", "--model", models["int8"], "--csv", folder)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["error"] for row in rows[-4:]] == ["", *["no longer exists"] * 3]
    assert {row["label"] for row in rows[:-3]} == {"PNEUMONIA"}
    assert done.stderr.endswith(f"Error: 3 of {len(rows)} images could not be read.\n")


def test_reports_a_vanished_folder(many, tmp_path):
    folder = many(2)
    (folder / "inside").mkdir()
    (folder / "inside" / "x.png").touch()
    files = list_images(folder)
    assert next(files).name.endswith("00000.png")
    for path in (folder / "inside").iterdir():
        path.unlink()
    (folder / "inside").rmdir()
    assert [file.content for file in files] == [None]
    (failed,) = list_images(folder / "inside")
    assert str(failed.content) == "cannot be listed: No such file or directory"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_does_not_wait_for_a_named_pipe(models, many, infer):
    folder = many(1)
    os.mkfifo(folder / "pipe.png")
    done = infer("predict", "--model", models["int8"], "--json", folder)
    errors = [row.get("error") for row in json.loads(done.stdout)]
    assert errors == [None, "a pipe, not a regular file"]


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_listing_in_parts_keeps_the_order(many, at_once, monkeypatch):
    folder = many(10)
    for place in ("b", "a/c"):
        (folder / place).mkdir(parents=True)
        (folder / place / "x.jpg").touch()
    monkeypatch.setattr(input_files, "_NAMES_AT_ONCE", at_once)
    found = [found.name for found in list_images(folder)]
    places = [f"{number:05}.png" for number in range(10)] + ["a/c/x.jpg", "b/x.jpg"]
    assert found == [str(folder / place) for place in places]


def test_listing_uses_constant_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(input_files, "_NAMES_AT_ONCE", 100)
    peaks = []
    for count in (200, 5_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.png").touch()
        tracemalloc.start()
        assert sum(1 for _ in list_images(folder)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 20_000


def test_decodes_few_images_ahead(models, draw):
    """At most a fixed number more than were predicted."""
    path, drawn = str(draw("x.png", 150)), 0

    def endless():
        nonlocal drawn
        while True:
            drawn += 1
            yield InputFile(path)

    results = predict_files(Classifier(models["int8"]), endless())
    for number in range(200):
        next(results)
        assert drawn - number <= IN_FLIGHT_PER_CORE * core_count() + 1
    results.close()


def test_one_file_and_no_file(models, draw):
    classifier, path = Classifier(models["int8"]), draw("x.png", 150)
    ((file, prediction),) = predict_files(classifier, [InputFile(str(path))])
    assert (file, prediction) == (InputFile(str(path)), classifier(path))
    assert list(predict_files(classifier, [])) == []


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_rows_are_complete_after_an_interrupt(models, many, form, command_line):
    folder = many(4_000)
    options = [form] if form else []
    with subprocess.Popen(
        command_line("predict", "--model", models["int8"], folder, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        head = b"".join(process.stdout.readline() for _ in range(5))
        process.send_signal(signal.SIGINT)
        text = (head + process.stdout.read()).decode()
        errors = process.stderr.read().decode()
    assert process.returncode == 1
    assert errors == "\nAborted!\n"
    if form == "--json":
        count = len(json.loads(text))
    elif form == "--csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert all(None not in row.values() for row in rows)
        count = len(rows)
    else:
        assert all(
            re.fullmatch(r"PNEUMONIA  .. % \(predicted from 50 %\) → PNEUMONIA  .*\.png", x)
            for x in text.splitlines()
        )
        count = len(text.splitlines())
    assert text.endswith("\n")
    assert 3 <= count < 4_000


def test_interrupt_waits_for_a_write(monkeypatch):
    written = []

    class Output(io.StringIO):
        def write(self, text):
            if text == ",b":
                signal.raise_signal(signal.SIGINT)
            written.append(text)
            return len(text)

    monkeypatch.setattr(output.sys, "stdout", Output())
    with pytest.raises(KeyboardInterrupt):
        output.write_rows(iter("abc"), "[", ",", "]")
    assert written == ["[", "a", ",b", "]"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_keeps_an_ignored_interrupt_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        output.write_rows(signal.raise_signal(signal.SIGINT) or "" for _ in range(2))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_json_is_complete_after_a_defect(models, many, monkeypatch, infer):
    def fail(classifier, pixels):
        raise ZeroDivisionError

    monkeypatch.setattr(Classifier, "predict", fail)
    done = infer("predict", "--model", models["int8"], "--json", many(2))
    assert json.loads(done.stdout) == []
    assert isinstance(done.exception, ZeroDivisionError)


@needs_full
@pytest.mark.parametrize("form", ["--json", "--csv", None, "evaluate", "info"])
def test_reports_a_full_disk(models, draw, tmp_path, form, command_line):
    draw("NORMAL/x.png", 10), draw("PNEUMONIA/x.png", 200)
    name = form if form in ("evaluate", "info") else "predict"
    where = [] if name == "info" else [tmp_path]
    options = [form] if form and form.startswith("--") else []
    with open(FULL, "wb") as full:  # noqa: PTH123
        arguments = command_line(name, "--model", models["int8"], *where, *options)
        done = subprocess.run(
            arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "Error: Standard output cannot be written: No space left on device.\n"


def test_reports_a_disk_that_fills_up(models, many, tmp_path, command_line):
    """Simulated by a limit of the file size: the first rows fit, and part of another."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
    line = command_line("predict", "--model", models["int8"], "--csv", many(40), before=limit)
    with (tmp_path / "rows.csv").open("wb") as file:
        done = subprocess.run(line, stdout=file, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: Standard output cannot be written: File too large.\n"
    head, *rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert head.startswith("file,label,probability_NORMAL,probability_PNEUMONIA,")
    assert len(rows) > 2
    assert all(row.endswith(",0.5,") for row in rows[:-1])


def test_ends_silently_when_the_pipe_closes(models, many, command_line):
    with subprocess.Popen(
        command_line("predict", "--model", models["int8"], "--csv", many(500)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 1
    assert errors == ""


def test_reports_closed_standard_output(models, draw, command_line):
    done = subprocess.run(
        [
            "sh",
            "-c",
            '"$@" >&-',
            "sh",
            *command_line("predict", "--model", models["int8"], draw("x.png", 1)),
        ],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == "Error: Nothing was written: this process was started without standard output.\n"
    )
