"""Run directories for tests that need a run and no training."""

import json
from pathlib import Path

import numpy as np
import yaml

from agad_tf.training.configuration import configure
from agad_tf.training.open import Run, load_run, load_split
from agad_tf.training.train import build


def untrained_run(path: Path, source="digits", **settings) -> Run:
    """Writes and loads a run whose networks have their first weights, with scoring prepared."""
    fast = {"backbone": "encoder_decoder", "data.image_size": 8, "score": "reconstruction"}
    configuration = configure("agad", settings=[("source", str(source)), *(fast | settings).items()])
    samples, split = load_split(configuration)
    model = build(configuration, samples)
    model.prepare_scoring(samples.x[split.train_normal])
    path.mkdir()
    model.save(path / "model.keras")
    split.save(path / "split.npz")
    configuration = json.loads(json.dumps(configuration, default=str))
    (path / "config.yaml").write_text(yaml.safe_dump(configuration))
    (path / "metrics.json").write_text("{}")
    return load_run(path)


def scores_of(run: Run, part: str) -> np.ndarray:
    """Scores of one part of the run's own split."""
    samples, split = load_split(run.configuration)
    return run.model.predict(samples.x[getattr(split, part)], verbose=0)
