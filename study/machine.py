"""How an experiment uses the machine it runs on."""


def one_thread() -> None:
    """Keeps TensorFlow to one core, so that runs side by side do not wait for each other.

    To be called before TensorFlow computes anything; in a process where it already has, nothing changes.
    """
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        return
