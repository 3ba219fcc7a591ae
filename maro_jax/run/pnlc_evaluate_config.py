"""The configuration of `python -m maro_jax.pnlc evaluate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from maro_jax.run.api_config import ApiConfig, is_api
from maro_jax.run.embedder_names import embedder_of_folder
from maro_jax.run.fields import ConfigError, check, nearest, setting
from maro_jax.run.inputs import check_output, check_player, parse_games

SCRIPTED = ("heuristic", "random")
SELF = "actor"  # the actor's own weights, playing plainly
AGENTS = (
    "plain", "no_thought", "react", "self_rated", "self_refine", "random", "shuffled", "rerank", "refine",
)  # fmt: skip
REWRITING = ("refine", "self_refine")
GUIDED = ("shuffled", "rerank", "refine")
DEFAULT_AGENTS = "plain,random,shuffled,rerank"
NOT_OF_EMBEDDINGS = ("api_max_tokens", "api_asks", "api_price_out", "api_prompts", "api_transcript", "record")
_EXAMPLE = "for example: python -m maro_jax.pnlc evaluate --actor=random --critic=critics/persuasion"


@dataclasses.dataclass(frozen=True)
class PnlcEvaluateConfig(ApiConfig):
    """Plays agents on the same deals: an actor by itself, and the same actor guided by a critic of its thoughts."""

    actor: str = setting(
        "random", "who proposes thoughts and acts: a run, a model folder, tiny, heuristic, random or api:MODEL",
        group="players", example="runs/persuasion",
    )  # fmt: skip
    agents: str = setting(
        DEFAULT_AGENTS, "what the actor does, the first to compare with: " + ", ".join(AGENTS), group="players",
        example="plain,rerank",
    )  # fmt: skip
    opponent: str = setting(
        "", "who holds the other sides: heuristic (also if empty), random or actor (its own weights, plainly)",
        group="players", choices=("", *SCRIPTED, SELF), example="random",
    )  # fmt: skip
    temperature: float = setting(1.0, "sampling temperature of the actor", group="players", positive=True)
    num_thoughts: int = setting(4, "thoughts proposed for each reply", group="players", low=2, high=64)
    rounds: int = setting(2, "how often refine and self_refine rewrite a thought", group="players", low=1, high=4)
    critic: str = setting("", "the critic's folder, as train wrote it", group="critic", example="critics/persuasion")
    embedder: str = setting(
        "", "the embedder that the critic was trained with, if it is elsewhere now; empty: where it was then",
        group="critic", example="policy:runs/persuasion",
    )  # fmt: skip
    embeddings: str = setting(
        "", "folder that keeps embeddings for the next command; empty: none", group="critic", example="embeddings"
    )
    ignore_calibration: bool = setting(
        False, "let the critic guide though held-out games (for refine, goals in other words) did not show that it "
        "knows anything", group="critic",
    )  # fmt: skip
    prompts: str = setting(
        "", "folder with prompts in place of those in maro_jax/pnlc/prompts", group="critic", example="my_prompts"
    )
    game: str = setting(
        "", "the game, as name[:key=value,...]; empty: the critic's", group="games",
        example="persuasion-v0:thought_tokens=12",
    )  # fmt: skip
    sides: str = setting(
        "", "sides that the agents hold in turn, as name,name; empty: all", group="games", example="evil"
    )
    num_games: int = setting(512, "games of each agent; a deal is one for each side", group="games", low=2)
    lanes: int = setting(64, "games played side by side", group="games", low=1)
    timed_decisions: int = setting(
        100, "decisions of each agent to be timed with one game at a time; 0: none", group="games", low=0
    )
    seed: int = setting(0, "root of all chance", group="in general", low=0, high=2**31 - 1)
    json: str = setting("", "also write the result to this file", group="in general", example="agents.json")

    def validate(self) -> None:
        """Checks everything that can be known without games or weights.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        check(self)
        check_agents(self.agent_names)
        self._check_api_flags()
        if not is_api(self.actor):
            check_player("actor", self.actor, SCRIPTED)
        self._check_critic()
        if self.game and len(parse_games(self.game)) > 1:
            raise ConfigError(f"--game={self.game} are several games; agents play one, for example "
                              "--game=persuasion-v0:thought_tokens=12")  # fmt: skip
        self._check_actor()
        if self.json:
            check_output("json", self.json)

    def _check_api_flags(self) -> None:
        """Checks the flags of models behind an API, of which the actor may be one, and the critic's embedder."""
        embedder = self.embedder or (embedder_of_folder(self.critic) if self.critic else "")
        self.check_api((self.actor, embedder), "actor")
        if is_api(self.actor):
            return
        for name in NOT_OF_EMBEDDINGS:
            if getattr(self, name) != getattr(type(self), name):
                raise ConfigError(
                    f"--{name}={getattr(self, name)} means nothing to embeddings, and only the critic's embedder is "
                    f"behind an API here; leave it out, or name an actor that is too, for example --actor=api:my-model"
                )

    def _check_actor(self) -> None:
        """Checks what not every actor can do."""
        scripted, names = self.actor in SCRIPTED, self.agent_names
        own = next((name for name in ("self_rated", *REWRITING) if name in names), "")
        if scripted and own:
            raise ConfigError(
                f"--agents names {own}, and the scripted player --actor={self.actor} neither rates nor rewrites its "
                f"plans; leave it out, for example --agents={DEFAULT_AGENTS}"
            )
        rewriting = next((name for name in REWRITING if name in names), "")
        if rewriting and not is_api(self.actor):
            raise ConfigError(
                f"--agents names {rewriting}, and --actor={self.actor} reads no prompts: only models behind an API "
                "rewrite their thoughts, for example --actor=api:my-model"
            )
        if scripted and self.temperature != 1:
            raise ConfigError(f"--temperature={self.temperature} means nothing to --actor={self.actor}, who samples "
                              "no tokens; leave it out")  # fmt: skip
        if self.prompts and not is_api(self.actor):
            raise ConfigError(f"--prompts={self.prompts} are for models behind an API, and --actor={self.actor} reads "
                              "none; leave it out, or name one, for example --actor=api:my-model")  # fmt: skip
        usual = [name for name in ("num_games", "timed_decisions") if getattr(self, name) == getattr(type(self), name)]
        if is_api(self.actor) and usual:
            raise ConfigError(
                f"--{usual[0]}={getattr(self, usual[0])} is the default among actors on this machine, and a model "
                f"behind an API is paid for every request; name it, for example --{usual[0]}=16"
            )
        if self.opponent == SELF and (scripted or is_api(self.actor)):
            raise ConfigError(
                f"--opponent={SELF} are the actor's weights, and --actor={self.actor} has none here; name heuristic or "
                "random, for example --opponent=heuristic"
            )

    def _check_critic(self) -> None:
        """Checks that there is a critic where one is needed, and only there."""
        guided = [name for name in self.agent_names if name in GUIDED]
        if guided and not self.critic:
            raise ConfigError(f"the agent {guided[0]} needs --critic, the folder that train wrote, {_EXAMPLE}")
        if not guided and (self.critic or self.embedder or self.embeddings or self.ignore_calibration):
            raise ConfigError(
                f"--agents={self.agents} are guided by no critic; leave --critic, --embedder, --embeddings and "
                f"--ignore_calibration out, or name one that is, for example --agents={DEFAULT_AGENTS}"
            )
        if self.critic and not Path(self.critic).expanduser().is_dir():
            raise ConfigError(f"--critic={self.critic} is no folder, {_EXAMPLE}")
        if not self.critic and not self.game:
            raise ConfigError(
                "name the game, since there is no critic whose it could be, for example "
                "--game=persuasion-v0:thought_tokens=12"
            )
        if self.prompts and not Path(self.prompts).expanduser().is_dir():
            raise ConfigError(f"--prompts={self.prompts} is not a folder; name the one with the prompts")

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The agents, the first to compare with."""
        return tuple(self.agents.split(","))


def check_agents(names: tuple[str, ...]) -> None:
    """Checks the names of agents.

    Raises:
      ConfigError: there is no such agent, or one is named twice.
    """
    for name in names:
        if name not in AGENTS:
            raise ConfigError(
                f"--agents names {name!r}, which is not one of {', '.join(AGENTS)}{nearest(name, AGENTS)}"
            )
        if names.count(name) > 1:
            raise ConfigError(f"--agents names {name} twice; name each once, for example --agents={DEFAULT_AGENTS}")
