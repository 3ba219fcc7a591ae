"""The configurations of `python -m maro_jax.pnlc`: collect and train."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from maro_jax.run.api_config import check_address
from maro_jax.run.embedder_names import EXAMPLE, embedder_of_folder, is_api_embedder, parse_embedder
from maro_jax.run.evaluate_config import SCRIPTED
from maro_jax.run.fields import ConfigError, check, check_choice, setting
from maro_jax.run.inputs import HOLDERS, check_model, check_new_folder, check_player, parse_games

EITHER = "either"
_GAME = "persuasion-v0:thought_tokens=12"


@dataclasses.dataclass(frozen=True)
class CollectConfig:
    """Plays games of a player that thinks, often a weaker one, and keeps them as a dataset for a critic."""

    out: str = setting("", "folder of datasets to write; it must not exist", group="collect", example="data/persuasion")
    game: str = setting(
        _GAME, "the game, as name[:key=value,...]; thought_tokens above 0, so that there are thoughts", group="collect"
    )
    player: str = setting(
        EITHER, "who plays: heuristic, random, either of them on each side by turns, a run (its newest weights), a "
        "model folder or tiny", group="collect", example="runs/persuasion",
    )  # fmt: skip
    opponent: str = setting(
        "", "who holds the other sides: heuristic or random, and the player every side by turns; empty: the player",
        group="collect", example="heuristic",
    )  # fmt: skip
    critic: str = setting(
        "", "a critic that chooses among thoughts of the player, for a policy to learn from its choices; empty: none",
        group="collect", example="critics/persuasion",
    )  # fmt: skip
    num_thoughts: int = setting(4, "with --critic: thoughts it chooses among", group="collect", low=2, high=64)
    embedder: str = setting(
        "", "with --critic: the embedder it was trained with, if that is elsewhere now", group="collect",
        example="policy:runs/persuasion",
    )  # fmt: skip
    embeddings: str = setting(
        "", "with --critic: folder that keeps embeddings for the next command; empty: none", group="collect",
        example="embeddings",
    )  # fmt: skip
    ignore_calibration: bool = setting(
        False, "with --critic: let it choose though held-out games did not show that it knows anything", group="collect"
    )
    api_base: str = setting(
        "", "with a critic's api:MODEL embedder: address of its server; empty: where it was then", group="collect",
        example="http://localhost:8000/v1",
    )  # fmt: skip
    api_key_variable: str = setting("OPENAI_API_KEY", "environment variable with its key", group="collect")
    episodes: int = setting(2500, "games to play", group="collect", low=1)
    temperature: float = setting(1.0, "sampling temperature of a model", group="collect", positive=True)
    lanes: int = setting(128, "games played side by side", group="collect", low=1)
    seed: int = setting(0, "root of all chance", group="collect", low=0, high=2**31 - 1)

    def validate(self) -> None:
        """Checks everything that can be known without the game or weights.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        check(self)
        if not self.out:
            raise ConfigError(
                f"name --out, the folder to write, for example: python -m maro_jax.pnlc collect --game={_GAME} "
                "--out=data/persuasion"
            )
        if len(parse_games(self.game)) > 1:
            raise ConfigError(f"--game={self.game} are several games; a dataset holds one, for example --game={_GAME}")
        check_player("player", self.player, (*SCRIPTED, EITHER))
        if self.opponent not in ("", *SCRIPTED):
            raise ConfigError(
                f"--opponent={self.opponent} is not one of {', '.join(SCRIPTED)}; leave it out where the player holds "
                "every side"
            )
        if self.opponent and self.player == EITHER:
            raise ConfigError(
                f"--player={EITHER} seats scripted players on every side; leave out --opponent={self.opponent}, or "
                "name one player, for example --player=random"
            )
        if self.is_scripted and self.temperature != 1:
            raise ConfigError(f"--temperature={self.temperature} means nothing to --player={self.player}, who samples "
                              "no tokens; leave it out")  # fmt: skip
        self._check_critic()
        check_new_folder("out", self.out)

    def _check_critic(self) -> None:
        """Checks that a critic has one player to choose for, and that nothing is said of one that is not there."""
        if not self.critic:
            for name in (
                "num_thoughts", "embedder", "embeddings", "ignore_calibration", "api_base", "api_key_variable",
            ):  # fmt: skip
                if getattr(self, name) != getattr(CollectConfig, name):
                    raise ConfigError(f"--{name}={getattr(self, name)} means nothing without --critic; leave it out")
            return
        if not Path(self.critic).expanduser().is_dir():
            raise ConfigError(
                f"--critic={self.critic} is no folder; name the one that train wrote, for example "
                "--critic=critics/persuasion"
            )
        _check_server(self, self.embedder or embedder_of_folder(self.critic))
        if self.player == EITHER:
            raise ConfigError(
                f"--critic={self.critic} chooses for one player, and --player={EITHER} are two, for example "
                "--player=random"
            )

    @property
    def is_scripted(self) -> bool:
        """Whether no model plays."""
        return self.player in (*SCRIPTED, EITHER)


@dataclasses.dataclass(frozen=True)
class CriticConfig:
    """Trains a critic from games on disk, and tells whether it may guide."""

    data: str = setting(
        "", "datasets of one game, or folders that hold one each: a,b", group="data", positional=True,
        example="data/persuasion",
    )  # fmt: skip
    out: str = setting("", "folder of the critic; it must not exist", group="data", example="critics/persuasion")
    holders: str = setting(
        "all", "whose decisions: all, or some of learner, opponent, heuristic, random, person, api", group="data",
        example="learner,heuristic",
    )  # fmt: skip
    held_out: float = setting(0.2, "share of the episodes that it is judged by", group="data", positive=True, high=0.9)
    model: str = setting(
        "", "where the model whose tokenizer made the ids is now; empty: where it was then", group="data",
        example="/models/Qwen2.5-0.5B-Instruct",
    )  # fmt: skip
    embedder: str = setting(
        "words:512", "words:SIZE, policy:RUN or policy:FOLDER (@6: after six layers), sentence:FOLDER, or api:MODEL",
        group="embeddings", example=EXAMPLE,
    )  # fmt: skip
    embeddings: str = setting(
        "", "folder that keeps embeddings for the next command; empty: none", group="embeddings", example="embeddings"
    )
    embed_batch: int = setting(64, "most texts that a model embeds together", group="embeddings", low=1)
    api_base: str = setting(
        "", "address of the server of api:MODEL; empty: that in OPENAI_BASE_URL, or OpenAI's", group="embeddings",
        example="http://localhost:8000/v1",
    )  # fmt: skip
    api_key_variable: str = setting("OPENAI_API_KEY", "environment variable with its key", group="embeddings")
    goals: str = setting(
        "all", "the game's goals, or that the outcome is above 0 alone, which is PNLC without goals", group="goals",
        choices=("all", "outcome"),
    )  # fmt: skip
    medoids: int = setting(
        0, "states that are goals too, found by k-means; 64 for refinement in words", group="goals", low=0, example="64"
    )
    expectile: float = setting(
        0.5, "of V over thoughts: 0.5 makes Q a probability, 0.8 is the paper's", group="training", positive=True,
        high=0.99,
    )  # fmt: skip
    future_goals: float = setting(
        0.0, "share of goals drawn from the trajectory's own future; 1 is the paper's", group="training", low=0, high=1
    )
    discount: float = setting(1.0, "of a goal for each transition until it", group="training", positive=True, high=1)
    steps: int = setting(4000, "of the optimizer", group="training", low=1)
    batch_size: int = setting(256, "transitions a step, with a goal each", group="training", low=1)
    learning_rate: float = setting(1e-3, "at the beginning; it falls to 0", group="training", positive=True)
    weight_decay: float = setting(0.0, "of AdamW", group="training", low=0)
    seed: int = setting(
        0, "of what is held out, and of parameters and batches", group="training", low=0, high=2**31 - 1
    )

    def validate(self) -> None:
        """Checks everything that can be known without data or weights.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        check(self)
        example = "for example: python -m maro_jax.pnlc train data/persuasion --out=critics/persuasion"
        if not self.data or not self.out:
            raise ConfigError(f"name {'--out, the folder to write' if self.data else 'the dataset'}, {example}")
        for folder in self.folders:
            if not Path(folder).expanduser().is_dir():
                raise ConfigError(f"{folder} is no folder; name a dataset, {example}")
        if self.holders != "all":
            for name in self.holders.split(","):
                check_choice("holders", name.strip(), HOLDERS)
        check_new_folder("out", self.out)
        if self.model:
            check_model(self.model)
        parse_embedder(self.embedder)
        _check_server(self, self.embedder)

    @property
    def folders(self) -> tuple[str, ...]:
        """The datasets, as they were given."""
        return tuple(name.strip() for name in self.data.split(","))


def _check_server(config: CollectConfig | CriticConfig, embedder: str) -> None:
    """Checks the flags of an embedder's server; the embedder's name may be empty, where it is not known yet."""
    if embedder and not is_api_embedder(embedder):
        for name in ("api_base", "api_key_variable"):
            if getattr(config, name) != getattr(type(config), name):
                raise ConfigError(
                    f"--{name}={getattr(config, name)} is of --embedder=api:MODEL, and --embedder={embedder} is none; "
                    "leave it out"
                )
    check_address(config.api_base, config.api_key_variable)
