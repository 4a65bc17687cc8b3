"""The door to the study of a checkout: reproduce."""

import importlib
import sys
from pathlib import Path

import click

from agad_tf.errors import InputError

HERE = Path(__file__).resolve().parents[2]
"""The checkout, where the package is used from one."""


class Door(click.Command):
    """Hands its arguments, `--help` too, to the study's command of the same name."""

    def make_context(self, info_name, args, parent=None, **extra):
        try:
            command = study_command()
        except InputError:
            if extra.get("resilient_parsing"):  # the shell asks what could follow
                return super().make_context(info_name, args, parent, **extra)
            raise
        return command.make_context(info_name, args, parent, **extra)


def study_command() -> click.Command:
    """The command of the study in the current folder, or in the checkout that the package is used from.

    Raises:
        InputError: no study there.
    """
    for root in (Path.cwd(), HERE):
        if (root / "study" / "reproduce.py").is_file():
            if str(root) not in sys.path:
                sys.path.insert(0, str(root))
            return importlib.import_module("study.reproduce").reproduce
    raise InputError(
        f"reproduce expects a checkout of the repository, found no study/ in {Path.cwd()}: the papers' "
        "tables do not come with the package; clone the repository and run the command in its folder"
    )


@click.command(cls=Door)
def reproduce():
    """Run a table of the papers beside its baselines, or write the report; needs a checkout.

    In a checkout --help shows the options, and without a table the names are listed.

    \b
    Example: agad-tf reproduce aa-bigan-8 --data DIR --dry-run
    """
