"""What an export says about itself: data, split, metrics, calibration, configuration, versions, licence."""

import importlib.metadata
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import agad_tf
from agad_tf.evaluation.calibration import Calibration
from agad_tf.files import write_atomically
from agad_tf.models.scorer import AnomalyScorer
from agad_tf.training.open import Run

FORMAT = "agad_tf model card 1"
PACKAGES = ("tensorflow", "keras", "numpy")
NOT_STATED = "not stated: the terms of the training data apply"


def model_card(model: AnomalyScorer, calibration: Calibration | None = None, name: str | None = None) -> dict:
    """What the model itself tells, as plain values.

    Returns:
        `format`, `name`, `created` (UTC), `detector`, `input` (`kind` "image" or "table", `shape`, for images
        `value_range` and `crop`), `identity` (an `agad_tf.identity.Identity` as a dict), `score` (`name`,
        `parts`), `calibration` (without the normal scores, with the share of them that is above; or None),
        `configuration` (`model`, and `compile` where it was compiled), `versions`, `licence`; `data`, `split`
        and `metrics` are None: see `run_card`.
    """
    inputs = {"kind": "table" if model.is_table else "image", "shape": list(model.sample_shape)}
    if not model.is_table:
        inputs |= {"value_range": list(model.preprocess.value_range), "crop": model.preprocess.crop}
    configuration = {"model": model.get_config()}
    if model.compiled:
        configuration["compile"] = model.get_compile_config()
    card = {
        "format": FORMAT,
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "detector": type(model).__name__,
        "input": inputs,
        "identity": model.identity.to_dict(),
        "score": {"name": model.score, "parts": list(model.parts_of_score)},
        "data": None,
        "split": None,
        "metrics": None,
        "calibration": calibration_summary(calibration),
        "configuration": configuration,
        "versions": {"agad_tf": agad_tf.__version__}
        | {package: importlib.metadata.version(package) for package in PACKAGES},
        "licence": {"software": "Apache-2.0", "weights": NOT_STATED},
    }
    return json.loads(json.dumps(card, default=str))


def calibration_summary(calibration: Calibration | None) -> dict | None:
    """A calibration as a card states it: without the normal scores, with the threshold's price on them."""
    if calibration is None:
        return None
    kept = {name: value for name, value in calibration.to_dict().items() if name != "normal_scores"}
    return kept | {"observed_false_alarm_rate": calibration.observed_false_alarm_rate}


def figures_at_threshold(
    scores: np.ndarray, labels: np.ndarray, calibration: Calibration | None
) -> dict[str, float | None]:
    """What the exported threshold does on scored test samples, under the names of a run's metrics.

    Args:
        scores: (n,) of the model or of its export.
        labels: (n,) 0 normal, 1 anomaly.
        calibration: of the export; without one nothing is known.

    Returns:
        `threshold`, `false_alarm_rate` and `recall`; None for a kind that the samples lack.
    """
    if calibration is None:
        return {}
    alarms, labels = calibration.is_anomaly(scores), np.asarray(labels)
    rates = [float(alarms[labels == kind].mean()) if (labels == kind).any() else None for kind in (0, 1)]
    return {"threshold": calibration.threshold, "false_alarm_rate": rates[0], "recall": rates[1]}


def run_card(run: Run, name: str | None = None, licence: str | None = None) -> dict:
    """`model_card` of a run's model, with its `data`, `split`, `metrics` and whole `configuration`.

    Args:
        run: from `load_run`.
        name: of the export; None takes the run's.
        licence: terms under which the weights may be used.
    """
    card = model_card(run.model, run.calibration, name or run.path.name)
    metrics = dict(run.metrics)
    summary = metrics.pop("split", None)
    metrics.pop("calibration", None)  # the card states the one that is exported
    if run.calibration is None or metrics.get("threshold") != run.calibration.threshold:
        # Recalibrated since: those figures are of another threshold than the one that is exported.
        for name in ("threshold", "false_alarm_rate", "recall"):
            metrics.pop(name, None)
        if run.calibration is not None and run.scores is not None:
            metrics |= run.scores.test_figures(run.calibration)
    card |= {
        "data": _read_json(run.path / "data.json"),
        "split": {"sha256": run.split.sha256, "summary": summary},
        "metrics": metrics,
        "configuration": run.configuration,
    }
    card["licence"]["weights"] = licence or NOT_STATED
    return json.loads(json.dumps(card, default=str))


def write_model_card(
    folder: Path, model: AnomalyScorer, calibration: Calibration | None, card: dict | None
) -> None:
    """Writes `model_card.json` and `model_card.md` into `folder`, which is made.

    Args:
        folder: `assets.extra` of a SavedModel.
        model, calibration: for the card where none is given.
        card: from `model_card` or `run_card`.
    """
    card = card or model_card(model, calibration)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "model_card.json", (json.dumps(card, indent=2) + "\n").encode())
    # Names of classes and files need not be Unicode.
    write_atomically(folder / "model_card.md", card_text(card).encode("utf-8", "backslashreplace"))


def card_text(card: dict) -> str:
    """The card for people, as Markdown."""
    shape = " x ".join(map(str, card["input"]["shape"]))
    lines = [
        f"# {card['name'] or card['detector']}",
        "",
        f"{card['detector']} anomaly detector, exported {card['created']}.",
        "",
        f"- Input: {card['input']['kind']}, {shape}"
        + (" (uint8 images of any size are resized inside)" if card["input"]["kind"] == "image" else ""),
        f"- Score: {card['score']['name']} ({', '.join(card['score']['parts'])}); higher is more anomalous",
        f"- Licence: software {card['licence']['software']}; weights {card['licence']['weights']}",
        f"- Made with {', '.join(f'{name} {version}' for name, version in card['versions'].items())}",
    ]
    chosen = card["calibration"]
    lines += ["", "## Threshold", ""]
    if chosen is None:
        lines.append("None: the export gives scores alone.")
    else:
        lines.append(
            f"An anomaly is what scores above {chosen['threshold']:.9g}. Of the {chosen['n_normal']} "
            "held-out normals that it was chosen with, "
            f"{chosen['observed_false_alarm_rate']:.1%} score above it."
        )
        lines += ["", *_items({k: v for k, v in chosen.items() if k not in ("format", "threshold")})]
    if card.get("agreement"):
        lines += ["", "## Scores beside the model's on test samples", "", *_items(card["agreement"])]
    for title, name in (("Metrics on the test part", "metrics"), ("Split", "split"), ("Data", "data")):
        lines += ["", f"## {title}", "", *(_items(card[name]) if card[name] else ["Not known."])]
    lines += ["", "## Configuration", "", "```json", json.dumps(card["configuration"], indent=1), "```"]
    return "\n".join(lines) + "\n"


def _items(values: dict) -> list[str]:
    return [
        f"- {name}: {json.dumps(value) if isinstance(value, dict | list) else value}"
        for name, value in values.items()
        if value is not None
    ]


def _read_json(path: Path):
    return json.loads(path.read_text()) if path.is_file() else None
