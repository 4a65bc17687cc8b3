"""The command that scores: score."""

import math
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import click

from agad_tf.commands.common import INCOMPLETE, quiet_stdout, quiet_tensorflow
from agad_tf.csv_rows import position_or_name
from agad_tf.errors import InputError
from agad_tf.files import check_writable


@click.command()
@click.argument("arguments", nargs=-1, required=True, metavar="[MODEL] PATHS...")
@click.option("--server", help="Score on a server: http://host:8501/NAME or grpc://host:8500/NAME, no MODEL.")
@click.option("--out", type=click.Path(path_type=Path),
              help="File instead of standard output.")  # fmt: skip
@click.option("--output-format", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True,
              help="CSV or JSON lines.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["auto", "run", "keras", "savedmodel", "tflite", "onnx"]),
              default="auto", show_default=True, help="What MODEL must be.")  # fmt: skip
@click.option("--heatmaps", type=click.Path(path_type=Path), metavar="DIR",
              help="Also write overlays of heat maps, and the regions found as boxes, into DIR.")  # fmt: skip
@click.option("--threshold", type=float, help="A score above it is an anomaly.")
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Samples a batch.")
@click.option("--label-column", help="Name or position (from 0) of the label.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True,
              help="Seconds for each answer of the server.")  # fmt: skip
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
              help="This process, or a Ray cluster: RAY_ADDRESS names it.")  # fmt: skip
@click.option("--actors", type=click.IntRange(1),
              help="Of ray: processes with a model each.  [default: one a GPU, else one a node]")  # fmt: skip
def score(
    arguments, server, out, output_format, form, heatmaps, threshold, batch_size, label_column, timeout,
    engine, actors,
):  # fmt: skip
    """Score images or table rows with MODEL or on a server, one row each, as they come.

    MODEL is a run directory, a .keras file, an export (SavedModel, .tflite or .onnx), or a folder of its
    versions, of which the newest is taken. PATHS are image files, folders of them, or - for paths on standard
    input, one a line; for a detector of tables .csv, .npz and .mat files.

    \b
    Columns: path, row (of a table, from 0), score (higher is more anomalous), p_value (share of normals that
    would look at least this odd), is_anomaly, error (why there is no score: the job goes on).
    Exit status: 0 all scored, 3 some have an error, 2 the job could not be done.
    Example: agad-tf score runs/first new_images/ --out scores.csv
             find parts -name '*.png' | agad-tf score saved_models/parts - --output-format jsonl
             agad-tf score --server grpc://localhost:8500/parts new_images/
             agad-tf score runs/first new_images/ --out scores.csv --heatmaps overlays/

    With --heatmaps DIR each photograph that a run or a .keras file scores is drawn there at its own size, and
    what stands out from good ones is outlined; regions.csv (or .jsonl) has the boxes: x, y, width, height and
    peak.

    With --engine ray the rows grow as numbered parts in FILE.parts, and the same command goes on with them.
    """
    started = time.monotonic()
    model, paths = (None, arguments) if server else (arguments[0], arguments[1:])
    if not paths:
        raise click.UsageError("Expected PATHS to score after MODEL, received none.")
    _check_engine(engine, server, out, actors)
    if heatmaps is not None and (server is not None or engine == "ray"):
        raise InputError(
            "--heatmaps expects MODEL on this machine, received --server or --engine ray: leave it out"
        )
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"--threshold expects a finite number, received {threshold}")
    column = position_or_name(label_column)
    stdout = sys.stdout
    with quiet_stdout():
        from tqdm import tqdm

        from agad_tf.scoring import files, results

        files.check_paths(paths)
        if out is not None:
            check_writable(out)
        if heatmaps is not None:
            from agad_tf.scoring.overlays import check_folder

            check_folder(heatmaps)
        bar = tqdm(unit="sample", disable=None, delay=2)  # on a terminal alone
        with bar:
            if engine == "ray":
                from agad_tf.scoring import ray_engine

                scored, failed = ray_engine.score_files(
                    model,
                    paths,
                    out,
                    stdin=sys.stdin.buffer,
                    form=form,
                    output_format=output_format,
                    threshold=threshold,
                    batch_size=batch_size,
                    label_column=column,
                    actors=actors,
                    progress=bar.update,
                )
            else:
                from agad_tf.scoring import detectors, pipeline
                from agad_tf.scoring.samples import samples_of

                if server:
                    opened = detectors.open_server(server, timeout)
                else:
                    if detectors.find_detector(model)[0] not in ("tflite", "onnx"):
                        quiet_tensorflow()
                    opened = detectors.open_detector(model, form)
                samples = samples_of(paths, sys.stdin.buffer, opened.features, column, opened.identity)
                table = opened.features is not None
                drawn = (
                    nullcontext() if heatmaps is None else _overlays(heatmaps, model, opened, output_format)
                )
                with drawn as drawing, results.open_output(out, stdout) as stream:
                    seen = None if drawing is None else drawing.write
                    rows = pipeline.score_samples(
                        samples, opened.read, opened.score, batch_size, threshold, seen
                    )
                    scored, failed = results.write_rows(rows, stream, output_format, table, bar.update)
    trouble = f", {failed} failed (the reasons are in their rows)" if failed else ""
    click.echo(f"agad-tf: {scored} scored{trouble} in {time.monotonic() - started:.1f} s", err=True)
    if failed:
        raise SystemExit(INCOMPLETE)


def _overlays(folder: Path, model: str, opened, form: str):
    from agad_tf.scoring.overlays import Overlays

    if opened.maps is None:
        raise InputError(
            f"{model}: --heatmaps expects a run or a .keras file of a detector of images, received another: "
            "leave it out, or name the run"
        )
    if opened.maps.rule is None:
        click.echo(
            f"agad-tf: {model} does not know what heat maps of good samples look like: no regions are "
            "marked, and each overlay has a scale of its own",
            err=True,
        )
    return Overlays(folder, opened.maps, form)


def _check_engine(engine: str, server: str | None, out: Path | None, actors: int | None) -> None:
    """Refuses options that do not go together."""
    if engine == "local":
        if actors is not None:
            raise InputError("--actors expects --engine ray, received it without: leave it out, or add that")
        return
    if server is not None:
        raise InputError("--engine ray expects MODEL, received --server: leave one of the two out")
    if out is None:
        raise InputError(
            "--engine ray expects --out FILE, received none: parts of the job are kept beside it"
        )
