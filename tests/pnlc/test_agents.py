"""Which thought agents follow: where the best is known, and with a policy that thinks."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.registry import make
from games.text.grammar import THOUGHT_TOKEN
from maro_jax.pnlc import agents
from maro_jax.pnlc import critic as pnlc_critic
from maro_jax.pnlc.actors import PolicyActor, Thought
from maro_jax.pnlc.agents import BestOf, Plain, Unthinking
from maro_jax.pnlc.calibration import Calibration
from maro_jax.pnlc.contest import contest_plan, play
from maro_jax.pnlc.critic import Guide
from maro_jax.pnlc.networks import Critic, Scaling, init
from maro_jax.pnlc.recognition import Recognition
from maro_jax.pnlc.storage import SavedCritic
from maro_jax.pnlc.value import ValueOptions
from maro_jax.policy.models import load_policy
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import HEURISTIC, LEARNER
from maro_jax.selfplay.table import Table
from tests.pnlc import worlds
from tests.selfplay.playing import decided

PROVEN = Calibration(9, 9, 1, 0.5, 0.6, 0.6, 0.1, 0.05, 0.15, 0.95, 0.1, ())
KNOWN = Recognition(24, 0.9, 0.1, 0.7, 0.9, 0.95)
KEY = jax.random.key(0)


class Directions:
    """An embedder: a random direction for each text; counts the texts."""

    name, size = "random directions", worlds.SIZE

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed(self, texts):
        self.embedded += texts
        return worlds.embed(tuple(texts))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExactCritic:
    """The exact chances of a world, told by embeddings."""

    goal: np.ndarray
    states: np.ndarray
    thoughts: np.ndarray
    exact: np.ndarray

    @staticmethod
    def of(world: worlds.World) -> "ExactCritic":
        return ExactCritic(*map(worlds.embed, (world.goals, world.states, world.thoughts)), worlds.exact(world)[0])

    def q(self, state, thought):
        pairs = (state, self.states), (thought, self.thoughts)
        s, z = (jnp.argmax(given @ known.T, axis=-1) for given, known in pairs)
        return self.exact[s, z]

    def on_host(self) -> "ExactOnHost":
        return ExactOnHost(self)


@dataclasses.dataclass(frozen=True)
class ExactOnHost:
    """The same; a state and a thought are to it their place among those that it knows."""

    critic: ExactCritic

    def states(self, embeddings):
        return np.argmax(embeddings @ self.critic.states.T, axis=-1)

    def thoughts(self, embeddings):
        return np.argmax(embeddings @ self.critic.thoughts.T, axis=-1)

    def chances(self, state, thought):
        return self.critic.exact[state, thought]


def saved_critic(world: worlds.World, utilities, calibration: Calibration = PROVEN) -> SavedCritic:
    reach = (0.1,) * len(world.goals)
    return SavedCritic(
        ExactCritic.of(world), world.goals, tuple(utilities), reach, "no-game-v0", {}, "d", ValueOptions(), calibration,
        recognition=KNOWN,
    )  # fmt: skip


class Walker:
    """An actor that proposes every thought of a world in any order, and remembers which it followed."""

    def __init__(self, world: worlds.World):
        self._world, self._rng, self.followed = world, np.random.default_rng(1), []

    def propose(self, games, turns, count):
        return [[Thought(self._world.thoughts[k]) for k in self._rng.permutation(count)] for _ in turns]

    def act(self, games, turns, thoughts):
        self.followed += [thought and thought.text for thought in thoughts]


def walks(world: worlds.World, score, turns: int = 240) -> list[str]:
    """The thoughts followed in the states of a world by turns, a few turns at a time."""
    walker = Walker(world)
    agent = BestOf(walker, len(world.thoughts), score)
    games = SimpleNamespace(thought_budget=lambda turn: 5, number_of=lambda turn: turn.episode)
    due = [SimpleNamespace(lane=n % 5, episode=n, decision=n % 3) for n in range(turns)]
    for first in range(0, turns, 5):
        agent.decide(games, due[first : first + 5])
    return walker.followed


def test_rerank_follows_the_best_thought_and_the_controls_do_not():
    world = worlds.grid()
    utilities = np.eye(len(world.goals))[8]  # the exit
    going = [state for state in range(9) if world.ends[state] < 1]
    best = worlds.exact(world)[0][:, :, 8].argmax(axis=1)
    guide = Guide(saved_critic(world, utilities), Directions())
    score = agents.by_critic(guide, lambda turn: world.states[going[turn.episode % len(going)]])
    wanted = [world.thoughts[best[going[number % len(going)]]] for number in range(240)]
    assert len(set(wanted)) > 1  # no thought is best everywhere
    assert walks(world, score) == wanted
    for control in (agents.at_random(0), agents.shuffled(score, 0)):
        hits = np.mean([chosen == right for chosen, right in zip(walks(world, control), wanted, strict=True)])
        assert 0.1 < hits < 0.4  # one thought of four
    worst = Guide(saved_critic(world, -utilities), Directions())
    scared = walks(world, agents.by_critic(worst, lambda turn: world.states[going[turn.episode % len(going)]]))
    assert not any(chosen == right for chosen, right in zip(scared, wanted, strict=True))


def test_chances_are_those_of_each_state_and_thought_and_thoughts_are_embedded_once():
    world, embedder = worlds.chain(), Directions()
    guide = Guide(saved_critic(world, range(8)), embedder)
    states, thoughts = world.states[1:6], [world.thoughts, world.thoughts[::-1], *[world.thoughts] * 3]
    chances = guide.chances(states, thoughts)
    exact = worlds.exact(world)[0][1:6]
    exact[1] = exact[1, ::-1]
    np.testing.assert_allclose(chances, exact, atol=1e-6)
    np.testing.assert_allclose(guide.scores(chances), exact @ np.arange(8), atol=1e-5)
    guide.chances(states[:1], thoughts[:1])
    assert sorted(embedder.embedded) == sorted([*states, *world.thoughts, states[0]])


def test_the_critic_is_asked_only_where_there_is_a_choice():
    world, embedder = worlds.chain(), Directions()
    guide = Guide(saved_critic(world, range(1, 9)), embedder)
    turns = [SimpleNamespace(state=world.states[number]) for number in (2, 3, 4)]
    first, second = (Thought(text) for text in world.thoughts[:2])
    proposed = [[first] * 3, [first, second, first], [second] * 3]
    scores = np.array(agents.by_critic(guide, lambda turn: turn.state)(None, turns, proposed))
    assert sorted(embedder.embedded) == sorted([turns[1].state, first.text, second.text])
    exact = worlds.exact(world)[0][3][[0, 1, 0]] @ np.arange(1, 9)
    np.testing.assert_allclose(scores, [np.zeros(3), exact, np.zeros(3)], atol=1e-5)
    assert scores[1, 0] == scores[1, 2] and scores.argmax(axis=1)[[0, 2]].tolist() == [0, 0]


def test_few_rows_on_the_host_have_the_chances_of_the_device(monkeypatch):
    """With parameters that no path could leave out, and more thoughts than different ones."""
    rng, size, goals = np.random.default_rng(2), worlds.SIZE, 7
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), init(size, True, KEY))
    scaling = {name: Scaling.of(rng.normal(1, 2, (9, size))) for name in ("state", "thought", "goal")}
    critic = Critic({"q": params}, scaling, jnp.asarray(rng.normal(size=(goals, size)), jnp.float32))
    world = worlds.chain()
    saved = dataclasses.replace(saved_critic(world, range(goals)), critic=critic, goals=("goal",) * goals)
    thoughts = [["I stay.", "I go.", "I stay."], ["I go.", "I go.", "I run."]]
    few = Guide(saved, Directions()).chances(world.states[:2], thoughts)
    monkeypatch.setattr(pnlc_critic, "ROWS_ON_HOST", 0)
    many = Guide(saved, Directions()).chances(world.states[:2], thoughts)
    assert few.shape == many.shape == (2, 3, goals) and few.dtype == many.dtype == np.float32
    np.testing.assert_allclose(few, many, atol=1e-5)
    assert few.std() > 0.1
    for chances in (few, many):
        np.testing.assert_array_equal(chances[0, 0], chances[0, 2])
        np.testing.assert_array_equal(chances[1, 0], chances[1, 1])
    with pytest.raises(ConfigError, match="embeddings of"):
        critic.on_host().states(np.zeros((1, size + 1), np.float32))


def test_imagined_futures_are_the_nearest_goal_or_none():
    world = worlds.chain()
    guide = Guide(saved_critic(world, range(8)), Directions())
    found = guide.likelihoods(world.states[3], "I go on.", ["I have come to stone 6.", "It rains.", world.goals[0]])
    exact = worlds.exact(world)[0][3, 0]
    assert found[1] is None and found[0] == pytest.approx(exact[6]) and found[2] == pytest.approx(exact[0])
    assert guide.likelihoods(world.states[3], "I go on.", []) == []


def test_a_critic_that_knows_nothing_may_not_guide():
    world = worlds.chain()
    ignorant = dataclasses.replace(PROVEN, gain=0.01, gain_low=-0.01, gain_high=0.03)
    with pytest.raises(ConfigError, match="this critic may not guide"):
        Guide(saved_critic(world, range(8), ignorant), Directions())
    Guide(saved_critic(world, range(8), ignorant), Directions(), whatever_it_knows=True)


def test_refine_needs_an_embedder_that_knows_goals_in_other_words():
    saved = saved_critic(worlds.chain(), range(8))
    blind = dataclasses.replace(saved, recognition=dataclasses.replace(KNOWN, found=0.1, low=-0.05, high=0.05))

    def refine(saved, **of_guide):
        return agents.critics_likelihoods(Guide(saved, Directions(), **of_guide), str)

    refine(saved)
    with pytest.raises(ConfigError, match="this critic may not refine, since its embedder does not know goals"):
        refine(blind)
    refine(blind, whatever_it_knows=True)
    with pytest.raises(ConfigError, match="cannot refine: it was stored before .* train it anew"):
        refine(dataclasses.replace(saved, recognition=None), whatever_it_knows=True)


# ------------------------------------------------------------------ a policy that thinks


@functools.cache
def table() -> Table:
    policy, _, tokenizer = load_policy("tiny")
    return Table.lay(make("kuhn-v0", thought_tokens=3), policy, tokenizer)


@functools.cache
def actor() -> PolicyActor:
    return PolicyActor(table(), decided(table().policy.init(jax.random.key(0))))


GAMES, LANES = 8, 4


def played(agent, opponent: int = HEURISTIC):
    """The values of some games, and the episodes of all calls."""
    kept = []
    watching = SimpleNamespace(open=lambda *arguments: kept.append(actor().open(*arguments)) or kept[-1])
    plan = contest_plan(table().spec, [0, 1], GAMES, opponent)
    return play(watching, agent, table().spec, plan, LANES, KEY), [games.episodes() for games in kept]


def thoughts_of(episodes) -> list[list[int]]:
    """The thought of each decision of a seat that was asked, in order."""
    close, found = table().lexicon.section_close, []
    made = episodes.behaviours
    for episode, decision in np.argwhere(made.holder > LEARNER + 1):  # neither the learner nor an opponent
        if made.holder[episode, decision] == HEURISTIC:
            continue
        seat = made.seat[episode, decision]
        span = slice(made.start[episode, decision], made.end[episode, decision])
        tokens, nodes = episodes.tokens[episode, seat, span], episodes.node[episode, seat, span]
        found.append(tokens[(nodes == THOUGHT_TOKEN) & (tokens != close)].tolist())
    return found


def test_a_thought_of_its_own_is_what_the_policy_follows_by_itself():
    plain, (straight,) = played(Plain(actor()), LEARNER)
    react, (stepwise,) = played(BestOf(actor(), 1, agents.as_proposed), LEARNER)
    np.testing.assert_array_equal(plain.value, react.value)
    np.testing.assert_array_equal(straight.tokens, stepwise.tokens)
    assert plain.decisions == react.decisions > GAMES and not plain.faulty.any()
    assert np.isin(plain.value, [0.25, 0.75, 0.0, 1.0]).all()


def test_no_thought_is_an_empty_one():
    _, (episodes,) = played(Unthinking(actor()))
    assert thoughts_of(episodes) and not any(thoughts_of(episodes))


def test_the_chosen_thought_is_followed():
    seen: list[list[int]] = []

    def highest(games, turns, proposed):
        ratings = np.array(agents.by_own_rating(actor())(games, turns, proposed))
        assert ratings.shape == (len(turns), 4) and (ratings < 0).all()
        for thoughts, row in zip(proposed, ratings, strict=True):
            seen.append(list(thoughts[int(row.argmax())].tokens))
            for thought in thoughts:
                assert table().tokenizer.decode(list(thought.tokens)).strip() == thought.text
        return ratings

    result, (episodes,) = played(BestOf(actor(), 4, highest))
    assert sorted(seen) == sorted(thoughts_of(episodes)) and len(seen) == result.decisions
    assert len({tuple(thought) for thought in seen}) > 3
