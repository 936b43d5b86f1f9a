"""Help, version, short options and shell completion of every command of the family."""

from __future__ import annotations

import configparser
import importlib
import io
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from cxr_tfds.commands.base import Command, NearestChoice, paint
from cxr_tfds.errors import InputError

ROOT = Path(__file__).parents[2]


def read_programs() -> dict[str, str]:
    """Returns the commands that an installation has, each with its module and function."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    return dict(line.split(" = ") for line in lines if line)


PROGRAMS = read_programs()


def load(program: str) -> click.Command:
    module, _, name = PROGRAMS[program].partition(":")
    return getattr(importlib.import_module(module), name)


def walk(program: str) -> Iterator[tuple[str, click.Command]]:
    """Yields the program and its subcommands, each with its name on the command line."""
    command = load(program)
    yield program, command
    for name, each in getattr(command, "commands", {}).items():
        yield f"{program} {name}", each


COMMANDS = dict(pair for program in PROGRAMS for pair in walk(program))


def help_of(name: str) -> str:
    program = max((p for p in PROGRAMS if name.startswith(p)), key=len)
    args = [*name.removeprefix(program).split(), "--help"]
    result = CliRunner().invoke(load(program), args, prog_name=program, terminal_width=80)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns_and_starts_with_an_example(name: str) -> None:
    usage, *lines = help_of(name).splitlines()
    assert usage.startswith(f"Usage: {name}")
    (example,) = (line for line in lines if line.startswith("Example: "))
    assert example == f"Example: {COMMANDS[name].example}"  # in one line, to be copied
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_example_uses_options_that_exist(name: str) -> None:
    command, args = COMMANDS[name], COMMANDS[name].example
    assert args.startswith(name)
    words = shlex.split(args.removeprefix(name))
    if isinstance(command, click.Group) and words:
        command = command.commands[words.pop(0)]
    context = click.Context(command)
    given, left, _ = command.make_parser(context).parse_args(list(words))
    required = {param.name for param in command.params if param.required}
    assert required <= set(given), (required, given)
    assert left == []


@pytest.mark.parametrize("name", [name for name, one in COMMANDS.items() if one.groups])
def test_every_option_but_help_version_and_debug_is_in_one_group(name: str) -> None:
    command = COMMANDS[name]
    options = {param.name for param in command.params if isinstance(param, click.Option)}
    grouped = [option for names in command.groups.values() for option in names]
    assert sorted(grouped) == sorted(options - {"version", "debug"})
    assert [title for title in command.groups if f"\n{title}:\n" not in help_of(name)] == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_has_a_version(program: str) -> None:
    from cxr_tfds import __version__

    result = CliRunner().invoke(load(program), ["--version"], prog_name=program)
    assert (result.exit_code, result.stdout) == (0, f"{program}, version {__version__}\n")


def test_model_and_out_have_short_forms() -> None:
    options = [param for command in COMMANDS.values() for param in command.params]
    short = {"--model": "-m", "--out": "-o"}
    found = [(name, param) for param in options for name in short if name in param.opts]
    assert len(found) > len(short)
    assert [param.opts for name, param in found if short[name] not in param.opts] == []


def completions(program: str, *args: str, incomplete: str = "") -> list[str]:
    completer = ShellComplete(load(program), {}, program, "_COMPLETE")
    return [item.value for item in completer.get_completions(list(args), incomplete)]


@pytest.mark.parametrize(
    ("program", "args", "incomplete", "expected"),
    [
        ("cxr-train", ["--model"], "mobile", ["mobilenetv3-small", "mobilenetv3-large"]),
        ("cxr-train", ["-m"], "dense", ["densenet121"]),
        ("cxr-train", [], "--batch", ["--batch-size"]),
        ("cxr-data", ["preview", "x", "--dataset"], "xray_t", ["xray_table"]),
        ("cxr-data", [], "ph", ["phantom"]),
        ("cxr-export", ["--format"], "int8", ["int8", "int8-float-io"]),
        ("cxr-infer", ["predict", "--runtime"], "l", ["litert"]),
    ],
)
def test_completes_commands_options_and_values(
    program: str, args: list[str], incomplete: str, expected: list[str]
) -> None:
    assert completions(program, *args, incomplete=incomplete) == expected


def test_completes_the_built_datasets_of_a_data_dir(tmp_path: Path) -> None:
    for name in ("xray_folder/224", "xray_folder/64", "xray_table/224"):
        (tmp_path / name / "1.0.0").mkdir(parents=True)
        (tmp_path / name / "1.0.0" / "dataset_info.json").touch()
    args = ("--data-dir", str(tmp_path), "--dataset")
    expected = ["xray_folder/224", "xray_folder/64"]
    assert completions("cxr-train", *args, incomplete="xray_f") == expected
    args = ("export", "--data-dir", str(tmp_path))
    assert completions("cxr-data", *args, incomplete="xray_f") == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_prints_the_completion_script_of_a_shell(shell: str) -> None:
    result = CliRunner().invoke(
        load("cxr-train"), prog_name="cxr-train", env={"_CXR_TRAIN_COMPLETE": f"{shell}_source"}
    )
    assert "_CXR_TRAIN_COMPLETE=" in result.stdout


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def shows_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.usefixtures("shows_colours")
def test_colours_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert click.unstyle(paint("a", "red", Terminal())) == "a"
    assert paint("a", "red", Terminal()) != "a"
    assert paint("a", "red", io.StringIO()) == "a"
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("a", "red", Terminal()) == "a"


@pytest.mark.usefixtures("shows_colours")
def test_an_error_is_red_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise InputError("no space")

    for stream, expected in ((Terminal(), "\x1b[31m"), (io.StringIO(), "Error: no space\n")):
        monkeypatch.setattr("sys.stderr", stream)
        with pytest.raises(SystemExit):
            Command("measure", callback=fail).main([])
        assert expected in stream.getvalue()


def test_many_choices_do_not_fill_the_help() -> None:
    short = click.Option(["--fit"], type=NearestChoice(["stretch", "pad"]))
    long = click.Option(["--model", "-m"], type=NearestChoice([f"network-{n}" for n in range(9)]))
    lines = Command("x", params=[short, long]).get_help(click.Context(Command("x")))
    assert "--fit [stretch|pad]" in lines
    assert "-m, --model MODEL" in lines


def test_help_keeps_names_and_sentences_complete() -> None:
    for name in COMMANDS:
        lines = help_of(name).splitlines()[1:]  # without the usage, such as FILE...
        assert not [line for line in lines if line.endswith(("-", "..."))], name
