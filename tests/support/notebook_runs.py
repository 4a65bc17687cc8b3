"""Runs notebooks headless, each from a fresh kernel in an empty folder; `make notebooks` stores the outputs.

    python tests/support/notebook_runs.py [NAME ...]

Edit the .ipynb files in Jupyter, then run this: what is committed is what a run from top to bottom shows.
"""

import os
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
SECONDS = 1200
"""For a cell, on a busy machine; a notebook takes about two minutes on two idle cores."""


def notebooks() -> list[Path]:
    """The notebooks, in their order."""
    return sorted(FOLDER.glob("*.ipynb"))


@contextmanager
def server(name: str, folder: Path):
    """A server on this machine for a model whose folder may appear later, as the real one looks for it."""
    from loopback_server import Models, loopback  # and with it TensorFlow

    class Watched(Models):
        def _look(self):
            if name not in self.versions and folder.is_dir():
                super().__init__({name: folder})

        def find(self, *arguments):
            self._look()
            return super().find(*arguments)

        def status(self, *arguments):
            self._look()
            return super().status(*arguments)

    with loopback(Watched({})) as running:
        yield running


@contextmanager
def environment(**values: str):
    """Environment variables that kernels started inside inherit."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run from top to bottom.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, timeout=SECONDS, kernel_name="python3", resources=place, coalesce_streams=True
        )
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        with (
            server("parts", Path(folder, "saved_models", "parts")) as running,
            environment(AGAD_TF_SERVER=running.rest, TF_CPP_MIN_LOG_LEVEL="3", PATH=programs),
        ):
            client.execute()
    return cleaned(notebook)


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without times, and without what libraries write to standard error, with paths of this machine."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def main(names: list[str]) -> None:
    for path in notebooks():
        if names and path.stem not in names:
            continue
        start = time.perf_counter()
        notebook = executed(path)
        nbformat.write(notebook, path)
        size = path.stat().st_size / 1000
        print(f"{path.name}: {time.perf_counter() - start:.0f} s, {size:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
