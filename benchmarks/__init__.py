"""Benchmarks: the cost of redicts compared with other libraries, as ratios within one run; see docs/measurements.md."""
