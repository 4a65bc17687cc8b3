"""The configuration of a run, derived from the signatures that use it: one source of names and defaults."""

import inspect
from pathlib import Path
from typing import Any

import yaml

from agad_tf.data.protocols import one_class_split
from agad_tf.errors import InputError
from agad_tf.evaluation import thresholds
from agad_tf.models import AGAD, AnomalyDetector

DETECTORS: dict[str, type[AnomalyDetector]] = {"agad": AGAD}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "float64")
_NO_SETTINGS = {"self", "kwargs", "samples", "input_shape", "x", "y", "verbose", "callbacks", "name"}
_NO_SETTINGS |= {"validation_data", "initial_epoch", "steps_per_epoch", "run_eagerly"}
_NO_SETTINGS |= {"generator_optimizer", "discriminator_optimizer"}

Configuration = dict[str, Any]


def defaults(detector: str = "agad") -> Configuration:
    """Every setting of a run with its default, by section: data, split, model, compile, fit, calibration.

    Raises:
        InputError: unknown detector.
    """
    if detector not in DETECTORS:
        raise InputError(f"detector expects one of {', '.join(DETECTORS)}, received {detector!r}")
    cls = DETECTORS[detector]
    return {
        "detector": detector,
        "data": {"source": None, "image_size": None, "channels": None, "cache": None},
        "split": _signature(one_class_split),
        "model": _signature(cls.__init__) | {"dtype": "float32"},
        "compile": _signature(cls.compile),
        "fit": _signature(AnomalyDetector.fit) | {"epochs": 15},
        "calibration": calibration_defaults(),
    }


def calibration_defaults() -> dict[str, Any]:
    """How a run's threshold is chosen where nothing else is asked for."""
    given = {"normal_scores", "anomaly_scores", "score", "split"}  # what the run itself supplies
    settings = _signature(thresholds.calibrate)
    return {name: value for name, value in settings.items() if name not in given}


def configure(detector: str | None = None, file: str | Path | None = None, settings=()) -> Configuration:
    """Defaults, overridden by a YAML file, overridden by single settings.

    Args:
        detector: name of the detector; None takes the file's, or "agad".
        file: YAML in the layout of a run's `config.yaml`; sections and settings may be left out.
        settings: pairs (name, value); the name is `section.setting`, or a setting's own name where only one
            section has it. `seed` sets every seed.

    Raises:
        InputError: unknown section or setting, unreadable file.
    """
    given = {} if file is None else _read(Path(file))
    configuration = defaults(detector or given.pop("detector", "agad"))
    given.pop("detector", None)
    for section, values in given.items():
        if section not in configuration or not isinstance(values, dict):
            raise InputError(
                f"{file}: expected the sections {', '.join(_sections(configuration))}, received {section!r}"
            )
        for name, value in values.items():
            _set(configuration, f"{section}.{name}", value)
    for name, value in settings:
        _set(configuration, name, value)
    return configuration


def parse_setting(text: str) -> tuple[str, Any]:
    """`"clip_norm=1.5"` to ("clip_norm", 1.5); values are YAML.

    Raises:
        InputError: no equals sign, or a value that is no YAML.
    """
    name, separator, value = text.partition("=")
    try:
        if not separator or not name:
            raise ValueError("no name and value")
        return name.strip(), yaml.safe_load(value)
    except (ValueError, yaml.YAMLError):
        raise InputError(
            f"--set expects NAME=VALUE, received {text!r}: write for instance clip_norm=1"
        ) from None


def _set(configuration: Configuration, name: str, value: Any) -> None:
    sections = _sections(configuration)
    if name == "seed":
        for section in sections:
            if "seed" in configuration[section]:
                configuration[section]["seed"] = value
        return
    section, _, setting = name.rpartition(".")
    places = [section] if section else [part for part in sections if setting in configuration[part]]
    if len(places) > 1:
        wanted = " or ".join(f"{place}.{setting}" for place in places)
        raise InputError(f"setting {name} is ambiguous: write {wanted}")
    if not places or setting not in configuration.get(places[0], {}):
        known = sorted({setting for part in sections for setting in configuration[part]})
        raise InputError(f"unknown setting {name!r}: expected one of {', '.join(known)}")
    default = configuration[places[0]][setting]
    if isinstance(value, str) and isinstance(default, int | float) and not isinstance(default, bool):
        try:
            value = float(value)  # YAML 1.1 takes 1e-3 for text
        except ValueError:
            raise InputError(f"setting {name} expects a number, received {value!r}") from None
    configuration[places[0]][setting] = value


def _sections(configuration: Configuration) -> list[str]:
    return [name for name, value in configuration.items() if isinstance(value, dict)]


def _read(path: Path) -> dict:
    try:
        given = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: expected a YAML file, found none: check the path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: expected YAML, received something else ({reason})") from None
    if not isinstance(given, dict):
        raise InputError(f"{path}: expected sections of settings, received {type(given).__name__}")
    return given


def _signature(function) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in _NO_SETTINGS}
