"""From the archives that the data sets' sites give to the folders that the configs read."""
