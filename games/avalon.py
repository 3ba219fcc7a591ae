"""Avalon: quests, hidden evil, and Merlin who knows it. The rules are written out in docs/games/avalon.md."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.avalon_spec import (
    ASSASSIN,
    EVIL,
    FAILS_NEEDED,
    IS_EVIL,
    KIND,
    KNOWS,
    MAJORITY,
    MERLIN,
    MORGANA,
    NOTHING,
    OVER,
    PROPOSALS,
    PROPOSE,
    QUEST,
    ROLES,
    SHOOT,
    SPEAK,
    TEAM_SIZES,
    VOTE,
    AvalonRules,
    act_tables,
)
from games.core import EventLog, State, audience_of, event


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AvalonState(State):
    """The common fields and what the rules need to remember.

    Attributes:
      quest: int8[], quest in progress, from 0.
      proposal: int8[], proposal of that quest, from 0.
      leader: int8[], seat that proposes.
      turn: int8[], turns to speak taken in this discussion.
      team: bool[N], seats picked so far.
      ballots: int8[N], votes on this team: 1 approves, 0 rejects, -1 for none yet.
      choices: int8[N], what members play on this quest: 1 success, 0 fail, -1 for none (yet).
      succeeded: int8[], quests that succeeded.
      failed: int8[], quests that failed.
    """

    quest: jax.Array
    proposal: jax.Array
    leader: jax.Array
    turn: jax.Array
    team: jax.Array
    ballots: jax.Array
    choices: jax.Array
    succeeded: jax.Array
    failed: jax.Array


@dataclasses.dataclass(frozen=True)
class _Turn:
    """What one decision led to; all fields are bool[] but `fails` int[], which counts on a quest that is back."""

    spoken: jax.Array
    unvoted: jax.Array
    polled: jax.Array
    approved: jax.Array
    back: jax.Array
    fails: jax.Array
    lost: jax.Array
    good_won: jax.Array
    evil_won: jax.Array
    new_quest: jax.Array
    new_proposal: jax.Array


@dataclasses.dataclass(frozen=True)
class Avalon(AvalonRules):
    """`avalon-v0`. Parameters and their allowed values: docs/games/avalon.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    # ------------------------------------------------------------------ the four functions

    def init(self, key: jax.Array) -> AvalonState:
        """Deals roles, draws the first leader and opens the first quest."""
        n = self.num_seats
        deal_key, leader_key = jax.random.split(key)
        roles = jax.random.permutation(deal_key, jnp.asarray(self.deck, jnp.int8))
        leader = jax.random.randint(leader_key, (), 0, n).astype(jnp.int8)
        nobody = jnp.full((n,), core.NO_ONE, jnp.int8)
        zero = jnp.int8(0)
        return AvalonState(
            phase=jnp.int8(PROPOSE),
            actor=leader,
            step=jnp.int16(0),
            roles=roles,
            outcome=jnp.zeros((n,), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=self._log_deal(roles, leader),
            quest=zero,
            proposal=zero,
            leader=leader,
            turn=zero,
            team=jnp.zeros((n,), bool),
            ballots=nobody,
            choices=nobody,
            succeeded=zero,
            failed=zero,
        )

    def legal_action_mask(self, state: AvalonState) -> jax.Array:
        """bool[A] of the acting seat; all True once over."""
        n, phase = self.num_seats, state.phase
        others = jnp.arange(n) != state.actor
        role = state.roles[state.actor]
        unknown = others & (jnp.asarray(KNOWS)[role, state.roles] != EVIL)
        picks = ((phase == PROPOSE) & ~state.team) | ((phase == SHOOT) & unknown)
        claims = np.isin(np.arange(len(ROLES)), self.deck)
        speaking, voting, playing = phase == SPEAK, phase == VOTE, phase == QUEST
        mask = jnp.concatenate(
            [
                picks,
                jnp.tile(others & speaking, 2),
                jnp.asarray(claims) & speaking,
                jnp.stack([speaking, voting, voting, playing, playing & jnp.asarray(IS_EVIL)[role]]),
            ]
        )
        return mask | state.over

    def acting_mask(self, state: AvalonState) -> jax.Array:
        """bool[N]: the actor; in a vote or on a quest everybody who has still to choose."""
        actor = jnp.arange(self.num_seats) == state.actor
        members = state.team & (state.choices < 0)
        waiting = jnp.where(state.phase == VOTE, state.ballots < 0, jnp.where(state.phase == QUEST, members, actor))
        return waiting & ~state.over

    def step(self, state: AvalonState, action: jax.Array, key: jax.Array) -> AvalonState:
        """Plays one decision and everything that follows from it until the next one; draws nothing from `key`."""
        del key
        n = self.num_seats
        legal = self.legal_action_mask(state)
        known = (action >= 0) & (action < legal.shape[0])
        allowed = known & legal[jnp.clip(action, 0, legal.shape[0] - 1)]
        action = jnp.where(allowed, action, jnp.argmax(legal)).astype(jnp.int8)
        acted = self._remember(state, action)
        turn = self._turn(acted, action)
        log = self._log_step(self._log_act(state, action), acted, turn)

        fresh = turn.new_proposal
        nobody = jnp.int8(core.NO_ONE)
        quest = acted.quest + turn.new_quest.astype(jnp.int8)
        proposal = jnp.where(turn.new_quest, 0, acted.proposal + fresh.astype(jnp.int8)).astype(jnp.int8)
        succeeded = acted.succeeded + (turn.back & ~turn.lost).astype(jnp.int8)
        over = turn.good_won | turn.evil_won
        shooting = turn.back & ~over & ~turn.new_quest
        leader = ((acted.leader + fresh) % n).astype(jnp.int8)
        complete = (state.phase == PROPOSE) & self._complete(acted)
        to_vote = (turn.spoken | (complete & (not self.discussion_rounds))) & ~turn.unvoted
        phase = jnp.select(
            [over, shooting, fresh, turn.approved | turn.unvoted, to_vote, complete],
            [jnp.int8(phase) for phase in (OVER, SHOOT, PROPOSE, QUEST, VOTE, SPEAK)],
            state.phase,
        )
        outcome = jnp.where(jnp.asarray(IS_EVIL)[state.roles] == turn.evil_won, 1.0, -1.0)
        after = dataclasses.replace(
            acted,
            phase=phase,
            step=state.step + jnp.int16(1),
            outcome=jnp.where(over, outcome, 0.0).astype(jnp.float32),
            terminated=over,
            log=log,
            quest=quest,
            proposal=proposal,
            leader=leader,
            turn=jnp.where(phase == SPEAK, acted.turn, 0).astype(jnp.int8),
            team=acted.team & ~fresh,
            ballots=jnp.where(fresh, nobody, acted.ballots),
            choices=jnp.where(fresh, nobody, acted.choices),
            succeeded=succeeded,
            failed=acted.failed + turn.lost.astype(jnp.int8),
        )
        after = dataclasses.replace(after, actor=self._actor(after))
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    # ------------------------------------------------------------------ turns

    def _complete(self, state: AvalonState) -> jax.Array:
        """bool[]: the team has all its members."""
        return jnp.sum(state.team) == jnp.asarray(TEAM_SIZES[self.num_seats])[state.quest]

    def _actor(self, state: AvalonState) -> jax.Array:
        """int8[]: who decides next; -1 once over."""
        candidates = [
            state.leader,
            (state.leader + state.turn) % self.num_seats,
            jnp.argmax(state.ballots < 0),
            jnp.argmax(state.team & (state.choices < 0)),
            jnp.argmax(state.roles == ASSASSIN),
            core.NO_ONE,
        ]
        return jnp.stack([jnp.asarray(seat, jnp.int8) for seat in candidates])[state.phase]

    def _remember(self, state: AvalonState, action: jax.Array) -> AvalonState:
        """Stores a pick, a vote or a choice until it is counted."""
        seats, base = jnp.arange(self.num_seats), 3 * self.num_seats + len(ROLES) + 1
        mine = seats == state.actor
        approves, succeeds = (action == base).astype(jnp.int8), (action == base + 2).astype(jnp.int8)
        return dataclasses.replace(
            state,
            turn=state.turn + (state.phase == SPEAK).astype(jnp.int8),
            team=state.team | ((state.phase == PROPOSE) & (seats == action)),
            ballots=jnp.where((state.phase == VOTE) & mine, approves, state.ballots),
            choices=jnp.where((state.phase == QUEST) & mine, succeeds, state.choices),
        )

    def _turn(self, acted: AvalonState, action: jax.Array) -> _Turn:
        """What follows from the decision that `acted` has stored."""
        n, phase = self.num_seats, acted.phase
        spoken = (phase == SPEAK) & (acted.turn == self.discussion_rounds * n)
        complete = (phase == PROPOSE) & self._complete(acted)
        settled = spoken if self.discussion_rounds else complete
        last = acted.proposal == PROPOSALS - 1
        unvoted = settled & last & (self.fifth_rejection == "approved")
        polled = (phase == VOTE) & jnp.all(acted.ballots >= 0)
        approved = polled & (2 * jnp.sum(acted.ballots > 0) > n)
        hopeless = polled & ~approved & last
        back = (phase == QUEST) & jnp.all(~acted.team | (acted.choices >= 0))
        fails = jnp.sum(acted.choices == 0)
        lost = back & (fails >= jnp.asarray(FAILS_NEEDED[n])[acted.quest])
        decided_evil = back & (acted.failed + lost == MAJORITY)
        decided_good = back & (acted.succeeded + ~lost == MAJORITY)
        shot = phase == SHOOT
        hit = acted.roles[jnp.clip(action, 0, n - 1)] == MERLIN
        new_quest = back & ~decided_evil & ~decided_good
        return _Turn(
            spoken=spoken,
            unvoted=unvoted,
            polled=polled,
            approved=approved,
            back=back,
            fails=fails,
            lost=lost,
            good_won=shot & ~hit,
            evil_won=hopeless | decided_evil | (shot & hit),
            new_quest=new_quest,
            new_proposal=new_quest | (polled & ~approved & ~hopeless),
        )

    # ------------------------------------------------------------------ what is told to whom

    def _log_deal(self, roles: jax.Array, leader: jax.Array) -> EventLog:
        """Tells each seat who it is and what its role knows; opens the first quest."""
        n = self.num_seats
        pair = KIND["merlin_or_morgana" if MORGANA in self.deck else "merlin"]
        kinds = jnp.asarray([core.NO_ONE, KIND["evil"], pair], jnp.int16)
        seats, (viewer, other) = np.arange(n), np.nonzero(~np.eye(n, dtype=bool))
        told = jnp.asarray(KNOWS)[roles[viewer], roles[other]]
        rows = [
            _rows(n, KIND["seat"], seats),
            _rows(len(viewer), kinds[told], viewer, other),
            _rows(1, KIND["quest"], value=0),
            _rows(1, KIND["leader"], leader, value=0),
        ]
        audience = np.concatenate([1 << seats, 1 << viewer, [(1 << n) - 1] * 2]).astype(np.uint16)
        present = jnp.concatenate([jnp.ones((n,), bool), told > NOTHING, jnp.ones((2,), bool)])
        return EventLog.empty(self.spec.max_events).append(jnp.concatenate(rows), jnp.asarray(audience), present)

    def _log_act(self, state: AvalonState, action: jax.Array) -> EventLog:
        """Logs the act itself; votes and choices stay hidden until all are in."""
        phase, actor = state.phase, state.actor
        kind, target, value = (jnp.asarray(table)[action] for table in act_tables(self.num_seats))
        kind = jnp.where(phase == SHOOT, KIND["shot"], kind)
        audience = audience_of(jnp.arange(self.num_seats) != actor)
        rows = jnp.stack([event(KIND["utterance"], actor, value=state.step), event(kind, actor, target, value)])
        speaking = phase == SPEAK
        present = jnp.stack([speaking & (self.speech_tokens > 0), speaking | (phase == PROPOSE) | (phase == SHOOT)])
        return state.log.append(rows, jnp.stack([audience, audience]), present)

    def _log_step(self, log: EventLog, state: AvalonState, turn: _Turn) -> EventLog:
        """Logs what the decision led to."""
        n = self.num_seats
        seats = np.arange(n)
        everybody = np.full((n,), (1 << n) - 1)
        result = jnp.where(turn.lost, KIND["quest_failed"], KIND["quest_succeeded"])
        verdict = jnp.where(turn.approved, KIND["approved"], KIND["rejected"])
        proposal = jnp.where(turn.new_quest, 0, state.proposal + 1)
        parts = [
            (_rows(1, KIND["unvoted"]), everybody[:1], turn.unvoted[None]),
            (_rows(n, KIND["vote"], seats, value=state.ballots), everybody - (1 << seats), jnp.tile(turn.polled, n)),
            (_rows(1, verdict), everybody[:1], turn.polled[None]),
            (_rows(n, KIND["choice"], seats, value=state.choices), 0 * everybody, turn.back & state.team),
            (_rows(1, result, value=turn.fails), everybody[:1], turn.back[None]),
            (_rows(1, KIND["win"], value=turn.good_won), everybody[:1], (turn.good_won | turn.evil_won)[None]),
            (_rows(1, KIND["quest"], value=state.quest + 1), everybody[:1], turn.new_quest[None]),
            (_rows(1, KIND["leader"], (state.leader + 1) % n, value=proposal), everybody[:1], turn.new_proposal[None]),
        ]
        rows, audience, present = zip(*parts, strict=True)
        seen_by = jnp.asarray(np.concatenate(audience).astype(np.uint16))
        return log.append(jnp.concatenate(rows), seen_by, jnp.concatenate(present))


def _rows(
    count: int, kind: Any, actor: Any = core.NO_ONE, target: Any = core.NO_ONE, value: Any = core.NO_ONE
) -> jax.Array:
    """int16[count, 4]: rows of the log from columns, each one number or `count` of them."""
    columns = [jnp.broadcast_to(jnp.asarray(x, jnp.int16), (count,)) for x in (kind, actor, target, value)]
    return jnp.stack(columns, axis=1)
