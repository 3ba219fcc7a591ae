"""Benchmarks that are run by hand; each one takes `--json=FILE`."""
