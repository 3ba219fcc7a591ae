"""The usual way to let a language model play: a plain-Python game, text on the host, the whole history sent again.

Same rules, same words and the same weights as the compiled rollout, so that a game is as long on both sides: events
become text by the game's own templates, the tokenizer reads the whole history of the acting seat at every turn, and
Hugging Face `generate` samples one of the legal labels at temperature 1.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
)

from games.core import GameSpec
from games.text.framing import FRAMINGS, Framing, Span
from games.text.lexicon import parse_template
from tests.games.werewolf_referee import ROLES, WOLVES_BY_SEATS, Referee, Row

NO_FIELD = 0
_FIELDS = {"actor": 1, "target": 2, "value": 3}  # places in a row of the log, after its kind


class DrawingReferee(Referee):
    """The referee of the tests, drawing its own chance."""

    def __init__(self, parameters: Mapping[str, Any], chance: random.Random):
        """Deals a game with `chance`, which draws whatever comes later too."""
        seats = parameters["num_seats"]
        wolves = WOLVES_BY_SEATS[seats]
        roles = ["wolf"] * wolves + ["seer", "doctor"] + ["villager"] * (seats - wolves - 2)
        chance.shuffle(roles)
        self._random = chance
        super().__init__(parameters, roles)

    def _drawn(self, name: str, candidates: list[int], chance: Mapping[str, int]) -> int:
        del name, chance
        return self._random.choice(candidates)


@dataclasses.dataclass(frozen=True)
class Words:
    """A game's words as text.

    Attributes:
      pieces: by event kind, (words, place of the field that picks one of them, or `NO_FIELD`).
      labels: text of each action.
      prefixes: text that opens a seat's history, by role.
      turn_open: before the events a seat is shown.
      turn_tails: after them, by phase: the prompt and the opening of the reply.
      close: ends a reply.
    """

    pieces: tuple[tuple[tuple[Sequence[str], int], ...], ...]
    labels: tuple[str, ...]
    prefixes: tuple[str, ...]
    turn_open: str
    turn_tails: dict[str, str]
    close: str

    @staticmethod
    def of(spec: GameSpec, family: str) -> Words:
        """The words of a game whose replies are labels only (no utterances), framed for a family of tokenizers."""
        framing: Framing = FRAMINGS[family]
        tables = dict(spec.words)

        def text(span: Span) -> str:
            return "".join(content for _, content in span)

        return Words(
            pieces=tuple(
                tuple(
                    (tables[what], _FIELDS[content]) if what in tables else ((content,), NO_FIELD)
                    for what, content in parse_template(kind)
                )
                for kind in spec.event_kinds
            ),
            labels=spec.action_labels,
            prefixes=tuple(
                text(framing.system_open)
                + spec.introduction[family == "tiny"]
                + texts[family == "tiny"]
                + text(framing.system_close)
                for texts in spec.role_texts
            ),
            turn_open=text(framing.turn_open),
            turn_tails={
                phase.name: phase.prompt + text(framing.turn_close) + text(framing.action_open) for phase in spec.phases
            },
            close=framing.section_close,
        )

    def event(self, row: Row) -> str:
        """A row of the log as text."""
        return "".join(words[0 if field == NO_FIELD else row[field]] for words, field in self.pieces[row[0]])


class TextGame:
    """A game in progress and what each seat has read and said of it.

    Attributes:
      referee: the rules.
      histories: text of each seat after its role's prefix.
    """

    def __init__(self, words: Words, referee: Referee):
        """Starts with nothing shown."""
        self._words = words
        self._shown = [0] * referee.num_seats
        self.referee = referee
        self.histories = [""] * referee.num_seats

    def prompt(self) -> str:
        """Shows the acting seat what is new to it, and returns its whole history."""
        referee, words = self.referee, self._words
        seat = referee.actor
        news = "".join(words.event(row) for row in referee.view(seat, self._shown[seat]))
        self._shown[seat] = len(referee.log)
        self.histories[seat] += words.turn_open + news + words.turn_tails[referee.phase]
        return self.prefix(seat) + self.histories[seat]

    def reply(self, label: str) -> None:
        """Plays the acting seat's reply.

        Raises:
          ValueError: it is no label, or not legal now.
        """
        action = self._words.labels.index(label)
        if action not in self.referee.legal_actions():
            raise ValueError(f"{label!r} is not legal for Player {self.referee.actor + 1} in {self.referee.phase}.")
        self.histories[self.referee.actor] += label + self._words.close
        self.referee.step(action)

    def prefix(self, seat: int) -> str:
        """How the seat's history begins."""
        return self._words.prefixes[ROLES.index(self.referee.roles[seat])]


class LegalLabels(LogitsProcessor):
    """Allows, after each reply so far, the tokens that lead to a legal label of its row."""

    def __init__(self, following: list[dict[tuple[int, ...], list[int]]], start: int, rest: list[int]):
        """Takes what may follow each beginning of a row's reply, the replies' place, and what follows a closed one."""
        self._following, self._start, self._rest = following, start, rest

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Masks `scores [rows, V]`, with one write for all rows."""
        replies = input_ids[:, self._start :].tolist()
        allowed = [row.get(tuple(ids), self._rest) for row, ids in zip(self._following, replies, strict=True)]
        index = [(row, token) for row, tokens in enumerate(allowed) for token in tokens]
        rows, tokens = torch.tensor(index).T
        masked = torch.full_like(scores, -torch.inf)
        masked[rows, tokens] = scores[rows, tokens]
        return masked


@dataclasses.dataclass
class Played:
    """What games played the usual way took.

    Attributes:
      seconds: from the first deal to the last reply.
      games: games played to their ends.
      decisions: replies.
      stream_tokens: tokens that the seats have read and said, each once.
      prompt_tokens: tokens sent to the model, the history again at every turn.
      padding_tokens: tokens sent besides, to make prompts equally long.
      sampled: tokens sampled, those of closed replies not counted.
      calls: calls of `generate`.
      village_wins: games won by the village.
    """

    seconds: float = 0.0
    games: int = 0
    decisions: int = 0
    stream_tokens: int = 0
    prompt_tokens: int = 0
    padding_tokens: int = 0
    sampled: int = 0
    calls: int = 0
    village_wins: int = 0


class UsualWay:
    """Plays games with a model folder."""

    def __init__(self, folder: Path, spec: GameSpec, family: str):
        """Loads the model and its tokenizer.

        Args:
          folder: an ordinary Hugging Face folder.
          spec: the game; its replies are labels only.
          family: of the tokenizer.
        """
        self.model = Qwen2ForCausalLM.from_pretrained(folder, local_files_only=True).eval()
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, padding_side="left")
        self.words = Words.of(spec, family)
        self.parameters = dict(spec.parameters)
        self._labels = [self._ids(label) for label in self.words.labels]
        self._close = self._ids("")
        self._legal_following = functools.cache(self._following)
        self._sampling = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=max(len(ids) for ids in self._labels),
            eos_token_id=self._close,
            pad_token_id=self.tokenizer.pad_token_id,
        )

    def play(self, games: int, width: int, seed: int) -> Played:
        """Plays a fixed number of games to their ends, so many at once; a game that ends makes room for the next.

        Args:
          games: how many.
          width: most games in progress at once: 1 plays them one after the other.
          seed: of the deals and of what is sampled.
        """
        torch.manual_seed(seed)
        chance = random.Random(seed)
        played = Played(games=games)
        ended: list[TextGame] = []
        running: list[TextGame] = []
        start = time.perf_counter()
        while len(ended) < games:
            while len(running) < min(width, games - len(ended)):
                running.append(TextGame(self.words, DrawingReferee(self.parameters, chance)))
            self._turn(running, played)
            ended += [game for game in running if game.referee.over]
            running = [game for game in running if not game.referee.over]
        played.seconds = time.perf_counter() - start
        for game in ended:
            prefixes = [len(self.tokenizer(game.prefix(seat))["input_ids"]) for seat in range(len(game.histories))]
            whole = [game.prefix(seat) + history for seat, history in enumerate(game.histories)]
            played.stream_tokens += sum(len(ids) for ids in self.tokenizer(whole)["input_ids"]) - sum(prefixes)
            roles, outcome = game.referee.roles, game.referee.outcome
            played.village_wins += outcome[roles.index("seer")] > 0
        return played

    def _turn(self, games: list[TextGame], played: Played) -> None:
        """One decision of every game, all in one call."""
        prompts = self.tokenizer([game.prompt() for game in games], return_tensors="pt", padding=True)
        tokens, mask = prompts["input_ids"], prompts["attention_mask"]
        following = [self._legal_following(frozenset(game.referee.legal_actions())) for game in games]
        legal = LegalLabels(following, tokens.shape[1], self._close)
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=tokens,
                attention_mask=mask,
                generation_config=self._sampling,
                logits_processor=LogitsProcessorList([legal]),
            )
        replies = output[:, tokens.shape[1] :]
        for game, label in zip(games, self.tokenizer.batch_decode(replies, skip_special_tokens=True), strict=True):
            game.reply(label)
        sent = int(mask.sum())
        played.calls += 1
        played.decisions += len(games)
        played.prompt_tokens += sent
        played.padding_tokens += mask.numel() - sent
        played.sampled += int((replies != self.tokenizer.pad_token_id).sum())

    def _ids(self, label: str) -> list[int]:
        """The tokens of a reply."""
        return self.tokenizer(label + self.words.close)["input_ids"]

    def _following(self, legal: frozenset[int]) -> dict[tuple[int, ...], list[int]]:
        """The tokens that may follow each beginning of a legal label."""
        following: dict[tuple[int, ...], set[int]] = {}
        for action in legal:
            ids = self._labels[action]
            for place, token in enumerate(ids):
                following.setdefault(tuple(ids[:place]), set()).add(token)
        return {beginning: sorted(tokens) for beginning, tokens in following.items()}
