"""The one watcher of trainings, and a watched training."""

import time

import keras


class Watch(keras.callbacks.Callback):
    """Looks at a model after its epochs, and leaves its training alone; a resumed training keeps the looks.

    Args:
        model: the detector; one that is still pretraining is not looked at.
        look: from an epoch's logs to a dict of what is seen.
        looks: how many, evenly over the epochs; None for every epoch.

    Attributes:
        curve: one dict a look, `epoch` (from 1) and what was seen.
        seconds: spent looking.
        epoch_cpu_seconds: processor time of the last epoch, without the look.
    """

    def __init__(self, model, look, looks: int | None = None):
        super().__init__()
        self.watched, self.look, self.looks = model, look, looks
        self.curve, self.seconds, self.epoch_cpu_seconds = [], 0.0, None

    def on_epoch_begin(self, epoch, logs=None):
        self._begun = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch_cpu_seconds = time.process_time() - self._begun
        epochs = (self.params or {}).get("epochs") or epoch + 1
        count = epochs if self.looks is None else min(self.looks, epochs)
        if (epoch + 1) * count // epochs != epoch * count // epochs:
            self.see(epoch + 1, logs)

    def see(self, epoch: int, logs: dict | None = None) -> dict | None:
        """Looks now, as after this epoch; what was seen."""
        if getattr(self.watched, "pretraining", False):
            return None  # nothing has a centre yet, and so no score
        started = time.perf_counter()
        if hasattr(self.watched, "prepare_scoring"):
            self.watched.prepare_scoring()
        self.curve.append({"epoch": epoch} | self.look(logs or {}))
        self.seconds += time.perf_counter() - started
        return self.curve[-1]

    def get_state(self):
        # The epoch's seconds too: a run killed after its last epoch begins none.
        return {name: getattr(self, name) for name in ("curve", "seconds", "epoch_cpu_seconds")}

    def set_state(self, state):
        self.curve[:] = state["curve"]
        self.seconds, self.epoch_cpu_seconds = state["seconds"], state["epoch_cpu_seconds"]


def fit(model, x, y, watch: Watch, callbacks=(), **how) -> dict:
    """Trains, watched, and returns `seconds` and `cpu_seconds`, looks included, and `seconds_looking`."""
    started, computed = time.perf_counter(), time.process_time()
    model.fit(x, y, callbacks=[watch, *callbacks], verbose=0, **how)
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - computed, 2),
        "seconds_looking": round(watch.seconds, 2),
    }
