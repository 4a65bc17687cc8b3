"""What the commands share: errors in one line, results for people or machines, files that appear whole."""

import contextlib
import json
import os
import sys

import click

from agad_tf.errors import InputError


class OneLineErrors(click.Group):
    """Prints bad input as one line and exits with status 2."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except InputError as error:
            click.echo(f"agad-tf: {error}", err=True)
            ctx.exit(2)
        except BrokenPipeError:  # the reader of our output has gone, `| head` for instance
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives until the process ends
            ctx.exit(0)


def as_json(function):
    """The --json option: a result for machines on standard output, everything else on standard error."""
    option = click.option("--json", "json_output", is_flag=True, help="Print the result as JSON.")
    return option(function)


@contextlib.contextmanager
def quiet_stdout():
    """Keeps standard output for the result: what libraries print goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def show(result: dict, json_output: bool, text) -> None:
    """Prints a result for machines or for people."""
    click.echo(json.dumps(result) if json_output else text(result))


def metrics_text(result: dict) -> str:
    """The metrics for people, a line each."""
    low, high = result["auroc_interval"]
    lines = [
        f"AUROC {result['auroc']:.4f} (95 % interval {low:.4f} to {high:.4f})",
        f"average precision {result['average_precision']:.4f}, best F1 {result['best_f1']:.4f}",
        f"{result['n_normal']} normal and {result['n_anomaly']} anomalous test samples, "
        f"score {result['score']}, batch norm in {result['bn_mode']} mode",
    ]
    if "threshold" in result:
        lines.append(
            f"threshold {result['threshold']:.4g}: {result['false_alarm_rate']:.1%} false alarms, "
            f"{result['recall']:.1%} of the anomalies found"
        )
    if "pixel_auroc" in result:
        lines.append(
            f"pixels: AUROC {result['pixel_auroc']:.4f}, per-region overlap {result['pro']:.4f} "
            f"on {result['n_masks']} masks"
        )
    if "seconds_training" in result:
        lines.append(f"trained in {result['seconds_training']:.0f} s")
    if "report" in result:
        lines.append(f"report {result['report']}")
    lines.append(f"run {result['run']}")
    return "\n".join(lines)
