"""One self-contained HTML file that tells how well a detector finds anomalies, to readers of no paper.

    from agad_tf.evaluation.report import write_report
    write_report("report.html", evaluation, title="screws")

`agad_tf.training.evaluate.judge` makes the evaluation. Pictures and style are inside the file; it needs no
script and no network, and follows the reader's light or dark setting. No TensorFlow here.
"""

from agad_tf.evaluation.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
