"""The study of the audit: its table, a page true to its file, and what its runs measure."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from agad_tf.training.audit import MODES
from study import audit

CURVE = [
    {"epoch": 1, "inference": 0.9, "batch_shuffled": None, "batch_ordered": 0.95},
    {"epoch": 2, "inference": 0.8, "batch_shuffled": None, "batch_ordered": 0.99},
]


def test_table_of_the_study():
    records = [job | {"curve": CURVE} for job in audit.jobs(2, epochs=2)]
    records[-1] = records[-1] | {"curve": [CURVE[0]]}
    rows = [line for line in audit.part(records).splitlines() if line.startswith("| mnist")]
    assert rows == [
        "| mnist 8 | literal | 2 | 2 | 80.0 ± 0.0 | n/a | 99.0 ± 0.0 | 90.0 ± 0.0 | 99.0 ± 0.0 | 95.8 |"
    ]
    fashion = next(line for line in audit.part(records).splitlines() if line.startswith("| fashion"))
    assert "| 85.0 ± 63.5 |" in fashion  # 80 and 90: half of Student's interval with one degree of freedom
    assert fashion.endswith("| 99.1 |")
    assert "Not measured yet" in audit.part([])


@pytest.mark.slow
def test_a_run_of_the_study(tmp_path, monkeypatch):
    digits = load_digits()
    x, y = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None], digits.target
    parts = {"x_train": x[:900], "y_train": y[:900], "x_test": x[900:1200], "y_test": y[900:1200]}
    np.savez(tmp_path / "mnist.npz", **parts)
    monkeypatch.setenv("AGAD_TF_DATA", str(tmp_path))
    job = audit.jobs(1, epochs=1, image_size=8, batch_size=128)[0]
    record = audit.make(job, tmp_path)
    assert record["n_normal"] == int(np.sum(y[900:1200] == 8))
    assert set(record["curve"][0]) == {"epoch", *MODES}
