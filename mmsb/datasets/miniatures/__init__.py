"""Synthetic miniatures of public data sets, in the layout of the real ones.

A backbone needs none of them: import the module of the data set that you want.
"""
