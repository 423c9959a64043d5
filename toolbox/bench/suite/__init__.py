"""One file for each subject; each has `BENCHMARKS`, a list of model.Benchmark."""
