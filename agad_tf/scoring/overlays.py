"""Heat maps of scored photographs as files: overlays at their own size, and the regions found in them."""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from agad_tf.errors import InputError
from agad_tf.evaluation.heatmaps import draw_outlines, overlay
from agad_tf.evaluation.regions import on_image, smoothed
from agad_tf.files import written_whole
from agad_tf.scoring.detectors import Maps
from agad_tf.scoring.files import Sample
from agad_tf.scoring.results import Row

COLUMNS = ("path", "overlay", "x", "y", "width", "height", "peak")


class Overlays:
    """Writes `<name>.jpg` for each photograph that is scored, and `regions.csv` or `regions.jsonl`.

    In CSV each region has a line: path, overlay, x, y, width and height of its box in pixels of the
    photograph, peak (its largest value, 1 at the threshold). In JSON each photograph has a line: path,
    overlay and a list of such regions.

    Args:
        folder: made where it is missing, must be empty otherwise.
        maps: of the detector.
        form: "csv" or "jsonl".

    Raises:
        InputError: a folder with something in it.
    """

    def __init__(self, folder: str | Path, maps: Maps, form: str = "csv") -> None:
        self._folder, self._maps, self._form = Path(folder), maps, form
        check_folder(self._folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._names: set[str] = set()
        self._files = ExitStack()
        self._stream: IO[str]

    def __enter__(self) -> Overlays:
        # Names of files need not be Unicode: what Python could not decode is written back as it was.
        text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
        path = self._folder / f"regions.{self._form}"
        self._stream = self._files.enter_context(written_whole(path, "w", **text))
        if self._form == "csv":
            csv.writer(self._stream, lineterminator="\n").writerow(COLUMNS)
        return self

    def __exit__(self, *error) -> bool | None:
        return self._files.__exit__(*error)

    def write(self, samples: list[Sample], rows: list[Row]) -> None:
        """Draws the samples of one batch that have a score; called by `pipeline.score_samples`."""
        scored = [sample for sample, row in zip(samples, rows, strict=True) if row.error is None]
        if not scored:
            return
        heats = self._maps.of(np.stack([sample.value for sample in scored]))
        for sample, heat in zip(scored, heats, strict=True):
            self._one(sample, heat)
        self._stream.flush()

    def _one(self, sample: Sample, heat: np.ndarray) -> None:
        maps, size = self._maps, sample.value.shape[:2]
        shown = on_image(smoothed(heat), size, maps.crop)
        picture = np.broadcast_to(sample.value, (*size, 3))
        regions, found = [], np.zeros(size, bool)
        if maps.rule is not None:
            regions = maps.rule.find(heat, size, maps.crop)
            found = shown > maps.rule.threshold
        # One scale for all photographs of a job: full strength at three times the threshold.
        brightest = 3 * maps.rule.threshold if maps.rule and maps.rule.threshold else None
        drawn = draw_outlines(overlay(picture, shown, brightest), found)
        name = self._free_name(sample.path)
        partial, content = self._folder / f".{name}.partial", io.BytesIO()
        Image.fromarray(drawn).save(content, "JPEG", quality=90, subsampling=0)
        try:
            partial.write_bytes(content.getvalue())
            os.replace(partial, self._folder / name)
        finally:
            partial.unlink(missing_ok=True)
        values = [asdict(region) | {"peak": float(f"{region.peak:.4g}")} for region in regions]
        if self._form == "jsonl":
            self._stream.write(json.dumps({"path": sample.path, "overlay": name, "regions": values}) + "\n")
            return
        writer = csv.DictWriter(self._stream, COLUMNS, lineterminator="\n")
        writer.writerows({"path": sample.path, "overlay": name} | value for value in values)

    def _free_name(self, path: str) -> str:
        """The name of the photograph; with a number where photographs of several folders share it."""
        stem = os.path.splitext(os.path.basename(path))[0]
        name, count = f"{stem}.jpg", 1
        while name.casefold() in self._names:
            count += 1
            name = f"{stem}-{count}.jpg"
        self._names.add(name.casefold())
        return name


def check_folder(folder: str | Path) -> None:
    """Refuses what overlays cannot be written into, before anything is scored."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        received = "one with something in it" if folder.is_dir() else "a file"
        raise InputError(f"{folder}: expected a new or an empty folder for heat maps, received {received}")
