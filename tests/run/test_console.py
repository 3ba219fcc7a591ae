"""What the console prints, with a clock of our own."""

import io

from maro_jax.run.console import Console, format_duration, format_value, table


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_durations_and_values():
    assert [format_duration(s) for s in (0.4, 59.6, 185, 7620)] == ["0s", "1m00s", "3m05s", "2h07m"]
    values = (0.12345, 0.0, 1e-7, 12345.6, 3, 12000, True, "a\x1b[31m\nb")
    expected = ["0.123", "0.000", "1.00e-07", "12,346", "3", "12,000", "True", "a[31mb"]
    assert [format_value(value) for value in values] == expected


def test_table_aligns():
    text = table(["role", "win rate"], [["wolf", 0.5], ["villager", 0.625]])
    assert text.splitlines() == [
        "role      win rate",
        "--------  --------",
        "wolf         0.500",
        "villager     0.625",
    ]


def test_iterations_line_up_and_tell_the_time_left():
    clock, stream = Clock(), io.StringIO()
    console = Console(stream, clock=clock)
    with console.iterations(2, 12):  # resumed: two iterations cost nothing today
        for step in (3, 4):
            clock.now += 10
            console.iteration(step, {"loss": 0.5 / step, "games_per_second": 123.456})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 and len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["iteration", "loss", "games_per_second", "elapsed", "left"]
    assert lines[1].split() == ["3/12", "0.167", "123.456", "10s", "1m30s"]
    assert lines[2].split()[-2:] == ["20s", "1m20s"]


def test_short_phases_are_silent_and_long_ones_are_not():
    clock, stream = Clock(), io.StringIO()
    console = Console(stream, clock=clock)
    phase = console.phase("compile", 1)
    clock.now += 1
    phase.finish()
    assert stream.getvalue() == ""
    phase = console.phase("warm start", 100)
    for done in range(1, 101):
        clock.now += 0.5
        phase.update(done)
    phase.finish("loss 0.8")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "warm start  4/100  2s, 48s left"
    assert lines[-1] == "warm start  100 in 50s  loss 0.8"
    assert 5 <= len(lines) <= 7


def test_a_terminal_rewrites_one_line_and_a_second_process_prints_nothing():
    clock, stream = Clock(), Terminal()
    phase = Console(stream, clock=clock).phase("play", 10)
    for done in range(1, 11):
        clock.now += 1
        phase.update(done)
    phase.finish()
    assert stream.getvalue().count("\n") == 1
    silent = Console(stream := io.StringIO(), enabled=False, clock=clock)
    silent.banner("run", {"seed": 0})
    with silent.iterations(0, 2):
        silent.iteration(1, {"loss": 1.0})
    phase = silent.phase("play", 2)
    clock.now += 20
    phase.update(1)
    phase.finish()
    assert stream.getvalue() == ""


def test_banner():
    stream = io.StringIO()
    Console(stream).banner("maro-jax", {"run": "runs/a", "parameters": 123456})
    assert stream.getvalue() == "maro-jax\n  run         runs/a\n  parameters  123,456\n\n"
