"""The out-of-distribution benchmark in the paper's Table 11, model-vs-human: data and metrics."""
