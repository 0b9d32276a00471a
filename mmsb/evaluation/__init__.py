"""Measuring trained models beyond the toolboxes' own metrics."""
