"""Every command ends silently when its reader ends, as with `| head`."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

_CLI = "from {module} import {name} as command; command(prog_name='x')"
_INFER = ("cxr_tfds.export.edge.command", "cli")


def unread(module, name, *arguments):
    """Runs a command whose standard output is closed before it starts to write."""
    command = [sys.executable, "-c", _CLI.format(module=module, name=name), *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        errors = process.stderr.read()
    return process.returncode, errors


@pytest.mark.parametrize("options", [["--csv"], ["--json"], []])
def test_predict(models, draw, tmp_path, options):
    draw("x.png", 100)
    code, errors = unread(*_INFER, "predict", "--model", models["int8"], tmp_path, *options)
    assert (code, errors) == (1, "")


@pytest.mark.parametrize("command", ["evaluate", "info", "benchmark"])
def test_other_commands_of_the_device(models, draw, tmp_path, command):
    draw("NORMAL/x.png", 10), draw("PNEUMONIA/x.png", 200)
    where = [tmp_path] if command == "evaluate" else []
    progress = "Measuring\n" if command == "benchmark" else ""
    assert unread(*_INFER, command, "--model", models["int8"], *where) == (1, progress)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        _INFER,
        ("cxr_tfds.commands.data", "cli"),
        ("cxr_tfds.commands.train", "train"),
        ("cxr_tfds.commands.evaluate", "evaluate"),
        ("cxr_tfds.export.command", "export"),
    ],
)
def test_help(module, name):
    assert unread(module, name, "--help") == (1, "")
