"""Kernels in Triton and C++. Importing one needs its compiler; :mod:`.blocks` does not."""
