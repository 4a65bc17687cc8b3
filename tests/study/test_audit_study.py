"""The study of the audit: its table, a page true to its file, and going on after a cut line."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_digits

from agad_tf.training.audit import MODES
from study import audit_study
from study.results import read_lines

ROOT = Path(__file__).parents[2]

CURVE = [
    {"epoch": 1, "inference": 0.9, "batch_shuffled": None, "batch_ordered": 0.95},
    {"epoch": 2, "inference": 0.8, "batch_shuffled": None, "batch_ordered": 0.99},
]
JOB = {"epochs": 2, "image_size": 32, "batch_size": 256}


@pytest.fixture(scope="module")
def images():
    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None], digits.target


def test_table_of_the_study():
    records = [job | {"curve": CURVE} for job in audit_study.plan(("literal",), 2, **JOB)]
    records[-1] = records[-1] | {"curve": [CURVE[0]]}
    rows = [line for line in audit_study.table(records).splitlines() if line.startswith("| mnist")]
    assert rows == [
        "| mnist 8 | literal | 2 | 2 | 80.0 ± 0.0 | n/a | 99.0 ± 0.0 | 90.0 ± 0.0 | 99.0 ± 0.0 | 95.8 |"
    ]
    fashion = next(line for line in audit_study.table(records).splitlines() if line.startswith("| fashion"))
    assert "| 85.0 ± 63.5 |" in fashion  # 80 and 90: half of Student's interval with one degree of freedom
    assert fashion.endswith("| 99.1 |")
    assert "Not measured yet" in audit_study.table([])


def test_the_page_holds_the_table_of_its_file():
    page = (ROOT / "docs" / "audit.md").read_text()
    assert page == audit_study.with_table(page, read_lines(ROOT / "study" / "results" / "audit.jsonl"))


def test_the_study_resumes_and_mends_a_cut_line(tmp_path, images, monkeypatch):
    x, target = images
    arrays = {"x_train": x[:900], "y_train": target[:900], "x_test": x[900:1200], "y_test": target[900:1200]}
    for name in ("mnist", "fashion_mnist"):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    out = tmp_path / "results" / "audit.jsonl"
    done = audit_study.plan(("literal",), 1, epochs=1, image_size=8, batch_size=128)[1]
    audit_study.append_line(out, done | {"curve": CURVE})
    out.write_text(out.read_text() + '{"source": "mni')
    command = ["measure", "--data", tmp_path, "--out", out, "--seeds", 1, "--epochs", 1, "--image-size", 8]
    command = [str(part) for part in [*command, "--batch-size", 128]]
    result = CliRunner().invoke(audit_study.main, command, catch_exceptions=False)
    assert result.exit_code == 0
    records = read_lines(out)
    assert [record["source"] for record in records] == ["fashion_mnist", "mnist"]
    assert records[1]["n_normal"] == int(np.sum(target[900:1200] == 8))
    assert set(records[1]["curve"][0]) == {"epoch", *MODES}
    monkeypatch.setattr(audit_study, "measure_run", lambda *_: pytest.fail("measured again"))
    assert CliRunner().invoke(audit_study.main, command, catch_exceptions=False).exit_code == 0

    page = tmp_path / "page.md"
    page.write_text(f"above\n{audit_study.BEGIN}\nold\n{audit_study.END}\nbelow\n")
    CliRunner().invoke(audit_study.main, ["table", "--results", str(out), "--page", str(page)])
    text = page.read_text()
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "old" not in text
    assert "| mnist 8 | literal | 1 | 1 |" in text
