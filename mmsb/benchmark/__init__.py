"""Measuring time and memory of networks, classifiers, detectors and segmentors."""
