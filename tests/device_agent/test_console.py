"""How every program ends: exit codes, one line an error, a traceback for a bug."""

import configparser
import importlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest

from device_agent import console, start
from device_agent.contract import errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LinesideError)]


def end(command: click.Command, *arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        console.run(command, list(arguments))
    return ended.value.code


def raising(error: BaseException, name: str = "lineside") -> click.Command:
    @click.command(name)
    def fails() -> None:
        raise error

    return fails


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_one_line_and_its_exit_code(kind, capsys):
    assert end(raising(kind("pi4.toml: no such board"))) == kind.exit_code
    assert capsys.readouterr().err == "lineside: pi4.toml: no such board\n"


def test_the_exit_codes_are_those_of_the_readme():
    assert {kind.exit_code for kind in KINDS} == {1, 3, 4, 5, 6, 7}


def test_a_result_is_the_exit_code_and_nothing_is_zero():
    assert end(click.Command("lineside", callback=lambda: 7)) == 7
    assert end(click.Command("lineside", callback=lambda: None)) == 0
    assert end(click.Command("lineside", callback=lambda: None), "--no-such-option") == 2


def test_an_interruption_is_130_without_a_traceback(capsys):
    assert end(raising(KeyboardInterrupt())) == 130
    assert "Traceback" not in capsys.readouterr().err


def started(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )


WAITS = """
import sys, time, click
from pathlib import Path
from device_agent.console import run
from device_agent.contract.files import replacing

def wait():
    with replacing(Path(sys.argv[1])) as temporary:
        temporary.touch()
        print("begun", flush=True)
        time.sleep(60)

sys.argv[1:] = [{path!r}]
run(click.Command("lineside", callback=wait), [])
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_is_ended_cleans_up(tmp_path, number, code):
    process = started(WAITS.format(path=str(tmp_path / "out")))
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    assert process.wait(20) == code and not list(tmp_path.iterdir())
    assert process.stderr.read().count("\n") <= 2


def test_ctrl_c_while_the_program_is_imported_is_130(tmp_path):
    (tmp_path / "slow.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    process = started(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom device_agent import start\nstart._start('slow')"
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130 and process.stderr.read() == ""


def test_the_programs_begin_there():
    scripts = configparser.ConfigParser()
    scripts.read(Path(__file__).parents[2] / "setup.cfg")
    for line in scripts["options.entry_points"]["console_scripts"].split("\n")[1:]:
        module, _, function = line.partition(" = ")[2].partition(":")
        assert module == "device_agent.start" and callable(getattr(start, function))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="system: /dev/full not found")
@pytest.mark.parametrize("command", ["click.echo('x' * 9)", "print('x' * 9)"])
def test_an_output_that_cannot_be_written_is_one_line(command):
    code = "import click\nfrom device_agent.console import run\n"
    code += f"run(click.Command('lineside', callback=lambda: {command}), [])"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "lineside: the output cannot be written: no space left on device\n"


def test_a_lacking_package_is_one_line_with_the_extra_that_brings_it(capsys):
    assert end(raising(ModuleNotFoundError("No module named 'rich.table'", name="rich.table"))) == 1
    assert capsys.readouterr().err == 'lineside: rich is not installed: pip install "lineside[toolkit]"\n'
    assert end(raising(ModuleNotFoundError(name="nicegui"), "lineside-fleet")) == 1
    assert '"lineside[fleet]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "bug", [ModuleNotFoundError(name="toolkit.gone"), ZeroDivisionError(), ValueError("x"), OSError(28, "full", "x.db")]
)
def test_a_bug_keeps_its_traceback(bug):
    with pytest.raises(type(bug)):
        console.run(raising(bug), [])


def test_json_comes_from_the_struct(capsys):
    class Point(msgspec.Struct):
        x_mm: float

    console.print_json([Point(1.5)])
    assert json.loads(capsys.readouterr().out) == [{"x_mm": 1.5}]


@pytest.mark.parametrize("module", ["toolkit.cli", "device_agent.cli", "fleet.cli"])
def test_every_command_says_what_it_does_and_shows_an_example(module):
    def walk(command: click.Command, ctx: click.Context) -> None:
        if isinstance(command, click.Group):
            for name in command.list_commands(ctx):
                child = command.get_command(ctx, name)
                walk(child, click.Context(child, info_name=name, parent=ctx))
        else:
            assert command.help and "Example: " in command.help, f"{ctx.command_path} shows no example"
            assert ctx.command_path in " ".join(command.help.split()), f"{ctx.command_path}: its example is another's"

    group = importlib.import_module(module).cli
    walk(group, click.Context(group, info_name=group.name))


def test_commands_are_imported_when_they_are_asked_for():
    group = console.LazyGroup("g", lazy={"broken": "no_such_module:x", "fine": "device_agent.cli:check"})
    ctx = click.Context(group)
    assert group.list_commands(ctx) == ["broken", "fine"]
    assert group.get_command(ctx, "fine").name == "check"
    assert group.get_command(ctx, "other") is None
    with pytest.raises(ModuleNotFoundError):
        group.get_command(ctx, "broken")
