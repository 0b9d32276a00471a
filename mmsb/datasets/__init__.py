"""Datasets and transforms that the toolboxes do not have."""
