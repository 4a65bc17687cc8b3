"""The page of a comparison: the table, the recommendation, and the same pictures for every detector."""

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from agad_tf.comparison.compare import Comparison, shown_rows
from agad_tf.evaluation.heatmaps import overlay
from agad_tf.evaluation.regions import on_image
from agad_tf.files import write_atomically


def write_page(comparison: Comparison) -> Path:
    """Writes `index.html` into the comparison's folder.

    Returns:
        Its path.
    """
    environment = Environment(
        loader=PackageLoader("agad_tf.comparison"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.1f}"
    environment.filters["time"] = lambda value: f"{value:.0f}" if value >= 10 else f"{value:.2g}"
    split = comparison.split
    page = environment.get_template("page.html").render(
        name=comparison.samples.name,
        rows=comparison.rows,
        recommendation=comparison.recommendation,
        normals=len(split.train_normal),
        anomalies=len(split.train_anomaly),
        test_normals=len(split.test_normal),
        test_anomalies=len(split.test_anomaly),
        **_pictures(comparison),
    )
    path = comparison.path / "index.html"
    # Names of files and classes need not be Unicode; what cannot be written is shown as "?".
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def _pictures(comparison: Comparison) -> dict:
    """The photographs, and each detector's heat maps over them, as images for the page; none of tables."""
    samples = comparison.samples
    if samples.x.ndim != 4:
        return {"photos": [], "maps": {}}
    rows = shown_rows(samples, comparison.split)
    photos = [np.asarray(samples.x[row]) for row in rows]
    maps = {}
    for row in comparison.rows:
        stored = comparison.path / row["detector"] / "scores.npz"
        if "error" in row:
            continue
        with np.load(stored) as held:
            if "maps" in held:
                # Clear up to what is usual on normals; twice as far above it as they reach is full strength.
                # Distances are never near 0: drawn from there on, they would tint the whole image.
                floor = float(held["map_floor"]) if "map_floor" in held else 0.0
                most = max(2 * (float(held["map_limit"]) - floor), 1e-9)
                maps[row["detector"]] = [
                    _uri(overlay(photo, on_image(np.maximum(heat - floor, 0.0), photo.shape[:2]), most))
                    for photo, heat in zip(photos, held["maps"], strict=True)
                ]
    kinds = [samples.class_names[samples.classes[row]] for row in rows]
    shown = [(_uri(photo), kind) for photo, kind in zip(photos, kinds, strict=True)]
    return {"photos": shown, "maps": maps}


def _uri(image: np.ndarray, side: int = 160) -> str:
    """An image as a data address, its longer side at least `side` pixels and at most 320."""
    picture = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.uint8))
    longer = max(picture.size)
    factor = min(max(side, longer), 320) / longer
    how = Image.NEAREST if factor > 2 else Image.LANCZOS
    buffer = io.BytesIO()
    picture.resize([max(1, round(length * factor)) for length in picture.size], how).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
