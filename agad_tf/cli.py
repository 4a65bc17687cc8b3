"""The command line, `agad-tf`. TensorFlow loads inside the commands, so that `--help` answers at once."""

import functools
import os
import sys
from datetime import datetime
from pathlib import Path

import click

from agad_tf import __version__
from agad_tf.commands import data as data_commands
from agad_tf.commands import evaluation
from agad_tf.commands.common import OneLineErrors, as_json, metrics_text, quiet_stdout, show

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=OneLineErrors, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="agad-tf")
def main():
    """Anomaly detection for thousands of good samples and a handful of labelled defects.

    \b
    agad-tf demo                                     see it work on images that need no download
    agad-tf train --data FOLDER --out runs/first     FOLDER/normal and FOLDER/anomaly
    agad-tf score runs/first NEW_IMAGES              one score per image, as CSV
    """
    # TensorFlow's notices about missing GPUs and CPU features are no news to a user of this command.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def training_options(function):
    """Options that `train` and `demo` share; each is a setting of the configuration."""
    options = [
        click.option("--epochs", type=click.IntRange(1), help="Passes over the normal samples."),
        click.option("--batch-size", type=click.IntRange(1), help="Samples a step."),
        click.option("--min-anomalies", type=click.IntRange(1), help="Least anomalies in every batch."),
        click.option("--seed", type=click.IntRange(0), help="Seed of split, weights and order."),
        click.option("--set", "extra", multiple=True, metavar="NAME=VALUE", help="Any other setting."),
        click.option("--quiet", is_flag=True, help="No progress bar."),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), function)


@main.command()
@training_options
@click.option("--out", type=click.Path(path_type=Path), help="Run directory. [default: runs/demo-<time>]")
@click.option(
    "--export-to",
    type=click.Path(path_type=Path),
    default=Path("saved_models/agad_digits"),
    show_default=True,
    help="Folder for the SavedModel's versions.",
)
@as_json
def demo(out, export_to, json_output, quiet, extra, **options):
    """Train, evaluate, export and score from the export, on scikit-learn's digits.

    Example: agad-tf demo --epochs 20
    """
    with quiet_stdout():
        from agad_tf.demo import demo as run_demo

        result = run_demo(out or timestamped("demo"), export_to, given(options, extra), not quiet)
    show(result, json_output, demo_text)
    if not result["agrees"]:
        raise SystemExit(1)


@main.command()
@click.option("--data", help="Folder of images, list.csv, .npz, tfds:NAME, folder of shards, or digits.")
@click.option("--normal-class", "normal_classes", multiple=True, help="Class that is normal (repeatable).")
@click.option("--anomaly-class", "anomaly_classes", multiple=True, help="Class labelled anomalies come from.")
@click.option("--gamma", type=float, help="Labelled anomalies a / (n + a), in [0, 1).")
@click.option("--detector", help="Which detector.  [default: agad]")
@click.option("--backbone", help="encoder_decoder, unet or unet_plus_plus.")
@click.option("--bn-strategy", help="shared, adv_prop, freeze or adv_prop_freeze.")
@click.option("--score", help="auto, reconstruction, discriminator or fused.")
@click.option("--image-size", type=click.IntRange(1), help="Side the networks work at.")
@click.option("--precision", "dtype", help="float32, mixed_bfloat16 or mixed_float16.")
@click.option("--rate", type=float, help="False-alarm rate to choose the threshold for.  [default: 0.05]")
@click.option("--literal", is_flag=True, default=None, help="The paper's algorithm without our stabilisers.")
@training_options
@click.option("--config", type=click.Path(path_type=Path), help="YAML in the layout of a run's config.yaml.")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory. [default: runs/<data>-<time>]")
@as_json
def train(data, out, config, detector, json_output, quiet, extra, normal_classes, anomaly_classes, **options):
    """Train a detector; evaluate it on the test part; write a run directory.

    Defaults and further settings: agad-tf settings.

    Example: agad-tf train --data mnist.npz --normal-class 5 --backbone encoder_decoder --epochs 5
    """
    with quiet_stdout():
        from agad_tf.training import run
        from agad_tf.training.configuration import configure

        chosen = given(options, extra)
        chosen += [("source", data)] if data is not None else []
        chosen += [("normal_classes", list(normal_classes))] if normal_classes else []
        chosen += [("anomaly_classes", list(anomaly_classes))] if anomaly_classes else []
        configuration = configure(detector, config, chosen)
        name = Path(str(configuration["data"]["source"] or "run")).stem
        out = out or timestamped(f"{name}-{configuration['detector']}")
        result = run.train(configuration, out, not quiet) | {"run": str(out)}
    show(result, json_output, metrics_text)


@main.command()
@click.option("--detector", default="agad", show_default=True, help="Which detector.")
def settings(detector):
    """Print every setting of a run with its default, as YAML for --config.

    \b
    Example: agad-tf settings > my.yaml
    """
    with quiet_stdout():
        import yaml

        from agad_tf.training.configuration import defaults

        text = yaml.safe_dump(defaults(detector), sort_keys=False)
    click.echo(text, nl=False)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="CSV file instead of standard output.")
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Images a batch.")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At an unreadable image: stop, or write the reason in its row.",
)
def score(run, images, out, batch_size, on_error):
    """Score images, or the images of folders, with a RUN; write CSV.

    \b
    Columns: path, score (higher is more anomalous), p_value (share of normals that would look at least this
    odd), is_anomaly (at the run's threshold), error.
    Example: agad-tf score runs/first new_images/ --out scores.csv
    """
    with quiet_stdout():
        from tqdm import tqdm

        from agad_tf import scoring
        from agad_tf.files import written_whole
        from agad_tf.training.run import load_run

        paths = scoring.find_images(images)
        finished = load_run(run)
        rows = scoring.score_files(
            lambda batch: finished.model.predict(batch, batch_size=batch_size, verbose=0),
            tqdm(paths, unit="image", disable=len(paths) < 1000),
            finished.model.sample_shape[-1],
            finished.calibration,
            batch_size,
            on_error,
        )
        if out is not None:
            with written_whole(out, "w", newline="") as stream:
                errors = scoring.write_csv(rows, stream)
    if out is None:
        errors = scoring.write_csv(rows, sys.stdout)
    if errors:
        click.echo(f"agad-tf: {errors} of {len(paths)} files could not be read; see their rows", err=True)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the export. [default: the run's name]")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("saved_models"),
    show_default=True,
    help="Where exports live.",
)
@as_json
def export(run, name, folder, json_output):
    """Export a RUN as SavedModel: folder/NAME/VERSION, as TF Serving expects it.

    Example: agad-tf export runs/first --name screws
    """
    with quiet_stdout():
        from agad_tf.export.saved_model import export_saved_model
        from agad_tf.training.run import load_run

        finished = load_run(run)
        path = export_saved_model(finished.model, folder / (name or run.name), finished.calibration)
    show({"export": str(path)}, json_output, lambda result: result["export"])


main.add_command(data_commands.prepare)
main.add_command(evaluation.evaluate)
main.add_command(evaluation.recalibrate)
main.add_command(evaluation.audit)


# -- helpers ------------------------------------------------------------------------------------------


def given(options: dict, extra=()) -> list[tuple[str, object]]:
    """Settings the user gave, as pairs, those of --set last."""
    from agad_tf.training.configuration import parse_setting

    return [(name, value) for name, value in options.items() if value is not None] + [
        parse_setting(text) for text in extra
    ]


def timestamped(name: str) -> Path:
    """A fresh run directory for those who did not name one."""
    return Path("runs", f"{name}-{datetime.now():%Y%m%d-%H%M%S}")


def demo_text(result: dict) -> str:
    """The demo's outcome for people."""
    verdict = "agree" if result["agrees"] else "DISAGREE"
    return "\n".join(
        [
            metrics_text(result),
            f"pictures {result['pictures']}",
            f"export {result['export']}: scores of a fresh process without this library {verdict} "
            f"(largest relative difference {result['export_agreement']:.1e})",
        ]
    )


if __name__ == "__main__":
    main()
