"""Scripted Werewolf players: they read only their own view of the log.

The heuristic player keeps a suspicion of every seat, summed from what was said, voted and revealed, and acts on it; a
wolf reckons what the village must suspect and goes along with it. The witch saves whomever she can and poisons, as the
hunter shoots, only whom she suspects enough; the guard protects as the doctor does.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import SeatView
from games.werewolf_spec import (
    CLASSIC_ROLES,
    DOCTOR,
    GUARD,
    HUNTER,
    HUNTER_PHASE,
    KIND,
    SEER,
    SPEAK,
    WITCH,
    WITCH_PHASE,
    WOLF,
    layout,
)

NOISE = 0.4  # scale of the Gumbel noise that keeps equal choices apart
NEVER = -100.0
SAVE, POISON_AT, SHOOT_AT = (
    50.0,
    3.0,
    0.5,
)  # worth of saving; suspicion from which on the witch poisons, the hunter shoots


def heuristic(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: the action of a sensible player with what `view` shows."""
    num_actions = view.legal.shape[0]
    evidence = Evidence(view, *layout(num_actions))
    suspicion = evidence.suspicion()
    scores = jnp.where(view.phase == SPEAK, _speech(view, evidence, suspicion), _pick(view, evidence, suspicion))
    scores = scores + NOISE * jax.random.gumbel(key, (num_actions,))
    return jnp.argmax(jnp.where(view.legal, scores, -jnp.inf)).astype(jnp.int32)


class Evidence:
    """The log as seat-by-seat tables; f32[N, N] tables are indexed [who said it, about whom]."""

    def __init__(self, view: SeatView, num_seats: int, num_roles: int):
        kind, actor, target, value = (view.rows[:, column] for column in range(4))
        seats = jnp.arange(num_seats)
        by = (actor[:, None] == seats).astype(jnp.float32)
        about = (target[:, None] == seats).astype(jnp.float32)

        def pairs(name: str, worth: int | None = None) -> jax.Array:
            chosen = kind == KIND[name] if worth is None else (kind == KIND[name]) & (value == worth)
            return jnp.einsum("mi,mj->ij", by * chosen[:, None], about)

        self.me = seats == view.seat
        self.is_wolf = view.role == WOLF
        self.accused, self.defended = pairs("accuse"), pairs("defend")
        self.voted = pairs("vote")
        self.reported_wolf = jnp.minimum(pairs("report", 1), 1.0)
        self.reported_good = jnp.minimum(pairs("report", 0), 1.0)
        gone = (kind == KIND["death"]) | (kind == KIND["expelled"])
        shown = [
            jnp.einsum("m,mj->j", (gone & (value == role)).astype(jnp.float32), about) for role in range(num_roles)
        ]
        self.shown_wolf, self.shown_seer = shown[WOLF], shown[SEER]
        self.shown_good = sum(shown[1:]) > 0
        self.fellow = jnp.einsum("m,mj->j", (kind == KIND["fellow"]).astype(jnp.float32), about) > 0
        mine = pairs("check_result", 1) - pairs("check_result", 0)
        self.checked = jnp.sum(mine, axis=0)  # +1 found a wolf, -1 found good, 0 not checked by me
        claims = [jnp.einsum("m,mi->i", ((kind == KIND["claim"]) & (value == role)).astype(jnp.float32), by) > 0
                  for role in range(num_roles)]  # fmt: skip
        reports = jnp.sum(self.reported_wolf + self.reported_good, axis=1) > 0
        self.claims_seer = (claims[SEER] | reports) & ~self.me
        self.claims_doctor = claims[DOCTOR] & ~self.me
        self.liar = self._liars(view, claims[WOLF])
        self.killed, self.attacked = jnp.zeros((num_seats,)), jnp.zeros((num_seats,))
        self.worth = 3.0 * (self.claims_seer & ~self.liar) + 1.5 * self.claims_doctor  # to whoever kills or protects
        if num_roles > len(CLASSIC_ROLES):
            self.killed = jnp.einsum("m,mj->j", (kind == KIND["death_hidden"]).astype(jnp.float32), about)
            self.attacked = jnp.minimum(jnp.sum(pairs("victim"), axis=0), 1.0)  # as the witch was told
            for role, worth in ((WITCH, 2.0), (GUARD, 1.0), (HUNTER, -0.5)):
                self.worth += worth * (claims[role] & ~self.me)

    def _liars(self, view: SeatView, claims_wolf: jax.Array) -> jax.Array:
        """bool[N]: seats whose word contradicts what I know for certain."""
        known_good = self.shown_good | (self.me & ~self.is_wolf) | (self.checked < 0)
        known_wolf = (self.shown_wolf > 0) | (self.checked > 0)
        wrong = self.reported_wolf @ known_good.astype(jnp.float32) + self.reported_good @ known_wolf.astype(
            jnp.float32
        )
        false_seer = self.claims_seer & ((view.role == SEER) | (jnp.sum(self.shown_seer) > 0)) & (self.shown_seer == 0)
        return ((wrong > 0) | false_seer | claims_wolf) & ~self.me

    def suspicion(self) -> jax.Array:
        """f32[N]: how much each seat looks like a wolf to somebody who is not one."""
        honest = (~self.liar).astype(jnp.float32)
        word = jnp.where(self.shown_seer > 0, 6.0, jnp.where(self.claims_seer, 2.0, 0.0)) * honest
        suspicion = word @ (self.reported_wolf - 0.8 * self.reported_good)
        suspicion += 0.5 * honest @ (self.accused - 0.6 * self.defended)
        good, wolf = self.shown_good + 0.7 * self.killed, self.shown_wolf
        suspicion += (0.6 * self.voted + 0.4 * self.accused) @ (good - wolf)
        suspicion += self.defended @ (0.8 * wolf)
        suspicion += 3.0 * self.liar - 0.7 * (self.claims_seer & ~self.liar)
        return suspicion + 20.0 * self.checked - 4.0 * self.attacked


def _pick(view: SeatView, evidence: Evidence, suspicion: jax.Array) -> jax.Array:
    """f32[A]: whom to kill, protect, check, vote for, poison or shoot; to pass or save."""
    num_seats, num_actions = suspicion.shape[0], view.legal.shape[0]
    against_me = jnp.where(evidence.me, 0.0, (evidence.accused + 2.0 * evidence.reported_wolf) @ evidence.me)
    kill = evidence.worth + 0.5 * against_me - 0.3 * suspicion
    kill = jnp.where(evidence.me | evidence.fellow, NEVER, kill)
    protect = evidence.worth + 0.5 * evidence.me
    check = suspicion
    vote = jnp.where(evidence.is_wolf, suspicion + 0.3 * against_me - 10.0 * evidence.fellow, suspicion)
    if num_actions == 5 * num_seats + len(CLASSIC_ROLES) + 1:
        seats = jnp.stack([kill, protect, check, vote, vote, vote])[view.phase]
        return jnp.concatenate([seats, jnp.full((num_actions - num_seats,), NEVER)])
    seats = jnp.stack([kill, protect, check, vote, vote, suspicion, protect, suspicion, vote])[view.phase]
    enough = jnp.where(view.phase == WITCH_PHASE, POISON_AT, jnp.where(view.phase == HUNTER_PHASE, SHOOT_AT, NEVER))
    silence = jnp.full((num_actions - num_seats - 2,), NEVER)
    return jnp.concatenate([seats, silence, jnp.stack([enough, jnp.float32(SAVE)])])


def _speech(view: SeatView, evidence: Evidence, suspicion: jax.Array) -> jax.Array:
    """f32[A]: what to say. A seer reports what he found; others accuse whom they suspect."""
    num_seats = suspicion.shape[0]
    seer = view.role == SEER
    cornered = jnp.sum(evidence.accused @ evidence.me) >= 2
    accuse = jnp.where(evidence.fellow, -10.0, 0.5 + suspicion)
    defend = jnp.where(evidence.fellow, 0.5, -0.5 - suspicion)
    num_roles = layout(view.legal.shape[0])[1]
    claim = jnp.where(jnp.arange(num_roles) == view.role, 1.0 + cornered, NEVER)
    claim = jnp.where(evidence.is_wolf | seer, NEVER, claim - 1.0 * (view.role != DOCTOR))
    unmasks_me = evidence.reported_wolf @ evidence.me > 0  # a wolf answers a true report with a false one
    report_wolf = jnp.where((seer & (evidence.checked > 0)) | (evidence.is_wolf & unmasks_me), 100.0, NEVER)
    report_good = jnp.where(seer & (evidence.checked < 0), 3.0, NEVER)
    picks = jnp.full((num_seats,), NEVER)
    rest = jnp.zeros((view.legal.shape[0] - 5 * num_seats - num_roles,))  # to pass; to save is no speech
    return jnp.concatenate([picks, accuse, defend, claim, report_wolf, report_good, rest])
