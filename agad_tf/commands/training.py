"""Commands that train: train, demo, settings."""

import functools
from datetime import datetime
from pathlib import Path

import click

from agad_tf.commands.common import as_json, metrics_text, quiet_stdout, quiet_tensorflow, show
from agad_tf.csv_rows import position_or_name
from agad_tf.errors import InputError


def training_options(function):
    """Options that `train` and `demo` share; each is a setting of the configuration."""
    options = [
        click.option("--epochs", type=click.IntRange(1), help="Passes over the normal samples."),
        click.option("--batch-size", type=click.IntRange(1), help="Samples a step."),
        click.option("--min-anomalies", type=click.IntRange(1), help="Least anomalies in every batch."),
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Of split, weights, order."),
        click.option("--set", "extra", multiple=True, metavar="NAME=VALUE", help="Any other setting."),
        click.option("--quiet", is_flag=True, help="No progress bar."),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), function)


@click.command()
@training_options
@click.option("--out", type=click.Path(path_type=Path), help="Run directory. [default: runs/demo-<time>]")
@click.option(
    "--export-to",
    type=click.Path(path_type=Path),
    default=Path("saved_models/demo"),
    show_default=True,
    help="Folder for the SavedModel's versions.",
)
@as_json
def demo(out, export_to, json_output, quiet, extra, **options):
    """Train, compare, evaluate, export and score from the export, on rendered photographs.

    Example: agad-tf demo --epochs 20
    """
    with quiet_stdout():
        quiet_tensorflow()
        from agad_tf.demo import demo as run_demo

        result = run_demo(out or timestamped("demo"), export_to, given(options, extra), not quiet)
    show(result, json_output, demo_text)
    if not result["agrees"]:
        raise SystemExit(1)


@click.command()
@click.option("--data", help="Folder, .csv, .npz, tfds:NAME, digits.")
@click.option("--label-column", help="Name or position (from 0) of the label.")
@click.option("--missing", help="Missing values: refuse, median, indicator.")
@click.option("--normal-class", "normal_classes", multiple=True, help="Class that is normal (repeatable).")
@click.option("--anomaly-class", "anomaly_classes", multiple=True, help="Class labelled anomalies come from.")
@click.option("--group", help="Files of one part: parent (folder), or 'part(\\d+)'.")
@click.option("--gamma", type=float, help="Labelled anomalies a / (n + a), in [0, 1).")
@click.option(
    "--detector",
    help="features, agad, mahalanobis, nearest_patches, pca; tables: aa_bigan, aa_bigan_neighbours, "
    "neighbours, isolation_forest, gradient_boosting, stacked.  [auto]",
)
@click.option("--backbone", help="encoder_decoder, unet, unet_plus_plus; of aa_bigan dcgan, lenet.")
@click.option("--bn-strategy", help="Of agad: shared, adv_prop, freeze, adv_prop_freeze.")
@click.option(
    "--score",
    help="auto, reconstruction, fused, or another of the detector's.",
)
@click.option(
    "--image-size",
    type=click.IntRange(1),
    help="Side the networks work at.",
)
@click.option("--precision", help="auto, float32, mixed_bfloat16, mixed_float16")
@click.option("--rate", type=float, help="Wanted false-alarm rate.  [default: 0.05]")
@click.option("--literal", is_flag=True, default=None, help="The paper's algorithm alone.")
@training_options
@click.option("--config", type=click.Path(path_type=Path), help="YAML in the layout of a run's config.yaml.")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory. [default: runs/<data>-<time>]")
@click.option(
    "--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with an unfinished run."
)
@as_json
def train(
    data, out, resume, config, detector, json_output, quiet, extra, normal_classes, anomaly_classes, **options
):
    """Train a detector; evaluate it on the test part; write a run directory.

    Defaults and further settings: agad-tf settings. A run that was killed goes on with --resume RUN alone;
    with --data and so on beside it, the same command starts the run and goes on with it.

    \b
    Example: agad-tf train --data mnist.npz --normal-class 5 --backbone encoder_decoder --epochs 5
             agad-tf train --resume runs/first
    """
    chosen = [("source", data)] if data is not None else []
    chosen += [("normal_classes", list(normal_classes))] if normal_classes else []
    chosen += [("anomaly_classes", list(anomaly_classes))] if anomaly_classes else []
    if resume is not None and out is not None:
        raise InputError("expected --out for a new run or --resume for an old one, received both: leave one")
    with quiet_stdout():
        quiet_tensorflow()
        from agad_tf.training.configuration import configure
        from agad_tf.training.train import train as train_run

        options["label_column"] = position_or_name(options["label_column"])
        chosen = given(options, extra) + chosen
        if resume is not None:
            out, result = _resumed(resume, detector, config, chosen, not quiet)
        else:
            detector, why = _detector(detector, config, data, chosen)
            configuration = configure(detector, config, chosen)
            name = Path(str(configuration["data"]["source"] or "run")).stem
            out = out or timestamped(f"{name}-{configuration['detector']}")
            result = train_run(configuration, out, not quiet, free=_free(chosen, config), why=why)
    show(result | {"run": str(out)}, json_output, metrics_text)


def _detector(asked: str | None, config, source, chosen: list) -> tuple[str | None, str | None]:
    """The detector that was asked for or, for "auto", the one that suits, and why; None: as the file says."""
    from agad_tf.training.choice import choose_detector

    if asked not in (None, "auto") or (asked is None and config is not None):
        return asked, None
    name, reason = choose_detector(source, [setting for setting, _ in chosen])
    return name, None if reason is None else f"--detector {name}: {reason}"


def _resumed(path: Path, detector, config, chosen: list, progress: bool) -> tuple[Path, dict]:
    """Trains what is left of a run; (its path, its metrics)."""
    from agad_tf.training.configuration import configure, configure_again
    from agad_tf.training.directory import partial_of, whole_of
    from agad_tf.training.open import load_run
    from agad_tf.training.train import train as train_run

    path = whole_of(path)
    if path.is_dir():
        finished = load_run(path)
        click.echo(f"agad-tf: {path} is finished, nothing is left to train", err=True)
        return path, finished.metrics
    stored, why = partial_of(path) / "config.yaml", None
    if stored.is_file():
        configuration = configure_again(stored, None if detector == "auto" else detector, config, chosen)
    elif chosen or config is not None:
        detector, why = _detector(detector, config, dict(chosen).get("source"), chosen)
        configuration = configure(detector, config, chosen)
    else:
        found = "one that was killed before it began" if stored.parent.is_dir() else "none"
        raise InputError(
            f"{path}: expected an unfinished run to go on with, found {found}: give --data and what else it "
            "needs to start it"
        )
    free = () if stored.is_file() else _free(chosen, config)
    return path, train_run(configuration, path, progress, resume=True, free=free, why=why)


def _free(chosen: list, config: Path | None) -> tuple[str, ...]:
    """Settings that may be chosen by the data: those that nobody gave."""
    if config is not None:
        return ()  # a file says all that is to be other than the defaults
    given_names = {name.rpartition(".")[2] for name, _ in chosen}
    may = ("epochs", "batch_size", "min_anomalies", "backbone")
    return tuple(name for name in may if name not in given_names)


@click.command()
@click.option("--detector", default="agad", show_default=True, help="Which detector.")
def settings(detector):
    """Print every setting of a run with its default, as YAML for --config.

    \b
    Example: agad-tf settings > my.yaml
    """
    with quiet_stdout():
        quiet_tensorflow()
        import yaml

        from agad_tf.training.configuration import defaults

        text = yaml.safe_dump(defaults(detector), sort_keys=False)
    click.echo(text, nl=False)


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
    rows = {result["detector"]: result, **result["beside"]}
    return "\n".join(
        [
            "photographs of a steel plate; labelled: some burrs and scratches; never shown: dents and stains",
            f"detector {result['detector']}: {result['why']}",
            *(f"  {name:10}{_shares(metrics)}" for name, metrics in rows.items()),
            metrics_text(result),
            f"overlays {result['overlays']}: heat maps of the detector on photographs with defects",
            f"export {result['export']}: scores of a fresh process without this library {verdict} "
            f"(largest relative difference {result['export_agreement']:.1e})",
        ]
    )


def _shares(metrics: dict) -> str:
    """One detector of the demo in a line, in per cent."""
    named = {
        "AUROC": "auroc",
        "known kinds": "auroc_known",
        "unseen kinds": "auroc_unseen",
        "found": "recall",
        "false alarms": "false_alarm_rate",
    }
    known = {word: metrics.get(name) for word, name in named.items()}
    return ", ".join(f"{word} {100 * value:.1f}" for word, value in known.items() if value is not None)
