"""Werewolf: a village with hidden wolves. The rules are written out in docs/games/werewolf.md."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.werewolf_spec import (
    DOCTOR_PHASE,
    GUARD_PHASE,
    HUNTER,
    HUNTER_PHASE,
    NIGHT_ROLES,
    PHASE_OF_ROLE,
    SEER_PHASE,
    SPEAK,
    VILLAGER,
    VOTE,
    WITCH,
    WITCH_PHASE,
    WOLF,
    WOLF_PHASE,
    WerewolfRules,
)
from games.werewolf_state import ABSTAINED, Turn, WerewolfState, log_act, log_deal, log_outcome


@dataclasses.dataclass(frozen=True)
class Werewolf(WerewolfRules):
    """`werewolf-v0`. Parameters and their allowed values: docs/games/werewolf.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    # ------------------------------------------------------------------ the four functions

    def init(self, key: jax.Array) -> WerewolfState:
        """Deals roles and opens the first night."""
        n = self.num_seats
        deck = np.repeat(np.array(list(self.dealt), np.int8), list(self.dealt.values()))
        roles = jax.random.permutation(key, jnp.asarray(deck))
        nobody, none = jnp.int8(core.NO_ONE), jnp.full((n,), core.NO_ONE, jnp.int8)
        alive, yes = jnp.ones((n,), bool), jnp.bool_(True)
        slot, _ = _next_slot(self._night_turns(roles, alive, yes), jnp.int16(-1))
        more: dict[str, Any] = {}
        if self.witch:
            more |= {"target": nobody, "antidote": yes, "poison": yes, "saved": ~yes, "poisoned": nobody}
        if self.guard:
            more["last_protected"] = nobody
        if self.runs_off:
            more["runoff"] = ~alive
        return WerewolfState(
            phase=self._night_phase(slot),
            actor=(slot % n).astype(jnp.int8),
            step=jnp.int16(0),
            roles=roles,
            outcome=jnp.zeros((n,), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=log_deal(self, roles),
            alive=alive,
            day=jnp.int8(1),
            slot=slot,
            first_speaker=nobody,
            picks=none,
            protected=nobody,
            check=nobody,
            checked=jnp.zeros((n,), bool),
            votes=none,
            **more,
        )

    def legal_action_mask(self, state: WerewolfState) -> jax.Array:
        """bool[A] of the acting seat; all True once over."""
        n, seats, phase = self.num_seats, jnp.arange(self.num_seats), state.phase
        others = state.alive & (seats != state.actor)
        unchecked = others & ~state.checked
        ballot = others
        if self.runs_off:
            ballot &= state.runoff | ~jnp.any(state.runoff)
        picks = [
            state.alive & (self.free | (state.roles != WOLF)),
            state.alive,
            jnp.where(jnp.any(unchecked), unchecked, others),
            jnp.zeros((n,), bool),
            ballot,
        ]
        if self.grown:
            picks += [
                others & state.poison if self.witch else others,
                state.alive & (seats != state.last_protected) if self.guard else others,
                others,
            ]
        pick = jnp.stack([*picks, jnp.ones((n,), bool)])[phase]
        speaking = phase == SPEAK
        acts = speaking & self.speech_acts
        may_pass = speaking
        if self.free:
            may_pass |= (phase == WOLF_PHASE) | (phase == VOTE) | (phase == GUARD_PHASE)
        if self.grown:
            may_pass |= (phase == WITCH_PHASE) | (phase == HUNTER_PHASE)
        save = (phase == WITCH_PHASE) & state.antidote & (state.target >= 0) if self.witch else jnp.bool_(False)
        mask = jnp.concatenate(
            [
                pick,
                jnp.tile(others & acts, 2),
                acts & np.isin(np.arange(len(self.roles)), list(self.dealt)),
                jnp.tile(others & acts, 2),
                jnp.stack([may_pass, save]) if self.grown else may_pass[None],
            ]
        )
        return mask | state.over

    def acting_mask(self, state: WerewolfState) -> jax.Array:
        """bool[N]: the actor; in a vote everybody who has not voted yet."""
        actor = jnp.arange(self.num_seats) == state.actor
        voters = self._voters(state.alive, state.runoff) & (state.votes == core.NO_ONE)
        return jnp.where(state.phase == VOTE, voters, actor) & ~state.over

    def step(self, state: WerewolfState, action: jax.Array, key: jax.Array) -> WerewolfState:
        """Plays one decision and everything that follows from it until the next one."""
        legal = self.legal_action_mask(state)
        known = (action >= 0) & (action < legal.shape[0])
        allowed = known & legal[jnp.clip(action, 0, legal.shape[0] - 1)]
        action = jnp.where(allowed, action, jnp.argmax(legal)).astype(jnp.int8)
        tie_key, speaker_key = jax.random.split(key)
        acted = self._remember(state, action)

        night, speech, vote = self._following(acted)
        dawn = self.at_night(state.phase) & ~night[1]
        counted = (state.phase == VOTE) & ~vote[1]
        told = jnp.bool_(False)
        if self.witch:
            goes_to = jnp.where(self.at_night(state.phase) & night[1], self._night_phase(night[0]), VOTE)
            chosen = (state.phase == WOLF_PHASE) & (goes_to != WOLF_PHASE)
            target = jnp.where(chosen, self._target(acted, tie_key), state.target).astype(jnp.int8)
            acted = dataclasses.replace(acted, target=target)
            told = (goes_to == WITCH_PHASE) & state.antidote
        turn = self._resolve(acted, action, dawn, counted, tie_key)
        log = log_outcome(self, log_act(self, state, action), acted, turn, told)
        after = self._opened(acted, turn, (night, speech, vote), speaker_key)
        outcome = jnp.where((state.roles == WOLF) != turn.village_won, 1.0, -1.0)
        after = dataclasses.replace(
            self._cleared(after, turn),
            step=state.step + jnp.int16(1),
            outcome=jnp.where(turn.terminated, outcome, 0.0).astype(jnp.float32),
            terminated=turn.terminated,
            truncated=turn.truncated,
            log=log,
            alive=turn.alive,
            day=state.day + turn.new_night.astype(jnp.int8),
        )
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    # ------------------------------------------------------------------ turns

    def _night_turns(self, roles: jax.Array, alive: jax.Array, potion: jax.Array) -> jax.Array:
        """bool[roles N]: which (role in night order, seat) pairs act; the witch as long as she has a `potion`."""
        order = [NIGHT_ROLES[name] for name in self.night_order.split(",")]
        turns = [alive & (roles == role) for role in order]
        return jnp.concatenate(
            [turn & potion if role == WITCH else turn for role, turn in zip(order, turns, strict=True)]
        )

    def _night_phase(self, slot: jax.Array) -> jax.Array:
        order = np.array([PHASE_OF_ROLE[NIGHT_ROLES[name]] for name in self.night_order.split(",")], np.int8)
        return jnp.asarray(order)[jnp.clip(slot // self.num_seats, 0, len(order) - 1)]

    def _speak_turns(self, alive: jax.Array, first: jax.Array, runoff: jax.Array) -> jax.Array:
        """bool[rounds N]: which turns of the speaking order are taken; before a second vote, one by each tied seat."""
        order = (jnp.arange(self.num_seats) + first) % self.num_seats
        turns = jnp.tile(alive[order], self.speech_rounds)
        if not self.runs_off:
            return turns
        once = jnp.arange(turns.shape[0]) < self.num_seats
        return jnp.where(jnp.any(runoff), once & jnp.tile(runoff[order], self.speech_rounds), turns)

    def _voters(self, alive: jax.Array, runoff: jax.Array) -> jax.Array:
        """bool[N]: who votes; in a second vote those it is not about, if there are any."""
        if not self.runs_off:
            return alive
        impartial = alive & ~runoff
        return jnp.where(jnp.any(impartial), impartial, alive)

    def _following(self, state: WerewolfState) -> tuple[tuple[jax.Array, jax.Array], ...]:
        """(slot, whether there is one) of the next turn of the night, the speeches and the vote in progress."""
        potion = state.antidote | state.poison if self.witch else jnp.bool_(True)
        turns = (
            self._night_turns(state.roles, state.alive, potion),
            self._speak_turns(state.alive, state.first_speaker, state.runoff),
            self._voters(state.alive, state.runoff),
        )
        return tuple(_next_slot(taken, state.slot) for taken in turns)

    def _opened(self, state: WerewolfState, turn: Turn, following: tuple[Any, ...], key: jax.Array) -> WerewolfState:
        """The state at its next turn: what is in progress goes on, or a night, day, second vote or shot opens."""
        (night, _), (speech, speech_goes_on), (vote, vote_goes_on) = following
        opens, openers, runoff = turn.new_day, turn.alive, state.runoff
        if self.runs_off:
            second = jnp.any(turn.second_vote)
            opens, openers = opens | second, jnp.where(second, turn.second_vote, turn.alive)
            runoff = jnp.where(turn.counted, turn.second_vote, state.runoff)
        first = jnp.where(opens, _pick_one(openers, key), state.first_speaker).astype(jnp.int8)
        start = dataclasses.replace(state, alive=turn.alive, first_speaker=first, runoff=runoff, slot=jnp.int16(-1))
        (first_night, _), (first_speech, _), (first_vote, _) = self._following(start)
        speaking, voting = state.phase == SPEAK, state.phase == VOTE
        to_speech = (opens & self.speaks) | (speaking & speech_goes_on)
        to_vote = (opens & (not self.speaks)) | (speaking & ~speech_goes_on) | (voting & vote_goes_on)
        slot = jnp.where(
            to_speech,
            jnp.where(opens, first_speech, speech),
            jnp.where(
                to_vote,
                jnp.where(voting & vote_goes_on, vote, first_vote),
                jnp.where(turn.new_night, first_night, night),
            ),
        )
        phase = jnp.where(to_speech, SPEAK, jnp.where(to_vote, VOTE, self._night_phase(slot)))
        actor = (slot + jnp.where(to_speech, first, 0)) % self.num_seats
        if self.hunter:
            slot = jnp.where(turn.shoots, turn.dusk, slot)
            phase = jnp.where(turn.shoots, HUNTER_PHASE, phase)
            actor = jnp.where(turn.shoots, jnp.argmax(state.roles == HUNTER), actor)
        return dataclasses.replace(
            start,
            phase=jnp.where(turn.over, len(self.phases) - 1, phase).astype(jnp.int8),
            actor=jnp.where(turn.over, core.NO_ONE, actor).astype(jnp.int8),
            slot=slot.astype(jnp.int16),
        )

    # ------------------------------------------------------------------ what acts do

    def _remember(self, state: WerewolfState, action: jax.Array) -> WerewolfState:
        """Stores a pick, a vote or a potion until it is resolved."""
        seats, phase = jnp.arange(self.num_seats), state.phase
        mine = seats == state.actor
        picked = action < self.num_seats
        pick = jnp.where(picked, action, core.NO_ONE) if self.free else action
        vote = jnp.where(picked, action, ABSTAINED) if self.free else action
        protects = phase == DOCTOR_PHASE
        if self.guard:
            protects |= phase == GUARD_PHASE
        after = dataclasses.replace(
            state,
            picks=jnp.where((phase == WOLF_PHASE) & mine, pick, state.picks),
            protected=jnp.where(protects, pick, state.protected),
            check=jnp.where(phase == SEER_PHASE, action, state.check),
            checked=state.checked | ((phase == SEER_PHASE) & (seats == action)),
            votes=jnp.where((phase == VOTE) & mine, vote, state.votes),
        )
        if not self.witch:
            return after
        saves, poisons = (phase == WITCH_PHASE) & self.saves(action), (phase == WITCH_PHASE) & picked
        return dataclasses.replace(
            after,
            antidote=state.antidote & ~saves,
            poison=state.poison & ~poisons,
            saved=state.saved | saves,
            poisoned=jnp.where(poisons, action, state.poisoned),
        )

    def _cleared(self, state: WerewolfState, turn: Turn) -> WerewolfState:
        """The state without what a night or a vote that is over has resolved."""
        settled, nobody = turn.dawn | turn.counted, jnp.int8(core.NO_ONE)
        resolved = ["picks", "protected", "check", "votes"] + ["target", "poisoned"] * self.witch
        fields: dict[str, Any] = {name: jnp.where(settled, nobody, getattr(state, name)) for name in resolved}
        if self.witch:
            fields["saved"] = state.saved & ~settled
        if self.guard:
            fields["last_protected"] = jnp.where(turn.dawn, state.protected, state.last_protected)
        return dataclasses.replace(state, **fields)

    def _resolve(
        self, state: WerewolfState, action: jax.Array, dawn: jax.Array, counted: jax.Array, key: jax.Array
    ) -> Turn:
        """Judges what `action`, already remembered in `state`, brings to an end."""
        seats, no = jnp.arange(self.num_seats), jnp.bool_(False)
        victim = self._victim(state, key)
        expelled, second_vote = self._expelled(state, counted, key)
        dusk, shot, shoots = counted & ~jnp.any(second_vote) if self.runs_off else counted, no, no
        first, second = _two(victim, state.poisoned) if self.witch else (victim, core.NO_ONE)
        dead = jnp.where(dawn, first, jnp.where(dusk, expelled, core.NO_ONE))
        if self.hunter:
            shot = state.phase == HUNTER_PHASE
            dead = jnp.where(shot & (action < self.num_seats), action, dead)
        fallen = (dead, jnp.where(dawn, second, core.NO_ONE)) if self.witch else (dead,)
        gone = functools.reduce(jnp.logical_or, [seats == seat for seat in fallen])
        alive = state.alive & ~gone
        settled = dawn | dusk | shot
        village_won = ~jnp.any(alive & (state.roles == WOLF))
        terminated = settled & (village_won | self._wolves_win(state.roles, alive))
        if self.hunter:
            hunter = state.roles == HUNTER
            hit = hunter & gone & (seats != state.poisoned) if self.witch else hunter & gone
            shoots = (dawn | dusk) & jnp.any(hit) & ~terminated
        morning = (dawn & ~shoots) | (shot & (state.slot == 0))
        evening = (dusk & ~shoots) | (shot & (state.slot == 1))
        truncated = evening & ~terminated & (state.day >= self.max_days)
        over = terminated | truncated
        return Turn(dawn, counted, dusk, shot, fallen, alive, second_vote, shoots, village_won, terminated, truncated,
                     morning & ~over, evening & ~over)  # fmt: skip

    def _target(self, state: WerewolfState, key: jax.Array) -> jax.Array:
        """int[]: whom the wolves have chosen, -1 for nobody."""
        seats = jnp.arange(self.num_seats)
        most = _plurality(state.picks, self.num_seats)
        if self.wolf_tie == "last":
            last_wolf = jnp.max(jnp.where((state.picks >= 0) & most[state.picks], seats, -1))
            target = state.picks[last_wolf]
        else:
            target = _pick_one(most, key)
        if self.wolf_tie == "none":
            target = jnp.where(jnp.sum(most) > 1, core.NO_ONE, target)
        return jnp.where(jnp.any(most), target, core.NO_ONE) if self.free else target

    def _victim(self, state: WerewolfState, key: jax.Array) -> jax.Array:
        """int8[]: whom the wolves kill tonight, -1 for nobody."""
        target = state.target if self.witch else self._target(state, key)
        spared = target == state.protected
        if self.witch:
            spared ^= state.saved  # who is both protected and saved dies
        return jnp.where(spared, core.NO_ONE, target).astype(jnp.int8)

    def _expelled(self, state: WerewolfState, counted: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Who is voted out, int8[], -1 for nobody; and who is tied so that a second vote opens, bool[N]."""
        most = _plurality(state.votes, self.num_seats)
        target, tied = _pick_one(most, key), jnp.sum(most) > 1
        if self.vote_tie != "random":
            target = jnp.where(tied, core.NO_ONE, target)
        if self.free:
            target = jnp.where(jnp.any(most), target, core.NO_ONE)
        second = counted & tied & ~jnp.any(state.runoff) & most if self.runs_off else jnp.zeros_like(most)
        return target.astype(jnp.int8), second

    def _wolves_win(self, roles: jax.Array, alive: jax.Array) -> jax.Array:
        living = [jnp.sum(alive & (roles == role)) for role in (WOLF, VILLAGER)]
        others = jnp.sum(alive & (roles != WOLF))
        if self.win_rule == "parity":
            return living[0] >= others
        if self.win_rule == "extinction":
            return others == 0
        return (living[1] == 0) | (others == living[1])


def _next_slot(turns: jax.Array, slot: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first taken turn after `slot`, and whether there is one."""
    later = turns & (jnp.arange(turns.shape[0]) > slot)
    return jnp.argmax(later).astype(jnp.int16), jnp.any(later)


def _two(one: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two seats, which may be the same or -1 for none, in rising order and without repetition."""
    low, high = jnp.minimum(one, other), jnp.maximum(one, other)
    both = (low >= 0) & (low != high)
    return jnp.where(both, low, high), jnp.where(both, high, core.NO_ONE)


def _plurality(choices: jax.Array, num_seats: int) -> jax.Array:
    """bool[N]: the seats chosen most often (negative choices do not count)."""
    counts = jnp.sum(choices[:, None] == jnp.arange(num_seats), axis=0)
    return (counts == jnp.max(counts)) & (counts > 0)


def _pick_one(mask: jax.Array, key: jax.Array) -> jax.Array:
    """int[]: a uniformly random set position of `mask`; 0 if none is set."""
    rank = jnp.floor(jax.random.uniform(key) * jnp.sum(mask))
    return jnp.argmax(jnp.cumsum(mask) > rank)
