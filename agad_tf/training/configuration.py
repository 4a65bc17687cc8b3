"""The configuration of a run, derived from the signatures that use it: one source of names and defaults."""

import contextlib
import difflib
import functools
import inspect
import os
from pathlib import Path
from typing import Any

import yaml

from agad_tf.baselines import BASELINES, FITTED_ONCE
from agad_tf.baselines import NAMES as BASELINE_NAMES
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.errors import InputError
from agad_tf.evaluation import thresholds
from agad_tf.models import AGAD, AABiGAN, AABiGANNeighbours, AnomalyDetector, FeatureDiscriminator
from agad_tf.training import hardware, loading
from agad_tf.training.beside import beside
from agad_tf.training.checkpoints import Checkpoints
from agad_tf.training.kinds import is_wanted

DETECTORS: dict[str, type[AnomalyDetector]] = {
    "agad": AGAD,
    "aa_bigan": AABiGAN,
    "aa_bigan_neighbours": AABiGANNeighbours,
    "features": FeatureDiscriminator,
    **{name: BASELINES[name] for name in FITTED_ONCE},
}
EPOCHS = {"agad": 15, "aa_bigan": 40, "aa_bigan_neighbours": 40, "features": 5}
EPOCHS |= dict.fromkeys(FITTED_ONCE, 1)
"""Neither paper's number: AGAD's is not known, AA-BiGAN's 200 and more are long for a first look."""
MOST_SEEDS = 2**32
"""NumPy's and Keras' global generators take no more."""
CHANGEABLE = ("hardware", "checkpoints", "report")
"""Sections that may be other ones when a run goes on: they say how it trains, not what."""
_NO_SETTINGS = {"self", "kwargs", "samples", "input_shape", "x", "y", "verbose", "callbacks", "name"}
_NO_SETTINGS |= {"validation_data", "initial_epoch", "steps_per_epoch", "run_eagerly"}
_NO_SETTINGS |= {
    "generator_optimizer",
    "discriminator_optimizer",
    "folder",
    "resume",
    "identity",
    "features_folder",
    "masks",
    "evaluation",
    "encoding",
}
_NO_SETTINGS |= {"validation_split", "shuffle"}  # a run splits by itself

Configuration = dict[str, Any]


def defaults(detector: str = "agad") -> Configuration:
    """Every setting of a run with its default, by section.

    Raises:
        InputError: unknown detector.
    """
    if detector not in DETECTORS:
        known = f"detector expects one of {', '.join(DETECTORS)}, received {detector!r}"
        raise InputError(known + (": it is for agad-tf compare alone" if detector in BASELINE_NAMES else ""))
    sections = {
        section: {name: parameter.default for name, parameter in parameters.items()}
        for section, parameters in _parameters(detector).items()
    }
    sections["fit"]["epochs"] = EPOCHS[detector]
    sections["checkpoints"]["every"] = "5 minutes"
    return {"detector": detector, **sections}


def calibration_defaults() -> dict[str, Any]:
    """How a run's threshold is chosen where nothing else is asked for."""
    return defaults()["calibration"]


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
    in_file = {} if file is None else _read(Path(file))
    configuration = defaults(detector or in_file.get("detector", "agad"))
    for name, value in [*_pairs(in_file, file, configuration), *settings]:
        _set(configuration, name, value)
    configuration["data"]["source"] = lasting_source(configuration["data"]["source"])
    return configuration


def configure_again(stored: str | Path, detector=None, file=None, settings=()) -> Configuration:
    """The configuration that a run was started with, for going on with it.

    Args:
        stored: the run's `config.yaml`.
        detector, file, settings: as in `configure`; what they say must be what the run was started with, but
            for the sections `CHANGEABLE`.

    Raises:
        InputError: another setting than the run's.
    """
    before = configure(file=stored)
    in_file = {} if file is None else _read(Path(file))
    detector = detector or in_file.get("detector", before["detector"])
    changed = [] if detector == before["detector"] else [f"detector={detector}"]
    after = configure(file=stored)
    for name, value in [*_pairs(in_file, file, after), *settings]:
        _set(after, name, value)
    after["data"]["source"] = lasting_source(after["data"]["source"])
    for section in set(_sections(before)) - set(CHANGEABLE):
        for name, value in after[section].items():
            was = before[section][name]
            # One number stands for a square's sides.
            if was not in (value, [value, value]):
                changed.append(f"{name}={value}, which was {was}")
    if changed:
        raise InputError(
            f"{Path(stored).parent}: expected the settings that it was started with, received "
            f"{'; '.join(sorted(changed)[:3])}: leave them out, or start another run with --out"
        )
    return before | {section: after[section] for section in CHANGEABLE}


def lasting_source(source: str | None) -> str | None:
    """A source that means the same from every folder: paths become absolute, names stay as they are."""
    if source in (None, "digits") or not Path(source).expanduser().exists():
        return source
    return os.path.abspath(Path(source).expanduser())


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
    except (ValueError, RecursionError, yaml.YAMLError):
        raise InputError(
            f"--set expects NAME=VALUE, received {text!r}: write for instance clip_norm=1"
        ) from None


def _pairs(in_file: dict, file, configuration: Configuration) -> list[tuple[str, Any]]:
    """The settings of a YAML file as pairs (section.name, value)."""
    pairs = []
    for section, values in in_file.items():
        if section == "detector":
            continue
        if section not in configuration or not isinstance(values, dict):
            raise InputError(
                f"{file}: expected the sections {', '.join(_sections(configuration))}, received {section!r}"
            )
        pairs += [(f"{section}.{name}", value) for name, value in values.items()]
    return pairs


def _set(configuration: Configuration, name: str, value: Any) -> None:
    sections = _sections(configuration)
    if name == "seed":
        for section in sections:
            if "seed" in configuration[section]:
                configuration[section]["seed"] = _typed("seed", value, {"int"})
        return
    section, _, setting = name.rpartition(".")
    places = [section] if section else [part for part in sections if setting in configuration[part]]
    if len(places) > 1:
        wanted = " or ".join(f"{place}.{setting}" for place in places)
        raise InputError(f"setting {name} is ambiguous: write {wanted}")
    if not places or setting not in configuration.get(places[0], {}):
        known = sorted({setting for part in sections for setting in configuration[part]})
        near = difflib.get_close_matches(setting, known, 1)
        hint = f", did you mean {near[0]}?" if near else ":"
        raise InputError(f"unknown setting {name!r}{hint} expected one of {', '.join(known)}")
    kinds = _kinds(_parameters(configuration["detector"])[places[0]][setting])
    configuration[places[0]][setting] = _typed(name, value, kinds)


def _typed(name: str, value: Any, kinds: set[str]) -> Any:
    """The value as one of these kinds of a signature; all others are lists or mappings.

    Raises:
        InputError: a value of another kind.
    """
    if name.rpartition(".")[2] == "seed" and isinstance(value, int) and not 0 <= value < MOST_SEEDS:
        raise InputError(
            f"setting {name} expects a whole number from 0 to {MOST_SEEDS - 1}, received {value}"
        )
    number = kinds & {"int", "float"}
    if isinstance(value, str) and number and ("str" not in kinds or "float" in kinds):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML 1.1 takes 1e-3 for text
    if isinstance(value, float) and "float" not in kinds and value.is_integer():
        value = int(value)
    fits = (
        (value is None and "None" in kinds)
        or (isinstance(value, bool) and "bool" in kinds)
        or (isinstance(value, str) and "str" in kinds)
        or (isinstance(value, int) and not isinstance(value, bool) and number)
        or (isinstance(value, float) and "float" in kinds)
        or (isinstance(value, list | tuple | dict) and kinds - _WORDS.keys())
    )
    if kinds and not fits:
        wanted = " or ".join(word for kind, word in _WORDS.items() if kind in kinds)
        raise InputError(f"setting {name} expects {wanted}, received {value!r}")
    return value


def _sections(configuration: Configuration) -> list[str]:
    return [name for name, value in configuration.items() if isinstance(value, dict)]


def _read(path: Path) -> dict:
    try:
        given = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: expected a YAML file, found none: check the path") from None
    except (OSError, ValueError, RecursionError, MemoryError, yaml.YAMLError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: expected YAML, received something else ({reason})") from None
    if not isinstance(given, dict):
        raise InputError(f"{path}: expected sections of settings, received {type(given).__name__}")
    return given


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "None": "null",
}


@functools.cache
def _parameters(detector: str) -> dict[str, dict[str, inspect.Parameter]]:
    """What can be set, by section and name."""
    cls = DETECTORS[detector]
    given = {"normal_scores", "anomaly_scores", "score", "split"}  # of the calibration: the run supplies them
    calibration, data = _signature(thresholds.calibrate), _signature(loading.load)
    source = data["source"].replace(default=None, annotation="str | None")
    return {
        "data": {"source": source}
        | {
            name: data[name]
            for name in ("image_size", "channels", "cache", "group", "label_column", "missing")
        },
        "split": _signature(one_class_split),
        "model": _signature(cls.__init__),
        "compile": _signature(cls.compile),
        "fit": _signature(AnomalyDetector.fit) | _signature(cls.fit),
        "calibration": {name: value for name, value in calibration.items() if name not in given},
        "hardware": _signature(hardware.prepare),
        "checkpoints": _signature(Checkpoints.__init__),
        "report": _signature(beside) | _signature(is_wanted),
    }


def _signature(function) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    return {name: parameter for name, parameter in parameters.items() if name not in _NO_SETTINGS}


def _kinds(parameter: inspect.Parameter) -> set[str]:
    """The types of an annotation by name; without one that of the default, where it tells; else none."""
    annotation, default = parameter.annotation, parameter.default
    if annotation is parameter.empty:
        known = not isinstance(default, bool) and isinstance(default, int)
        return {"int"} if known else set()
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return {piece.strip() for piece in text.split("|")} - {"Path"}
