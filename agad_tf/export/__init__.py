"""Exports of trained detectors."""
