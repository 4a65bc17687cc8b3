"""Samples, splits and batches: from files to what `fit` takes."""
