"""Losses: one function per equation, over network outputs; they know no model."""
