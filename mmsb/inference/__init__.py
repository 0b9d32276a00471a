"""Predictions on images from a config and a checkpoint."""
