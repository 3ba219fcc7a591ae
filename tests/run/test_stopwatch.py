"""What is timed beside the main work."""

import pytest

from maro_jax.run.stopwatch import Stopwatch


def test_parts_add_up_and_are_shares_of_all_the_time():
    now = 10.0
    watch = Stopwatch(clock=lambda: now)
    for seconds in (1.0, 2.0):
        with watch("checkpoints"):
            now += seconds
        now += 4.0
    with pytest.raises(OSError), watch("metrics"):
        now += 1.0
        raise OSError
    assert watch.seconds == {"checkpoints": 3.0, "metrics": 1.0}
    assert watch.shares() == {"checkpoints": 3.0 / 12.0, "metrics": 1.0 / 12.0}
