"""Checkpoints: layouts of other libraries in and out, publishing."""
