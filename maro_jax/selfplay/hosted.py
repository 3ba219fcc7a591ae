"""Games that the host leads, many side by side: the rollout's functions, with seats that are answered from outside."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.core import EventLog
from games.text.grammar import THOUGHT
from maro_jax.policy.lora import parameter_sets
from maro_jax.selfplay.episodes import HEURISTIC, LEARNER, PERSON, Episodes, RolloutPlan
from maro_jax.selfplay.lanes import IDLE, WAITING, LaneState, advance, scripted_reply, select, write_reply
from maro_jax.selfplay.rollout import Usage, prefilled_cache, take_step
from maro_jax.selfplay.table import RolloutSizes, Table


@dataclasses.dataclass(frozen=True, eq=False)
class Exchange:
    """One turn of a seat as its stream has it.

    Attributes:
      phase: kind of decision.
      news: int32[...], what it was shown and asked, in the frame of the model's family.
      reply: int32[...], its own reply; empty while it is due.
      nodes: int16[...], how each token of the reply came about, see `Episodes.node`.
      action: what it did; -1 while the reply is due.
    """

    phase: int
    news: np.ndarray
    reply: np.ndarray
    nodes: np.ndarray
    action: int


@dataclasses.dataclass(frozen=True, eq=False)
class Turn:
    """A reply that is due from outside.

    Attributes:
      lane: where the game is played now.
      episode: its index in the plan.
      decision: number of the decision in the episode.
      seat, role, phase: who is asked for what.
      legal: the legal actions.
      exchanges: the seat's stream after the role prefix, turn by turn; the last one is due.
      secrets: int16[K, 4], rows of the log that it was told in secret.
    """

    lane: int
    episode: int
    decision: int
    seat: int
    role: int
    phase: int
    legal: tuple[int, ...]
    exchanges: tuple[Exchange, ...]
    secrets: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 4), np.int16))


@dataclasses.dataclass(frozen=True)
class Reply:
    """What is answered: an action (any number where the phase asks for none), and tokens of free text.

    Tokens that nobody may say or think are left out, and those beyond a phase's budget are cut off.
    """

    action: int
    speech: Sequence[int] = ()
    thought: Sequence[int] = ()


@dataclasses.dataclass(frozen=True)
class _Programs:
    """What runs on the device, compiled at its first use."""

    onward: Callable[..., Any]
    write: Callable[..., Any]
    script: Callable[..., Any]
    prefill: Callable[..., Any]


@functools.lru_cache(maxsize=4)
def _compiled(table: Table, sizes: RolloutSizes, models: int) -> _Programs:
    return _Programs(
        onward=jax.jit(functools.partial(_play_on, table, sizes, models), donate_argnames=("cache",)),
        write=jax.jit(functools.partial(_write, table)),
        script=jax.jit(functools.partial(_script, table)),
        prefill=jax.jit(functools.partial(prefilled_cache, table, sizes, 1)),
    )


class HostedGames:
    """Episodes of a plan in progress.

    Attributes:
      table: the game laid out for a policy.
      over: games that have ended so far.
      replaced: (episode, decision) of every reply that a scripted player gave for a seat that is answered from outside.
    """

    table: Table
    over: int
    replaced: list[tuple[int, int]]

    def __init__(
        self,
        table: Table,
        capacity: int,
        lanes: int,
        plan: RolloutPlan,
        key: jax.Array,
        params: Any = None,
        temperature: float = 1.0,
    ):
        """Prepares the games; nobody has moved yet.

        Args:
          table: the game laid out for the policy.
          capacity: stream tokens of a seat after its role prefix.
          lanes: games in progress at once.
          plan: the episodes. Seats of `PERSON` and `API` are answered from outside; `LEARNER` needs `params`.
          key: of all chance; a rollout of the same plan with this key deals the same games.
          params: the policy's parameters.
          temperature: of its sampling.
        """
        self.table, self.over, self.replaced = table, 0, []
        self._plan, self._key = jax.tree.map(jnp.asarray, plan), key
        self._numbers = np.asarray(plan.episode)
        count = len(plan.episode)
        self._sizes = RolloutSizes.fit(table, lanes, capacity)
        self._let_play(bool((np.asarray(plan.holders) == LEARNER).any()))
        self.lanes, self.records = LaneState.idle(table, lanes, count), Episodes.empty(table.spec, count, capacity)
        self._dealt, self._usage = jnp.int32(0), Usage.zero()
        self._params, self._cache = None, None
        if params is not None:
            self._params = parameter_sets(None, [params]), jnp.full((1,), temperature, jnp.float32)
            self._cache = self._programs.prefill(self._params[0])

    def _let_play(self, policy: bool) -> None:
        """Sets whether the policy holds seats of its own: where it does not, playing on takes no model steps."""
        self._policy_plays = policy
        self._programs = _compiled(self.table, self._sizes, int(policy))

    def number_of(self, turn: Turn) -> int:
        """The episode's own number, of which its randomness is a function."""
        return int(self._numbers[turn.episode])

    def thought_budget(self, turn: Turn) -> int:
        """Most tokens of the thought in a reply; 0: the phase has none."""
        return int(self.table.grammar.budgets[turn.phase, THOUGHT])

    def look(self, at: Callable[[RolloutPlan, jax.Array, LaneState], Any]) -> Any:
        """What a function makes of the plan, the key of all chance and the lanes, as they are now, on the host."""
        return jax.device_get(at(self._plan, self._key, self.lanes))

    def run(self) -> list[Turn]:
        """Plays on until nobody can move but those outside, and returns all replies that are due; none: all is over."""
        params, cache = (self._params, self._cache) if self._policy_plays else (None, None)
        shown, (self.lanes, self.records, cache, self._dealt, self._usage) = self._programs.onward(
            self._plan, self._key, params, self.lanes, self.records, cache, self._dealt, self._usage
        )
        if self._policy_plays:
            self._cache = cache
        lanes, records = jax.device_get((shown, self.records))
        self.over = int((records.terminated | records.truncated | records.overflowed).sum())
        due = (lanes.mode == WAITING) & (lanes.holder >= PERSON)
        return [_turn(lanes, records, int(lane)) for lane in np.flatnonzero(due)]

    def reply(self, replies: Mapping[int, Reply]) -> None:
        """Replies for lanes in which a reply is due."""
        spec, lexicon, lanes = self.table.spec, self.table.lexicon, self.lanes.mode.shape[0]
        due, action = np.zeros(lanes, bool), np.zeros(lanes, np.int32)
        speech, thought = _Text(lanes, spec.speech_tokens), _Text(lanes, spec.thought_tokens)
        for lane, reply in replies.items():
            due[lane], action[lane] = True, reply.action
            speech.put(lane, reply.speech, lexicon.speech_mask)
            thought.put(lane, reply.thought, lexicon.thought_mask)
        self.lanes, self.records = self._programs.write(
            self.lanes, self.records, due, action, (speech.tokens, speech.lengths), (thought.tokens, thought.lengths)
        )

    def replace(self, turns: Sequence[Turn]) -> None:
        """Lets the game's scripted player reply where nobody outside did; the records name it as the holder."""
        due = np.zeros(self.lanes.mode.shape[0], bool)
        due[[turn.lane for turn in turns]] = True
        self.replaced += [(turn.episode, turn.decision) for turn in turns]
        self.lanes, self.records = self._programs.script(self._plan, self._key, self.lanes, self.records, due)

    def said(self, lane: int, decision: int) -> str:
        """What was said in a lane's game at a decision, as text."""
        length = int(self.lanes.utterance_lengths[lane, decision])
        return self.table.tokenizer.decode(np.asarray(self.lanes.utterances[lane, decision, :length]).tolist()).strip()

    def episodes(self) -> Episodes:
        """All episodes on the host, in the plan's order, once all is over."""
        episodes = jax.tree.map(np.asarray, jax.device_get(self.records))
        holder = episodes.behaviours.holder.copy()
        for episode, decision in self.replaced:
            holder[episode, decision] = HEURISTIC
        return dataclasses.replace(episodes, behaviours=dataclasses.replace(episodes.behaviours, holder=holder))


def seated_game(
    table: Table, capacity: int, holders: Sequence[int], seed: int, params: Any = None, temperature: float = 1.0
) -> HostedGames:
    """One game with a holder for each seat, dealt; nobody who has a choice has moved yet.

    Args:
      table: the game laid out for a policy.
      capacity: stream tokens of a seat after its role prefix; a game that needs more is cut off.
      holders: who decides for each seat, as in `RolloutPlan` for each side.
      seed: of the deal and of all chance.
      params: the policy's parameters, if it holds a seat.
      temperature: of its sampling.
    """
    zero = jnp.zeros(1, jnp.int32)
    plan = RolloutPlan(zero, zero, jnp.full((1, len(table.spec.sides)), PERSON, jnp.int8))
    game = HostedGames(table, capacity, 1, plan, jax.random.key(seed), params, temperature)
    game._let_play(LEARNER in holders)
    game.run()  # deals, and stops at the first choice: until now every seat is answered from outside
    of_seat, made = jnp.asarray([holders], jnp.int8), game.records.behaviours
    forced = jnp.where(made.seat >= 0, jnp.take(of_seat[0], made.seat), made.holder)  # decisions before that choice
    game.lanes = dataclasses.replace(game.lanes, holder=of_seat)
    game.records = dataclasses.replace(game.records, behaviours=dataclasses.replace(made, holder=forced))
    return game


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Shown:
    """What the host reads of the lanes: fields [L] of the acting seat, its stream's length, what is legal, the log."""

    mode: Any
    slot: Any
    holder: Any
    seat: Any
    role: Any
    phase: Any
    decision: Any
    start: Any
    legal: Any
    log: EventLog

    @staticmethod
    def of(lanes: LaneState) -> _Shown:
        game = lanes.game
        return _Shown(
            lanes.mode, lanes.slot, lanes.of_actor(lanes.holder), game.actor, lanes.of_actor(game.roles), game.phase,
            game.step, lanes.start, lanes.legal, game.log,
        )  # fmt: skip


class _Text:
    """Free text of some lanes: int32[L, K] and int32[L]."""

    def __init__(self, lanes: int, budget: int):
        self.tokens, self.lengths = np.zeros((lanes, max(1, budget)), np.int32), np.zeros(lanes, np.int32)
        self._budget = budget

    def put(self, lane: int, tokens: Sequence[int], allowed: np.ndarray) -> None:
        kept = [token for token in tokens if allowed[token]][: self._budget]
        self.tokens[lane, : len(kept)], self.lengths[lane] = kept, len(kept)


def _turn(lanes: _Shown, records: Episodes, lane: int) -> Turn:
    """What the host is told of a reply that is due."""
    slot, seat, decision = int(lanes.slot[lane]), int(lanes.seat[lane]), int(lanes.decision[lane])
    made, tokens, node = records.behaviours, records.tokens[slot, seat], records.node[slot, seat]
    exchanges, read = [], 0
    for own in np.flatnonzero(made.seat[slot, :decision] == seat):
        start, end = int(made.start[slot, own]), int(made.end[slot, own])
        exchanges.append(
            Exchange(
                phase=int(made.phase[slot, own]),
                news=tokens[read:start],
                reply=tokens[start:end],
                nodes=node[start:end],
                action=int(made.action[slot, own]),
            )
        )
        read = end
    phase, start = int(lanes.phase[lane]), int(lanes.start[lane])
    exchanges.append(Exchange(phase, tokens[read:start], tokens[:0], node[:0], -1))
    legal = tuple(np.flatnonzero(lanes.legal[lane]).tolist())
    log, seats = jax.tree.map(lambda leaf: leaf[lane], lanes.log), records.tokens.shape[1]
    rows, audience = log.rows[: int(log.size)], log.audience[: int(log.size)]
    secrets = rows[told_in_secret(rows, audience, seat, seats)]
    return Turn(lane, slot, decision, seat, int(lanes.role[lane]), phase, legal, tuple(exchanges), secrets)


def told_in_secret(rows: np.ndarray, audience: np.ndarray, seat: int, seats: int) -> np.ndarray:
    """bool[M]: the rows of a log that a seat may read and somebody else may not, other than the actor itself.

    Args:
      rows: int[M, 4], those in use.
      audience: int[M], a bit for each seat that may read the row; nobody reads the echo of its own act.
      seat: whose rows.
      seats: N.
    """
    audience = audience.astype(np.int64)
    actor = np.where(rows[:, 1] >= 0, 1 << np.maximum(rows[:, 1], 0).astype(np.int64), 0)
    return (audience >> seat & 1 == 1) & (audience | actor != (1 << seats) - 1)


def _play_on(
    table: Table,
    sizes: RolloutSizes,
    models: int,
    plan: RolloutPlan,
    key: jax.Array,
    params: Any,
    lanes: LaneState,
    records: Episodes,
    cache: Any,
    dealt: jax.Array,
    usage: Usage,
) -> tuple[_Shown, tuple]:
    """Goes on, as a rollout does, until every lane is idle or waits for somebody outside, and shows what is due."""
    count = plan.episode.shape[0]

    def can_move(carry: tuple) -> jax.Array:
        lanes, _, _, dealt, _ = carry
        outside = (lanes.mode == WAITING) & (lanes.of_actor(lanes.holder) >= PERSON)
        return jnp.any(~outside & ((lanes.mode != IDLE) | (dealt < count)))

    def work(carry: tuple) -> tuple:
        lanes, records, cache, dealt, usage = carry
        lanes, records, dealt = advance(table, plan, key, sizes.scripted_rows(models), lanes, records, dealt)
        if models:

            def step(_: jax.Array, carry: tuple) -> tuple:
                return take_step(table, sizes, models, plan, key, *params, *carry)

            carry = (lanes, records, cache, usage)
            lanes, records, cache, usage = jax.lax.fori_loop(0, sizes.decode_steps, step, carry)
        return lanes, records, cache, dealt, usage

    end = jax.lax.while_loop(can_move, work, (lanes, records, cache, dealt, usage))
    return _Shown.of(end[0]), end


def _write(
    table: Table,
    lanes: LaneState,
    records: Episodes,
    due: jax.Array,
    action: jax.Array,
    speech: tuple[jax.Array, jax.Array],
    thought: tuple[jax.Array, jax.Array],
) -> tuple[LaneState, Episodes]:
    """Writes replies where they are due; the other lanes stay as they are."""
    written, records = write_reply(table, lanes, records, due, action, speech, thought)
    return select(due, written, lanes), records


def _script(
    table: Table, plan: RolloutPlan, key: jax.Array, lanes: LaneState, records: Episodes, due: jax.Array
) -> tuple[LaneState, Episodes]:
    """Lets the game's scripted player reply where `due` bool[L]."""
    sensible = dataclasses.replace(lanes, holder=jnp.full_like(lanes.holder, HEURISTIC))
    written, records = scripted_reply(table, plan, key, sensible, records, due)
    return select(due, dataclasses.replace(written, holder=lanes.holder), lanes), records
