"""Commands that judge a finished run: evaluate, recalibrate, audit."""

from pathlib import Path

import click

from agad_tf.commands.common import as_json, metrics_text, quiet_stdout, show


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data", help="Other data of the same kind with both labels; the run's own test part if left out."
)
@click.option("--normal-class", "normal_classes", multiple=True, help="Class that is normal in --data.")
@as_json
def evaluate(run, data, normal_classes, json_output):
    """Score the test part of a RUN, or other labelled data, and print the metrics.

    Example: agad-tf evaluate runs/first --json
    """
    with quiet_stdout():
        from agad_tf.training import run as runs

        finished = runs.load_run(run)
        samples, split = runs.evaluation_data(finished, data, list(normal_classes))
        _, result = runs.evaluate_split(finished.model, samples, split, finished.calibration)
    show(result | {"run": str(run)}, json_output, metrics_text)
