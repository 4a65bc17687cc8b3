"""Commands about data: prepare."""

from pathlib import Path

import click

from agad_tf.commands.common import as_json, quiet_stdout, show


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--normal-class", "normal_classes", multiple=True, help="Class that is normal (repeatable).")
@click.option("--group", help="Files that belong together: parent (folder), or a pattern: 'part(\\d+)'.")
@click.option("--image-size", type=click.IntRange(1), help="Side the images are stored at. [default: as is]")
@click.option("--crop", type=click.Choice(["stretch", "centre"]), default="stretch", show_default=True,
              help="What --image-size does to other aspects.")  # fmt: skip
@click.option("--channels", type=click.Choice(["1", "3"]), help="[default: 1 if all are grey, else 3]")
@click.option("--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True,
              help="At an image that cannot be used: stop, or leave it out and list it.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Threads that decode. [default: one a CPU core]")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@as_json
def prepare(source, out, normal_classes, channels, quiet, json_output, **settings):
    """Write the images of SOURCE as shards into the folder OUT, for `train --data OUT`.

    \b
    Shards train without being loaded: for collections larger than memory, or slow to decode. After an
    interruption the same command goes on where it was; on finished shards it checks them.
    Example: agad-tf prepare photos/ shards/photos --image-size 64 --on-error skip
    """
    with quiet_stdout():
        from agad_tf.data.sources.prepare import prepare as prepare_shards

        manifest = prepare_shards(
            source,
            out,
            normal_classes=list(normal_classes) or None,
            channels=int(channels) if channels else None,
            progress=not quiet,
            **settings,
        )
        for entry in manifest["skipped"]:
            click.echo(f"agad-tf: skipped {entry['path']}: {entry['reason']}", err=True)
        for name in manifest["other_files"]:
            click.echo(f"agad-tf: not read, no JPEG, PNG or BMP: {name}", err=True)
    shown = ("name", "counts", "class_counts", "image_shape", "skipped", "other_files")
    show({"shards": str(out)} | {name: manifest[name] for name in shown}, json_output, _text)


def _text(result: dict) -> str:
    counts = result["counts"]
    height, width, channels = result["image_shape"]
    return (
        f"{counts['normal']} normal and {counts['anomaly']} anomalous images, "
        f"{height} x {width} x {channels}, {counts['skipped']} skipped\nshards {result['shards']}"
    )
