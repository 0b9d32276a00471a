"""Kernels: the only room that knows devices."""
