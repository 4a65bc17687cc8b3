"""`agad-tf demo`: train, compare, evaluate, export, score from the export; on images that need no download.

The images are rendered photographs of a brushed steel plate: 200 of good parts, and four kinds of defects.
Some burrs and scratches are labelled; dents and stains are never shown to a detector.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from agad_tf.data.samples import Samples
from agad_tf.evaluation.evaluation import image_maps
from agad_tf.export import score_saved_model
from agad_tf.export.agreement import FLOAT32, agreement, rounded_size
from agad_tf.export.saved_model import export_saved_model
from agad_tf.scoring.detectors import Maps
from agad_tf.scoring.files import Sample
from agad_tf.scoring.overlays import Overlays
from agad_tf.scoring.results import Row
from agad_tf.training.choice import choose_detector
from agad_tf.training.configuration import configure
from agad_tf.training.open import Run, load_run, load_split
from agad_tf.training.train import train

SOURCE = "photos:plate"
KNOWN = ("burr", "scratch")
"""Labelled are the two kinds that are hardest to see."""
SHARED = (
    ("source", SOURCE),
    ("anomaly_classes", list(KNOWN)),
    ("validation", 0.2),
    ("left_out", False),
)
"""Fewer held-out normals than 19 could not promise at most 5 % false alarms. What labels do for kinds never
shown need not be estimated by leaving kinds out: such kinds are tested."""
OF_AGAD = (
    ("backbone", "encoder_decoder"),
    ("image_size", 64),
    ("batch_size", 32),
    ("min_anomalies", 8),
    ("epochs", 6),
)
OVERLAYS = 3
"""Photographs of each kind of defect whose heat maps are written as files."""
BESIDE = ("agad",)
"""Trained on the same split for comparison, where the demo's own detector is another."""


def demo(path: Path, export_folder: Path, settings=(), progress: bool = True) -> dict:
    """Trains the detector that suits photographs, and AGAD beside it on the same split.

    Args:
        path: run directory to write; AGAD's is called the same with "-agad" after it.
        export_folder: where the SavedModel's versions go.
        settings: pairs (name, value) over the demo's own; of the first detector.
        progress: show progress bars.

    Returns:
        The run's metrics with `detector`, `why`, `beside` (detector to metrics), `report`,
        `overlays`, `export`, `export_agreement` (see `agad_tf.export.agreement`) and `agrees`.
    """
    name, why = choose_detector(SOURCE)
    own = OF_AGAD if name == "agad" else ()
    train(configure(name, settings=[*SHARED, *own, *settings]), path, progress)
    run = load_run(path)
    beside = {}
    for other in BESIDE:
        if other != name:
            place = path.with_name(f"{path.name}-{other}")
            seed = [pair for pair in settings if pair[0] == "seed"]
            own = [*SHARED, *OF_AGAD, ("baseline", False), *seed]  # the first run says what a simple one does
            beside[other] = train(configure(other, settings=own), place, progress)
            beside[other]["run"] = str(place)
    exported = export_saved_model(run.model, export_folder, run.calibration)
    samples, _ = load_split(run.configuration)
    overlays = write_overlays(run, samples, path / "overlays")
    images = np.asarray(samples.x[run.split.labelled("test")[0]])
    scores = run.model.predict(images, verbose=0)
    difference = agreement(scores, score_in_fresh_process(exported, images), rounded_size(run.model))
    return run.metrics | {
        "run": str(path),
        "detector": name,
        "why": why,
        "beside": beside,
        "report": str(path / "report.html"),
        "overlays": str(overlays),
        "export": str(exported),
        "export_agreement": difference,
        "agrees": difference <= FLOAT32,
    }


def write_overlays(run: Run, samples: Samples, folder: Path) -> Path:
    """Heat maps of some photographs of each kind of defect of the test part, in a new folder."""
    kinds = samples.classes[run.split.test_anomaly]
    rows = [row for kind in np.unique(kinds) for row in run.split.test_anomaly[kinds == kind][:OVERLAYS]]
    photographs = [
        Sample(f"{samples.class_names[samples.classes[row]]}_{row}.png", value=np.asarray(samples.x[row]))
        for row in rows
    ]
    maps = Maps(lambda images: image_maps(run.model, images), run.regions, run.model.preprocess.crop)
    with Overlays(folder, maps) as overlays:
        overlays.write(photographs, [Row(photograph.path) for photograph in photographs])
    return folder


def score_in_fresh_process(exported: Path, images: np.ndarray) -> np.ndarray:
    """Scores of an export in a process of its own that does not import this library."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "images.npy"), Path(folder, "scores.npy")
        np.save(inputs, images)
        # -I keeps the current folder, and so this library's source tree, off the path.
        command = [sys.executable, "-I", score_saved_model.__file__, exported, inputs, outputs]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"scoring from {exported} failed:\n{result.stderr}")
        return np.load(outputs)
