"""Batches for `fit`: a guaranteed number of anomalies in each, a bounded share of repeats."""
