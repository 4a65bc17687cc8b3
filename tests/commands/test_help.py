"""What `agad-tf` says about itself: a help that fits a screen, with an example; completion."""

import os
import re
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from agad_tf.cli import CONTEXT, main

LINES, WIDTH = 50, 110
COMMANDS = sorted(main.commands)


def help_of(command):
    settings = {name: value for name, value in CONTEXT.items() if name != "help_option_names"}
    info = {"info_name": f"agad-tf {command}", "terminal_width": WIDTH} | settings
    return main.commands[command].get_help(click.Context(main.commands[command], **info))


def examples(text):
    """Command lines in a help text: behind "Example:", or indented under it; `\\` continues a line."""
    found = re.findall(r"^\s*(?:Examples?: )?(?:[^|\n]*\| )?(agad-tf .+)$", text.replace("\\\n", " "), re.M)
    return [re.split(r"\s{2,}|\s[|>]\s", line)[0] for line in found if "[OPTIONS]" not in line]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen(command):
    lines = help_of(command).splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_it_does_in_one_sentence_and_has_an_example(command):
    text = help_of(command)
    assert text.startswith(f"Usage: agad-tf {command}")
    assert len(main.commands[command].get_short_help_str(WIDTH)) > 10
    assert [line for line in examples(text) if line.startswith(f"agad-tf {command}")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command):
    for parameter in main.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def parse(line):
    """Parses a command line without running it."""
    _, name, *arguments = shlex.split(line)
    command = main.get_command(click.Context(main), name)
    assert command is not None, f"no command {name}"
    command.make_context(name, arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_command_lines_that_parse(command):
    for line in examples(help_of(command)):
        parse(line)


def test_a_wrong_example_is_noticed():
    with pytest.raises(click.UsageError, match="no-such-option"):
        parse("agad-tf train --no-such-option")


def test_the_first_help_names_every_command():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) <= LINES
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", result.stdout, re.M)
    for line in examples(result.stdout):
        parse(line)


def test_an_unknown_command_or_option_is_told():
    for arguments, word in ((["trian"], "trian"), (["train", "--epoch", "3"], "--epochs")):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert word in result.stderr
        assert "Traceback" not in result.stderr


def complete(words, at):
    """What the shell is offered for word `at`; in a process of its own, as the shell asks."""
    environment = os.environ | {
        "_AGAD_TF_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)
    }  # fmt: skip
    command = [sys.executable, "-c", "from agad_tf.cli import main; main(prog_name='agad-tf')"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [line.split(",", 1)[1] for line in result.stdout.splitlines()]


def test_completes_commands_options_and_choices():
    assert complete("agad-tf re", 1) == [name for name in COMMANDS if name.startswith("re")]
    assert "--min-anomalies" in complete("agad-tf train --m", 2)
    assert complete("agad-tf export --format ", 3) == ["savedmodel", "tflite", "onnx"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_prints_the_completion_script_of_a_shell(shell):
    environment = os.environ | {"_AGAD_TF_COMPLETE": f"{shell}_source"}
    command = [sys.executable, "-c", "from agad_tf.cli import main; main(prog_name='agad-tf')"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    # bash's needs version 4.4 or later, which click looks for; it says so on standard error.
    assert "_AGAD_TF_COMPLETE" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("class config:\n    def list_physical_devices(kind): return ['one']", False),
        ("raise ImportError('no such library')", True),
    ],
)
def test_notices_of_tensorflow_are_shown_where_it_cannot_be_loaded(tmp_path, body, shown):
    (tmp_path / "tensorflow.py").write_text(f"import os\nos.write(2, b'E0000 notice')\n{body}\n")
    code = "from agad_tf.commands.common import quiet_tensorflow; quiet_tensorflow()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-c", f"{code}; import os; os.write(2, b'after')"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ("E0000 notice" in result.stderr) == shown
    assert ("after" in result.stderr) == (not shown)
    assert ("no such library" in result.stderr) == shown
