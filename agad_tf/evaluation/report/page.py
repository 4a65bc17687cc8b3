"""From an `Evaluation` to HTML: the template `template.html` and the style sheet `style.css` beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.report import charts
from agad_tf.evaluation.report.findings import Findings
from agad_tf.evaluation.report.pictures import Pictures
from agad_tf.evaluation.wording import in_percent
from agad_tf.files import write_atomically

# Halves of surrogate pairs stand for bytes that are no Unicode; control characters are not allowed in HTML.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def write_report(
    path: str | Path, evaluation: Evaluation, title: str, configuration: Mapping[str, object] | None = None
) -> None:
    """Writes the report, whole or not at all.

    Args:
        path: file to write.
        evaluation: what is told.
        title: name of the run.
        configuration: settings by section.

    Raises:
        InputError: scores that are not one for each tested sample, a missing folder.
    """
    write_atomically(path, render_report(evaluation, title, configuration).encode())


def render_report(
    evaluation: Evaluation, title: str, configuration: Mapping[str, object] | None = None
) -> str:
    """The report as HTML; see `write_report`."""
    pictures = Pictures(evaluation) if evaluation.has_pictures else None
    findings = Findings(evaluation, None if pictures is None else pictures.maps)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["in_percent"] = in_percent
    return environment.get_template("template.html").render(
        title=title,
        findings=findings,
        charts=charts.draw_all(findings),
        redraws=evaluation.redraws,
        galleries=[] if pictures is None else pictures.galleries(findings),
        data=evaluation.data_facts(),
        configuration=_sections(configuration or {}),
    )


def _sections(configuration: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Settings by section; those without one under ""."""
    single = {name: value for name, value in configuration.items() if not isinstance(value, Mapping)}
    return {"": single} | {name: value for name, value in configuration.items() if isinstance(value, Mapping)}


def _printable(value: object) -> object:
    """What is written into the page: text with a visible escape for each character that HTML cannot hold."""
    if isinstance(value, str) and _UNPRINTABLE.search(value):
        text = _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
        return type(value)(text)  # what is marked as safe stays so
    return value
