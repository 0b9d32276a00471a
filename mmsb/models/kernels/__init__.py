"""Spatial bias in Triton and C++: functions of tensors. Importing one needs its compiler."""
