"""The benchmark for a GPU, run small on a CPU: that it works, not what it measures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.slow
def test_a_dry_run_measures_every_backbone_precision_and_xla(tmp_path):
    done = run("--dry-run", "--out", tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "gpu.json").read_text())
    assert (made["dry_run"], made["device"], made["left_out"]) == (True, None, [])
    measured = {(row["backbone"], row["precision"], row["xla"]) for row in made["steps"]}
    assert {row[0] for row in measured} == {"aa_bigan", "encoder_decoder", "unet", "unet_plus_plus"}
    assert {row[1:] for row in measured if row[0] == "aa_bigan"} == {
        ("float32", False), ("float32", True), ("mixed_bfloat16", False), ("mixed_float16", False),
    }  # fmt: skip
    assert all(min(row["images_a_second"], row["share_of_peak"]) > 0 for row in made["steps"])
    (trained,) = made["trainings"]
    assert all(0 <= value <= 100 for value in trained["auroc"].values())


@pytest.mark.slow
def test_what_there_is_no_time_for_is_named(tmp_path):
    done = run("--dry-run", "--minutes", 0, "--out", tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "gpu.json").read_text())
    assert (made["steps"], made["trainings"]) == ([], [])
    assert len(made["left_out"]) == 1 + 4 + 3


def test_without_a_gpu_it_says_so(tmp_path):
    done = run("--out", tmp_path / "gpu.json")
    assert done.returncode == 2
    assert "expected a GPU that TensorFlow sees, found none" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "gpu.json").exists()
