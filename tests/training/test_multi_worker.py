"""Two processes on loopback train as one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "tests" / "support" / "worker.py"
MINUTES = 10


def environments(count):
    """The environment of each worker: free ports of this machine, one thread each."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    alone = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    alone |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "2"}
    if count == 1:
        return [alone]
    cluster = {"worker": addresses}
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    return [alone | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]


def together(command, count=2, code=0):
    """Runs a command in as many workers; what each wrote to standard output and error."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [str(part) for part in command]
    processes = [subprocess.Popen(command, env=one, **pipes) for one in environments(count)]
    try:
        outputs = [process.communicate(timeout=60 * MINUTES) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == code, errors[-3000:]
    return outputs


def arrays_of(path):
    with np.load(path) as held:
        history = json.loads(held["history"].item())
        return {name: held[name] for name in held.files if name != "history"}, history


def test_two_workers_equal_one_and_resume_without_a_shared_folder(tmp_path):
    alone, worker = tmp_path / "alone", tmp_path / "two"
    for folder in (alone, worker):
        folder.mkdir()
    together([sys.executable, WORKER, alone], count=1)
    together([sys.executable, WORKER, worker])
    wanted, history = arrays_of(alone / "worker-alone.npz")
    for index in (0, 1):
        found, logs = arrays_of(worker / f"worker-{index}.npz")
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9, err_msg=name)
        assert logs.keys() == history.keys()
        for name, values in history.items():
            np.testing.assert_allclose(logs[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    # The second epoch is lost: both workers go on from what the chief alone reads.
    checkpoints = sorted((worker / "c").iterdir())
    assert [path.name for path in checkpoints] == [f"epoch-{n:04d}-step-000000.checkpoint" for n in (1, 2)]
    checkpoints[1].unlink()
    before, _ = arrays_of(worker / "worker-1.npz")
    outputs = together([sys.executable, WORKER, worker])
    assert "going on at epoch 2 of 2, step 0 of 5" in outputs[0][1]
    assert "going on" not in outputs[1][1]
    for index in (0, 1):
        found, logs = arrays_of(worker / f"worker-{index}.npz")
        for name, value in before.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_run_of_two_workers_is_written_by_the_chief_alone(tmp_path):
    y = np.repeat([0, 1], [80, 20])
    x = np.random.default_rng(0).normal(size=(100, 5)) + 2 * y[:, None]
    np.savez(tmp_path / "table.npz", x=x.astype("float32"), y=y)
    options = f"--detector aa_bigan --data {tmp_path}/table.npz --gamma 0.1 --batch-size 16 --min-anomalies 4"
    options += f" --epochs 6 --json --quiet --resume {tmp_path}/run"
    command = [sys.executable, "-m", "agad_tf.cli", "train", *options.split()]
    outputs = together(command)
    assert "retracing" not in outputs[0][1]  # nothing is compiled anew each epoch
    metrics = [json.loads(output) for output, _ in outputs]
    assert metrics[0]["replicas"] == 2
    assert metrics[0]["auroc"] == metrics[1]["auroc"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "table.npz"]
    assert {"model.keras", "metrics.json", "tensorboard", "report.html"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    assert len(list((tmp_path / "run" / "tensorboard").rglob("events*"))) == 1
