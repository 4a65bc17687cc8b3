"""`agad-tf compare`: several detectors on one split, in one table, and which to take."""

from pathlib import Path

import click

from agad_tf.commands.common import as_json, quiet_stdout, quiet_tensorflow, show


@click.command()
@click.option("--data", required=True, help="Folder, .npz, .csv, list of images: as for train.")
@click.option("--detectors", help="Names, separated by commas.  [default: those that suit the data]")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Bound of all training together; those that train by steps share it.",
)
@click.option("--normal-class", "normal_classes", multiple=True, help="Class that is normal.")
@click.option("--missing", help="Missing values of a table: refuse, median or indicator.  [default: refuse]")
@click.option("--image-size", type=click.IntRange(1), help="Side that images are read at.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of split, weights and order.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of results. [default: runs/compare-<data>]"
)
@as_json
def compare(data, detectors, minutes, normal_classes, missing, image_size, seed, out, json_output):
    """Train several detectors on the same split and say which to take.

    The recommendation reads no test label: with at least eight labelled anomalies each detector is trained
    again without a part of them and judged on that part. Interrupted, the same command goes on.

    \b
    Example: agad-tf compare --data photos/
             agad-tf compare --data rows.csv --detectors aa_bigan,isolation_forest --minutes 2
    """
    out = out or Path("runs", f"compare-{Path(data).stem}")
    settings = [("seed", seed)]
    settings += [("normal_classes", list(normal_classes))] if normal_classes else []
    settings += [("missing", missing)] if missing is not None else []
    settings += [("image_size", image_size)] if image_size is not None else []
    names = None if detectors is None else [name.strip() for name in detectors.split(",") if name.strip()]
    with quiet_stdout():
        quiet_tensorflow()
        from agad_tf.comparison.compare import compare as run
        from agad_tf.comparison.page import write_page

        made = run(data, names, out=out, minutes=minutes, settings=settings)
        page = write_page(made)
    chosen = made.recommendation
    result = {"rows": made.rows, "page": str(page), "recommended": chosen and chosen.detector}
    result |= {"reason": chosen and chosen.reason, "kept": chosen and chosen.kept}
    show(result, json_output, comparison_text)


def comparison_text(result: dict) -> str:
    """The table for people; figures in per cent."""
    lines = [
        f"{'detector':18}{'AUROC':>7}{'95 % interval':>15}{'known':>7}{'unseen':>8}{'found':>7}{'alarms':>8}"
        f"{'train s':>9}{'ms each':>9}"
    ]
    for row in result["rows"]:
        if "error" in row:
            lines.append(f"{row['detector']:18}failed: {row['error']}")
            continue
        low, high = row["auroc_interval"] or (None, None)
        interval = "-" if low is None else f"{100 * low:.1f}-{100 * high:.1f}"
        shares = [row[name] for name in ("auroc_known", "auroc_unseen", "found", "false_alarms")]
        known, unseen, found, alarms = (percent(value) for value in shares)
        clock = "*" if row["stopped_early"] else ""
        lines.append(
            f"{row['detector']:18}{percent(row['auroc']):>7}{interval:>15}{known:>7}{unseen:>8}{found:>7}"
            f"{alarms:>8}{row['seconds_training']:>8.0f}{clock or ' '}{row['milliseconds']:>9.2f}"
        )
    if any(row.get("stopped_early") for row in result["rows"]):
        lines.append("* stopped by --minutes before it had trained as long as its defaults say")
    if result["recommended"] is not None:
        lines.append(f"take {result['recommended']}: {result['reason']}")
        if result["kept"]:
            lines.append(
                f"{result['recommended']} is for comparison only; of those that can be saved take "
                f"{result['kept']}"
            )
    lines.append(f"page {result['page']}")
    return "\n".join(lines)


def percent(value: float | None) -> str:
    """A share in per cent with one decimal; a dash for what is not known."""
    return "-" if value is None else f"{100 * value:.1f}"
