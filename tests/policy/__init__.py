"""Tests of `maro_jax.policy`."""
