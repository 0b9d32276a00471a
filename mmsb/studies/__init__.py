"""One folder per study, as in configs/: its data set, metric and report."""
