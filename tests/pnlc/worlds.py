"""Small worlds of text states whose chances are known, and their exact values in plain NumPy.

The exact values use nothing of the library.
"""

import dataclasses

import numpy as np

from maro_jax.pnlc.networks import Critic
from maro_jax.pnlc.transitions import Transitions
from maro_jax.pnlc.value import ValueOptions

CHAIN = ValueOptions(steps=1500, learning_rate=2e-3)
GRID = ValueOptions(steps=2500, batch_size=512, learning_rate=3e-3)
CHAIN_EPISODES, GRID_EPISODES = 4_000, 12_000
SIZE = 16  # of embeddings


@dataclasses.dataclass(frozen=True)
class World:
    """A Markov chain of decisions.

    Attributes:
      states, thoughts, goals: their texts.
      moves: float[S, A, S], the chance of each next state.
      ends: float[S], the chance that the episode ends on coming to a state.
      policy: float[S, A], how the data's actor chooses its thought.
      holds: bool[G, S], in which states a goal is reached.
      starts: float[S].
    """

    states: tuple[str, ...]
    thoughts: tuple[str, ...]
    goals: tuple[str, ...]
    moves: np.ndarray
    ends: np.ndarray
    policy: np.ndarray
    holds: np.ndarray
    starts: np.ndarray


def chain() -> World:
    """Seven places in a row; a thought comes true four times of five; both ends end the episode."""
    size = 7
    moves = np.zeros((size, 2, size))
    for place in range(1, size - 1):
        moves[place, 0, place + 1] = moves[place, 1, place - 1] = 0.8
        moves[place, 0, place - 1] = moves[place, 1, place + 1] = 0.2
    inner = (np.arange(size) % (size - 1) > 0).astype(float)
    return World(
        states=tuple(f"You stand at stone {place}." for place in range(size)),
        thoughts=("I go on.", "I go back."),
        goals=(*(f"I have come to stone {place}." for place in range(size)), "I am beyond the middle."),
        moves=moves,
        ends=1 - inner,
        policy=np.tile([0.6, 0.4], (size, 1)),
        holds=np.concatenate([np.eye(size, dtype=bool), [np.arange(size) > 3]]),
        starts=inner / inner.sum(),
    )


def grid() -> World:
    """Three by three fields; the wind blows three of ten steps anywhere; an exit, a pit, and nightfall at any time."""
    side = 3
    size = side * side
    steps = ((1, 0), (0, 1), (-1, 0), (0, -1))
    target = np.zeros((size, 4), int)
    for field in range(size):
        for thought, (down, right) in enumerate(steps):
            row, column = field // side + down, field % side + right
            inside = 0 <= row < side and 0 <= column < side
            target[field, thought] = row * side + column if inside else field
    arrive = np.eye(size)[target]
    moves = 0.7 * arrive + 0.3 * arrive.mean(axis=1, keepdims=True)
    ends = np.full(size, 0.1)
    ends[[size - 1, 1]] = 1
    starts = (ends < 1) / (ends < 1).sum()
    rows, columns = np.divmod(np.arange(size), side)
    return World(
        states=tuple(f"You stand in row {row}, column {column}." for row, column in zip(rows, columns, strict=True)),
        thoughts=("I walk down.", "I walk right.", "I walk up.", "I walk left."),
        goals=(*(f"I have come to field {field}." for field in range(size)), "I am below.", "I am on the left."),
        moves=moves,
        ends=ends,
        policy=np.tile([0.3, 0.3, 0.2, 0.2], (size, 1)),
        holds=np.concatenate([np.eye(size, dtype=bool), [rows == side - 1, columns == 0]]),
        starts=starts,
    )


def embed(texts: tuple[str, ...]) -> np.ndarray:
    """float32[n, SIZE]: of each text a random direction that only the text decides."""
    rows = [np.random.default_rng(list(text.encode())).normal(size=SIZE) for text in texts]
    return np.asarray([row / np.linalg.norm(row) for row in rows], np.float32)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Transitions of a world, and which state and thought each row has, int[T]."""

    data: Transitions
    state: np.ndarray
    thought: np.ndarray


def sample(world: World, episodes: int, seed: int) -> Sample:
    """Episodes played in a world, all at the same time."""
    rng = np.random.default_rng(seed)

    def choose(chances: np.ndarray) -> np.ndarray:
        return (rng.random((len(chances), 1)) > np.cumsum(chances, axis=1)[:, :-1]).sum(axis=1)

    state = choose(np.tile(world.starts, (episodes, 1)))
    alive, columns = np.arange(episodes), []
    while len(alive):
        thought = choose(world.policy[state])
        following = choose(world.moves[state, thought])
        over = rng.random(len(alive)) < world.ends[following]
        columns.append(np.stack([alive, state, thought, following, over]))
        alive, state = alive[~over], following[~over]
    rows = np.concatenate(columns, axis=1)
    episode, state, thought, following, over = rows[:, np.argsort(rows[0], kind="stable")]
    data = Transitions(
        state=embed(world.states)[state],
        thought=embed(world.thoughts)[thought],
        following=np.arange(1, len(state) + 1).astype(np.int32),
        done=over.astype(bool),
        reached=world.holds.T[following],
        goal=embed(world.goals),
        episode=episode.astype(np.int32),
    )
    return Sample(data, state, thought)


def expectile(values: np.ndarray, chances: np.ndarray, tau: float) -> float:
    """The m with Σ p |τ − 1[x < m]| (x − m) = 0, by bisection."""
    low, high = values.min(), values.max()
    for _ in range(60):
        middle = (low + high) / 2
        weights = np.where(values < middle, 1 - tau, tau)
        low, high = (middle, high) if np.sum(chances * weights * (values - middle)) > 0 else (low, middle)
    return float((low + high) / 2)


def exact(world: World, tau: float = 0.5, sweeps: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Q float[S, A, G] and V float[S, G] by sweeps over states, until nothing moves.

    With τ = ½ Q is the probability to come to a goal before the end.
    """
    sizes = len(world.states), len(world.thoughts), len(world.goals)
    q, v = np.zeros(sizes), np.zeros((sizes[0], sizes[2]))
    hit = world.holds.T.astype(float)
    for _ in range(sweeps):
        went_on = (1 - world.ends)[:, None] * v
        new = np.einsum("sat,tg->sag", world.moves, hit + (1 - hit) * went_on)
        if tau == 0.5:
            v = np.einsum("sa,sag->sg", world.policy, new)
        else:
            for state, goal in np.ndindex(*v.shape):
                v[state, goal] = expectile(new[state, :, goal], world.policy[state], tau)
        if np.abs(new - q).max() < 1e-6:
            return new, v
        q = new
    raise AssertionError("the sweeps did not settle")


def errors(world: World, critic: Critic, tau: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """|Q − exact| float[D, A, G] and |V − exact| float[D, G] in the D states in which somebody decides."""
    states, thoughts = embed(world.states), embed(world.thoughts)
    (q, v), decided = exact(world, tau), world.ends < 1
    told_q, told_v = np.asarray(critic.q(states[:, None], thoughts)), np.asarray(critic.v(states))
    return np.abs(told_q - q)[decided], np.abs(told_v - v)[decided]


def largest_error(world: World, critic: Critic, tau: float = 0.5) -> float:
    """The largest error of Q or V."""
    return max(float(error.max()) for error in errors(world, critic, tau))
