"""From a config and a checkpoint to predictions on images."""
