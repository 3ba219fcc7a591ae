"""What play was like beyond who won, read off event logs on the host: votes that hit, checks that hit, deals that waste
nothing. A measure counts for each seat how often it could have done something and how often it did."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from games import avalon_spec, bargaining, mystery_spec, negotiation, social_deduction, werewolf_spec
from games.core import GameSpec
from games.goods import ITEMS


@dataclasses.dataclass(frozen=True)
class Measure:
    """Counts by episode and seat.

    Attributes:
      hits: float32[E, N], between 0 and `chances`.
      chances: float32[E, N].
    """

    hits: np.ndarray
    chances: np.ndarray


class EventLogs:
    """The event logs of E episodes, a field at a time.

    Attributes:
      roles: int[E, N].
      kind, actor, target, value: int[E, M], -1 where a field or the row is not used.
    """

    def __init__(self, roles: np.ndarray, rows: np.ndarray, count: np.ndarray):
        used = np.arange(rows.shape[1]) < np.asarray(count)[:, None]
        rows = np.where(used[..., None], rows, -1).astype(np.int64)
        self.roles = np.asarray(roles).astype(np.int64)
        self.kind, self.actor, self.target, self.value = np.moveaxis(rows, -1, 0)

    def role_of(self, seat: np.ndarray) -> np.ndarray:
        """int[E, M]: the role of a seat, of seat 0 where there is none."""
        return np.take_along_axis(self.roles, np.maximum(seat, 0), axis=1)

    def by_actor(self, where: np.ndarray, hit: np.ndarray) -> Measure:
        """Rows bool[E, M] that count as chances of their actor, and which of them are hits."""
        episode, row = np.nonzero(where)
        hits, chances = (np.zeros(self.roles.shape, np.float32) for _ in range(2))
        np.add.at(chances, (episode, self.actor[episode, row]), 1)
        np.add.at(hits, (episode, self.actor[episode, row]), hit[episode, row])
        return Measure(hits, chances)


def measures(spec: GameSpec, roles: np.ndarray, rows: np.ndarray, count: np.ndarray) -> dict[str, Measure]:
    """Measures of some episodes by name; empty for games that have none.

    Args:
      spec: of the game.
      roles: int[E, N].
      rows: int[E, M, 4], the final event logs.
      count: int[E], rows in use.
    """
    found = OF_GAME.get(spec.name)
    return found(EventLogs(roles, rows, count)) if found else {}


def _werewolf(logs: EventLogs) -> dict[str, Measure]:
    kind, wolf = werewolf_spec.KIND, werewolf_spec.WOLF
    by_village, at_wolf = logs.role_of(logs.actor) != wolf, logs.role_of(logs.target) == wolf
    claims, truly = logs.kind == kind["claim"], logs.role_of(logs.actor) == logs.value
    return {
        "village_votes_for_wolf": logs.by_actor((logs.kind == kind["vote"]) & by_village, at_wolf),
        "village_accuses_wolf": logs.by_actor((logs.kind == kind["accuse"]) & by_village, at_wolf),
        "village_claims_truly": logs.by_actor(claims & by_village, truly),
        "wolves_claim_truly": logs.by_actor(claims & ~by_village, truly),
        "seer_checks_wolf": logs.by_actor(logs.kind == kind["check"], at_wolf),
    }


def _avalon(logs: EventLogs) -> dict[str, Measure]:
    kind, is_evil = avalon_spec.KIND, np.asarray([role.side == "evil" for role in avalon_spec.ROLES])
    merlin = [role.name for role in avalon_spec.ROLES].index("merlin")
    by_evil, at_evil = is_evil[logs.role_of(logs.actor)], is_evil[logs.role_of(logs.target)]
    picks, votes = logs.kind == kind["pick"], logs.kind == kind["vote"]
    # A leader's turn begins a team; the votes on it follow its picks.
    team = np.cumsum(logs.kind == kind["leader"], axis=1)
    tainted = np.zeros((len(team), team.max(initial=0) + 1), bool)
    episode, row = np.nonzero(picks & at_evil)
    tainted[episode, team[episode, row]] = True
    clean = ~np.take_along_axis(tainted, team, axis=1)
    return {
        "good_vote_rightly": logs.by_actor(votes & ~by_evil, (logs.value == 1) == clean),
        "good_pick_good": logs.by_actor(picks & ~by_evil, ~at_evil),
        "good_accuse_evil": logs.by_actor((logs.kind == kind["accuse"]) & ~by_evil, at_evil),
        "evil_fail_quests": logs.by_actor((logs.kind == kind["choice"]) & by_evil, logs.value == 0),
        "evil_find_merlin": logs.by_actor(logs.kind == kind["shot"], logs.role_of(logs.target) == merlin),
    }


def _finding_out(
    kind: Mapping[str, int], guilty: int, events: Mapping[str, str]
) -> Callable[[EventLogs], dict[str, Measure]]:
    """Measures of how the innocent point at the guilty role: names by the kind of event that points."""

    def measured(logs: EventLogs) -> dict[str, Measure]:
        innocent, at_guilty = logs.role_of(logs.actor) != guilty, logs.role_of(logs.target) == guilty
        return {name: logs.by_actor((logs.kind == kind[event]) & innocent, at_guilty) for event, name in events.items()}

    return measured


def _division(kind: Mapping[str, int]) -> Callable[[EventLogs], dict[str, Measure]]:
    """Measures of a game in which two seats divide a pool; `kind` numbers its kinds of event."""

    def measured(logs: EventLogs) -> dict[str, Measure]:
        agreed = (logs.kind == kind["agree"]).any(axis=1)
        pool = _last(logs, logs.kind == kind["pool"])[:, 0]
        worth = _last(logs, logs.kind == kind["worth"], logs.actor)
        kept = _last(logs, logs.kind == kind["keep"])[:, 0]
        keep = logs.kind == kind["keep"]
        proposer = logs.actor[np.arange(len(keep)), keep.shape[1] - 1 - np.argmax(keep[:, ::-1], axis=1)]
        first = np.where((proposer == 0)[:, None], kept, pool - kept)  # what the first seat gets
        gains = np.stack([(first * worth[:, 0]).sum(1), ((pool - first) * worth[:, 1]).sum(1)], axis=1)
        total, product, dominated = _compare(pool, worth, gains)
        return {
            "deals_agreed": _for_all(agreed, np.ones_like(agreed)),
            "share_of_best_total": _for_all(gains.sum(1) / np.maximum(total, 1), agreed),
            "share_of_best_product": _for_all(gains.prod(1) / np.maximum(product, 1), agreed & (product > 0)),
            "pareto_optimal_deals": _for_all(~dominated, agreed),
        }

    return measured


def _last(logs: EventLogs, where: np.ndarray, seat: np.ndarray | int = 0) -> np.ndarray:
    """int[E, 2, items]: the value of the last row among `where` about each item, by seat; 0 without one."""
    episode, row = np.nonzero(where)
    out = np.zeros((len(where), 2, len(ITEMS)), np.int64)
    seats = np.broadcast_to(seat, where.shape)[episode, row]
    out[episode, seats, logs.target[episode, row]] = logs.value[episode, row]  # later rows overwrite
    return out


def _compare(pool: np.ndarray, worth: np.ndarray, gains: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Over all divisions: the best total and product [E], and whether one is better for a seat and no worse for any."""
    most, items = int(pool.max(initial=0)), pool.shape[1]
    divisions = np.stack(np.meshgrid(*[np.arange(most + 1)] * items, indexing="ij"), axis=-1).reshape(-1, items)
    possible = (divisions <= pool[:, None]).all(axis=2)  # [E, D]
    both = np.stack([(divisions * worth[:, :1]).sum(2), ((pool[:, None] - divisions) * worth[:, 1:2]).sum(2)], axis=2)
    no_worse, better = np.all(both >= gains[:, None], axis=2), np.any(both > gains[:, None], axis=2)
    total, product = (np.where(possible, of, 0).max(axis=1) for of in (both.sum(2), both.prod(2)))
    return total, product, np.any(possible & no_worse & better, axis=1)


def _for_all(hit: np.ndarray, chance: np.ndarray) -> Measure:
    """A measure [E] of whole episodes, counted for both of their seats."""
    chances = np.repeat(chance[:, None].astype(np.float32), 2, axis=1)
    return Measure(hit[:, None].astype(np.float32) * chances, chances)


OF_GAME: dict[str, Callable[[EventLogs], dict[str, Measure]]] = {
    "werewolf-v0": _werewolf,
    "avalon-v0": _avalon,
    "mystery-v0": _finding_out(
        mystery_spec.KIND,
        mystery_spec.CULPRIT,
        {"vote": "innocents_vote_for_culprit", "suspect": "innocents_suspect_culprit"},
    ),
    "social_deduction-v0": _finding_out(
        social_deduction.KIND,
        social_deduction.IMPOSTOR,
        {"vote": "innocents_vote_for_impostor", "accuse": "innocents_accuse_impostor"},
    ),
    "bargaining-v0": _division(bargaining.KIND),
    "negotiation-v0": _division(negotiation.KIND),
}
