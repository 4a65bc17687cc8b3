"""Runs malformed files, requests and tables through everything that scores, and lists what went wrong.

Each target takes a number of cases, a seed and an empty folder, and returns a line for every case that was
lost, scored wrongly, scored though it cannot be, refused though it is good, or told in more than one line.
"""

import csv
import io
import os

import numpy as np
from click.testing import CliRunner
from loopback_server import loopback
from malformed_cases import (
    bad_images,
    bad_rows,
    csv_lines,
    damaged_table,
    expected,
    write_files,
)
from serving_cases import FEATURES, detector, exports, served, squared_length, tflite

from agad_tf.cli import main
from agad_tf.edge import EdgeModel, score_files
from agad_tf.errors import InputError
from agad_tf.pixels import preprocess
from agad_tf.serving import Client

AGREEMENT = 1e-5
TAKEN_BY_EDGE = {"none", "huge"}
"""No samples have no scores there, and an image of any size is resized where it lies."""


def in_process(arguments, stdin=b""):
    """`agad-tf` with these arguments: (status, standard output, standard error)."""
    result = CliRunner().invoke(main, list(map(str, arguments)), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "crash", result.stdout, repr(result.exception)
    return result.exit_code, result.stdout_bytes.decode(errors="surrogateescape"), result.stderr


def wrong_files(cases, errors, scores):
    """Lines for the cases whose error (None for none) or score is not what it must be."""
    pixels = [expected(case) for case in cases]
    wrong = []
    for case, image, error in zip(cases, pixels, errors, strict=True):
        if image is None and error is None:
            wrong.append(f"{case.kind} {case.path.name!r}: scored, though it cannot be")
        elif image is not None and error is not None:
            wrong.append(f"{case.kind} {case.path.name!r}: not scored: {error}")
        elif error is not None and "expected" not in error:
            wrong.append(f"{case.kind} {case.path.name!r}: unclear: {error!r}")
    ready = [index for index, image in enumerate(pixels) if image is not None and errors[index] is None]
    if not ready:
        return wrong
    right = detector()[0].predict(np.stack([preprocess(pixels[i], (8, 8)) for i in ready]), verbose=0)
    received = np.array([scores[i] for i in ready], np.float32)
    differences = np.abs(received - right) / np.maximum(1, np.abs(right))
    return wrong + [
        f"{cases[i].kind} {cases[i].path.name!r}: score {got}, expected {want}"
        for i, got, want, difference in zip(ready, received, right, differences, strict=True)
        if not difference <= AGREEMENT
    ]


def wrong_table(result, cases):
    """As `wrong_files` for the outcome of `score` on files, in the order of the cases."""
    status, stdout, stderr = result
    if status not in (0, 3) or "Traceback" in stderr:
        return [f"status {status}: {stderr[-300:]}"]
    rows = list(csv.DictReader(io.StringIO(stdout)))
    if [row["path"] for row in rows] != [str(case.path) for case in cases]:
        return [f"{len(rows)} rows for {len(cases)} files, or in another order"]
    errors = [row["error"] or None for row in rows]
    if (status == 3) != any(errors):
        return [f"status {status} with {sum(map(bool, errors))} errors"]
    return wrong_files(cases, errors, [row["score"] for row in rows])


def score_folder(count, seed, folder, run=in_process):
    """`score SAVED_MODEL FOLDER`."""
    cases = sorted(write_files(folder, count, seed, odd_names=True), key=lambda case: case.path.name)
    return wrong_table(run(["score", exports()["parts"], folder]), cases)


def score_list(count, seed, folder, run=in_process):
    """`score --server grpc://... -`: paths on standard input, among them folders, pipes and nothing."""
    cases = write_files(folder, max(1, count - 3), seed)
    more = {
        "a folder": folder / "folder.png",
        "a pipe": folder / "pipe.png",
        "missing": folder / "missing.png",
    }
    more["a folder"].mkdir()
    os.mkfifo(more["a pipe"])
    cases += [type(cases[0])(kind, path, good=False) for kind, path in more.items()]
    lines = b"\n".join(os.fsencode(case.path) for case in cases)
    with loopback(served()) as server:
        return wrong_table(run(["score", "--server", f"{server.grpc}/parts", "-"], lines), cases)


def client_files(count, seed, folder):
    """`Client.score(paths)`, half over REST and half over gRPC."""
    wrong = []
    with loopback(served()) as server:
        for number, scheme in enumerate(("http", "grpc")):
            cases = write_files(folder, max(1, count // 2), seed + number)
            with Client(server.url(scheme), "parts") as client:
                answers = client.score([case.path for case in cases])
            wrong += wrong_files(cases, answers["error"], answers["score"])
            for case in cases:
                case.path.unlink()
    return wrong


def client_arrays(count, seed, folder):
    """`Client.score(array)`: each must be refused in one line, and a good one after it be scored."""
    rng = np.random.default_rng(seed)
    good = {"parts": rng.integers(0, 256, (3, 9, 9, 1), np.uint8), "rows": rng.normal(size=(3, FEATURES))}
    bad = {"parts": bad_images, "rows": lambda rng: bad_rows(rng, FEATURES)}
    wrong = []
    with loopback(served()) as server:
        clients = [Client(server.url(s), m) for s in ("http", "grpc") for m in good]
        answers = [client.score(good[client.model])["score"] for client in clients]
        for index in range(count):
            client, answer = clients[index % 4], answers[index % 4]
            kind, array = bad[client.model](rng)
            wrong += refused(kind, lambda client=client, array=array: client.score(array))
            if index % 10 == 0 and not np.array_equal(client.score(good[client.model])["score"], answer):
                wrong.append(f"another score after {kind}")
        for client in clients:
            client.close()
    return wrong


def score_tflite(count, seed, folder, run=in_process):
    """`score MODEL.tflite FOLDER`."""
    cases = sorted(write_files(folder, count, seed, odd_names=True), key=lambda case: case.path.name)
    return wrong_table(run(["score", tflite(), folder]), cases)


def edge_arrays(count, seed, folder):
    """`EdgeModel.score(array)`, as `client_arrays`."""
    rng = np.random.default_rng(seed)
    model = EdgeModel(tflite())
    good = rng.integers(0, 256, (3, 9, 9, 1), np.uint8)
    answer, wrong = model.score(good), []
    for index in range(count):
        kind, array = bad_images(rng)
        if kind not in TAKEN_BY_EDGE:
            wrong += refused(kind, lambda array=array: model.score(array))
        if index % 10 == 0 and not np.array_equal(model.score(good), answer):
            wrong.append(f"another score after {kind}")
    return wrong


def edge_files(count, seed, folder):
    """`agad_tf.edge.score_files`, what `python -m agad_tf.edge` prints."""
    cases = write_files(folder, count, seed, odd_names=True)
    rows = list(score_files(EdgeModel(tflite()), [str(case.path) for case in cases]))
    if [row[0] for row in rows] != [str(case.path) for case in cases]:
        return [f"{len(rows)} rows for {len(cases)} files, or in another order"]
    return wrong_files(cases, [row[4] for row in rows], [row[1] for row in rows])


def refused(kind, call):
    """A line unless the call is refused in one."""
    try:
        call()
    except InputError as error:
        return [f"{kind}: {error}"] if "\n" in str(error) or "expected" not in str(error) else []
    except Exception as error:
        return [f"{kind}: {error!r}"]
    return [f"{kind}: was taken"]


def score_tables(count, seed, folder, run=in_process):
    """`score` on CSV files with broken lines, and on damaged archives."""
    rng = np.random.default_rng(seed)
    right = {}
    for number in range(-(-count // 80)):
        lines, rows = csv_lines(rng, min(count, 60), FEATURES)
        name = f"{number:05d}.csv"
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
        right |= {(name, str(index)): row for index, row in enumerate(rows)}
        for archive in range(20):
            suffix, data, rows = damaged_table(rng, FEATURES)
            name = f"{number:05d}-{archive:02d}{suffix}"
            (folder / name).write_bytes(data)
            right |= {(name, str(index)): row for index, row in enumerate(rows)} | {(name, ""): None}
    status, stdout, stderr = run(["score", exports()["rows"], folder])
    if status not in (0, 3) or "Traceback" in stderr:
        return [f"status {status}: {stderr[-300:]}"]
    wrong, seen = [], set()
    for row in csv.DictReader(io.StringIO(stdout)):
        key = (os.path.basename(row["path"]), row["row"])
        seen.add(key)
        expected_row = right.get(key)
        if not row["error"] and expected_row is None:
            wrong.append(f"{key}: scored, though it cannot be")
        elif row["error"] and expected_row is not None:
            wrong.append(f"{key}: not scored: {row['error']}")
        elif not row["error"]:
            want = float(squared_length(expected_row))
            if not abs(float(row["score"]) - want) <= AGREEMENT * max(1, want):
                wrong.append(f"{key}: score {row['score']}, expected {want}")
    lost = [key for key in right if key not in seen and key[0].endswith(".csv")]
    whole = {name for name, row in seen if row == ""}
    lost += [key for key in right if key[1] and key not in seen and key[0] not in whole]
    return wrong + [f"{key}: no row" for key in lost]


TARGETS = {
    "score, a folder, SavedModel": (score_folder, 0.15),
    "score, a folder, TFLite": (score_tflite, 0.1),
    "score, a list, gRPC": (score_list, 0.15),
    "score, tables": (score_tables, 0.15),
    "client, files": (client_files, 0.15),
    "client, arrays": (client_arrays, 0.1),
    "edge, files": (edge_files, 0.1),
    "edge, arrays": (edge_arrays, 0.1),
}
"""Function and its share of the cases."""
