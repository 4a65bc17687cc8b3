"""What a training step of AGAD takes, in passes of its batch through what scores, beside the estimate of it.

    python benchmarks/estimate.py [BACKBONE SIDE BATCH]...

Processor seconds of one thread. The factors in `agad_tf/training/estimate.py` come from here.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

CASES = (("encoder_decoder", 32, 32), ("encoder_decoder", 64, 32), ("unet", 32, 32))
STEPS = 4


def measured(backbone: str, side: int, batch: int) -> dict:
    """One training of a few steps in this process; memory in MiB."""
    import keras
    import numpy as np
    import tensorflow as tf

    from agad_tf import AGAD
    from agad_tf.training import estimate

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    estimate.time.perf_counter = time.process_time  # other processes do not count
    model = AGAD((side, side, 3), backbone, score="fused")
    model.compile()
    x = np.random.default_rng(0).integers(0, 256, (512, side, side, 3)).astype(np.uint8)
    y = (np.arange(512) < 4).astype(np.int32)
    expected = estimate.estimate(model, batch)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    began, times = [], []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: began.append(time.process_time()),
        on_train_batch_end=lambda batch, logs: times.append(time.process_time() - began[-1]),
    )
    model.fit(x, y, batch, 1, steps_per_epoch=STEPS, min_anomalies=4, verbose=0, callbacks=[watch])
    seconds = float(np.median(times[1:]))
    return {
        "case": [backbone, side, batch],
        "seconds_of_a_step": round(seconds, 3),
        "in_passes": round(seconds / (expected.seconds / estimate.PASSES), 2),
        "seconds_expected": round(expected.seconds, 3),
        "peak_mib": round(estimate.of_process("VmHWM")),
        "peak_expected_mib": round(expected.mib),
    }


if __name__ == "__main__":
    given = sys.argv[1:]
    if len(given) == 3:
        print(json.dumps(measured(given[0], int(given[1]), int(given[2]))))
    else:
        for case in CASES:
            subprocess.run([sys.executable, __file__, *map(str, case)], check=True)
