"""Everything static that a rollout is compiled for: a game, its words for a tokenizer, the model and the sizes."""

from __future__ import annotations

import dataclasses

from games.core import Game, GameError, GameSpec
from games.plans import Plans, plans_of
from games.players.scripted import Player, heuristic_player
from games.text.framing import TextTokenizer
from games.text.grammar import Grammar, build_grammar, longest_forced_run
from games.text.lexicon import Lexicon, build_lexicon
from maro_jax.policy.decoder import Policy


@dataclasses.dataclass(frozen=True)
class RolloutSizes:
    """Static sizes of a rollout on one device.

    Attributes:
      lanes: L, episodes in progress at once.
      capacity: S, stream tokens of a seat after its role prefix.
      ingest_rows: rows of an ingest step, each with many pending tokens.
      ingest_tokens: pending tokens an ingest step takes from each row.
      decode_rows: rows of a decode step, each in mid-reply.
      decode_tokens: pending tokens a decode step takes from each row.
      decode_steps: model steps between two advances of the games.
      block: own positions that attention reads at a time, of the KV cache.
    """

    lanes: int
    capacity: int
    ingest_rows: int
    ingest_tokens: int
    decode_rows: int
    decode_tokens: int
    decode_steps: int
    block: int

    @staticmethod
    def fit(table: Table, lanes: int, capacity: int) -> RolloutSizes:
        """Sizes that suit a game: short steps for replies that are only a label, longer ones for free text."""
        free_text = table.spec.speech_tokens + table.spec.thought_tokens > 0
        return RolloutSizes(
            lanes=lanes,
            capacity=capacity,
            ingest_rows=max(1, lanes // 4),
            ingest_tokens=16 if free_text else 8,
            decode_rows=max(1, lanes // 4),
            decode_tokens=1 + longest_forced_run(table.grammar),
            decode_steps=8 if free_text else 2,  # two share the cost of moving the games on
            block=64,
        )

    def scripted_rows(self, models: int) -> int:
        """Scripted seats that reply together: all where no model plays, else about as many as are due at a time."""
        return max(1, self.lanes // 4) if models else self.lanes


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A game laid out for a policy.

    Attributes:
      game: the rules.
      spec: the game's static description.
      lexicon: words as tokens.
      grammar: label trie.
      policy: the model's static part.
      tokenizer: for people's eyes only.
      heuristic: the game's scripted player.
      plans: what scripted players think, `None` where they think nothing: no budget for thoughts, or no plans.
    """

    game: Game
    spec: GameSpec
    lexicon: Lexicon
    grammar: Grammar
    policy: Policy
    tokenizer: TextTokenizer
    heuristic: Player
    plans: Plans | None

    @staticmethod
    def lay(game: Game, policy: Policy, tokenizer: TextTokenizer) -> Table:
        """Compiles a game's words for a policy's tokenizer."""
        spec = game.spec
        vocab_size = policy.config.vocab_size
        brief = tokenizer.family == "tiny"
        plans = plans_of(spec) if spec.thought_tokens else None
        thoughts = plans.texts if plans else ()
        return Table(
            game=game,
            spec=spec,
            lexicon=build_lexicon(spec, tokenizer, vocab_size=vocab_size, brief=brief, thoughts=thoughts),
            grammar=build_grammar(spec, tokenizer),
            policy=policy,
            tokenizer=tokenizer,
            heuristic=heuristic_player(spec.name),
            plans=plans,
        )

    def scripted_speech(self, action: int) -> list[int]:
        """Tokens that a scripted player says with an action."""
        span = self.lexicon.scripted_speech[action]
        start = self.lexicon.span_start[span]
        return self.lexicon.pool[start : start + self.lexicon.span_length[span]].tolist()

    def stream_capacity(self, asked: int, overflow: str) -> int:
        """The stream capacity of a run.

        Args:
          asked: tokens a seat, 0 for the worst case of the game.
          overflow: `refuse` or `truncate`.

        Raises:
          GameError: if a stream could outgrow what was asked for and that is to be refused, or the model's positions.
        """
        worst = self.lexicon.max_stream
        capacity = asked or worst
        prefix = int(self.lexicon.prefix_lengths.max())
        if overflow == "refuse" and capacity < worst:
            raise GameError(
                f"a stream of {self.spec.name} can reach {worst} tokens but --capacity is {capacity}; allow {worst} or "
                "more, or end such episodes with --overflow=truncate"
            )
        if prefix + capacity > self.policy.config.max_positions:
            raise GameError(
                f"streams of {prefix} + {capacity} tokens exceed the model's {self.policy.config.max_positions} "
                "positions; ask for less, for example fewer days (max_days=3) or a smaller --capacity with "
                "--overflow=truncate"
            )
        return capacity
