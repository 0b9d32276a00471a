"""Rendered miniatures of the public data sets, in the layout of the real ones.

A backbone needs none of it: import the module of the data set that you want.
"""
