"""Murder mystery: suspects pool what they know, and one lies. The rules are written out in docs/games/mystery.md."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.core import EventLog, State, audience_of, event
from games.mystery_case import log_deal, make_up, rows_of, shuffle_clues
from games.mystery_spec import (
    ABOUT,
    ANSWER,
    CULPRIT,
    FIRST_MOTIVE,
    FIRST_OBJECT,
    INNOCENT,
    KIND,
    MOTIVES,
    OBJECTS,
    OPINION,
    OVER,
    QUESTION,
    ROOMS,
    SHOW,
    TURN,
    VOTE,
    WHAT,
    WHERE,
    WHY,
    MysteryRules,
    act_tables,
    layout,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MysteryState(State):
    """The common fields and what the rules need to remember.

    Attributes:
      scene: int8[], room of the crime.
      weapon: int8[], what the culprit carried.
      motive: int8[], what drives the culprit.
      stacks: int8[rooms, N + 2], clues of each room from the top, then -1.
      drawn: int8[rooms], clues drawn from each stack.
      round: int8[], round in progress, from 0.
      seat: int8[], whose turn it is.
      acts: int8[], questions and searches of this turn that are over.
      asked: int8[], the seat that was asked last.
      question: int8[], what it was asked.
      clue: int16[4], the row that tells of the clue drawn last.
      doubt: int16[N], how often each seat was said to be suspected, less how often to be trusted.
      ballots: int8[N], whom each seat votes for, -1 for no vote yet.
    """

    scene: jax.Array
    weapon: jax.Array
    motive: jax.Array
    stacks: jax.Array
    drawn: jax.Array
    round: jax.Array
    seat: jax.Array
    acts: jax.Array
    asked: jax.Array
    question: jax.Array
    clue: jax.Array
    doubt: jax.Array
    ballots: jax.Array


@dataclasses.dataclass(frozen=True)
class _Turn:
    """What one decision led to; all fields are bool[] but `convicted` int8[], the seat or -1."""

    searched: jax.Array
    shown: jax.Array
    act_over: jax.Array
    to_opinion: jax.Array
    turn_over: jax.Array
    new_round: jax.Array
    to_vote: jax.Array
    polled: jax.Array
    convicted: jax.Array
    caught: jax.Array


@dataclasses.dataclass(frozen=True)
class Mystery(MysteryRules):
    """`mystery-v0`. Parameters and their allowed values: docs/games/mystery.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    # ------------------------------------------------------------------ the four functions

    def init(self, key: jax.Array) -> MysteryState:
        """Makes up a case, deals the scripts and opens the first round."""
        n, zero = self.num_seats, jnp.int8(0)
        deal_key, case_key, stacks_key = jax.random.split(key, 3)
        is_culprit = jax.random.permutation(deal_key, np.arange(n) == 0)
        case, culprit = make_up(self, is_culprit, case_key), jnp.argmax(is_culprit)
        scene = case.at[culprit]
        return MysteryState(
            phase=jnp.int8(TURN),
            actor=zero,
            step=jnp.int16(0),
            roles=jnp.where(is_culprit, CULPRIT, INNOCENT).astype(jnp.int8),
            outcome=jnp.zeros((n,), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=log_deal(self, case, is_culprit),
            scene=scene,
            weapon=case.carried[culprit],
            motive=case.driven[culprit],
            stacks=shuffle_clues(self, case, stacks_key),
            drawn=jnp.zeros((self.rooms,), jnp.int8),
            round=zero,
            seat=zero,
            acts=zero,
            asked=zero,
            question=zero,
            clue=event(KIND["no_clue"]),
            doubt=jnp.zeros((n,), jnp.int16),
            ballots=jnp.full((n,), core.NO_ONE, jnp.int8),
        )

    def legal_action_mask(self, state: MysteryState) -> jax.Array:
        """bool[A] of the acting seat; all True once over."""
        phase, question = state.phase, state.question
        seats = jnp.arange(self.num_seats)
        others = seats != state.actor
        answering, anything = phase == ANSWER, question >= ABOUT
        blocks: list[Any] = [
            others & (phase == TURN),
            (np.arange(len(ROOMS)) < self.rooms) & (phase == TURN),
            jnp.tile(phase == QUESTION, ABOUT),
            others & (seats != state.asked) & (phase == QUESTION),
            (np.arange(len(ROOMS)) < self.rooms) & answering & ((question == WHERE) | anything),
            (np.arange(len(OBJECTS)) < self.objects) & answering & ((question == WHAT) | anything),
            (np.arange(len(MOTIVES)) < self.motives) & answering & ((question == WHY) | anything),
            answering[None],
            jnp.tile(phase == SHOW, 2),
            jnp.tile(others & (phase == OPINION), 2),
            (phase == OPINION)[None],
            others & (phase == VOTE),
        ]
        return jnp.concatenate(blocks) | state.over

    def acting_mask(self, state: MysteryState) -> jax.Array:
        """bool[N]: the actor; in the vote everybody who has still to vote."""
        actor = jnp.arange(self.num_seats) == state.actor
        return jnp.where(state.phase == VOTE, state.ballots < 0, actor) & ~state.over

    def step(self, state: MysteryState, action: jax.Array, key: jax.Array) -> MysteryState:
        """Plays one decision and everything that follows from it until the next one; `key` breaks a tie by lot."""
        n = self.num_seats
        legal = self.legal_action_mask(state)
        known = (action >= 0) & (action < legal.shape[0])
        allowed = known & legal[jnp.clip(action, 0, legal.shape[0] - 1)]
        action = jnp.where(allowed, action, jnp.argmax(legal)).astype(jnp.int8)
        acted = self._remember(state, action)
        turn = self._turn(state, acted, action, key)
        log = self._log_step(self._log_act(state, acted, action, turn), acted, turn)

        asks = (state.phase == TURN) & ~turn.searched
        seat_over = turn.turn_over.astype(jnp.int8)
        phase = jnp.select(
            [turn.polled, turn.to_vote | (state.phase == VOTE), asks, state.phase == QUESTION,
             turn.searched & ~turn.act_over, turn.to_opinion],
            [jnp.int8(phase) for phase in (OVER, VOTE, QUESTION, ANSWER, SHOW, OPINION)],
            jnp.int8(TURN),
        )  # fmt: skip
        outcome = jnp.where((state.roles == CULPRIT) ^ turn.caught, 1.0, -1.0)
        after = dataclasses.replace(
            acted,
            phase=phase,
            step=state.step + jnp.int16(1),
            outcome=jnp.where(turn.polled, outcome, 0.0).astype(jnp.float32),
            terminated=turn.polled,
            log=log,
            round=acted.round + turn.new_round.astype(jnp.int8),
            seat=((acted.seat + seat_over) % n).astype(jnp.int8),
            acts=jnp.where(turn.turn_over, 0, acted.acts + turn.act_over).astype(jnp.int8),
        )
        after = dataclasses.replace(after, actor=self._actor(after))
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    # ------------------------------------------------------------------ turns

    def _actor(self, state: MysteryState) -> jax.Array:
        """int8[]: who decides next; -1 once over."""
        voter = jnp.argmax(state.ballots < 0)
        candidates = [state.seat, state.seat, state.asked, state.seat, state.seat, voter, core.NO_ONE]
        return jnp.stack([jnp.asarray(seat, jnp.int8) for seat in candidates])[state.phase]

    def _remember(self, state: MysteryState, action: jax.Array) -> MysteryState:
        """Stores what was asked, drawn, said of others or voted."""
        phase, first = state.phase, layout(self.num_seats)
        seats = jnp.arange(self.num_seats)
        asks = (phase == TURN) & (action < first["search"])
        searches = (phase == TURN) & ~asks
        room = jnp.clip(action - first["search"], 0, self.rooms - 1)
        clue = self._clue_row(state, room)
        drawn = (np.arange(self.rooms) == room) & searches & (clue[0] != KIND["no_clue"])
        opinion = (action == first["suspect"] + seats).astype(jnp.int16) - (action == first["trust"] + seats)
        mine = (phase == VOTE) & (seats == state.actor)
        question = action - first["question"]
        return dataclasses.replace(
            state,
            drawn=state.drawn + drawn.astype(jnp.int8),
            asked=jnp.where(asks, action, state.asked),
            question=jnp.where(phase == QUESTION, question, state.question).astype(jnp.int8),
            clue=jnp.where(searches, clue, state.clue),
            doubt=state.doubt + jnp.where(phase == OPINION, opinion, 0).astype(jnp.int16),
            ballots=jnp.where(mine, action - first["vote"], state.ballots).astype(jnp.int8),
        )

    def _turn(self, state: MysteryState, acted: MysteryState, action: jax.Array, key: jax.Array) -> _Turn:
        """What follows from the decision that `acted` has stored."""
        n, phase, first = self.num_seats, state.phase, layout(self.num_seats)
        searched = (phase == TURN) & (action >= first["search"])
        act_over = (phase == ANSWER) | (phase == SHOW) | (searched & (self.clues == "public"))
        spent = act_over & (state.acts + 1 == self.acts)
        turn_over = (phase == OPINION) | (spent & (not self.opinions))
        round_over = turn_over & (state.seat == n - 1)
        new_round = round_over & (state.round + 1 < self.rounds)
        polled = (phase == VOTE) & jnp.all(acted.ballots >= 0)
        convicted = self._convicted(acted, key)
        return _Turn(
            searched=searched,
            shown=(phase == SHOW) & (action == first["show"]),
            act_over=act_over,
            to_opinion=spent & self.opinions,
            turn_over=turn_over,
            new_round=new_round,
            to_vote=round_over & ~new_round,
            polled=polled,
            convicted=convicted,
            caught=polled & (convicted == jnp.argmax(state.roles == CULPRIT)),
        )

    def _convicted(self, state: MysteryState, key: jax.Array) -> jax.Array:
        """int8[]: who is convicted by the ballots, -1 for nobody."""
        n = self.num_seats
        score = jnp.sum(state.ballots[:, None] == jnp.arange(n), axis=0)
        if self.verdict == "doubt":
            score = n * score + state.doubt
        top = score == jnp.max(score)
        drawn = jnp.argmax(jnp.where(top, jax.random.uniform(key, (n,)), -1.0))
        sure = (jnp.sum(top) == 1) | (self.ties == "lot")
        return jnp.where(sure, drawn, core.NO_ONE).astype(jnp.int8)

    # ------------------------------------------------------------------ what is told to whom

    def _log_act(self, state: MysteryState, acted: MysteryState, action: jax.Array, turn: _Turn) -> EventLog:
        """Logs the act itself and the clue it draws or shows; votes stay hidden until all are in."""
        phase, actor = state.phase, state.actor
        kind, target, value = (jnp.asarray(table)[action] for table in act_tables(self.num_seats))
        subject = jnp.where(state.question >= ABOUT, state.question - ABOUT, actor)
        target = jnp.where(phase == QUESTION, state.asked, jnp.where(phase == ANSWER, subject, target))
        everybody, me = jnp.ones((self.num_seats,), bool), jnp.arange(self.num_seats) == actor
        finders = everybody if self.clues == "public" else me
        told = audience_of(jnp.where(turn.shown, ~me, finders))
        spoken = (phase == QUESTION) | (phase == ANSWER) | (phase == OPINION)
        entries = [
            (event(KIND["utterance"], actor, value=state.step), audience_of(~me), spoken & (self.speech_tokens > 0)),
            (event(kind, actor, target, value), audience_of(~me), kind >= 0),
            (acted.clue, told, turn.searched | turn.shown),
        ]
        rows, audience, present = zip(*entries, strict=True)
        return state.log.append(jnp.stack(rows), jnp.stack(audience), jnp.stack(present))

    def _clue_row(self, state: MysteryState, room: jax.Array) -> jax.Array:
        """int16[4]: what the acting seat finds in a room."""
        n = self.num_seats
        found = state.stacks[room, state.drawn[room]]
        cases = [
            (found == n, "weapon", FIRST_OBJECT + state.weapon),
            (found == n + 1, "motive", FIRST_MOTIVE + state.motive),
            (found >= 0, "trace", room),
        ]
        conditions, kinds, values = zip(*cases, strict=True)
        kind = jnp.select(conditions, [jnp.int16(KIND[kind]) for kind in kinds], jnp.int16(KIND["no_clue"]))
        value = jnp.select(conditions, [value.astype(jnp.int16) for value in values], room.astype(jnp.int16))
        return event(kind, state.actor, jnp.where(kind == KIND["trace"], found, core.NO_ONE), value)

    def _log_step(self, log: EventLog, state: MysteryState, turn: _Turn) -> EventLog:
        """Logs what the decision led to: the next round, or the ballots and the verdict."""
        n = self.num_seats
        seats, all_seats = np.arange(n), (1 << n) - 1
        guilty = turn.convicted >= 0
        parts = [
            (rows_of(1, KIND["round"], value=state.round + 1), [all_seats], turn.new_round[None]),
            (rows_of(n, KIND["vote"], seats, state.ballots), all_seats - (1 << seats), jnp.tile(turn.polled, n)),
            (rows_of(1, KIND["convicted"], target=turn.convicted), [all_seats], (turn.polled & guilty)[None]),
            (rows_of(1, KIND["acquitted"]), [all_seats], (turn.polled & ~guilty)[None]),
            (rows_of(1, KIND["win"], value=turn.caught), [all_seats], turn.polled[None]),
        ]
        rows, audience, present = zip(*parts, strict=True)
        seen_by = jnp.asarray(np.concatenate(audience).astype(np.uint16))
        return log.append(jnp.concatenate(rows), seen_by, jnp.concatenate(present))
