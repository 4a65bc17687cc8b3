"""Checkpoints of a training: everything that decides how it goes on, so that a killed one ends the same."""

from __future__ import annotations

import json
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

from agad_tf.errors import InputError
from agad_tf.models.loop import Position, ResumingCallback
from agad_tf.models.updates import training_variables
from agad_tf.replicas import from_chief, is_chief
from agad_tf.training.state_file import DamagedFileError, read_state, write_state

UNITS = {"second": 1, "minute": 60, "hour": 3600}
_NAME = re.compile(r"epoch-(\d+)-step-(\d+)\.checkpoint")
_LEFTOVER = re.compile(r"\.epoch-\d+-step-\d+\.checkpoint\.\w+\.partial")

# What Keras' own callbacks remember from one epoch to the next.
REMEMBERED: dict[type, tuple[str, ...]] = {
    keras.callbacks.History: ("history", "epoch"),
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "best_weights", "stopped_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best", "epochs_since_last_save"),
}


class Checkpoints(ResumingCallback):
    """Writes checkpoints during `fit`, and goes on from the newest one when `fit` is called again.

    ```python
    model.fit(x, y, epochs=100, callbacks=[Checkpoints("checkpoints")])  # killed: run the same script again
    ```

    A checkpoint holds the weights, both optimizers, moving averages and batch-norm statistics, the position
    in the data, random states, the logs so far, and what other callbacks remember: Keras' own, and those with
    `get_state()` (a dict of numbers, texts, lists and arrays) and `set_state(state)`. On a CPU the resumed
    training ends with the same weights, bit for bit, as one that was never interrupted, provided that the
    data are arrays or come from `agad_tf.quota_batches`; another dataset is read again up to the position,
    and must give the same batches again.

    Files are written aside, synced and renamed: `epoch-0003-step-000120.checkpoint` is whole or absent. A
    damaged one is told in a line, and the one before is taken.

    Args:
        folder: of the checkpoints of this training alone; made if missing.
        every: "epoch"; a number of steps; or a time such as "10 minutes" or "30 seconds". One more is written
            when training ends.
        keep: how many to keep, the newest.
        resume: False removes the checkpoints in the folder, and no other file, and starts at the beginning.
        identity: JSON-able facts about the training that must be the same when it goes on, besides the
            model's and `compile`'s settings and the first batch, which are always compared.

    Raises:
        InputError: arguments that cannot be used; from `fit`, checkpoints of another training.
    """

    def __init__(
        self,
        folder: str | Path,
        every: str | int = "epoch",
        keep: int = 3,
        resume: bool = True,
        identity: dict | None = None,
    ):
        super().__init__()
        self.folder = Path(folder)
        self.every_steps, self.every_seconds = parse_every(every)
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise InputError(f"keep expects a whole number of at least 1, received {keep!r}: keep 3")
        self.keep, self.resume, self.facts = keep, resume, identity or {}
        self.seconds = 0.0
        """Time that this training took so far, in all processes, s."""
        self._found: dict | None = None
        self._asked_to_stop = False

    # -- going on --------------------------------------------------------------------------------------------

    def find(self, callbacks, identity):
        self._callbacks = [callback for callback in callbacks if callback is not self]
        self._steps = self.params["steps"]
        self._identity = json_like(identity() | self.facts)
        self._chief = is_chief(self.model.distribute_strategy)
        content = from_chief(self.model.distribute_strategy, self._newest() if self._chief else b"")
        self._found = read_state(content) if content else None
        if self._found is None:
            return None
        different = differences(unnamed(self._found["identity"]), unnamed(self._identity))
        if different:
            different.sort(key=lambda phrase: phrase.endswith(" changed"))  # what says most comes first
            more = f" and {len(different) - 2} more" if len(different) > 2 else ""
            raise InputError(
                f"{self.folder}: expected checkpoints of this training, received those of another: "
                f"{'; '.join(different[:2])}{more}; undo the change or take another folder"
            )
        stored = [np.shape(value) for value in self._found["variables"]]
        if stored != [tuple(variable.shape) for variable in self._variables()]:
            # The one change that the comparison above lets pass: mixed_float16 scales its losses.
            raise InputError(
                f"{self.folder}: expected checkpoints with the variables of this training, received others; "
                "was one of the two in mixed_float16? Take the precision it was started with"
            )
        position = Position(*self._found["position"])
        if self._chief:
            epochs = self.params["epochs"]
            done = position.epoch >= epochs or (self._found["stopped"] and not position.step)
            where = f"epoch {position.epoch + 1} of {epochs}, step {position.step} of {self._steps}"
            said = f"training was finished after epoch {position.epoch}" if done else f"going on at {where}"
            _say(f"{self.folder}: {said}")
        return position

    def _newest(self) -> bytes:
        """Content of the newest checkpoint that is whole; empty without one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".*.partial"):
            if _LEFTOVER.fullmatch(leftover.name):
                leftover.unlink()
        if not self.resume:
            for path in self._written():
                path.unlink()
        for path in reversed(self._written()):
            content = path.read_bytes()
            try:
                read_state(content)
                return content
            except DamagedFileError as error:
                _say(f"{path}: a damaged checkpoint ({error}); taking the one before")
        if self.resume:
            _say(f"{self.folder}: no checkpoint, training starts at the beginning")
        return b""

    def on_train_begin(self, logs=None):
        self._begun = self._last = time.monotonic()
        if self._found is None:
            return
        state, self._found = self._found, None
        for variable, value in zip(self._variables(), state["variables"], strict=True):
            variable.assign(value)
        self.model.stop_training = state["stopped"]
        self.seconds = state["seconds"]
        set_random_state(state["random"])
        remaining = list(self._callbacks)
        for name, remembered in state["callbacks"]:
            same = next((callback for callback in remaining if type(callback).__name__ == name), None)
            if same is not None:
                remaining.remove(same)
                put_back(same, remembered)

    # -- writing ---------------------------------------------------------------------------------------------

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        step = batch + 1
        made = self._epoch * self._steps + step
        due = self.every_steps is not None and made % self.every_steps == 0
        late = self.every_seconds is not None and time.monotonic() - self._last >= self.every_seconds
        if due or late or self._asked_to_stop:
            self._save(Position(self._epoch, step))
        self._stop_if_asked()

    def on_epoch_end(self, epoch, logs=None):
        by_epochs = self.every_steps is None and self.every_seconds is None
        last = epoch + 1 == self.params["epochs"]
        if by_epochs or self.model.stop_training or last or self._asked_to_stop:
            self._save(Position(epoch + 1))
        self._stop_if_asked()

    # -- stopping --------------------------------------------------------------------------------------------

    @contextmanager
    def stopped_by_ctrl_c(self) -> Iterator[None]:
        """In this block the first Ctrl-C ends the step and writes a checkpoint; a second stops at once.

        Only the main thread hears of Ctrl-C; in another one the block changes nothing.

        Raises:
            KeyboardInterrupt: after the checkpoint.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def note(number, frame):
            self._asked_to_stop = True
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _say("stopping after this step; Ctrl-C again stops at once, with the checkpoint before")

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            self._asked_to_stop = False

    def _stop_if_asked(self) -> None:
        if self._asked_to_stop:
            raise KeyboardInterrupt

    def on_train_end(self, logs=None):
        self.seconds += time.monotonic() - self._begun

    def _save(self, position: Position) -> None:
        self._last = time.monotonic()
        if not self._chief:
            return
        state = {
            "position": [position.epoch, position.step],
            "stopped": bool(self.model.stop_training),
            "seconds": self.seconds + self._last - self._begun,
            "identity": self._identity,
            "variables": [variable.numpy() for variable in self._variables()],
            "random": random_state(),
            "callbacks": [
                [type(callback).__name__, remembered]
                for callback in self._callbacks
                if (remembered := what_it_remembers(callback)) is not None
            ],
        }
        path = self.folder / f"epoch-{position.epoch:04d}-step-{position.step:06d}.checkpoint"
        write_state(path, state)
        # Those beyond this position are of a past that was given up.
        older = [other for other in self._written() if _position(other) <= position]
        for other in set(self._written()) - set(older[-self.keep :]):
            other.unlink()

    def _variables(self) -> list:
        return [*training_variables(self.model), self.model.log_sums]

    def _written(self) -> list[Path]:
        return sorted(
            (path for path in self.folder.glob("*.checkpoint") if _NAME.fullmatch(path.name)), key=_position
        )


def parse_every(every: str | int) -> tuple[int | None, float | None]:
    """(steps, seconds) between checkpoints; both None for the ends of epochs.

    Raises:
        InputError: neither "epoch", nor a number of steps, nor a time.
    """
    if every == "epoch":
        return None, None
    if isinstance(every, int) and not isinstance(every, bool) and every > 0:
        return every, None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) (second|minute|hour)s?", str(every))
    if match and float(match[1]) > 0:
        return None, float(match[1]) * UNITS[match[2]]
    raise InputError(
        f"every expects 'epoch', a number of steps, or a time such as '10 minutes'; received {every!r}"
    )


def what_it_remembers(callback: keras.callbacks.Callback) -> dict | None:
    """The state of a callback; None for one that has none, or does not tell."""
    if hasattr(callback, "get_state"):
        return callback.get_state()
    for kind, names in REMEMBERED.items():
        if isinstance(callback, kind):
            return {name: getattr(callback, name) for name in names if hasattr(callback, name)}
    return None


def put_back(callback: keras.callbacks.Callback, state: dict) -> None:
    """Makes a callback remember what `what_it_remembers` told."""
    if hasattr(callback, "set_state"):
        callback.set_state(state)
        return
    for name, value in state.items():
        setattr(callback, name, value)


def random_state() -> dict:
    """The state of Python's and NumPy's global generators; Keras layers keep theirs in variables."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, np.array(numbers), gauss],
        "numpy": [name, keys, position, has_gauss, cached],
    }


def set_random_state(state: dict) -> None:
    """Sets the generators to what `random_state` told."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    np.random.set_state(tuple(state["numpy"]))


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """What differs between two JSON-like dicts, a phrase each."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            found += differences(was, now, f"{prefix}{name}.")
        elif was != now:
            long = len(str(was)) + len(str(now)) > 60
            found.append(f"{prefix}{name} changed" if long else f"{prefix}{name} was {was}, is {now}")
    return found


def json_like(value: dict) -> dict:
    """What is left of a dict after it was written as JSON and read back."""
    return json.loads(json.dumps(value, default=str))


def unnamed(value):
    """A JSON-like value whose serialized Keras objects have no names: Keras numbers them as they are made."""
    if isinstance(value, list):
        return [unnamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {name: unnamed(item) for name, item in value.items()}
    if "class_name" in plain and isinstance(plain.get("config"), dict):
        plain["config"] = {name: item for name, item in plain["config"].items() if name != "name"}
    return plain


def _position(path: Path) -> Position:
    return Position(*map(int, _NAME.fullmatch(path.name).groups()))


def _say(line: str) -> None:
    print(line, file=sys.stderr)
