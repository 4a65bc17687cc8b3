"""Callbacks for `fit`."""

import keras
from tqdm import tqdm


class ProgressBar(keras.callbacks.Callback):
    """One bar over all steps of a training, on standard error, with the losses and the validation AUROC.

    Args:
        disable: write nothing.

    Attributes:
        shown: log names to display, in order; those absent from the logs are left out.
    """

    shown = ("loss_generator", "loss_discriminator", "val_auroc", "val_score_normal")

    def __init__(self, disable: bool = False):
        super().__init__()
        self.disable = disable
        self.bar = None
        self.values = {}

    def on_train_begin(self, logs=None):
        steps, start = self.params["steps"], self.params["start"]
        self.bar = tqdm(
            total=self.params["epochs"] * steps,
            initial=start.epoch * steps + start.step,
            unit="step",
            desc="training",
            disable=self.disable,
        )

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        self.values |= {name: f"{float(logs[name]):.4g}" for name in self.shown if name in (logs or {})}
        self.bar.set_postfix({"epoch": epoch + 1} | self.values)

    def on_train_end(self, logs=None):
        self.bar.close()
