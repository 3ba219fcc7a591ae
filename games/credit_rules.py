"""Rules of thumb that tell good behaviours from bad ones in hindsight, when all that was hidden is known.

One small function a game. It says of every behaviour whether the rules speak of it, which is settled by what was there
before (role, phase, legal actions, the log so far), and if so how good it was, mostly from -1 to 1. Of the others the
outcome alone tells. The games' pages give reasons for each rule; docs/credit.md says what becomes of the scores.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from games import avalon_spec as avalon
from games import bargaining, kuhn, liars_dice, negotiation, persuasion, shopping, social_deduction
from games import mystery_spec as mystery
from games import werewolf_spec as werewolf
from games.core import NO_ONE, GameSpec
from games.goods import ITEMS
from games.hindsight import Hindsight
from games.players.shopping import words_of

Verdict = tuple[jax.Array, jax.Array]  # float32[B], how good; bool[B], whether the rules speak of it

# Of MaKTO's table for Werewolf.
MANY_SEATS = 9  # from here on the guard's best first night is to protect nobody
CLEAR_MAJORITY = 3  # votes of the village for the same seat that nobody should depart from


@functools.partial(jax.jit, static_argnums=0)
def judge(
    spec: GameSpec,
    seat: jax.Array,
    phase: jax.Array,
    legal: jax.Array,
    action: jax.Array,
    roles: jax.Array,
    outcome: jax.Array,
    rows: jax.Array,
    count: jax.Array,
    steps: jax.Array,
) -> Verdict:
    """Judges the behaviours of finished episodes by the rules of their game.

    Args:
      spec: of the game (static).
      seat: int[E, B], who decided, in order; -1 where there was no decision.
      phase: int[E, B].
      legal: bool[E, B, A].
      action: int[E, B].
      roles: int[E, N].
      outcome: float32[E, N].
      rows: int[E, M, 4], the final event logs.
      count: int[E], rows in use.
      steps: int[E, M], decisions made when each row was logged.

    Returns:
      scores float32[E, B], 0 where nothing is said, and judged bool[E, B]. Nothing is said where there was neither a
      choice nor anything to say freely.

    Raises:
      KeyError: the game has no rules.
    """
    rule = OF_GAME[spec.name]
    free_text = np.array([kind.speech_tokens + kind.thought_tokens > 0 for kind in spec.phases])

    def of_one(*arrays: jax.Array) -> Verdict:
        episode = Hindsight.of(*arrays)
        score, judged = rule(spec, episode)
        judged &= (episode.seat >= 0) & (episode.chooses | jnp.asarray(free_text)[episode.phase])
        return jnp.where(judged, score, 0.0).astype(jnp.float32), judged

    return jax.vmap(of_one)(*map(jnp.asarray, (seat, phase, legal, action, roles, outcome, rows, count, steps)))


def _werewolf(spec: GameSpec, episode: Hindsight) -> Verdict:
    """The table of MaKTO's step labels."""
    kind, n, phase, action, role = werewolf.KIND, spec.num_seats, episode.phase, episode.action, episode.role
    passing = spec.action_labels.index(" pass")
    passes, saves, may_pass = action == passing, action == passing + 1, episode.legal[:, passing]
    night, picked = episode.before(kind["night"]), episode.role_picked
    at_wolf, at_village = picked == werewolf.WOLF, picked > werewolf.WOLF
    special = at_village & (picked != werewolf.VILLAGER)

    kills = phase == werewolf.WOLF_PHASE
    tally = episode.tally(episode.alike(night, kills))
    others_pick = jnp.max(jnp.where(jnp.arange(n) == action[:, None], 0, tally), axis=1)
    decided = jnp.take_along_axis(tally, jnp.clip(action, 0, n - 1)[:, None], axis=1)[:, 0] > others_pick
    kill = jnp.where(passes, -1.0, 1.0 * (special & decided & (night > 1)))

    protects = 1.0 * (special & (action != episode.seat)) - at_wolf
    first_guarded = passes if n >= MANY_SEATS else action == episode.seat
    guard = jnp.where(night > 1, protects, jnp.where(first_guarded, 1.0, -1.0))
    may_guard_first = may_pass if n >= MANY_SEATS else True

    first_victim = (night == 1) & episode.legal[:, -1]  # the witch's, whom she can save
    witch = jnp.where(first_victim, jnp.where(saves, 1.0, -1.0), 1.0 * at_wolf - at_village)
    hunter = 1.0 * at_wolf - ((picked == werewolf.SEER) | (picked == werewolf.WITCH))

    vote, speech = _werewolf_day(episode)
    village = role != werewolf.WOLF
    return _by_phase(phase, {
        werewolf.WOLF_PHASE: (kill, (night > 1) | may_pass),
        werewolf.DOCTOR_PHASE: (protects, True),
        werewolf.SEER_PHASE: (1.0 * at_wolf, True),
        werewolf.SPEAK: (speech, True),
        werewolf.VOTE: (vote, village),
        werewolf.WITCH_PHASE: (witch, True),
        werewolf.GUARD_PHASE: (guard, (night > 1) | may_guard_first),
        werewolf.HUNTER_PHASE: (hunter, True),
    })  # fmt: skip


def _werewolf_day(episode: Hindsight) -> tuple[jax.Array, jax.Array]:
    """Scores of votes, for the village's seats, and of speeches, by the vote that follows them: float32[B] each."""
    kind, action, role = werewolf.KIND, episode.action, episode.role
    endings = [kind[name] for name in ("expelled", "expelled_hidden", "no_expulsion", "tie")]
    ballot, wolf = episode.before(*endings), role == werewolf.WOLF
    ends = episode.logged(*endings)
    this = ends & (jnp.cumsum(ends) - 1 == ballot[:, None])
    expelled = jnp.max(jnp.where(this, episode.target, NO_ONE), axis=1)

    votes = episode.phase == werewolf.VOTE
    of_village, of_wolves = (episode.tally(episode.alike(ballot, votes & side)) for side in (~wolf, wolf))
    cast = jnp.sum(episode.alike(ballot, votes & ~wolf), axis=1)
    favourite, most = jnp.argmax(of_village, axis=1), jnp.max(of_village, axis=1)
    of_seer = episode.tally(episode.alike(ballot, votes & (role == werewolf.SEER)))
    seer_votes, seer_for = jnp.any(of_seer > 0, axis=1), jnp.argmax(of_seer, axis=1)
    agreed = (most >= CLEAR_MAJORITY) & (2 * most > cast) & (episode.roles[favourite] == werewolf.WOLF)
    astray = jnp.where(seer_votes, action != seer_for, agreed & (action != favourite)) & (expelled >= 0)
    at_wolf = episode.role_picked == werewolf.WOLF
    vote = jnp.where(at_wolf & (action == expelled), 1.0, jnp.where(~at_wolf | astray, -1.0, 0.0))

    speaker = episode.seat[:, None]
    drew, drew_wolves = (jnp.take_along_axis(tally, speaker, axis=1)[:, 0] for tally in (of_village, of_wolves))
    gone, half = expelled == episode.seat, (drew > 0) & (2 * drew >= cast)
    seer, witch = role == werewolf.SEER, role == werewolf.WITCH
    bad = gone | ((wolf | seer) & half) | (witch & (drew_wolves >= 1) & (drew >= 2))
    good = wolf | (drew <= 1 * (seer | witch))
    return vote, jnp.where(bad, -1.0, 1.0 * good)


def _avalon(spec: GameSpec, episode: Hindsight) -> Verdict:
    """The good part teams that can fail from those that cannot; the evil fail quests which that loses."""
    kind, n, phase, action = avalon.KIND, spec.num_seats, episode.phase, episode.action
    evil = jnp.asarray(avalon.IS_EVIL)
    good, quest = ~evil[episode.role], jnp.maximum(episode.before(kind["quest"]) - 1, 0)
    needed = jnp.asarray(avalon.FAILS_NEEDED[n])[quest]

    team = episode.tally(episode.alike(episode.before(kind["leader"]), phase == avalon.PROPOSE)) > 0
    can_fail = jnp.sum(team & evil[episode.roles], axis=1) >= needed
    approves = action == spec.action_labels.index(" approve")
    last = episode.latest(kind["leader"]) == avalon.PROPOSALS - 1

    fails = action == spec.action_labels.index(" fail")
    played = jnp.sum(episode.alike(quest, (phase == avalon.QUEST) & fails), axis=1)
    fail = jnp.where(fails, 1.0 * (played == needed) - (played < needed), 0.0)

    speaks_of = evil[episode.roles[action % n]]  # of those accused or defended
    accuses, defends = action // n == 1, action // n == 2
    speech = jnp.where(accuses, _plus_minus(speaks_of), jnp.where(defends, _plus_minus(~speaks_of), 0.0))
    return _by_phase(phase, {
        avalon.PROPOSE: (_plus_minus(~evil[episode.role_picked]), good),
        avalon.SPEAK: (speech, good & (episode.role != avalon.MERLIN)),
        avalon.VOTE: (_plus_minus(approves != can_fail), good & ~last),
        avalon.QUEST: (fail, ~good),
    })  # fmt: skip


def _social_deduction(spec: GameSpec, episode: Hindsight) -> Verdict:
    """The innocents vote for impostors and accuse them, and defend each other."""
    n, action = spec.num_seats, episode.action
    named = action - jnp.asarray([0, n + 2, 2 * n + 2])[:, None]  # as a vote, an accusation, a defence
    vote, accuse, defend = (named >= 0) & (named < n)
    impostor = jnp.any(
        ((named >= 0) & (named < n)) & (episode.roles[jnp.clip(named, 0, n - 1)] == social_deduction.IMPOSTOR), axis=0
    )
    score = jnp.where(vote | accuse, _plus_minus(impostor), jnp.where(defend, _plus_minus(~impostor), 0.0))
    return score, episode.role != social_deduction.IMPOSTOR


def _mystery(spec: GameSpec, episode: Hindsight) -> Verdict:
    """The innocents vote for the culprit, suspect it, trust each other, tell the truth of themselves and show clues."""
    kind, n, phase, action = mystery.KIND, spec.num_seats, episode.phase, episode.action
    first = mystery.layout(n)

    def names(block: str) -> tuple[jax.Array, jax.Array]:
        """Whether the action is one about a seat, and whether that is the culprit."""
        seat = action - first[block]
        about = (seat >= 0) & (seat < n)
        return about, episode.roles[jnp.clip(seat, 0, n - 1)] == mystery.CULPRIT

    (suspects, guilty), (trusts, trusted), (_, convicts) = names("suspect"), names("trust"), names("vote")
    opinion = jnp.where(suspects, _plus_minus(guilty), jnp.where(trusts, _plus_minus(~trusted), 0.0))
    truth = jnp.stack([episode.told(kind[name]) for name in ("was", "carried", "driven")])
    question = episode.latest(kind["ask"])
    own = truth[jnp.clip(question, 0, 2), episode.seat]
    now = episode.step == jnp.arange(len(action))[:, None]  # rows of the decision before
    found = jnp.any(episode.logged(kind["trace"], kind["weapon"], kind["motive"]) & now, axis=1)
    score, judged = _by_phase(phase, {
        mystery.ANSWER: (_plus_minus(action - first["answer"] == own), question < mystery.ABOUT),
        mystery.SHOW: (_plus_minus(action == first["show"]), found),
        mystery.OPINION: (opinion, True),
        mystery.VOTE: (_plus_minus(convicts), True),
    })  # fmt: skip
    return score, judged & (episode.role != mystery.CULPRIT)


def _division(kind: dict[str, int], agree: int) -> Callable[[GameSpec, Hindsight], Verdict]:
    """Of a game in which two seats divide a pool: offers are efficient or not; refusing is held against agreeing.

    Args:
      kind: its kinds of event by name.
      agree: its action to agree; those before it keep so many items.
    """
    # Bargaining and negotiation number the phases they share alike.
    opens, answers = bargaining.OPEN, bargaining.ANSWER
    divisions = np.stack(np.meshgrid(*[np.arange(agree)] * len(ITEMS), indexing="ij"), axis=-1).reshape(-1, len(ITEMS))

    def rule(spec: GameSpec, episode: Hindsight) -> Verdict:
        phase, action, seat = episode.phase, episode.action, episode.seat
        item_of = jnp.asarray(bargaining.ITEM_OF_PHASE)
        items = range(len(ITEMS))
        in_pool = episode.logged(kind["pool"])
        pool = jnp.stack([jnp.sum(jnp.where(in_pool & (episode.target == item), episode.value, 0)) for item in items])
        worth = jnp.stack([episode.told(kind["worth"], item) for item in items], axis=1)  # [2, items]
        turn = jnp.cumsum((phase == opens) | (phase == answers))
        picks = (phase <= bargaining.BALLS) & (action < agree)

        def kept(turn_of_offer: jax.Array) -> jax.Array:
            """int32[B, items]: what is kept by the offer of a turn int[B]."""
            of_turn = (turn_of_offer[:, None] == turn) & picks & (seat >= 0)
            of_item = item_of[phase] == jnp.arange(len(ITEMS))[:, None]
            return jnp.sum(jnp.where(of_turn[:, None] & of_item, action, 0), axis=2)

        own, other, offer = worth[seat], worth[1 - seat], kept(turn)
        gains = jnp.sum(offer * own, axis=1), jnp.sum((pool - offer) * other, axis=1)
        ways = jnp.asarray(divisions) @ own.T, (pool - divisions) @ other.T  # [divisions, B] each
        no_worse = (ways[0] >= gains[0]) & (ways[1] >= gains[1])
        gains_more = (ways[0] > gains[0]) | (ways[1] > gains[1])
        possible = jnp.all(divisions <= pool, axis=1)[:, None]
        wasteful = jnp.any(possible & no_worse & gains_more, axis=0)

        whole = jnp.sum(pool * own, axis=1)
        share = jnp.sum((pool - kept(turn - 1)) * own, axis=1)
        left = dict(spec.parameters).get("discount_percent", 100) / 100
        paid = share * left ** jnp.maximum(turn - 2, 0)
        at_hand = jnp.where(whole > 0, 2 * paid / jnp.maximum(whole, 1) - 1, 0.0)
        refusal = jnp.where(action == agree, 0.0, (episode.result - at_hand) / 2)
        return _by_phase(phase, {
            answers: (refusal, True),
            **{each: (_plus_minus(~wasteful), True) for each in (opens, bargaining.HATS, bargaining.BALLS)},
        })  # fmt: skip

    return rule


def _kuhn(spec: GameSpec, episode: Hindsight) -> Verdict:
    """A call or a fold, by what both would have brought against the card that lies there."""
    card = episode.told(kuhn.KIND["card"])
    call = jnp.where(card[episode.seat] > card[1 - episode.seat], 1.0, -1.0)
    fold = -1 / kuhn.STAKE
    score = jnp.where(episode.action == kuhn.BET, call - fold, fold - call) / 2
    return score, episode.phase == kuhn.ANSWER


def _liars_dice(spec: GameSpec, episode: Hindsight) -> Verdict:
    """A raise, by what came of it against what a call would have brought."""
    kind, parameters = liars_dice.KIND, dict(spec.parameters)
    sides, call = parameters["dice_sides"], spec.num_actions - 1
    shown = episode.logged(kind["dice"])
    dice = [jnp.where(shown, episode.value, NO_ONE), jnp.where(shown, episode.target, NO_ONE)]
    last_bid = jnp.roll(episode.action, 1)
    quantity, face = last_bid[:, None] // sides + 1, last_bid[:, None] % sides
    count = sum(jnp.sum((each == face) | (each == sides - 1), axis=1) for each in dice)
    called = jnp.where(count >= quantity[:, 0], -1.0, 1.0)
    score = jnp.where(episode.action == call, 0.0, (episode.result - called) / 2)
    return score, episode.phase == liars_dice.ANSWER


def _persuasion(spec: GameSpec, episode: Hindsight) -> Verdict:
    """An act of the persuader, by the dollars that it adds to what the persuadee is willing and able to give."""
    kind = persuasion.KIND
    budget = episode.latest(kind["budget"])

    def willing(after: bool) -> jax.Array:
        interest, trust = (episode.latest(kind[name], after=after) for name in ("interest", "trust"))
        return jnp.minimum(interest * trust / 4, budget) / 4

    exchange = episode.before(kind["act"])
    in_time = exchange < dict(spec.parameters)["max_exchanges"] - 1
    return willing(True) - willing(False), (episode.phase == persuasion.PERSUADE) & in_time


def _shopping(spec: GameSpec, episode: Hindsight) -> Verdict:
    """Words that the instruction names are searched for and chosen, others are not."""
    named = jnp.asarray(words_of(spec).wanted)
    instruction, word = episode.latest(shopping.KIND["instruction"]), episode.action
    is_word = word < named.shape[1]
    wanted = named[instruction, jnp.minimum(word, named.shape[1] - 1)]
    places = (episode.phase == shopping.SEARCH) | (episode.phase == shopping.ITEM)
    return jnp.where(is_word, _plus_minus(wanted), 0.0), places


def _plus_minus(good: jax.Array) -> jax.Array:
    """1 where good, else -1."""
    return jnp.where(good, 1.0, -1.0)


def _by_phase(phase: jax.Array, verdicts: dict[int, tuple[jax.Array, jax.Array | bool]]) -> Verdict:
    """Puts the verdicts on the phases of a game together; of the other phases nothing is said."""
    score, judged = jnp.zeros(phase.shape), jnp.zeros(phase.shape, bool)
    for number, (scored, spoken) in verdicts.items():
        here = phase == number
        score, judged = jnp.where(here, scored, score), judged | (here & spoken)
    return score, judged


OF_GAME: dict[str, Callable[[GameSpec, Hindsight], Verdict]] = {
    "werewolf-v0": _werewolf,
    "avalon-v0": _avalon,
    "bargaining-v0": _division(bargaining.KIND, bargaining.AGREE),
    "kuhn-v0": _kuhn,
    "liars_dice-v0": _liars_dice,
    "persuasion-v0": _persuasion,
    "shopping-v0": _shopping,
    "negotiation-v0": _division(negotiation.KIND, negotiation.AGREE),
    "social_deduction-v0": _social_deduction,
    "mystery-v0": _mystery,
}
