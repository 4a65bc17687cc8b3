"""The command that exports: export."""

from pathlib import Path

import click

from agad_tf.commands.common import as_json, quiet_stdout, quiet_tensorflow, show


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--to", "folder", type=click.Path(path_type=Path),
              help="Folder of the versions. [default: one under saved_models/]")  # fmt: skip
@click.option("--format", type=click.Choice(["savedmodel", "tflite", "onnx"]), default="savedmodel",
              show_default=True, help="TF Serving; boards; other runtimes.")  # fmt: skip
@click.option("--precision", type=click.Choice(["float32", "float16", "int8"]), default="float32",
              show_default=True, help="Of tflite.")  # fmt: skip
@click.option("--force", is_flag=True, help="Write int8 even if its AUROC is more than .005 lower.")
@click.option("--licence", help="Terms of the weights, for the model card.")
@as_json
def export(run, folder, format, precision, force, licence, json_output):
    """Export a RUN: the next version FOLDER/1, FOLDER/2, ..., and how its scores compare with the run's.

    \b
    savedmodel   for TensorFlow Serving: raw images in; score, p-value and decision out
    tflite       one file for agad_tf.edge, which needs no TensorFlow
    onnx         one file for ONNX runtimes: raw images in, score out

    \b
    Example: agad-tf export runs/first --to saved_models/screws
             agad-tf export runs/first --format tflite --precision int8
    """
    with quiet_stdout():
        quiet_tensorflow()
        from agad_tf.export.from_run import export_run
        from agad_tf.training.open import load_run

        finished = load_run(run)
        kind = {"savedmodel": "", "tflite": f"-tflite-{precision}", "onnx": "-onnx"}[format]
        folder = folder or Path("saved_models", finished.path.resolve().name + kind)
        path, report = export_run(finished, folder, format, precision, force, licence)
    show({"export": str(path), "parity": report}, json_output, export_text)


def export_text(result: dict) -> str:
    """The path of the export, and its parity for people."""
    from agad_tf.export.parity import parity_text

    report = result["parity"]
    if report is None:
        return f"{result['export']}\nnot compared with the run: its data could not be read"
    return f"{result['export']}\n{parity_text(report)}"
