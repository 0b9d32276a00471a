"""Synthetic miniatures of public datasets, in the layout of the real ones. The backbones do not
need them: import the module of the dataset that you want."""
