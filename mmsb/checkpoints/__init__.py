"""Checkpoints: whether weights fit, layouts of other libraries in and out, publishing."""
