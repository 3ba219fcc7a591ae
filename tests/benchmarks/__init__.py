"""Benchmarks that are run by hand; each one takes `--json=FILE`. See CHANGELOG for the figures of a version."""
