"""What several benchmarks share: the simulated study, the usual way, the bare loop, and how results are printed."""
