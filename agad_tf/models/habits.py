"""What users of Keras are used to, made to work here or answered in one line that says what to do instead."""

from __future__ import annotations

import functools
import importlib
import inspect
import tempfile
from pathlib import Path

import keras

from agad_tf.errors import InputError

_INSTEAD = {
    "class_weight": "min_anomalies says how many anomalies every batch holds",
    "sample_weight": "min_anomalies says how many anomalies every batch holds",
    "validation_steps": "pass validation_data.take(steps)",
    "validation_freq": "call evaluate in a callback",
    "validation_batch_size": "pass validation_data in batches, as a dataset",
    "loss": "the losses are the paper's, and compile has their weights",
    "loss_weights": "compile has a weight for each of the paper's losses",
    "metrics": "evaluate gives the AUROC; others come from predict",
    "weighted_metrics": "evaluate gives the AUROC; others come from predict",
    "steps_per_execution": "leave it out",
    "auto_scale_loss": "leave it out: losses of mixed_float16 are scaled",
}


def check_fit_arguments(kwargs: dict) -> None:
    """Refuses arguments of Keras' `fit` that ours has not, unless at Keras' defaults; says what to do."""
    kwargs = {name: value for name, value in kwargs.items() if not _says_nothing(name, value)}
    if kwargs:
        raise InputError(
            "fit expects x, y, batch_size, epochs, callbacks, validation_data, validation_split, shuffle, "
            f"min_anomalies, seed, augment; received {', '.join(kwargs)}: {_advice(kwargs)}"
        )


def _says_nothing(name: str, value) -> bool:
    return name in _INSTEAD and (value is None or (name == "validation_freq" and value == 1))


def check_evaluate_arguments(kwargs: dict) -> None:
    """Refuses arguments of Keras' `evaluate` that would change what is measured."""
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    if kwargs:
        advice = "pass dataset.take(steps)" if "steps" in kwargs else "leave it out: every sample counts once"
        raise InputError(
            f"evaluate expects x, y, batch_size, verbose, callbacks, return_dict; received "
            f"{', '.join(kwargs)}: {advice}"
        )


def _advice(names) -> str:
    return next((_INSTEAD[name] for name in names if name in _INSTEAD), "leave it out")


def compile_door(compile_method):
    """`compile` that takes an optimizer as Keras does, for all at once, and refuses in one line."""
    signature = inspect.signature(compile_method).parameters
    parameters = list(signature)[1:]
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.values())
    own = [name for name in parameters if name.endswith("optimizer")]

    @functools.wraps(compile_method)
    def compile(self, *args, **kwargs):
        if args and isinstance(args[0], str | dict | keras.optimizers.Optimizer):
            if len(args) > 1:
                raise InputError(
                    f"compile expects an optimizer alone, received {len(args)} arguments: {_INSTEAD['loss']}"
                )
            args, kwargs = (), {"optimizer": args[0]} | kwargs
        _check_rates(*args[:1], *(value for name, value in kwargs.items() if name.endswith("learning_rate")))
        if passes_on:  # a subclass of the user's, which calls that of ours
            return compile_method(self, *args, **kwargs)
        unknown = [name for name in kwargs if name not in (*parameters, "optimizer")]
        if unknown:
            raise InputError(
                f"compile expects {', '.join(parameters)}; received {', '.join(unknown)}: {_advice(unknown)}"
            )
        if kwargs.get("optimizer") is not None:
            optimizer = kwargs.pop("optimizer")
            try:
                optimizer = keras.optimizers.get(optimizer)
            except (ValueError, TypeError):
                known = "an optimizer of Keras or its name, for instance 'adam'"
                raise InputError(f"optimizer expects {known}, received {optimizer!r}") from None
            for name in own:
                if kwargs.get(name) is None:
                    kwargs[name] = optimizer
        else:
            kwargs.pop("optimizer", None)
        return compile_method(self, *args, **kwargs)

    return compile


def _check_rates(*rates) -> None:
    if any(isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) for rate in rates):
        raise InputError(
            "learning_rate expects a number, received a schedule: give it to the optimizers, "
            "compile(optimizer=keras.optimizers.Adam(schedule))"
        )


_EXPORTS = {"onnx": ("onnx", "export_onnx"), "litert": ("tflite", "export_tflite")}


def export(model, filepath, format: str, input_signature, more: dict) -> None:
    """`keras.Model.export` with what `agad-tf export` writes.

    Raises:
        InputError: another format, arguments that the export has no use for, a path that exists.
    """
    given = [*(["input_signature"] if input_signature is not None else []), *more]
    if given:
        raise InputError(
            f"export expects a path and a format, received {', '.join(given)}: the signatures are those of "
            "agad-tf export; precision and calibration are arguments of the functions in agad_tf.export"
        )
    if format not in ("tf_saved_model", *_EXPORTS):
        raise InputError(
            f"format expects one of tf_saved_model, {', '.join(_EXPORTS)}, received {format!r}: choose one"
        )
    path = Path(filepath)
    # By name, when it is called: exports know models, and not the other way round.
    if format in _EXPORTS:
        module, name = _EXPORTS[format]
        getattr(importlib.import_module(f"agad_tf.export.{module}"), name)(model, path)
        return
    if path.exists():
        raise InputError(f"{path}: expected a path that is free, but it exists: choose another")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.partial-") as folder:
        importlib.import_module("agad_tf.export.saved_model").write_saved_model(model, Path(folder) / "model")
        (Path(folder) / "model").rename(path)


def door_for_samples(method):
    """A method of samples that looks at them first; of a data frame columns go by their names."""

    @functools.wraps(method)
    def looked_at(self, x, *args, **kwargs):
        return method(self, self.looked_at(x), *args, **kwargs)

    return looked_at


def check_save_path(filepath, zipped: bool | None = None) -> None:
    """Refuses the formats of files that cannot hold a detector."""
    if zipped is not False and not str(filepath).endswith((".keras", ".h5", ".hdf5")):
        raise InputError(
            f"{filepath}: expected a name that ends in .keras, received another: save('model.keras'), or "
            "export(path) for a SavedModel"
        )
    if str(filepath).endswith((".h5", ".hdf5")):
        raise InputError(
            f"{filepath}: expected a name that ends in .keras, received the HDF5 format, which cannot hold a "
            "detector: save('model.keras'), or save_weights('model.weights.h5') for weights alone"
        )
