"""Results files: JSON lines, appended and never rewritten; one run is one line or several."""

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGES = ROOT / "study" / "results", ROOT / "docs" / "results"


def read_lines(path: str | Path) -> list[dict]:
    """The records of a results file, none where there is no file; an unfinished last line is left out."""
    records = []
    if Path(path).exists():
        for line in Path(path).read_text("utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return records


def runs_in(path: str | Path) -> list[dict]:
    """The lines of runs, without those of failures and calibrations; each has the settings of its job."""
    kept = (line for line in read_lines(path) if "error" not in line and "calibration" not in line)
    return [line.get("job", {}) | line for line in kept]


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
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return found.stdout.strip()
