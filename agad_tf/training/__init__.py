"""Runs: configuration, callbacks, the run directory, training from data to scores."""
