"""Plays a recorded game of Werewolf again with the referee; both have to agree at every step."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.games.werewolf_referee import ALL_ROLES, KINDS, PHASES, Event, Referee

LogRow = tuple[int, int, int, int, int]  # kind, actor, target, value, audience as a bit mask

FIELDS = (
    "roles", "actions", "phase", "actor", "step", "alive", "legal", "acting", "log_size",
    "log_rows", "log_audience", "outcome", "terminated", "truncated",
)  # fmt: skip


def replay(parameters: Mapping[str, Any], recorded: Mapping[str, np.ndarray]) -> Referee:
    """Judges a whole recorded game, step by step.

    The referee draws nothing: the first speaker is read from the recorded actor, a broken tie from
    the rows that the step logged, or, if the wolves' target is settled before the night is over, from
    the night's later rows. The referee then asserts that such a draw was possible.

    Args:
        parameters: the game's parameters by the names of the rules page.
        recorded: arrays of one game; time 0 is the state after `init`, time t the one after t
            calls of `step` (which may go on after the end): roles int[N], actions int[T], phase
            int[T+1], actor int[T+1], step int[T+1], alive bool[T+1, N], legal bool[T+1, A], acting
            bool[T+1, N], outcome float[T+1, N], terminated bool[T+1], truncated bool[T+1],
            log_size int[T+1]; and the log at the end, log_rows int[M, 4], log_audience int[M] with
            bit i set if seat i may see the row.

    Returns:
        The referee after the last step.

    Raises:
        AssertionError: a field is missing or misshapen, or differs from what the rules demand; the
            message names the time and the field.
    """
    record = {name: np.asarray(recorded[name]) for name in FIELDS if name in recorded}
    _check_shapes(record)
    dealt = record["roles"].tolist()
    assert set(dealt) <= set(range(len(ALL_ROLES))), f"roles {dealt} are not indices into {ALL_ROLES}"
    roles = [ALL_ROLES[role] for role in dealt]
    referee = Referee({"num_seats": len(roles), **parameters}, roles)
    masks = record["log_audience"].tolist()
    log = [(k, a, t, v, m) for (k, a, t, v), m in zip(record["log_rows"].tolist(), masks, strict=True)]
    actions, sizes = record["actions"].tolist(), record["log_size"].tolist()
    _compare_log(0, 0, referee, log, sizes[0])
    _compare_state(0, referee, record)
    for time, action in enumerate(actions, start=1):
        start = len(referee.log)
        chance = _chance(log[: sizes[time]], start)
        if "witch" in roles and referee.phase == "wolf":
            chance["wolf_target"] = _target(log, start)
        if record["phase"][time] == PHASES.index("speak"):
            chance["first_speaker"] = int(record["actor"][time])
        try:
            referee.step(action, chance)
        except AssertionError as refusal:
            raise AssertionError(f"t={time}, chance: {refusal}") from refusal
        _compare_log(time, start, referee, log, sizes[time])
        _compare_state(time, referee, record)
    return referee


def _check_shapes(record: Mapping[str, np.ndarray]) -> None:
    missing = [name for name in FIELDS if name not in record]
    assert not missing, f"the record lacks {missing}; it has to have {list(FIELDS)}"
    seats, times = len(record["roles"]), len(record["actions"]) + 1
    num_actions, rows = 5 * seats + 5, len(record["log_rows"])
    if record["legal"].shape[-1:] != (num_actions,):  # all roles are known, and there is one more action
        num_actions += 4
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(FIELDS, (times,))
    shapes.update(
        roles=(seats,),
        actions=(times - 1,),
        alive=(times, seats),
        legal=(times, num_actions),
        acting=(times, seats),
        outcome=(times, seats),
        log_rows=(rows, 4),
        log_audience=(rows,),
    )
    for name, shape in shapes.items():
        assert record[name].shape == shape, f"{name} has shape {record[name].shape}, not {shape}"


def _chance(log: list[LogRow], start: int) -> dict[str, int]:
    """Infers from the rows that a step logged, those from `start` on, which ties it broke how."""
    chance: dict[str, int] = {}
    for kind, _, target, _, _ in log[start:]:
        if kind in (KINDS.index("death"), KINDS.index("death_hidden")):
            chance["wolf_target"] = target
        elif kind == KINDS.index("no_death"):  # a drawn target survives only if it is protected
            protected = [row[2] for row in log if row[0] == KINDS.index("protect")]
            if protected:
                chance["wolf_target"] = protected[-1]
        elif kind in (KINDS.index("expelled"), KINDS.index("expelled_hidden")):
            chance["expelled"] = target
    return chance


def _target(log: list[LogRow], start: int) -> int:
    """Infers from the rows after a wolf's pick at `start` whom the wolves chose, in a game with a witch.

    She may not be told, and if somebody is poisoned, the target may have been protected or the same;
    which of these makes no difference to what follows.
    """
    named = [(KINDS[row[0]], row[2]) for row in log]
    night = max(place for place in range(start) if named[place][0] == "night")
    known = dict(named[night:start])
    picks = [target for name, target in named[night:start] if name == "wolf_pick"]
    died: list[int] = []
    for name, target in named[start:]:
        if name == "wolf_pick":
            picks.append(target)
        if name == "victim":
            return target
        if name in ("protect", "poison"):
            known[name] = target
        if name in ("death", "death_hidden"):
            died.append(target)
        elif died or name == "no_death":
            break
    guesses = [seat for seat in died if seat != known.get("poison")]
    guesses += [known[name] for name in ("protect", "poison") if name in known]
    return next((seat for seat in guesses if seat in picks), -1)


def _compare_log(time: int, start: int, referee: Referee, log: list[LogRow], size: int) -> None:
    """Asserts that the step logged, from row `start` on, what the referee logged."""
    assert size <= len(log), f"t={time}, log_size: {size} rows do not fit into {len(log)}"
    demanded = referee.log
    for place in range(start, min(size, len(demanded))):
        _same(time, f"log row {place}", _named(log[place]), _named(demanded[place]), referee)
        mask = sum(1 << seat for seat in demanded[place][4])
        _same(time, f"audience of log row {place}", bin(log[place][4]), bin(mask), referee)
    surplus = [_named(row) for row in log[len(demanded) : size]]
    lacking = [_named(event) for event in demanded[size:]]
    assert not surplus, f"t={time}, log_size: recorded rows the rules do not know: {surplus}"
    assert not lacking, f"t={time}, log_size: the rules demand rows not recorded: {lacking}"
    for seat in range(referee.num_seats):
        seen = [row[:4] for row in log[start:size] if row[4] >> seat & 1]
        _same(time, f"view of seat {seat}", seen, referee.view(seat, start), referee)


def _compare_state(time: int, referee: Referee, record: Mapping[str, np.ndarray]) -> None:
    """Asserts that every field of the recorded state at `time` is the referee's."""
    expected: dict[str, Any] = {
        "terminated": referee.terminated,
        "truncated": referee.truncated,
        "phase": referee.all_phases.index(referee.phase),
        "actor": referee.actor,
        "step": referee.step_index,
        "alive": referee.alive,
        "acting": sorted(referee.acting_seats()),
        "legal": sorted(referee.legal_actions()),
        "outcome": referee.outcome,
    }
    for field, value in expected.items():
        found = record[field][time]
        is_set = field in ("acting", "legal")
        _same(time, field, (np.flatnonzero(found) if is_set else found).tolist(), value, referee)


def _same(time: int, field: str, found: Any, expected: Any, referee: Referee) -> None:
    assert found == expected, (
        f"t={time}, {field}: recorded {found}, the rules demand {expected} (phase "
        f"{referee.phase}, night or day {referee.day}, roles {referee.roles})"
    )


def _named(row: LogRow | Event) -> str:
    kind, actor, target, value, _ = row
    name = KINDS[kind] if 0 <= kind < len(KINDS) else f"kind {kind}"
    return f"{name}(actor={actor}, target={target}, value={value})"
