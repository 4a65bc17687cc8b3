"""The command line, `agad-tf`. TensorFlow loads inside the commands, so that `--help` answers at once."""

import os

import click

from agad_tf import __version__
from agad_tf.commands import data as data_commands
from agad_tf.commands import evaluation, training
from agad_tf.commands.common import OneLineErrors, import_own
from agad_tf.commands.compare import compare
from agad_tf.commands.export import export
from agad_tf.commands.reproduce import reproduce
from agad_tf.commands.score import score

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=OneLineErrors, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="agad-tf")
@click.option("--debug", is_flag=True, help="Print the traceback of an error too.")
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="A module of yours with a backbone.",
)
def main(debug, modules):
    """Anomaly detection for thousands of good samples and a handful of labelled defects.

    \b
    agad-tf demo                                     see it work on images that need no download
    agad-tf train --data FOLDER --out runs/first     FOLDER/normal and FOLDER/anomaly
    agad-tf score runs/first NEW_IMAGES              one score per image, as CSV
    """
    # TensorFlow's notices about missing GPUs and CPU features are no news to a user of this command.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if modules:
        import_own(modules)


main.add_command(training.demo)
main.add_command(training.train)
main.add_command(training.settings)
main.add_command(data_commands.prepare)
main.add_command(evaluation.evaluate)
main.add_command(evaluation.recalibrate)
main.add_command(evaluation.audit)
main.add_command(compare)
main.add_command(export)
main.add_command(score)
main.add_command(reproduce)


if __name__ == "__main__":
    main()
