"""`agad-tf score --engine ray` on a cluster of two nodes, one of which is stopped; and killed itself."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
from serving_cases import encode, exports

pytestmark = pytest.mark.slow

FILES = 1200
BROKEN = (17, 333)
BATCH = 4
MINUTES = 5


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes with a core each, as processes of this machine."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}
    made = Cluster(initialize_head=True, connect=True, head_node_args=node)
    try:
        made.add_node(**node)
        made.wait_for_nodes()
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def images(tmp_path):
    """Names of large images, so that a part takes a while: links to four files, two of them broken."""
    random = np.random.default_rng(0)
    contents = [encode(random.integers(0, 256, (1200, 1200), np.uint8)) for _ in range(4)]
    for index, content in enumerate(contents):
        (tmp_path / f"{index}.png").write_bytes(content)
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(FILES):
        if index in BROKEN:
            (folder / f"{index:04d}.png").write_bytes(contents[0][: 100 * index])
        else:
            (folder / f"{index:04d}.png").hardlink_to(tmp_path / f"{index % 4}.png")
    return folder


def command(out, *settings):
    arguments = [str(exports()["parts"]), "images", "--out", out.name, "--batch-size", str(BATCH), *settings]
    return [sys.executable, "-m", "agad_tf.cli", "score", *arguments]


def start(cluster, out):
    """The job on the cluster, in a process of its own."""
    here = Path(__file__).parents[2]
    environment = os.environ | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(here)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        command(out, "--engine", "ray", "--actors", "2"), env=environment, cwd=out.parent, **pipes
    )


def until(condition, process):
    """Waits until something holds while the job runs."""
    end = time.monotonic() + 60 * MINUTES
    while not condition():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < end
        time.sleep(0.05)


def parts_of(out):
    return sorted(out.with_name(out.name + ".parts").glob("part-*"))


def finished(process):
    """What the job wrote to standard error."""
    _, errors = process.communicate(timeout=60 * MINUTES)
    assert process.returncode == 3, errors[-3000:]  # two of the images have an error
    return errors


def check_rows(out):
    """A row a file, in order, none twice, with the scores of the local engine."""
    local = out.with_name("local.csv")
    done = subprocess.run(command(local), cwd=out.parent, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    found, expected = (
        list(csv.DictReader(io.StringIO(path.read_text(), newline=""))) for path in (out, local)
    )
    assert [row["path"] for row in found] == [f"images/{index:04d}.png" for index in range(FILES)]
    assert [index for index, row in enumerate(found) if row["error"]] == list(BROKEN)
    for row, other in zip(found, expected, strict=True):
        scores = [float(one.pop("score") or "nan") for one in (row, other)]
        np.testing.assert_allclose(*scores, rtol=1e-5)
        assert row == other


def actor_on(node):
    """Whether a process of the job has its model open on a node: Ray names its processes by what they run."""
    [raylet] = node.all_processes["raylet"]
    for worker in psutil.Process(raylet.process.pid).children():
        try:
            if "MapWorker" in "".join(worker.cmdline()):
                return True
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return False


def test_a_node_that_is_stopped_costs_no_row(cluster, images, tmp_path):
    out = tmp_path / "scores.csv"
    process = start(cluster, out)
    try:
        [node] = cluster.worker_nodes
        until(lambda: len(parts_of(out)) > 8, process)
        # Ray starts the actors when it likes: a fast machine may be far on before this node has one.
        until(lambda: actor_on(node) or len(parts_of(out)) > FILES / BATCH / 2, process)
        if not actor_on(node):
            warnings.warn("the node that is stopped has no actor yet", stacklevel=1)
        cluster.remove_node(node, allow_graceful=False)
        errors = finished(process)
    finally:
        process.kill()
    assert f"{FILES - len(BROKEN)} scored, {len(BROKEN)} failed" in errors
    check_rows(out)
    assert not out.with_name(f"{out.name}.parts").exists()


def test_a_killed_job_goes_on_with_the_parts_that_are_missing(cluster, images, tmp_path):
    out = tmp_path / "scores.csv"
    process = start(cluster, out)
    try:
        until(lambda: len(parts_of(out)) > 20, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept = {path: path.stat().st_mtime_ns for path in parts_of(out)}
        process = start(cluster, out)
        until(lambda: len(parts_of(out)) > len(kept) + 5, process)
        assert {path: path.stat().st_mtime_ns for path in kept} == kept  # not scored again
        finished(process)
    finally:
        process.kill()
    check_rows(out)
