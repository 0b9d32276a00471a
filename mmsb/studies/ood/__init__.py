"""Out-of-distribution benchmark of Table 8: model-vs-human's data sets and metrics."""
