"""One folder per study, as in configs/, with its data set, metric and report."""
