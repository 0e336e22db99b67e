"""Runners for real servers, a TCP fault proxy and a virtual clock: what tests, the demo and benchmarks stand on."""
