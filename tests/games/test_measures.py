"""Measures of play against plain loops over the same logs, and against the rules' own payoffs."""

import itertools
from collections import Counter
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from games import avalon_spec, mystery_spec, social_deduction, werewolf_spec
from games.measures import OF_GAME, measures
from games.players.scripted import heuristic_player, random_legal
from games.registry import make
from games.testing import Played, play
from tests.games.test_testing import SMALL


def games_of(name: str, player: Any, episodes: int = 40, **parameters: Any) -> tuple[Any, Played]:
    spec = (game := make(name, **SMALL[name] | parameters)).spec
    return spec, play(game, episodes, 3, player)


def rows_of(played: Played, kinds: tuple) -> Any:
    """(episode, kind's name, actor, target, value) of every row in use."""
    for episode, count in enumerate(played.size[:, -1]):
        for kind, actor, target, value in played.rows[episode, :count].tolist():
            yield episode, kinds[kind].name, actor, target, value


def assert_counts(found: dict, hits: Counter, chances: Counter) -> None:
    """Hits and chances by (measure, episode, seat)."""
    assert {name for name, *_ in chances} <= set(found)
    for name, measure in found.items():
        for episode, seat in np.ndindex(measure.chances.shape):
            assert measure.chances[episode, seat] == chances[name, episode, seat], name
            assert measure.hits[episode, seat] == hits[name, episode, seat], name


def measured(spec: Any, played: Played) -> dict:
    return measures(spec, played.roles, played.rows, played.size[:, -1])


@pytest.mark.parametrize("player", ["random", "heuristic"])
def test_werewolf(player: str):
    spec, played = games_of("werewolf-v0", random_legal if player == "random" else heuristic_player("werewolf-v0"))
    hits, chances, wolf = Counter(), Counter(), werewolf_spec.WOLF
    for episode, kind, actor, target, value in rows_of(played, spec.event_kinds):
        role = played.roles[episode]
        village = kind in ("vote", "accuse", "claim") and role[actor] != wolf
        name = {
            "vote": "village_votes_for_wolf" if village else "",
            "accuse": "village_accuses_wolf" if village else "",
            "claim": "village_claims_truly" if village else "wolves_claim_truly",
            "check": "seer_checks_wolf",
        }.get(kind, "")
        if name:
            chances[name, episode, actor] += 1
            hits[name, episode, actor] += role[actor] == value if kind == "claim" else role[target] == wolf
    assert sum(chances.values()) > 100 and 0 < sum(hits.values()) < sum(chances.values())
    assert_counts(measured(spec, played), hits, chances)


@pytest.mark.parametrize("player", ["random", "heuristic"])
def test_avalon(player: str):
    spec, played = games_of("avalon-v0", random_legal if player == "random" else heuristic_player("avalon-v0"))
    evil = [role.side == "evil" for role in avalon_spec.ROLES]
    merlin = [role.name for role in avalon_spec.ROLES].index("merlin")
    hits, chances, team = Counter(), Counter(), {}
    for episode, kind, actor, target, value in rows_of(played, spec.event_kinds):
        role = played.roles[episode]
        if kind == "leader":
            team[episode] = []
        if kind == "pick":
            team[episode].append(target)
        bad = actor >= 0 and evil[role[actor]]
        outcome = {
            ("vote", False): ("good_vote_rightly", value == (not any(evil[role[s]] for s in team.get(episode, [])))),
            ("pick", False): ("good_pick_good", not evil[role[target]]),
            ("accuse", False): ("good_accuse_evil", evil[role[target]]),
            ("choice", True): ("evil_fail_quests", value == 0),
            ("shot", True): ("evil_find_merlin", role[target] == merlin),
        }.get((kind, bad))
        if outcome:
            chances[outcome[0], episode, actor] += 1
            hits[outcome[0], episode, actor] += outcome[1]
    seen = {name for name, *_ in chances}
    assert {"good_vote_rightly", "good_pick_good", "evil_fail_quests", "evil_find_merlin"} <= seen
    assert_counts(measured(spec, played), hits, chances)


@pytest.mark.parametrize(
    ("name", "guilty", "actions"),
    [
        ("mystery-v0", mystery_spec.CULPRIT, {"vote": "innocents_vote_for_culprit",
                                              "suspect": "innocents_suspect_culprit"}),
        ("social_deduction-v0", social_deduction.IMPOSTOR, {"vote": "innocents_vote_for_impostor",
                                                            "accuse": "innocents_accuse_impostor"}),
    ],
)  # fmt: skip
def test_games_of_finding_out(name: str, guilty: int, actions: dict[str, str]):
    spec, played = games_of(name, random_legal)
    hits, chances = Counter(), Counter()
    for episode, kind, actor, target, _ in rows_of(played, spec.event_kinds):
        if kind in actions and played.roles[episode, actor] != guilty:
            chances[actions[kind], episode, actor] += 1
            hits[actions[kind], episode, actor] += played.roles[episode, target] == guilty
    assert {name for name, *_ in chances} == set(actions.values())
    assert_counts(measured(spec, played), hits, chances)


def division_of(rows: list[tuple]) -> tuple[list[int], list[list[int]], list[int] | None]:
    """Pool, values, and what the first seat got, if they agreed."""
    pool, worth, keep, got = {}, ({}, {}), {}, None
    for kind, actor, target, value in rows:
        if kind == "pool":
            pool[target] = value
        elif kind == "worth":
            worth[actor][target] = value
        elif kind == "keep":
            keep[actor, target] = value
        elif kind == "agree":
            proposer = 1 - actor
            kept = [keep[proposer, item] for item in sorted(pool)]
            got = kept if proposer == 0 else [pool[item] - kept[item] for item in sorted(pool)]
    return [pool[item] for item in sorted(pool)], [[of[item] for item in sorted(pool)] for of in worth], got


@pytest.mark.parametrize("name", ["bargaining-v0", "negotiation-v0"])
def test_divisions(name: str):
    spec, played = games_of(name, random_legal, episodes=120, instances="")
    found, agreements = measured(spec, played), 0
    rows: dict[int, list] = {}
    for episode, *row in rows_of(played, spec.event_kinds):
        rows.setdefault(episode, []).append(row)
    for episode, of in rows.items():
        pool, worth, got = division_of(of)
        counts = {each: (of.hits[episode].tolist(), of.chances[episode].tolist()) for each, of in found.items()}
        assert counts["deals_agreed"] == ([float(got is not None)] * 2, [1.0, 1.0])
        if got is None:
            assert all(chances == [0.0, 0.0] for each, (_, chances) in counts.items() if each != "deals_agreed")
            continue
        agreements += 1

        def gains(first: Any, pool: Any = pool, worth: Any = worth) -> tuple[int, int]:
            return (sum(n * w for n, w in zip(first, worth[0], strict=True)),
                    sum((p - n) * w for p, n, w in zip(pool, first, worth[1], strict=True)))  # fmt: skip

        mine, every = gains(got), [gains(first) for first in itertools.product(*[range(n + 1) for n in pool])]
        if name == "bargaining-v0":  # the rules' own account of it
            np.testing.assert_allclose((played.outcome[episode, -1] + 1) * 5, mine, atol=1e-5)
        assert counts["share_of_best_total"][0] == pytest.approx([sum(mine) / max(map(sum, every))] * 2)
        best = max(one * other for one, other in every)
        if best:
            assert counts["share_of_best_product"][0] == pytest.approx([mine[0] * mine[1] / best] * 2)
        worse = any(one >= mine[0] and other >= mine[1] and (one, other) != mine for one, other in every)
        assert counts["pareto_optimal_deals"] == ([float(not worse)] * 2, [1.0, 1.0])
    assert agreements > 20


def test_nothing_is_counted_of_games_without_measures_or_of_empty_logs():
    spec, played = games_of("kuhn-v0", random_legal, episodes=4)
    assert measured(spec, played) == {}
    for name in OF_GAME:
        spec = make(name, **SMALL[name]).spec
        rows = np.full((3, spec.max_events, 4), -1, np.int16)
        empty = measures(spec, np.zeros((3, spec.num_seats), np.int8), rows, np.zeros(3, np.int16))
        assert empty and not any(of.chances.any() or of.hits.any() for each, of in empty.items()
                                 if each != "deals_agreed"), name  # fmt: skip


def test_logs_may_be_arrays_of_the_device():
    spec, played = games_of("werewolf-v0", random_legal, episodes=4)
    arrays = (played.roles, played.rows, played.size[:, -1])
    one, other = measures(spec, *arrays), measures(spec, *map(jnp.asarray, arrays))
    assert all(np.array_equal(one[name].hits, other[name].hits) for name in one)
