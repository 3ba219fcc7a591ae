"""Avalon: quests, hidden evil, and Merlin who knows it. The rules are written out in docs/games/avalon.md."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games import core
from games.core import EventKind, EventLog, GameError, GameSpec, Phase, Role, State, audience_of, event

MERLIN, PERCIVAL, MORGANA, MORDRED, OBERON, SERVANT, MINION, ASSASSIN = range(8)
TITLES = ("Merlin", "Percival", "Morgana", "Mordred", "Oberon", "servant", "minion", "assassin")
IS_EVIL = ~np.isin(np.arange(8), [MERLIN, PERCIVAL, SERVANT])
ROLES = tuple(Role(title.lower(), "evil" if evil else "good") for title, evil in zip(TITLES, IS_EVIL, strict=True))
SINGLE_ROLES = ("merlin", "assassin", "percival", "morgana", "mordred", "oberon")

# What a role (row) is told of another seat's role (column).
NOTHING, EVIL, MERLIN_OR_MORGANA = range(3)
KNOWS = np.zeros((8, 8), np.int8)
KNOWS[MERLIN, [MORGANA, OBERON, MINION, ASSASSIN]] = EVIL
KNOWS[PERCIVAL, [MERLIN, MORGANA]] = MERLIN_OR_MORGANA
_FELLOWS = [MORGANA, MORDRED, MINION, ASSASSIN]
KNOWS[np.ix_(_FELLOWS, _FELLOWS)] = EVIL

NUM_EVIL = {5: 2, 6: 2, 7: 3, 8: 3, 9: 3, 10: 4}
TEAM_SIZES = {5: (2, 3, 2, 3, 3), 6: (2, 3, 4, 3, 4), 7: (2, 3, 3, 4, 4)} | dict.fromkeys((8, 9, 10), (3, 4, 4, 5, 5))
FAILS_NEEDED = {seats: (1, 1, 1, 2 if seats >= 7 else 1, 1) for seats in TEAM_SIZES}
QUESTS = PROPOSALS = 5
MAJORITY = 3  # quests that decide the game

PROPOSE, SPEAK, VOTE, QUEST, SHOOT, OVER = range(6)
FIFTH_REJECTION = ("evil_wins", "approved")

EVENT_KINDS = (
    EventKind("seat", "\nYou are{seat:actor}"),
    EventKind("evil", "{line:target} is evil"),
    EventKind("merlin", "{line:target} is Merlin"),
    EventKind("merlin_or_morgana", "{line:target} is Merlin or Morgana"),
    EventKind("quest", "{quest:value}{team:value}{needed:value}"),
    EventKind("leader", "{line:actor}{proposal:value}"),
    EventKind("pick", "{line:actor} picks{seat:target}"),
    EventKind("utterance", "{line:actor} says:{utterance}"),
    EventKind("accuse", "{speaker:actor} accuse{seat:target}"),
    EventKind("defend", "{speaker:actor} defend{seat:target}"),
    EventKind("claim", "{speaker:actor} claim{role:value}"),
    EventKind("pass", "{speaker:actor} pass"),
    EventKind("vote", "{voter:actor}{ballot:value}"),
    EventKind("approved", "\nThe team is approved"),
    EventKind("rejected", "\nThe team is rejected"),
    EventKind("unvoted", "\nThe team goes without a vote"),
    EventKind("choice", "{line:actor} plays{choice:value}"),
    EventKind("quest_succeeded", "\nThe quest succeeds with{fails:value}"),
    EventKind("quest_failed", "\nThe quest fails with{fails:value}"),
    EventKind("shot", "{line:actor} shoots{seat:target}"),
    EventKind("win", "{winner:value}"),
)
KIND = {kind.name: index for index, kind in enumerate(EVENT_KINDS)}


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
class Avalon:
    """`avalon-v0`. Parameters and their allowed values: docs/games/avalon.md.

    Raises:
      GameError: if a parameter has a value that is not allowed.
    """

    num_seats: int = 5
    roles: str = "merlin,assassin"
    fifth_rejection: str = "evil_wins"
    discussion_rounds: int = 0
    speech_tokens: int = 0
    thought_tokens: int = 0

    def __post_init__(self) -> None:
        _check_range("num_seats", self.num_seats, 5, 10)
        _check_range("discussion_rounds", self.discussion_rounds, 0, 2)
        _check_range("speech_tokens", self.speech_tokens, 0, 4096)
        _check_range("thought_tokens", self.thought_tokens, 0, 4096)
        if self.fifth_rejection not in FIFTH_REJECTION:
            allowed = ", ".join(FIFTH_REJECTION)
            raise GameError(f"avalon-v0: fifth_rejection is one of {allowed}, not {self.fifth_rejection!r}")
        names = self.roles.split(",")
        if len(set(names)) < len(names) or not set(names) <= set(SINGLE_ROLES):
            raise GameError(f"avalon-v0: roles names each of {', '.join(SINGLE_ROLES)} at most once, for example "
                            f"percival,morgana, not {self.roles!r}")  # fmt: skip
        evil = 1 + len(set(names) & {"morgana", "mordred", "oberon"})
        if evil > self.num_evil:
            raise GameError(f"avalon-v0: roles names at most {self.num_evil} evil ones, the assassin included, with "
                            f"num_seats {self.num_seats}, not {evil}: {self.roles!r}")  # fmt: skip
        if self.speech_tokens and not self.discussion_rounds:
            raise GameError(f"avalon-v0: speech_tokens is 0 while discussion_rounds is 0, not {self.speech_tokens}")

    # ------------------------------------------------------------------ static facts

    @property
    def num_evil(self) -> int:
        """How many evil seats are dealt."""
        return NUM_EVIL[self.num_seats]

    @property
    def deck(self) -> tuple[int, ...]:
        """The roles that are dealt, in rising order."""
        names = {"merlin", "assassin", *self.roles.split(",")}
        single = [index for index, role in enumerate(ROLES) if role.name in names]
        minions = self.num_evil - sum(bool(IS_EVIL[role]) for role in single)
        servants = self.num_seats - len(single) - minions
        return tuple(sorted(single + [SERVANT] * servants + [MINION] * minions))

    @property
    def spec(self) -> GameSpec:
        """The static description of this variant."""
        n, sizes = self.num_seats, TEAM_SIZES[self.num_seats]
        speeches = self.discussion_rounds * n
        discussion = speeches * (1 + bool(self.speech_tokens))
        told = sum(bool(KNOWS[self.deck[a], self.deck[b]]) for a in range(n) for b in range(n) if a != b)
        dealt = n + told + 2
        quests = sum(PROPOSALS * (2 + size + discussion) + self._polls * n + size + 2 for size in sizes)
        return GameSpec(
            name="avalon-v0",
            num_seats=n,
            roles=ROLES,
            sides=("good", "evil"),
            phases=self._phases(),
            action_labels=action_labels(n),
            event_kinds=EVENT_KINDS,
            words=words(n),
            introduction=(self._introduction(), ""),
            role_texts=self._role_texts(),
            max_decisions=sum(PROPOSALS * (size + speeches) + self._polls * n + size for size in sizes) + 1,
            max_events=n + told + quests + 2,
            max_new_events=max(dealt + sizes[0] + self._before_last_speaker, self._longest_gap()),
            scripted_speech=scripted_speech(n),
            visible_events=self._visible_events(),
            turns=(
                (("propose",), most_picks(n, shown=False)),
                (("speak",), QUESTS * PROPOSALS * self.discussion_rounds),
                (("vote",), QUESTS * self._polls),
                (("quest",), QUESTS),
                (("shoot",), 1),
            ),
            parameters=tuple(sorted(dataclasses.asdict(self).items())),
        )

    @property
    def _polls(self) -> int:
        """Most votes on one quest's teams."""
        return PROPOSALS - (self.fifth_rejection == "approved")

    @property
    def _before_last_speaker(self) -> int:
        """Rows of a discussion before the last seat's first turn in it."""
        return (self.num_seats - 1) * (1 + bool(self.speech_tokens)) * bool(self.discussion_rounds)

    def _longest_gap(self) -> int:
        """Most rows between two turns of a seat that is on no team; a quest lies between them."""
        n, before = self.num_seats, self._before_last_speaker
        gaps = []
        for size, following in zip(TEAM_SIZES[n], TEAM_SIZES[n][1:], strict=False):
            quest = size + 3 + following  # choices, result, the next quest, its leader and picks
            gaps.append(n + 1 + quest + before)  # from a vote that sends the team
            if self.fifth_rejection == "approved":
                since = n * (1 + bool(self.speech_tokens)) if self.discussion_rounds else n + 2 + size
                gaps.append(since + 1 + quest + before)  # from a fifth discussion or, without one, a fourth vote
        return max(gaps)

    def _phases(self) -> tuple[Phase, ...]:
        thought = self.thought_tokens
        return (
            Phase("propose", "\nPick a player for the team", thought),
            Phase("speak", "\nSpeak", thought, self.speech_tokens),
            Phase("vote", "\nVote on the team", thought),
            Phase("quest", "\nPlay success or fail", thought),
            Phase("shoot", "\nShoot Merlin", thought),
            Phase("over"),
        )

    def _visible_events(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """The most rows one seat can be shown in a game of all proposals, by kinds that exclude each other."""
        others, proposals = self.num_seats - 1, QUESTS * PROPOSALS
        speeches = others * proposals * self.discussion_rounds
        told = [sum(bool(KNOWS[role, other]) for other in self.deck) - bool(KNOWS[role, role]) for role in self.deck]
        return (
            (("seat",), 1),
            (("evil", "merlin", "merlin_or_morgana"), max(told)),
            (("quest",), QUESTS),
            (("leader",), proposals),
            (("pick",), most_picks(self.num_seats, shown=True)),
            (("utterance",), speeches * (self.speech_tokens > 0)),
            (("accuse", "defend", "claim", "pass"), speeches),
            (("vote",), others * QUESTS * self._polls),
            (("approved", "rejected", "unvoted"), proposals),
            (("quest_succeeded", "quest_failed"), QUESTS),
        )

    def _introduction(self) -> str:
        fifth = {
            "evil_wins": "if five teams in a row are rejected, evil wins",
            "approved": "the fifth team for a quest goes without a vote",
        }[self.fifth_rejection]
        dealt = [f"{self.deck.count(role)} {TITLES[role]}" for role in sorted(set(self.deck))]
        return (
            f"You play Avalon with {self.num_seats} players: {', '.join(dealt)}. Merlin, Percival and servants are "
            "good, the others are evil. Roles are secret. For each of up to five quests a leader picks a team, and all "
            f"vote on it; {fifth}. The members of the team then secretly play success or fail; only evil ones can "
            "play fail. Evil wins when three quests have failed. When three have succeeded, the assassin shoots a "
            "player: if that is Merlin, evil wins, else good wins. Anyone may lie. "
        )

    def _role_texts(self) -> tuple[tuple[str, str], ...]:
        percival = "two players, one of whom is Merlin and one Morgana" if MORGANA in self.deck else "who Merlin is"
        knowing = "You know the other evil players" + (", but not Oberon" if OBERON in self.deck else "")
        aims = {
            MERLIN: "You know the evil players" + (", but not Mordred" if MORDRED in self.deck else "")
            + ". Lead the good to three quests without being found out.",
            PERCIVAL: f"You know {percival}. Protect Merlin, and help the good to three quests.",
            MORGANA: f"{knowing}. Pass for Merlin, and make three quests fail.",
            MORDRED: f"{knowing}. Merlin does not know you. Make three quests fail.",
            OBERON: "You and the other evil players do not know each other. Make three quests fail.",
            SERVANT: "Find out who is evil, and keep them off the quests.",
            MINION: f"{knowing}. Make three quests fail.",
            ASSASSIN: f"{knowing}. Make three quests fail, or find out who Merlin is.",
        }  # fmt: skip
        articles = {SERVANT: "a ", MINION: "a ", ASSASSIN: "the "}
        names = [articles.get(role, "") + TITLES[role] for role in range(len(ROLES))]
        return tuple((f"You are {name}. {aims[role]}", f"You are {name}") for role, name in enumerate(names))

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
        kind, target, value = (jnp.asarray(table)[action] for table in _act_tables(self.num_seats))
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


@functools.cache
def most_picks(num_seats: int, *, shown: bool) -> int:
    """Most picks that a seat can be shown, or make, over all numbers of proposals that the quests can take."""

    def best(quest: int, until: int) -> int:
        """`until` is how many proposals there are before the seat leads; it leads at most once in a quest."""
        if quest == QUESTS:
            return 0
        size, most = TEAM_SIZES[num_seats][quest], 0
        for proposals in range(1, PROPOSALS + 1):
            led = until < proposals
            picks = size * (proposals - led if shown else led)
            most = max(most, picks + best(quest + 1, (until - proposals) % num_seats))
        return most

    return max(best(0, until) for until in range(num_seats))


def action_labels(num_seats: int) -> tuple[str, ...]:
    """The A labels: picks, accusations, defences, claims, pass, votes, choices."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    labels = players + [f" accuse{player}" for player in players] + [f" defend{player}" for player in players]
    return (*labels, *(f" claim {title}" for title in TITLES), " pass", " approve", " reject", " success", " fail")


def scripted_speech(num_seats: int) -> tuple[str, ...]:
    """What a scripted player says aloud with each action, in agreement with it; empty where nothing is said."""
    players = [f" Player {seat + 1}" for seat in range(num_seats)]
    speech = [""] * num_seats
    speech += [f" I accuse{player}" for player in players] + [f" I defend{player}" for player in players]
    return (*speech, *(f" I claim {title}" for title in TITLES), " I pass", "", "", "", "")


def words(num_seats: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Word tables of the templates."""
    names = [f"Player {seat + 1}" for seat in range(num_seats)]
    counts = [f" {fails or 'no'} {'fail' if fails == 1 else 'fails'}" for fails in range(NUM_EVIL[num_seats] + 1)]
    return (
        ("seat", tuple(f" {name}" for name in names)),
        ("line", tuple(f"\n{name}" for name in names)),
        ("speaker", tuple(f"\n{name}:" for name in names)),
        ("voter", tuple(f"\n{name} votes" for name in names)),
        ("role", tuple(f" {title}" for title in TITLES)),
        ("quest", tuple(f"\nQuest {quest + 1}" for quest in range(QUESTS))),
        ("team", tuple(f" needs {size} players" for size in TEAM_SIZES[num_seats])),
        ("needed", tuple(f" and is lost by{counts[fails]}" for fails in FAILS_NEEDED[num_seats])),
        ("proposal", tuple(f" leads proposal {proposal + 1}" for proposal in range(PROPOSALS))),
        ("ballot", (" reject", " approve")),
        ("choice", (" fail", " success")),
        ("fails", tuple(counts)),
        ("winner", ("\nEvil wins", "\nGood wins")),
    )


def _rows(
    count: int, kind: Any, actor: Any = core.NO_ONE, target: Any = core.NO_ONE, value: Any = core.NO_ONE
) -> jax.Array:
    """int16[count, 4]: rows of the log from columns, each one number or `count` of them."""
    columns = [jnp.broadcast_to(jnp.asarray(x, jnp.int16), (count,)) for x in (kind, actor, target, value)]
    return jnp.stack(columns, axis=1)


def _act_tables(num_seats: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int16[A] each: kind, target and value of the event that each action becomes; -1 for votes and choices."""
    n, none = num_seats, core.NO_ONE
    blocks = [(KIND[name], seat, none) for name in ("pick", "accuse", "defend") for seat in range(n)]
    blocks += [(KIND["claim"], none, role) for role in range(len(ROLES))]
    blocks += [(KIND["pass"], none, none)] + [(none, none, none)] * 4
    kinds, targets, values = np.array(blocks, np.int16).T
    return kinds, targets, values


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise GameError(f"avalon-v0: {name} is between {low} and {high}, not {value}")
