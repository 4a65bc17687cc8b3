"""Results files of the experiments: JSON lines, one a run, appended and never rewritten."""

import json
import os
import subprocess
from pathlib import Path


def read_lines(path: str | Path) -> list[dict]:
    """The records of a results file, none where there is no file; an unfinished last line is left out."""
    records = []
    if Path(path).exists():
        for line in Path(path).read_text().splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return records


def append_lines(path: str | Path, records: list[dict]) -> None:
    """Adds lines in one write, on lines of their own even where the one before was cut short."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(b"".join(json.dumps(record).encode() + b"\n" for record in records))


def commit() -> str:
    """Short hash of the code that runs; empty outside of a repository."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip()
