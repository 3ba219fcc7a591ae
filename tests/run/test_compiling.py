"""What is compiled is counted once."""

import jax
import jax.numpy as jnp

from maro_jax.run.compiling import compiling


def test_a_program_counts_when_it_is_compiled_and_not_when_it_runs():
    double = jax.jit(lambda x: 2 * x)
    numbers = jnp.arange(7.0)
    compiling()
    before, spent = compiling().programs, compiling().seconds
    double(numbers).block_until_ready()
    assert compiling().programs == before + 1 and compiling().seconds > spent
    spent = compiling().seconds
    double(numbers).block_until_ready()
    assert compiling().programs == before + 1 and compiling().seconds == spent
    double(numbers[:3]).block_until_ready()
    assert compiling().programs > before + 1  # another shape
