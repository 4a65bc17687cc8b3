"""What the commands share: errors in one line, results for people or machines, files that appear whole."""

import contextlib
import errno
import glob
import importlib
import json
import os
import sys
import tempfile
import traceback

import click

from agad_tf.errors import InputError

INCOMPLETE = 3
"""Exit status when some samples could not be scored, or the reader of the output went away."""
STOPPED = 130
"""Exit status after Ctrl-C, as shells have it."""


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL = ("No space left on device", "Disk quota exceeded", "File too large")


class OneLineErrors(click.Group):
    """Prints bad input, and what the operating system refuses, as one line; exits with status 2.

    With the parameter `debug` the traceback comes before it.
    """

    def invoke(self, ctx):
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a reader that has gone is noticed
            return result
        except InputError as error:
            self._tell(ctx, error, 2)
        except BrokenPipeError:  # the reader of our output has gone, `| head` for instance
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives until the process ends
            ctx.exit(INCOMPLETE)
        except OSError as error:  # no right to write, a full disk, a folder where a file should be
            where = f"{os.fspath(error.filename)}: " if error.filename is not None else ""
            room = ": make room, then run the command again" if error.errno in _NO_ROOM else ""
            self._tell(ctx, f"{where}{error.strerror or ' '.join(str(error).split())}{room}", 2)
        except KeyboardInterrupt as error:
            self._tell(ctx, str(error) or "stopped", STOPPED)
        except MemoryError as error:
            self._tell(ctx, f"expected to fit into memory, did not ({error}): lower --batch-size", 2)
        except Exception as error:
            line = _of_tensorflow(error)
            if line is None:
                raise
            self._tell(ctx, line, 2)

    def _tell(self, ctx, what, status: int) -> None:
        if ctx.params.get("debug"):
            traceback.print_exc()
        click.echo(f"agad-tf: {what}", err=True)
        ctx.exit(status)


def _of_tensorflow(error: Exception) -> str | None:
    """The line for what TensorFlow raises where memory or disk run out; None for anything else."""
    text = " ".join(str(error).split())
    full = next((words for words in _FULL if words in text), None)
    if full is not None and type(error).__module__.startswith("tensorflow"):
        return f"{full}: make room, then run the command again"
    if type(error).__name__ != "ResourceExhaustedError":
        return None
    return f"expected to fit into memory, did not: lower --batch-size or --image-size ({text[:120]})"


def import_own(modules) -> None:
    """Imports a user's modules, also from the folder the command was given in: they register classes.

    Raises:
        InputError: one that cannot be imported.
    """
    sys.path.insert(0, os.getcwd())
    quiet_tensorflow()
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever the user's code raises
            raise InputError(
                f"--import expects a Python module, received {name!r} ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}): give its name without .py"
            ) from error


def as_json(function):
    """The --json option: a result for machines on standard output, everything else on standard error."""
    option = click.option("--json", "json_output", is_flag=True, help="Print the result as JSON.")
    return option(function)


@contextlib.contextmanager
def quiet_stdout():
    """Keeps standard output for the result: what libraries print goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def quiet_tensorflow() -> None:
    """Loads TensorFlow without the notices that its native code writes as it loads, whatever the log level.

    They stay where something is wrong: TensorFlow cannot be loaded, or there is an NVIDIA GPU that it does
    not find.
    """
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        needed = True
        try:
            import tensorflow as tf

            gpus = tf.config.list_physical_devices("GPU")  # where it looks for drivers, and complains
            needed = not gpus and bool(glob.glob("/dev/nvidia[0-9]*"))
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            if needed:
                notices.seek(0)
                sys.stderr.write(notices.read().decode(errors="replace"))


def show(result: dict, json_output: bool, text) -> None:
    """Prints a result for machines or for people."""
    click.echo(json.dumps(result) if json_output else text(result))


def metrics_text(result: dict) -> str:
    """The metrics for people, a line each."""
    lines = [
        *_told_apart(result),
        f"{result['n_normal']} normal and {result['n_anomaly']} anomalous test samples, "
        f"score {result['score']}, batch norm in {result['bn_mode']} mode",
    ]
    if "threshold" in result:
        rates = ((result["false_alarm_rate"], "false alarms"), (result["recall"], "of the anomalies found"))
        known = ", ".join(f"{rate:.1%} {words}" for rate, words in rates if rate is not None)
        lines.append(f"threshold {result['threshold']:.4g}: {known}")
    if result.get("calibration"):
        from agad_tf.evaluation.wording import price

        lines.append(price(result["calibration"]))
    if result.get("leave_one_kind_out"):
        from agad_tf.evaluation.wording import kinds_line

        lines.append(kinds_line(result))
    if result.get("masks_learnt"):
        from agad_tf.evaluation.wording import masks_line

        lines.append(masks_line(result["masks_learnt"]))
    if "pixel_auroc" in result:
        lines.append(
            f"pixels: AUROC {result['pixel_auroc']:.4f}, per-region overlap {result['pro']:.4f} "
            f"on {result['n_masks']} masks"
        )
    if result.get("baseline"):
        from agad_tf.evaluation.wording import beside_line

        lines.append(beside_line(result["baseline"]))
    if "seconds_training" in result:
        lines.append(f"trained in {result['seconds_training']:.0f} s")
    if "report" in result:
        lines.append(f"report {result['report']}")
    lines.append(f"run {result['run']}")
    return "\n".join(lines)


def _told_apart(result: dict) -> list[str]:
    """How well normal and anomalous samples are told apart, or why that cannot be said."""
    if result["auroc"] is None:
        kind = "anomalies" if result["n_normal"] else "normal samples"
        return [f"AUROC not known: the test holds no {kind}"]
    low, high = result["auroc_interval"]
    return [
        f"AUROC {result['auroc']:.4f} (95 % interval {low:.4f} to {high:.4f})",
        f"average precision {result['average_precision']:.4f}, best F1 {result['best_f1']:.4f}",
    ]
