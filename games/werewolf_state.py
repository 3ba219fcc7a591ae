"""What a game of Werewolf remembers, and what it tells to whom."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.core import EventLog, State, audience_of, event
from games.werewolf_spec import (
    HUNTER_PHASE,
    KIND,
    SEER,
    SPEAK,
    WITCH,
    WITCH_PHASE,
    WOLF,
    WOLF_PHASE,
    WerewolfRules,
    act_tables,
)

UNUSED: Any = None  # a field of the state that the rules of this game do not need
ABSTAINED = -2  # in the place of a vote


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WerewolfState(State):
    """The common fields and what the rules need to remember; those with a default only where a rule needs them.

    Attributes:
      alive: bool[N].
      day: int8[], number of the night or day in progress.
      slot: int16[], place of the current turn in the order of its night, speaking round or vote; while the hunter
        may shoot, 0 in the morning and 1 in the evening.
      first_speaker: int8[], seat that opens the speeches.
      picks: int8[N], tonight's pick of each wolf, -1 for none (yet).
      protected: int8[], seat the doctor or the guard protects tonight, -1 for none.
      check: int8[], seat the seer checks tonight, -1 for none.
      checked: bool[N], seats the seer has checked in this game.
      votes: int8[N], vote of each seat, -1 for none yet, `ABSTAINED` for nobody.
      target: int8[], whom the wolves have chosen tonight, -1 for nobody (yet).
      antidote: bool[], the witch still has it.
      poison: bool[], the witch still has it.
      saved: bool[], the witch saves tonight's target.
      poisoned: int8[], seat the witch poisons tonight, -1 for none.
      last_protected: int8[], seat the guard protected in the night before, -1 for none.
      runoff: bool[N], seats that the second vote is about; none in a first one.
    """

    alive: jax.Array
    day: jax.Array
    slot: jax.Array
    first_speaker: jax.Array
    picks: jax.Array
    protected: jax.Array
    check: jax.Array
    checked: jax.Array
    votes: jax.Array
    target: jax.Array = UNUSED
    antidote: jax.Array = UNUSED
    poison: jax.Array = UNUSED
    saved: jax.Array = UNUSED
    poisoned: jax.Array = UNUSED
    last_protected: jax.Array = UNUSED
    runoff: jax.Array = UNUSED


@dataclasses.dataclass(frozen=True)
class Turn:
    """What a decision led to; all fields are bool[] but those named here.

    Attributes:
      dawn: the night is over.
      counted: all votes are in.
      dusk: and the vote is decided.
      shot: the hunter has made up his mind.
      fallen: int[] each, seats that have died, in rising order, -1 for none; two where a night can take two.
      alive: bool[N], who lives now.
      second_vote: bool[N], the seats that a second vote opens about.
      shoots: the hunter may shoot.
      village_won, terminated: the end by the rules.
      truncated: the end by the number of days.
      new_day, new_night: what opens now.
    """

    dawn: jax.Array
    counted: jax.Array
    dusk: jax.Array
    shot: jax.Array
    fallen: tuple[jax.Array, ...]
    alive: jax.Array
    second_vote: jax.Array
    shoots: jax.Array
    village_won: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    new_day: jax.Array
    new_night: jax.Array

    @property
    def over(self) -> jax.Array:
        """Whether the game has ended."""
        return self.terminated | self.truncated


def log_deal(rules: WerewolfRules, roles: jax.Array) -> EventLog:
    """Tells each seat who it is and the wolves who their fellows are, and opens the first night."""
    n = rules.num_seats
    seats = np.arange(n)
    rows = [event(KIND["seat"], seat) for seat in seats]
    audience = [np.uint16(1 << seat) for seat in seats]
    present = [jnp.bool_(True)] * n
    if rules.num_wolves > 1:
        for actor, target in ((a, t) for a in seats for t in seats if a != t):
            rows.append(event(KIND["fellow"], actor, target))
            audience.append(np.uint16(1 << actor))
            present.append((roles[actor] == WOLF) & (roles[target] == WOLF))
    rows.append(event(KIND["night"], value=1))
    audience.append(np.uint16((1 << n) - 1))
    present.append(jnp.bool_(True))
    log = EventLog.empty(rules.spec.max_events)
    return log.append(jnp.stack(rows), jnp.asarray(np.array(audience)), jnp.stack(present))


def log_act(rules: WerewolfRules, state: WerewolfState, action: jax.Array) -> EventLog:
    """Logs the act itself; a vote stays hidden until all are cast, and who passes outside a speech logs nothing."""
    n, phase, actor = rules.num_seats, state.phase, state.actor
    kind, target, value = (jnp.asarray(table)[action] for table in act_tables(n, rules.roles))
    at_night = rules.at_night(phase)
    acts = ["wolf_pick", "protect", "check"] + ["pass", "vote", "poison", "protect", "shot"] * rules.grown  # by phase
    kinds = jnp.asarray([KIND[name] for name in acts], jnp.int16)
    acting = at_night | (phase == HUNTER_PHASE) if rules.hunter else at_night
    kind = jnp.where(acting, kinds[jnp.clip(phase, 0, len(acts) - 1)], kind)
    others = jnp.arange(n) != actor
    logged = at_night
    if rules.free or rules.grown:
        wolf_passes = (phase == WOLF_PHASE) & (action >= n)
        kind = jnp.where(wolf_passes, KIND["wolf_pass"], kind)
        logged = (acting & (action < n)) | wolf_passes
    if rules.witch:
        saves = (phase == WITCH_PHASE) & rules.saves(action)
        kind, target = jnp.where(saves, KIND["save"], kind), jnp.where(saves, state.target, target)
        logged |= saves
    fellows = others & state.alive & (state.roles == WOLF) & (phase == WOLF_PHASE)
    public = phase == SPEAK
    if rules.hunter:
        public |= phase == HUNTER_PHASE
    audience = jnp.where(public, audience_of(others), audience_of(fellows))
    rows = jnp.stack([event(KIND["utterance"], actor, value=state.step), event(kind, actor, target, value)])
    speaking = phase == SPEAK
    present = jnp.stack([speaking & (rules.speech_tokens > 0), (speaking & rules.speech_acts) | logged])
    return state.log.append(rows, jnp.stack([audience, audience]), present)


def log_outcome(rules: WerewolfRules, log: EventLog, state: WerewolfState, turn: Turn, told: jax.Array) -> EventLog:
    """Logs what the witch is told and what a night, a vote or a shot led to."""
    n, dawn, dusk = rules.num_seats, turn.dawn, turn.dusk
    everybody = jnp.uint16((1 << n) - 1)
    seats = jnp.arange(n)
    died, expelled = ("death", "expelled") if rules.reveal_roles else ("death_hidden", "expelled_hidden")
    role = [state.roles[seat] if rules.reveal_roles else core.NO_ONE for seat in turn.fallen]
    seer = jnp.argmax(state.roles == SEER)
    found = (state.roles[state.check] == WOLF).astype(jnp.int16)
    rows = []
    if rules.witch:
        witch = jnp.argmax(state.roles == WITCH)
        kind = jnp.where(state.target < 0, KIND["no_victim"], KIND["victim"])
        rows += [(event(kind, witch, state.target), jnp.uint16(1) << witch.astype(jnp.uint16), told)]
    rows += [
        (event(KIND["check_result"], seer, state.check, found), jnp.uint16(1) << seer.astype(jnp.uint16),
         dawn & (state.check >= 0)),
        (event(KIND["day"], value=state.day), everybody, dawn),
    ]  # fmt: skip
    rows += [
        (event(KIND[died], target=seat, value=value), everybody, (dawn | turn.shot) & (seat >= 0))
        for seat, value in zip(turn.fallen, role, strict=True)
    ]
    rows += [(event(KIND["no_death"]), everybody, dawn & (turn.fallen[0] < 0))]
    for seat in range(n):
        vote, ballot = state.votes[seat], event(KIND["vote"], seat, state.votes[seat])
        if rules.free:
            ballot = jnp.where(vote == ABSTAINED, event(KIND["abstain"], seat), ballot)
        rows += [(ballot, audience_of(seats != seat), turn.counted & (vote != core.NO_ONE))]
    if rules.runs_off:
        rows += [(event(KIND["tie"]), everybody, turn.counted & ~dusk)]
    rows += [
        (event(KIND[expelled], target=turn.fallen[0], value=role[0]), everybody, dusk & (turn.fallen[0] >= 0)),
        (event(KIND["no_expulsion"]), everybody, dusk & (turn.fallen[0] < 0)),
        (event(KIND["win"], value=turn.village_won), everybody, turn.terminated),
        (event(KIND["truncated"]), everybody, turn.truncated),
        (event(KIND["night"], value=state.day + 1), everybody, turn.new_night),
    ]
    events, audience, present = zip(*rows, strict=True)
    return log.append(jnp.stack(events), jnp.stack(audience), jnp.stack(present))
