"""Behaviour of all commands: exit codes, messages without a traceback, nearest names, folders."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cxr_tfds.commands.base import Command, Group, LocalPath, NearestChoice
from cxr_tfds.errors import BadImage, InputError, MissingData
from cxr_tfds.files import check_new_folder
from cxr_tfds.temporary import INCOMPLETE, TEMPORARY
from cxr_tfds.text import did_you_mean


def run(work: Callable[[], object]) -> Result:
    return CliRunner().invoke(Command("measure", callback=work), [], prog_name="cxr-measure")


def raising(err: BaseException) -> Callable[[], object]:
    def work() -> None:
        raise err

    return work


@pytest.mark.parametrize(
    ("err", "message"),
    [
        (
            InputError("size=0; expected 1 to 4096 pixels."),
            "Error: size=0; expected 1 to 4096 pixels.\n",
        ),
        (MissingData("no run in x"), "Error: no run in x\n"),
        (BadImage("empty file (0 bytes)"), "Error: empty file (0 bytes)\n"),
        (
            FileNotFoundError(2, "No such file or directory", "x.png"),
            "Error: No such file or directory: x.png. Check the path.\n",
        ),
        (
            PermissionError(13, "Permission denied", f"out/{TEMPORARY}0123abcd-77-0123abcd-x.png"),
            "Permission denied: out/x.png. Check its permissions, or choose another folder.\n",
        ),
        (
            NotADirectoryError(20, "Not a directory", f"notes.txt/{INCOMPLETE}0123abcd-77_new"),
            "Error: Not a directory: notes.txt/new. A part of the path is a file. Choose another "
            "folder.\n",
        ),
        (RuntimeError("a/b; Read-only file system"), " a disk that can be written.\n"),
        (OSError("no code"), "Error: no code\n"),
        (click.ClickException("already said"), "Error: already said\n"),
    ],
)
def test_reports_user_errors_in_one_message_with_exit_code_1(err: Exception, message: str) -> None:
    result = run(raising(err))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.endswith(message)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "err", [ValueError("shape"), TypeError("x"), KeyError("x"), ZeroDivisionError()]
)
def test_other_errors_keep_their_traceback(err: Exception) -> None:
    assert run(raising(err)).exception is err


def test_exit_codes_of_success_and_wrong_usage() -> None:
    assert run(lambda: click.echo("0.97")).stdout == "0.97\n"
    assert run(lambda: None).exit_code == 0
    assert run(raising(click.UsageError("no"))).exit_code == 2
    assert CliRunner().invoke(Command("measure"), ["--nope"]).exit_code == 2


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("tensorflow", "train"),
        ("tensorflow.keras.layers", "train"),
        ("jinja2", "train"),
        ("pydicom", "dicom"),
    ],
)
def test_reports_a_missing_extra(module: str, extra: str) -> None:
    result = run(raising(ModuleNotFoundError(f"No module named {module!r}", name=module)))
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: cxr-measure needs {module.partition('.')[0]}, which is not installed. "
        f"Install it with: pip install 'cxr-tfds[{extra}]'\n"
    )


@pytest.mark.parametrize("name", ["cxr_tfds.nowhere", None])
def test_missing_module_without_an_extra_keeps_its_traceback(name: str | None) -> None:
    err = ModuleNotFoundError("No module", name=name)
    assert run(raising(err)).exception is err


def test_debug_shows_where_an_error_and_its_cause_were_raised() -> None:
    def work() -> None:
        try:
            {}["scale"]
        except KeyError as err:
            raise InputError("The model is corrupt.") from err

    command = Command("measure", callback=work)
    plain, debug = (CliRunner().invoke(command, args) for args in ([], ["--debug"]))
    assert (plain.exit_code, debug.exit_code) == (1, 1)
    assert plain.stderr == "Error: The model is corrupt.\n"
    assert debug.stderr.endswith(plain.stderr)
    lines = debug.stderr.splitlines()
    assert lines[0].startswith("Traceback")
    assert "KeyError: 'scale'" in lines


def test_escapes_characters_that_stdout_cannot_encode() -> None:
    command = Command("measure", callback=lambda: click.echo("胸 ü \udcff"))
    assert CliRunner(charset="cp1252").invoke(command, []).stdout == "\\u80f8 ü \\udcff\n"
    assert CliRunner().invoke(command, []).stdout == "胸 ü \\udcff\n"


def test_closed_pipe_ends_the_command_quietly() -> None:
    result = run(raising(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert result.exit_code == 1
    assert result.output == ""


@click.group(cls=Group)
def group() -> None: ...


@group.command()
def phantom() -> None:
    raise InputError("no space")


@group.command()
def summary() -> None: ...


def test_commands_of_a_group_report_errors_in_the_same_way() -> None:
    assert isinstance(phantom, Command)
    result = CliRunner().invoke(group, ["phantom"])
    assert (result.exit_code, result.stderr) == (1, "Error: no space\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["phanton"],
            "Command 'phanton' is not one of 'phantom', 'summary'. Did you mean 'phantom'?",
        ),
        (["PHANTOM"], "Did you mean 'phantom'?"),
        (["train"], "Command 'train' is not one of 'phantom', 'summary'."),
        (["--out"], "No such option"),
    ],
)
def test_suggests_the_nearest_command(args: list[str], message: str) -> None:
    result = CliRunner().invoke(group, args)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("strech", "'strech' is not one of 'stretch', 'pad', 'crop'. Did you mean 'stretch'?"),
        ("CROP", "'CROP' is not one of 'stretch', 'pad', 'crop'. Did you mean 'crop'?"),
        ("", "'' is not one of 'stretch', 'pad', 'crop'."),
        ("zoom", "'zoom' is not one of 'stretch', 'pad', 'crop'."),
    ],
)
def test_did_you_mean(value: str, message: str) -> None:
    assert did_you_mean(value, ["stretch", "pad", "crop"]) == message


def test_suggests_the_nearest_choice() -> None:
    fit = click.Option(["--fit"], type=NearestChoice(["stretch", "pad"]))
    command = Command("fit", params=[fit], callback=lambda fit: click.echo(fit))
    assert CliRunner().invoke(command, ["--fit", "pad"]).stdout == "pad\n"
    wrong = CliRunner().invoke(command, ["--fit", "stretched"])
    assert wrong.exit_code == 2
    assert "Invalid value for '--fit': 'stretched' is not one of 'stretch', 'pad'." in wrong.stderr
    assert "Did you mean 'stretch'?" in wrong.stderr


@pytest.mark.parametrize("resume", [None, False])
def test_refuses_a_folder_that_is_not_empty(resume: bool | None, tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("mine", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"exists and is not empty\. Choose another folder, or add --overwrite"
    ) as err:
        check_new_folder(tmp_path, overwrite=False, resume=resume)
    assert ("--resume" in str(err.value)) == (resume is not None)  # only if the command has it


def test_accepts_new_and_empty_folders(tmp_path: Path) -> None:
    check_new_folder(tmp_path / "new" / "deep", overwrite=False)
    check_new_folder(tmp_path, overwrite=False)
    (tmp_path / "model.keras").write_text("old", encoding="utf-8")
    check_new_folder(tmp_path, overwrite=True)
    check_new_folder(tmp_path, overwrite=False, resume=True)
    assert (tmp_path / "model.keras").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("overwrite", [True, False])
def test_refuses_a_file(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match="is a file; expected a folder to write to"):
        check_new_folder(tmp_path / "run", overwrite=overwrite)


def test_a_url_is_not_a_path() -> None:
    argument = click.Argument(["image"], type=LocalPath(exists=True))
    command = Command("look", callback=lambda image: None, params=[argument])
    result = CliRunner().invoke(command, ["https://example.org/x.png"])
    assert result.exit_code == 2
    assert "Download it first" in result.stderr
