"""The page of a comparison: the table, the recommendation, and the same pictures for every detector."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from agad_tf.comparison.compare import Comparison
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
    split = comparison.split
    page = environment.get_template("page.html").render(
        name=comparison.samples.name,
        rows=comparison.rows,
        recommendation=comparison.recommendation,
        normals=len(split.train_normal),
        anomalies=len(split.train_anomaly),
        test_normals=len(split.test_normal),
        test_anomalies=len(split.test_anomaly),
    )
    path = comparison.path / "index.html"
    # Names of files and classes need not be Unicode; what cannot be written is shown as "?".
    write_atomically(path, page.encode("utf-8", "replace"))
    return path
