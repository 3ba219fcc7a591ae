"""Games told again: given replies are played through the rules, and all that seats would have read is written anew."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.registry import make
from games.text.grammar import SPEECH_TOKEN, THOUGHT_TOKEN
from maro_jax.policy.config import tiny_config
from maro_jax.policy.decoder import Policy
from maro_jax.policy.models import open_policy
from maro_jax.selfplay.episodes import Episodes, RolloutPlan
from maro_jax.selfplay.lanes import IDLE, WAITING, LaneState, advance, select, write_reply
from maro_jax.selfplay.table import Table


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Replies:
    """What was decided, by episode and decision; rows beyond the last decision are not read.

    Attributes:
      action: int32[E, B], ignored where a phase asks for none or only one is legal.
      thought, speech: int32[E, B, K], tokens without the section's close.
      thought_length, speech_length: int32[E, B].
    """

    action: Any
    thought: Any
    thought_length: Any
    speech: Any
    speech_length: Any

    @staticmethod
    def empty(table: Table, episodes: int) -> Replies:
        """Room for the replies of so many episodes, on the host."""
        spec = table.spec

        def zeros(*shape: int) -> np.ndarray:
            return np.zeros((episodes, spec.max_decisions, *shape), np.int32)

        thought, speech = zeros(max(1, spec.thought_tokens)), zeros(max(1, spec.speech_tokens))
        return Replies(zeros(), thought, zeros(), speech, zeros())

    @staticmethod
    def of(table: Table, episodes: Episodes) -> Replies:
        """What was decided in some episodes on the host."""
        replies = Replies.empty(table, len(episodes.terminated))
        replies.action[:] = episodes.behaviours.action
        for tokens, lengths, kind in (
            (replies.thought, replies.thought_length, THOUGHT_TOKEN),
            (replies.speech, replies.speech_length, SPEECH_TOKEN),
        ):
            chosen = (episodes.node == kind) & (episodes.tokens != table.lexicon.section_close)
            for episode, seat, place in np.argwhere(chosen).tolist():  # in the order of the stream
                decision = episodes.decision[episode, seat, place]
                at = lengths[episode, decision]
                if at < tokens.shape[2]:  # a record may claim what no phase has room for
                    tokens[episode, decision, at] = episodes.tokens[episode, seat, place]
                    lengths[episode, decision] += 1
        return replies


def text_table(game: str, parameters: Mapping[str, Any], model: str) -> Table:
    """A game laid out for the tokenizer of a model, to be played without its weights.

    Args:
      game: versioned name.
      parameters: rule parameters.
      model: `tiny` or a Hugging Face folder.

    Raises:
      GameError: there is no such game, or a parameter is not allowed.
      ModelError: the folder cannot be used.
    """
    return _text_table(game, tuple(sorted(parameters.items())), model)


@functools.lru_cache(maxsize=4)  # one table for all datasets of a game, and so one program that tells them
def _text_table(game: str, parameters: tuple[tuple[str, Any], ...], model: str) -> Table:
    tokenizer = open_policy(model)[1]
    return Table.lay(make(game, **dict(parameters)), Policy(tiny_config(tokenizer.vocab_size)), tokenizer)


def retell(table: Table, capacity: int, root: jax.Array, plan: RolloutPlan, replies: Replies) -> Episodes:
    """Plays episodes in which every reply is given.

    Args:
      table: the game laid out for a tokenizer.
      capacity: stream tokens of a seat after its role prefix.
      root: key of all chance.
      plan: the episodes; `holders` is only noted.
      replies: what is decided. An illegal action is recorded as it is, and the lowest legal one is played.

    Returns:
      The episodes on the host, with nothing but 0 for log-probabilities.
    """
    return jax.device_get(_program(table, capacity)(root, plan, replies))


@functools.lru_cache(maxsize=4)
def _program(table: Table, capacity: int) -> Any:
    return jax.jit(functools.partial(_retell, table, capacity))


def _retell(table: Table, capacity: int, root: jax.Array, plan: RolloutPlan, replies: Replies) -> Episodes:
    count = plan.episode.shape[0]

    def unfinished(carry: tuple) -> jax.Array:
        lanes, _, dealt = carry
        return jnp.any(lanes.mode != IDLE) | (dealt < count)

    def turn(carry: tuple) -> tuple:
        lanes, records, dealt = advance(table, plan, root, 0, *carry)
        due = lanes.mode == WAITING
        at = jnp.minimum(lanes.slot, count - 1), jnp.minimum(lanes.game.step, table.spec.max_decisions - 1)
        given = jax.tree.map(lambda leaf: leaf[at], replies)
        written, records = write_reply(
            table, lanes, records, due, given.action, (given.speech, given.speech_length),
            (given.thought, given.thought_length),
        )  # fmt: skip
        return select(due, written, lanes), records, dealt

    start = LaneState.idle(table, count, count), Episodes.empty(table.spec, count, capacity), jnp.int32(0)
    return jax.lax.while_loop(unfinished, turn, start)[1]
