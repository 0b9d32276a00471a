"""Drawn miniatures of the public data sets, in the real ones' layout. A backbone needs none of it:
import the module of the data set that you want."""
