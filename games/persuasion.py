"""Persuasion: one player talks another into a donation. The rules are written out in docs/games/persuasion.md."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.core import EventKind, EventLog, GameError, GameSpec, Phase, Role, State, check_choices, check_ranges, event

PERSUADER, PERSUADEE = range(2)
ROLES = (Role("persuader", "persuader"), Role("persuadee", "persuadee"))
WHO_PLAYS = ("environment", "seat")

APPEALS = (
    "logical appeal", "emotion appeal", "credibility appeal", "foot in the door", "self-modelling", "personal story",
    "donation information",
)  # fmt: skip
INQUIRIES = ("source inquiry", "task inquiry", "personal inquiry")
CARES = ("reasons", "people", "examples")
REASONS, PEOPLE, EXAMPLES, EVERYBODY = range(4)  # what somebody cares most for
SPEAKS_TO = np.array([REASONS, PEOPLE, EVERYBODY, EXAMPLES, EXAMPLES, PEOPLE, REASONS], np.int8)  # of each appeal
CREDIBILITY, SOURCE, TASK, PERSONAL, ASK = 2, 7, 8, 9, 10
TOPICS = len(APPEALS) + len(INQUIRIES)

# Actions: what the persuader does, what the persuadee answers, what it gives.
ACTS, ANSWERS = ASK + 1, 8
GIVE = ACTS + ANSWERS
QUARTERS = 8  # the largest donation, 2 dollars
NUM_ACTIONS = GIVE + QUARTERS + 1
AGREE, REFUSE = 6, 7  # answers, after 3 reactions and 3 things to care for

PERSUADE, REPLY, TELL, DONATE, OVER = range(5)
ACTOR_OF_PHASE = np.array([PERSUADER, PERSUADEE, PERSUADEE, PERSUADEE, core.NO_ONE], np.int8)

# The deal. A weight is drawn from twelve equally likely entries, by how the appeal fits what the persuadee cares for.
MOST_INTEREST_DEALT, LEAST_TRUST_DEALT, MOST_TRUST_DEALT = 3, 1, 3
WEIGHTS = np.array([[1] * 3 + [2] * 9, [1] * 4 + [0] * 8, [1] * 6 + [2] * 6], np.int8)  # fits, fits not, credibility
FIT = np.where(SPEAKS_TO == EVERYBODY, 2, np.arange(3)[:, None] != SPEAKS_TO)  # int[3, 7], row of `WEIGHTS`
MOST_TRUST = 4

# Chances in percent of positive, neutral and negative, by the effect of an appeal; of what is told, by the truth.
REACTIONS = np.array([[10, 30, 60], [30, 50, 20], [70, 30, 0]], np.int8)
REPORTS = np.array([[80, 10, 10], [10, 80, 10], [10, 10, 80]], np.int8)
LESS, AS_PLANNED = 25, 50  # percent of donations a step below what was planned, and just as planned
INTERESTED, HALF_INTERESTED = 5, 3  # least interest that is told as positive, as neutral
TRUSTING, HALF_TRUSTING = 3, 2

EVENT_KINDS = (
    EventKind("seat", "\nYou are{seat:actor}"),
    EventKind("exchanges", "\nExchanges at most:{number:value}"),
    EventKind("interest", "{speaker:actor} interest{number:value}"),
    EventKind("trust", "{speaker:actor} trust{number:value}"),
    EventKind("budget", "{speaker:actor} budget{money:value}"),
    EventKind("leaning", "{speaker:actor} cares most for{care:value}"),
    EventKind("weight", "{speaker:actor}{act:target}{weight:value}"),
    EventKind("utterance", "{line:actor} says:{utterance}"),
    EventKind("act", "{speaker:actor}{act:value}"),
    EventKind("reply", "{speaker:actor}{answer:value}"),
    EventKind("donation", "{line:actor} gives{money:value}"),
    EventKind("walks_away", "{line:actor} walks away"),
    EventKind("out_of_exchanges", "\nNo donation: the exchanges are over"),
)
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}

LATENT_ROWS = 4 + len(APPEALS)  # interest, trust, budget, leaning, weights
SAID_WITH_ACT = (
    " A little money does much good there", " These children suffer, and you can help", " The charity has a good name",
    " Even a few cents help", " I give some of my own pay", " I once met a child they helped",
    " The gift comes out of your pay", " Do you know the charity?", " What do you think of giving?",
    " What has moved you to give before?", " How much will you give?",
)  # fmt: skip
SAID_WITH_ANSWER = (" I like that", " I see", " I do not like that", *(f" I care for {what}" for what in CARES),
                    " I agree", " I refuse")  # fmt: skip


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PersuasionState(State):
    """The common fields and what the rules need to remember.

    Attributes:
      interest: int8[], how much the persuadee wants to give.
      trust: int8[], how far it believes the persuader.
      budget: int8[], the most it can give, in quarter dollars.
      leaning: int8[], what it cares most for.
      weights: int8[7], effect of each appeal when it is made for the first time.
      uses: int8[10], how often each appeal and each inquiry has been made.
      exchanges: int8[], acts of the persuader so far.
    """

    interest: jax.Array
    trust: jax.Array
    budget: jax.Array
    leaning: jax.Array
    weights: jax.Array
    uses: jax.Array
    exchanges: jax.Array


@dataclasses.dataclass(frozen=True)
class _Turn:
    """What one decision led to.

    Attributes:
      act: int[], of the persuader, -1 if it is the persuadee who decides.
      leaves: bool[], the persuadee walks away.
      replying, giving: bool[], it says `reply`, or gives `donation`, both int[].
      out: bool[], that was the last exchange.
    """

    act: jax.Array
    leaves: jax.Array
    replying: jax.Array
    reply: jax.Array
    giving: jax.Array
    donation: jax.Array
    out: jax.Array

    @property
    def agrees(self) -> jax.Array:
        """bool[]: the persuadee is to say what it gives."""
        return self.replying & (self.reply == AGREE)

    @property
    def over(self) -> jax.Array:
        """bool[]: the game ends."""
        return self.leaves | self.giving | self.out | (self.replying & (self.reply == REFUSE))


@dataclasses.dataclass(frozen=True)
class Persuasion:
    """`persuasion-v0`. Parameters and their allowed values: docs/games/persuasion.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    persuadee: str = "environment"
    max_exchanges: int = 10
    budget_cents: int = 200
    speech_tokens: int = 0
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        check_choices("persuasion-v0", self, persuadee=WHO_PLAYS)
        check_ranges("persuasion-v0", self, max_exchanges=(2, 16), budget_cents=(25, 25 * QUARTERS))
        if self.budget_cents % 25:
            raise GameError(
                f"persuasion-v0: budget_cents is a multiple of 25, for example 150, not {self.budget_cents}"
            )
        check_ranges("persuasion-v0", self, speech_tokens=(0, 4096), thought_tokens=(0, 4096))

    # ------------------------------------------------------------------ static facts

    @property
    def num_seats(self) -> int:
        """2 if the persuadee is a seat, else 1."""
        return 1 + (self.persuadee == "seat")

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        seats, speech, most = self.num_seats, int(self.speech_tokens > 0), self.max_exchanges
        two = seats == 2
        dealt = seats + 1 + LATENT_ROWS
        return GameSpec(
            name="persuasion-v0",
            num_seats=seats,
            roles=ROLES[:seats],
            sides=tuple(role.side for role in ROLES[:seats]),
            phases=self._phases(),
            action_labels=action_labels(),
            event_kinds=EVENT_KINDS,
            words=words(),
            introduction=(self._introduction(), ""),
            role_texts=self._role_texts()[:seats],
            max_decisions=2 * most + 1 if two else most,
            max_events=dealt + most * (3 + speech * seats) + 1,
            max_new_events=dealt + (2 + speech) * two,
            scripted_speech=(*SAID_WITH_ACT, *SAID_WITH_ANSWER, *("",) * (QUARTERS + 1)),
            visible_events=self._visible_events(),
            turns=((("persuade", "reply", "tell"), most), (("donate",), int(two))),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    def _phases(self) -> tuple[Phase, ...]:
        thought, speech = self.thought_tokens, self.speech_tokens
        return (
            Phase("persuade", "\nChoose how to persuade", thought, speech),
            Phase("reply", "\nAnswer the persuader", thought, speech),
            Phase("tell", "\nTell what you care for", thought, speech),
            Phase("donate", "\nChoose how much to give", thought),
            Phase("over"),
        )

    def _visible_events(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """The persuader is shown replies before all but its first act; the persuadee acts and its own state."""
        most, common = self.max_exchanges, ((("seat",), 1), (("exchanges",), 1))
        if self.num_seats == 1:
            return (*common, (("reply",), most - 1))
        return (
            *common,
            (("interest", "trust"), 2 + most),
            (("budget",), 1),
            (("leaning",), 1),
            (("weight",), len(APPEALS)),
            (("utterance",), most * (self.speech_tokens > 0)),
            (("act", "reply"), most),
        )

    def _introduction(self) -> str:
        budget = f"{self.budget_cents / 100:.2f}"
        return (
            "A persuader asks a persuadee to give some of its pay to a charity for children. The persuadee has an "
            f"interest, a trust, a budget of at most ${budget}, and something it cares most for: reasons, people or "
            "examples. An appeal that has an effect raises its interest, a credibility appeal its trust; each time it "
            "is repeated it has less. Logical appeals and donation information are for those who care for reasons, "
            "emotion appeals and personal stories for people, self-modelling and a foot in the door for examples. An "
            "appeal without effect, or an inquiry made before, costs trust, and who has none left to lose walks away. "
            "Inquiries ask about trust (source), interest (task) and what the persuadee cares for (personal). It is "
            "willing to give as many quarter dollars as a quarter of its interest times its trust. There are at most "
            f"{self.max_exchanges} exchanges; a talk that has not come to a donation by then ends without one. "
        )

    def _role_texts(self) -> tuple[tuple[str, str], ...]:
        aims = (
            "Find out what moves the other, and ask for as large a donation as you can get.",
            "What you give, up to what you are willing to give, is worth twice its price to you; more is a loss.",
        )
        names = [f"You are a {role.name}" for role in ROLES]
        return tuple((f"{name}. {aim}", name) for name, aim in zip(names, aims, strict=True))

    # ------------------------------------------------------------------ the four functions

    def init(self, key: jax.Array) -> PersuasionState:
        """Draws a persuadee and opens the first exchange."""
        keys = jax.random.split(key, 5)
        interest = jax.random.randint(keys[0], (), 0, MOST_INTEREST_DEALT + 1).astype(jnp.int8)
        trust = jax.random.randint(keys[1], (), LEAST_TRUST_DEALT, MOST_TRUST_DEALT + 1).astype(jnp.int8)
        richest = self.budget_cents // 25
        budget = jax.random.randint(keys[2], (), (richest + 1) // 2, richest + 1).astype(jnp.int8)
        leaning = jax.random.randint(keys[3], (), 0, len(CARES)).astype(jnp.int8)
        draws = jax.random.randint(keys[4], (len(APPEALS),), 0, WEIGHTS.shape[1])
        weights = jnp.asarray(WEIGHTS)[jnp.asarray(FIT)[leaning], draws]
        return PersuasionState(
            phase=jnp.int8(PERSUADE),
            actor=jnp.int8(PERSUADER),
            step=jnp.int16(0),
            roles=jnp.arange(self.num_seats, dtype=jnp.int8),
            outcome=jnp.zeros((self.num_seats,), jnp.float32),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            log=self._log_deal(interest, trust, budget, leaning, weights),
            interest=interest,
            trust=trust,
            budget=budget,
            leaning=leaning,
            weights=weights,
            uses=jnp.zeros((TOPICS,), jnp.int8),
            exchanges=jnp.int8(0),
        )

    def legal_action_mask(self, state: PersuasionState) -> jax.Array:
        """bool[A] of the acting seat; all True once over."""
        phase, answer = state.phase, np.arange(ANSWERS)
        ends = answer >= AGREE
        amounts = jnp.arange(QUARTERS + 1) <= state.budget
        mask = jnp.concatenate(
            [
                jnp.ones((ACTS,), bool) & (phase == PERSUADE),
                (jnp.asarray((answer < 3) | ends) & (phase == REPLY)) | (jnp.asarray(answer >= 3) & (phase == TELL)),
                amounts & (phase == DONATE),
            ]
        )
        return mask | state.over

    def acting_mask(self, state: PersuasionState) -> jax.Array:
        """bool[N]: the actor."""
        return (jnp.arange(self.num_seats) == state.actor) & ~state.over

    def step(self, state: PersuasionState, action: jax.Array, key: jax.Array) -> PersuasionState:
        """Plays an act of the persuader (with what a persuadee played by the environment does), or of the persuadee."""
        legal = self.legal_action_mask(state)
        known = (action >= 0) & (action < legal.shape[0])
        allowed = known & legal[jnp.clip(action, 0, legal.shape[0] - 1)]
        action = jnp.where(allowed, action, jnp.argmax(legal)).astype(jnp.int8)

        act = jnp.where(state.phase == PERSUADE, action, core.NO_ONE)
        heard, effect, leaves = _hear(state, act)
        turn = self._turn(heard, act, effect, leaves, action, key)
        over = turn.over
        phase = jnp.where(over, OVER, self._next_phase(turn))
        after = dataclasses.replace(
            heard,
            phase=phase.astype(jnp.int8),
            actor=jnp.asarray(ACTOR_OF_PHASE)[phase],
            step=state.step + jnp.int16(1),
            outcome=jnp.where(over, self._outcome(heard, turn), 0.0).astype(jnp.float32),
            terminated=over,
            log=self._log_turn(state, heard, turn),
        )
        return jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, after)

    def _turn(
        self, heard: PersuasionState, act: jax.Array, effect: jax.Array, leaves: jax.Array, action: jax.Array,
        key: jax.Array,
    ) -> _Turn:  # fmt: skip
        """What a decision leads to; the environment draws what a seat would choose."""
        if self.persuadee == "environment":
            draw = jax.random.randint(key, (), 0, 100)
            giving = act == ASK
            replying = ~giving & ~leaves
            reply = _drawn_reply(heard, act, effect, draw)
            shift = (draw >= LESS).astype(jnp.int8) + (draw >= LESS + AS_PLANNED) - 1
            donation = jnp.clip(willing(heard) + shift, 0, heard.budget)
        else:
            giving = heard.phase == DONATE
            replying = ~giving & (act < 0)
            reply, donation = action - ACTS, action - GIVE
        last = heard.exchanges >= self.max_exchanges
        return _Turn(act, leaves, replying, reply, giving, donation, out=replying & last & (reply < AGREE))

    def _next_phase(self, turn: _Turn) -> jax.Array:
        """int[]: the phase that follows if the game goes on."""
        if self.persuadee == "environment":
            return jnp.asarray(PERSUADE)
        answering = jnp.where(turn.act == ASK, DONATE, jnp.where(turn.act == PERSONAL, TELL, REPLY))
        return jnp.where(turn.act >= 0, answering, jnp.where(turn.agrees, DONATE, PERSUADE))

    def _outcome(self, heard: PersuasionState, turn: _Turn) -> jax.Array:
        """float32[N]: of a game that ends here; 1 dollar is 0 to the persuader, no gift is 0 to the persuadee."""
        donation = jnp.where(turn.giving, turn.donation, 0)
        gain = 2 * jnp.minimum(donation, willing(heard)) - donation
        return jnp.stack([donation / (QUARTERS / 2) - 1.0, gain / QUARTERS])[: self.num_seats]

    # ------------------------------------------------------------------ what is told to whom

    @property
    def _persuadee_hears(self) -> np.uint16:
        """Audience of what the persuadee alone may know; nobody if it has no seat."""
        return np.uint16((1 << PERSUADEE) * (self.num_seats == 2))

    def _log_deal(
        self, interest: jax.Array, trust: jax.Array, budget: jax.Array, leaning: jax.Array, weights: jax.Array
    ) -> EventLog:
        """Tells each seat who it is, and the persuadee what it is like."""
        seats, secret = range(self.num_seats), self._persuadee_hears
        rows = [(event(KIND["seat"], seat), np.uint16(1 << seat)) for seat in seats]
        rows.append((event(KIND["exchanges"], value=self.max_exchanges), np.uint16((1 << len(seats)) - 1)))
        for name, value in (("interest", interest), ("trust", trust), ("budget", budget), ("leaning", leaning)):
            rows.append((event(KIND[name], PERSUADEE, value=value), secret))
        rows += [(event(KIND["weight"], PERSUADEE, appeal, weights[appeal]), secret) for appeal in range(len(APPEALS))]
        return EventLog.empty(self.spec.max_events).append(
            jnp.stack([row for row, _ in rows]),
            jnp.asarray(np.array([audience for _, audience in rows])),
            jnp.ones((len(rows),), bool),
        )

    def _log_turn(self, state: PersuasionState, heard: PersuasionState, turn: _Turn) -> EventLog:
        """Logs an act and what it changed, then the answer to it; or the answer alone."""
        persuading = turn.act >= 0
        more_interest, other_trust = heard.interest != state.interest, heard.trust != state.trust
        to_persuader, to_persuadee = np.uint16(1 << PERSUADER), self._persuadee_hears
        everybody = to_persuader | to_persuadee
        speaks = (self.speech_tokens > 0) & (state.phase != DONATE)
        hearer = jnp.where(persuading, to_persuadee, to_persuader)
        entries: list[tuple[Any, Any, jax.Array]] = [
            (event(KIND["utterance"], state.actor, value=state.step), hearer, speaks),
            (event(KIND["act"], PERSUADER, value=turn.act), to_persuadee, persuading),
            (event(KIND["interest"], PERSUADEE, value=heard.interest), to_persuadee, more_interest),
            (event(KIND["trust"], PERSUADEE, value=heard.trust), to_persuadee, other_trust),
            (event(KIND["reply"], PERSUADEE, value=turn.reply), to_persuader, turn.replying),
            (event(KIND["donation"], PERSUADEE, value=turn.donation), to_persuader, turn.giving),
            (event(KIND["walks_away"], PERSUADEE), everybody, turn.leaves),
            (event(KIND["out_of_exchanges"]), everybody, turn.out),
        ]
        rows, audiences, present = zip(*entries, strict=True)
        return state.log.append(
            jnp.stack(rows), jnp.stack([jnp.asarray(each, jnp.uint16) for each in audiences]), jnp.stack(present)
        )


def willing(state: PersuasionState) -> jax.Array:
    """int8[]: quarter dollars that the persuadee is willing to give, whatever its budget."""
    return (state.interest * state.trust) // 4


def _hear(state: PersuasionState, act: jax.Array) -> tuple[PersuasionState, jax.Array, jax.Array]:
    """What an act does to the persuadee: the state after it, its effect int8[], whether the persuadee leaves bool[]."""
    this = jnp.arange(TOPICS) == act  # nothing if the persuader asks for the donation, or does not act
    used = jnp.sum(jnp.where(this, state.uses, 0))
    appeal = (act >= 0) & (act < SOURCE)
    weight = jnp.sum(jnp.where(this[: len(APPEALS)], state.weights, 0))
    effect = jnp.maximum(weight - used, 0).astype(jnp.int8)
    unwelcome = jnp.where(appeal, effect == 0, used > 0)
    gain = jnp.where(act == CREDIBILITY, effect, 0)
    trust = jnp.minimum(state.trust + gain, MOST_TRUST) - unwelcome
    heard = dataclasses.replace(
        state,
        interest=(state.interest + effect - gain).astype(jnp.int8),
        trust=jnp.maximum(trust, 0).astype(jnp.int8),
        uses=state.uses + this.astype(jnp.int8),
        exchanges=state.exchanges + (act >= 0).astype(jnp.int8),
    )
    return heard, effect, trust < 0


def _drawn_reply(heard: PersuasionState, act: jax.Array, effect: jax.Array, draw: jax.Array) -> jax.Array:
    """int8[]: the answer of a persuadee played by the environment; `draw` int[] in 0..99."""
    trusting = 2 - (heard.trust >= TRUSTING).astype(jnp.int8) - (heard.trust >= HALF_TRUSTING)
    interested = 2 - (heard.interest >= INTERESTED).astype(jnp.int8) - (heard.interest >= HALF_INTERESTED)
    personal = act == PERSONAL
    truth = jnp.where(personal, heard.leaning, jnp.where(act == SOURCE, trusting, interested))
    chances = jnp.where(act < SOURCE, jnp.asarray(REACTIONS)[effect], jnp.asarray(REPORTS)[truth])
    place = jnp.sum(draw >= jnp.cumsum(chances.astype(jnp.int32))[:2])
    return (place + len(CARES) * personal).astype(jnp.int8)


def action_labels() -> tuple[str, ...]:
    """The A labels: acts of the persuader, answers, donations."""
    acts = [f" {name}" for name in (*APPEALS, *INQUIRIES)]
    answers = [" positive", " neutral", " negative", *(f" care for {what}" for what in CARES), " agree", " refuse"]
    return (*acts, " ask for a donation", *answers, *(f" give{amount}" for amount in money()))


def money() -> tuple[str, ...]:
    """Donations in words, by their quarter dollars."""
    return (" nothing", *(f" ${quarters / 4:.2f}" for quarters in range(1, QUARTERS + 1)))


def words() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Word tables of the templates."""
    names, labels = ("Player 1", "Player 2"), action_labels()
    return (
        ("seat", tuple(f" {name}" for name in names)),
        ("line", tuple(f"\n{name}" for name in names)),
        ("speaker", tuple(f"\n{name}:" for name in names)),
        ("act", labels[:ACTS]),
        ("answer", labels[ACTS:GIVE]),
        ("care", tuple(f" {what}" for what in CARES)),
        ("weight", (" has no effect", " has some effect", " has much effect")),
        ("money", money()),
        ("number", tuple(f" {number}" for number in range(17))),
    )
