"""`agad-tf reproduce` is a door: into the study of a checkout, and one clear line where there is none."""

import click
import pytest
from click.testing import CliRunner

from agad_tf.cli import main
from agad_tf.commands import reproduce as door

FLAGS = {"--data", "--results", "--seeds", "--only", "--epochs", "--jobs", "--backend", "--budget", "--work"}
FLAGS |= {"--dry-run", "--calibrate"}


def test_without_a_checkout_one_line_says_that_one_is_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(door, "HERE", tmp_path)
    for arguments in ([], ["aa-bigan-8", "--dry-run"], ["--help"]):
        result = CliRunner().invoke(main, ["reproduce", *arguments])
        assert (result.exit_code, result.output.count("\n")) == (2, 1)
        assert "expects a checkout" in result.output
        assert "clone the repository" in result.output


def test_in_a_checkout_the_help_is_the_studys_and_fits_a_screen():
    result = CliRunner().invoke(main, ["reproduce", "--help"], terminal_width=110)
    assert result.exit_code == 0
    assert result.output.startswith("Usage: main reproduce [OPTIONS] [TABLE]")
    assert all(flag in result.output for flag in FLAGS)
    assert len(result.output.splitlines()) <= 50
    for parameter in door.study_command().params:
        assert isinstance(parameter, click.Argument) or parameter.help


def test_options_are_checked_by_the_study():
    with pytest.raises(click.UsageError, match="no-such-option"):
        main.commands["reproduce"].make_context("reproduce", ["--no-such-option"])
