"""Plans in Avalon: whom the good trust, and what the evil hide."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.avalon_spec import FAILS_NEEDED, IS_EVIL, NUM_EVIL, PROPOSE, QUEST, SHOOT, SPEAK, VOTE
from games.core import SeatView
from games.plans.plan import Plans, first_of
from games.players.avalon import Evidence

TEXTS = (
    " send whom I trust",
    " take a chance on this team",
    " keep evil off the quest",
    " wait for a better team",
    " speak up for whom I trust",
    " hide what I know",
    " make the quest succeed",
    " hide that I am evil",
    " get evil onto the quest",
    " block a good team",
    " turn the good against each other",
    " let the quest fail",
    " shoot who may be Merlin",
    " shoot somebody at random",
)
(SEND_TRUSTED, TAKE_A_CHANCE, KEEP_OFF, WAIT, SPEAK_UP, KEEP_QUIET, HELP, HIDE, GET_EVIL_ON, BLOCK, SET_AGAINST,
 LET_FAIL, FIND_MERLIN, SHOOT_ANYBODY) = range(len(TEXTS))  # fmt: skip
ALIKE = 1e-3  # suspicion may differ by so much from what the numbers of good and evil alone say


def plan_of(view: SeatView, action: jax.Array) -> jax.Array:
    """int32[]: the plan that an action serves, see `Plans.of`."""
    evidence = Evidence(view, view.spec.num_seats)
    return jnp.where(jnp.asarray(IS_EVIL)[view.role], _evil(view, evidence, action), _good(view, evidence, action))


def _good(view: SeatView, evidence: Evidence, action: jax.Array) -> jax.Array:
    """A seat is trusted that is less likely to be evil than the numbers alone say, and suspected if more."""
    n, phase = view.spec.num_seats, view.phase
    suspicion, even = evidence.belief @ evidence.worlds, NUM_EVIL[n] / (n - 1)
    trusted, suspected = (suspicion < even - ALIKE) | evidence.me, suspicion > even + ALIKE
    on_team = evidence.members > 0
    trusts = jnp.where(phase == PROPOSE, trusted[action % n], jnp.all(trusted | ~on_team))
    approves = (phase == VOTE) & (action == _action(view, " approve"))
    accuses, defends = ((phase == SPEAK) & (action // n == block) for block in (1, 2))
    owns_up = (phase == SPEAK) & (action == 3 * n + view.role)
    return first_of(
        (((phase == PROPOSE) | approves) & trusts, SEND_TRUSTED),
        ((phase == PROPOSE) | approves, TAKE_A_CHANCE),
        (accuses | ((phase == VOTE) & jnp.any(suspected & on_team)), KEEP_OFF),
        (phase == VOTE, WAIT),
        (defends | owns_up, SPEAK_UP),
        (phase == SPEAK, KEEP_QUIET),
        otherwise=HELP,
    )


def _evil(view: SeatView, evidence: Evidence, action: jax.Array) -> jax.Array:
    """Whatever a good player might do too hides an evil one."""
    n, phase = view.spec.num_seats, view.phase
    fellows = jnp.sum(evidence.known & (evidence.members > 0))
    can_fail = fellows >= jnp.asarray(FAILS_NEEDED[n])[evidence.quest]
    approves, fails = action == _action(view, " approve"), action == _action(view, " fail")
    of_us, traces = evidence.known[action % n], evidence.traces()
    like_merlin = traces[action % n] >= jnp.max(jnp.where(view.legal[:n], traces, -jnp.inf))
    accuses, defends = ((phase == SPEAK) & (action // n == block) for block in (1, 2))
    return first_of(
        ((phase == SHOOT) & like_merlin, FIND_MERLIN),
        (phase == SHOOT, SHOOT_ANYBODY),
        ((phase == QUEST) & fails, LET_FAIL),
        ((phase == PROPOSE) & of_us, GET_EVIL_ON),
        ((phase == VOTE) & approves & can_fail, GET_EVIL_ON),
        ((phase == VOTE) & ~approves & (fellows == 0), BLOCK),
        ((accuses & ~of_us) | (defends & of_us), SET_AGAINST),
        otherwise=HIDE,
    )


def _action(view: SeatView, label: str) -> int:
    """The action with this label."""
    return view.spec.action_labels.index(label)


PLANS = Plans(TEXTS, plan_of)
