"""Callbacks for `fit`."""

import logging
import sys
import time

import keras
from tqdm import tqdm

from agad_tf.models.inputs import describe_quota

logger = logging.getLogger(__name__)

TIMED_STEPS = 3
FEW_STEPS = 50  # quality was seen to rise until 100 to 200 steps (docs/results/stability.md)


def duration(seconds: float) -> str:
    """42 as "42 s", 200 as "3 min", 9000 as "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class ProgressBar(keras.callbacks.Callback):
    """One bar over all steps of a training, on standard error, with the losses and the validation AUROC.

    Above it stands what a batch is made of, how many steps there will be and, after the first steps, how long
    they will take. A training of fewer than `FEW_STEPS` steps is warned of.

    Args:
        disable: write neither.

    Attributes:
        shown: log names to display, in order; those absent from the logs are left out.
    """

    shown = ("loss_generator", "loss_discriminator", "val_auroc", "val_score_normal")

    def __init__(self, disable: bool = False):
        super().__init__()
        self.disable = disable
        self.bar = None
        self.values = {}
        self.made, self.timed_from = 0, None

    def on_train_begin(self, logs=None):
        steps, start, quota = self.params["steps"], self.params["start"], self.params["quota"]
        total = self.params["epochs"] * steps
        if not self.disable and quota is not None:
            tqdm.write(f"{describe_quota(quota)}, {steps} steps an epoch, {total} in all", file=sys.stderr)
        if total < FEW_STEPS and self.model.trained_by():
            logger.warning(
                "only %d training steps in all, where 100 to 200 are a good beginning: raise --epochs, or "
                "lower --batch-size and --min-anomalies",
                total,
            )
        self.bar = tqdm(
            total=total,
            initial=start.epoch * steps + start.step,
            unit="step",
            desc="training",
            disable=self.disable,
        )

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()
        self.made += 1
        if self.made == 1:  # the first step also builds the graph
            self.timed_from = time.monotonic()
        elif self.made == 1 + TIMED_STEPS and not self.disable:
            seconds = (time.monotonic() - self.timed_from) / TIMED_STEPS
            left = self.bar.total - self.bar.initial - self.made
            text = f"{seconds:.2g} s a step: about {duration(seconds * left)} for the {left} steps left"
            tqdm.write(text, file=sys.stderr)

    def on_epoch_end(self, epoch, logs=None):
        self.values |= {name: f"{float(logs[name]):.4g}" for name in self.shown if name in (logs or {})}
        self.bar.set_postfix({"epoch": epoch + 1} | self.values)

    def on_train_end(self, logs=None):
        self.bar.close()
