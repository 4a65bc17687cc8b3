"""The commands of `agad-tf`; `agad_tf.cli` is the entry point. No TensorFlow until one of them runs."""
