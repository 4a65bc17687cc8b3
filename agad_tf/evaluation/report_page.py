"""HTML and style of the report: plain strings, everything from outside escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape as _escape

from agad_tf.evaluation.heatmaps import ANOMALY, NORMAL
from agad_tf.evaluation.report_charts import Chart

STYLE = (
    """
*{box-sizing:border-box}
body{margin:0;background:#fff;color:#1a1a1a;overflow-wrap:anywhere;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1120px;margin:0 auto;padding:1rem}
h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0}
h2{font-size:1.25rem;margin:2.2rem 0 .6rem;border-bottom:2px solid #ddd;padding-bottom:.2rem}
h3{font-size:1.02rem;margin:1.1rem 0 .4rem}
p{margin:.4rem 0;max-width:48rem}
img{max-width:100%;display:block}
.headline{font-size:1.3rem;font-weight:600;line-height:1.35}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));gap:.8rem;margin-top:.8rem}
.tile{border:1px solid #bbb;border-radius:8px;padding:.7rem .9rem;background:#f6f7f9}
.tile h3{margin:0;font-size:.95rem;color:#444}
.tile data{display:block;font-size:1.9rem;font-weight:700;line-height:1.25}
.tile p{margin:.2rem 0 0;font-size:.9rem;color:#333}
.note{border-left:5px solid #8a5a00;background:#fff6e0;padding:.6rem .9rem;margin:.9rem 0;max-width:none}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:1.8rem 2.4rem}
.charts figure{margin:0;max-width:540px}
.charts img{width:100%;max-height:none}
figcaption{font-size:.9rem;color:#333}
.charts h3{margin:0 0 .3rem}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,240px),1fr));gap:1rem}
.card{margin:0;border:1px solid #ccc;border-top-width:4px;border-radius:6px;padding:.5rem;
break-inside:avoid}
.card.normal{border-top-color:NORMAL}
.card.anomaly{border-top-color:ANOMALY}
.card img{width:100%;image-rendering:pixelated}
.card .parts{display:grid;grid-template-columns:repeat(3,1fr);font-size:.78rem;color:#444;text-align:center}
.card figcaption{margin-top:.3rem}
.card .wrong{color:ANOMALY;font-weight:700}
.card .name{display:block;font-size:.78rem;color:#444}
.scale{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center;font-size:.9rem}
.scale img{width:128px;height:12px}
.columns{columns:2 26rem;column-gap:2.5rem}
dl{margin:0 0 .6rem}
dl div{display:grid;grid-template-columns:minmax(0,5fr) minmax(0,6fr);gap:.2rem 1rem;padding:.3rem 0;
border-bottom:1px solid #e3e3e3;break-inside:avoid}
dt{font-weight:600}
dd{margin:0}
dd.meaning{grid-column:1/-1;font-size:.88rem;color:#444}
footer{margin:2.5rem 0 1rem;font-size:.85rem;color:#555}
@media print{body{font-size:10.5pt}main{max-width:none;padding:0}
.tile,.card,figure{break-inside:avoid}h2,h3{break-after:avoid}
.tiles{grid-template-columns:repeat(2,1fr)}.gallery{grid-template-columns:repeat(4,1fr)}
.charts{grid-template-columns:repeat(2,1fr)}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
@page{margin:14mm}
""".replace("NORMAL", NORMAL)
    .replace("ANOMALY", ANOMALY)
    .strip()
)


def escape(value: object) -> str:
    """Text for HTML, in elements and in attributes."""
    return _escape(str(value), quote=True)


def page(title: str, sections: Iterable[str]) -> str:
    """The whole document; its policy forbids scripts and every address outside of the file."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}: anomaly detection report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<main>\n<h1>Anomaly detection report: {escape(title)}</h1>\n"
        + "\n".join(part for part in sections if part)
        + "\n<footer>Written by agad_tf. A score depends on its own sample alone.</footer>"
        "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, body: str, name: str = "") -> str:
    """A part of the page under its heading."""
    anchor = f' id="{escape(name)}"' if name else ""
    return f"<section{anchor}>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def tile(title: str, metric: str, value: float | None, text: str, words: str) -> str:
    """A figure of the verdict; `value` is kept in full for machines."""
    exact = "" if value is None else repr(float(value))
    return (
        f'<div class="tile"><h3>{escape(title)}</h3>'
        f'<data class="{escape(metric)}" value="{exact}">{escape(text)}</data><p>{escape(words)}</p></div>'
    )


def note(text: str) -> str:
    """A warning."""
    return f'<p class="note"><strong>Mind:</strong> {escape(text)}</p>'


def figure(chart: Chart, title: str, words: str) -> str:
    """A chart with its caption."""
    return (
        f'<figure><h3>{escape(title)}</h3><img src="{chart.uri}" alt="{escape(chart.alt)}">'
        f"<figcaption>{escape(words)}</figcaption></figure>\n"
    )


def card(picture: str, kind: str, score: str, verdict: str, name: str | None, anomaly: bool) -> str:
    """A sample: input, reconstruction, error map, and what became of it."""
    wrong = verdict.isupper()
    alt = f"{kind}: input, redrawn by the detector, error; score {score}" + (
        f", {verdict}" if verdict else ""
    )
    after = (
        f'&nbsp;· <span class="{"wrong" if wrong else "right"}">{escape(verdict)}</span>' if verdict else ""
    )
    file = f'<span class="name">{escape(name)}</span>' if name else ""
    return (
        f'<figure class="card {"anomaly" if anomaly else "normal"}"><div class="parts" aria-hidden="true">'
        f"<span>input</span><span>redrawn</span><span>error</span></div>"
        f'<img src="{picture}" alt="{escape(alt)}">'
        f"<figcaption>{escape(kind)} · score&nbsp;{escape(score)}{after}{file}</figcaption></figure>\n"
    )


def gallery(cards: Iterable[str]) -> str:
    """Cards side by side, as many as fit."""
    return f'<div class="gallery">{"".join(cards)}</div>'


def facts(entries: Iterable[tuple[str, object, str]]) -> str:
    """Names and values as a list; an empty value shows as none, a meaning stands under its line."""
    rows = []
    for name, value, meaning in entries:
        text = "none" if value is None else value
        under = f'<dd class="meaning">{escape(meaning)}</dd>' if meaning else ""
        rows.append(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd>{under}</div>")
    return f"<dl>{''.join(rows)}</dl>" if rows else ""
