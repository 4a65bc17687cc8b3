"""Commands that judge a finished run: evaluate, recalibrate, audit."""

from pathlib import Path

import click

from agad_tf.commands.common import as_json, metrics_text, quiet_stdout, quiet_tensorflow, show
from agad_tf.csv_rows import position_or_name


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", help="Other labelled data of the same kind; the run's own test part if left out.")
@click.option("--label-column", help="Name or position (from 0) of the label in a table --data.")
@click.option("--normal-class", "normal_classes", multiple=True, help="Class that is normal in --data.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=Path("report.html"),
    help="Also write a report, one HTML file. [default name: report.html]",
)
@click.option(
    "--baseline/--no-baseline",
    default=True,
    help="Say how a simple detector does on the run's own test; computed once.",
)
@as_json
def evaluate(run, data, label_column, normal_classes, report, baseline, json_output):
    """Score the test part of a RUN, or other labelled data, and print the metrics.

    \b
    Example: agad-tf evaluate runs/first --json
             agad-tf evaluate runs/first --report
             agad-tf evaluate runs/first --data other_line/ --report other_line.html
    """
    with quiet_stdout():
        quiet_tensorflow()
        from agad_tf.evaluation.report import write_report
        from agad_tf.training.beside import kept_beside
        from agad_tf.training.evaluate import judge
        from agad_tf.training.kinds import KEPT
        from agad_tf.training.open import evaluation_data, load_run
        from agad_tf.training.train import MASKS_LEARNT

        finished = load_run(run)
        samples, split = evaluation_data(finished, data, list(normal_classes), position_or_name(label_column))
        evaluation = judge(finished.model, samples, split, finished.calibration, finished.regions)
        if baseline and data is None:
            evaluation.metrics["baseline"] = kept_beside(evaluation, finished.path)
        if data is None:  # training alone can leave a kind out
            kept = [key for key in (*KEPT, MASKS_LEARNT) if key in finished.metrics]
            evaluation.metrics.update({key: finished.metrics[key] for key in kept})
        result = dict(evaluation.metrics)
        if report is not None:
            title = finished.path.name if data is None else f"{finished.path.name} on {data}"
            write_report(report, evaluation, title, finished.configuration)
            result["report"] = str(report)
    show(result | {"run": str(run)}, json_output, metrics_text)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--rate", type=float, help="Wanted false-alarm rate.  [default: 0.05]")
@click.option("--confidence", type=float, help="Hold the rate with this confidence, .95 for instance.")
@click.option("--recall", type=float, help="Share of the labelled anomalies to find instead.")
@click.option("--quantile", type=float, help="Share of the normals under the threshold instead.")
@click.option("--policy", help="false_alarm_rate, quantile, best_f1 or wanted_recall.")
@click.option(
    "--normals", help="Held-out normals: a folder of images, or labelled data. [default: the run's]"
)
@click.option("--anomalies", help="Held-out labelled anomalies, likewise.")
@click.option("--label-column", help="Name or position (from 0) of the label in these, if tables.")
@as_json
def recalibrate(run, label_column, json_output, **options):
    """Choose the threshold of a RUN again, without training.

    Writes the run's calibration.json, which evaluate, score and export use from then on; the old one is kept
    as calibration-1.json, calibration-2.json and so on, the oldest first.

    \b
    Example: agad-tf recalibrate runs/first --rate .01
             agad-tf recalibrate runs/first --normals last_week/good --rate .05 --confidence .95
    """
    with quiet_stdout():
        from agad_tf.training.recalibration import recalibrate as run_recalibrate

        done = run_recalibrate(run, **options, label_column=position_or_name(label_column))
    calibration = done.calibration.to_dict()
    del calibration["normal_scores"]
    result = calibration | {
        "run": str(run),
        "previous_threshold": None if done.previous is None else done.previous.threshold,
        "kept_as": None if done.kept_as is None else str(done.kept_as),
        "left_out": done.left_out,
        "copies": done.copies,
        "test": done.test,
    }
    show(result, json_output, recalibration_text)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--retrain", is_flag=True, help="Also train again, to know every epoch; kept as audit.json.")
@click.option("--batch-size", type=click.IntRange(2), default=256, show_default=True, help="Samples a batch.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the shuffled order.")
@as_json
def audit(run, retrain, batch_size, seed, json_output):
    """Show what a contaminated evaluation of a RUN would have claimed.

    Scores the run's test part in inference mode, with batch norm in training mode on shuffled data, and the
    same on data in class order; with --retrain also at the best test epoch instead of the last. The run's
    model stays as it is.

    \b
    Example: agad-tf audit runs/first
             agad-tf audit runs/first --retrain --json
    """
    with quiet_stdout():
        quiet_tensorflow()
        from agad_tf.training.audit import audit_run, audit_text
        from agad_tf.training.open import load_run

        result = audit_run(load_run(run), retrain, batch_size, seed, progress=True)
    show(result | {"run": str(run)}, json_output, audit_text)


def recalibration_text(result: dict) -> str:
    """The new threshold for people."""
    from agad_tf.evaluation.wording import percent, price, promise

    before = result["previous_threshold"]
    lines = [
        f"threshold {result['threshold']:.6g}" + ("" if before is None else f" (before: {before:.6g})"),
        promise(result),
        price(result),
        f"from {result['n_normal']} normals and {result['n_anomaly'] or 0} anomalies ({result['split']})",
    ]
    test = result.get("test") or {}
    rates = ((test.get("false_alarm_rate"), "false alarms"), (test.get("recall"), "of the anomalies found"))
    known = ", ".join(f"{percent(rate)} {words}" for rate, words in rates if rate is not None)
    if known:
        lines.append(f"on the test part of the run: {known}")
    if result.get("copies"):
        lines.append(f"{result['copies']} given samples were left out: copies of others")
    if result["left_out"]:
        lines.append(f"{result['left_out']} given samples were left out: the run was trained on them")
    if result["kept_as"]:
        lines.append(f"the calibration before is kept as {result['kept_as']}")
    return "\n".join([*lines, f"run {result['run']}"])
