"""The configuration of `python -m maro_jax.evaluate`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from maro_jax.run.api_config import ApiConfig, is_api
from maro_jax.run.config import available_cores, round_up
from maro_jax.run.directory import recorded_config
from maro_jax.run.fields import ConfigError, check, setting
from maro_jax.run.inputs import EXAMPLE_GAME, check_model, check_output, check_player, is_run, parse_games

SCRIPTED = ("heuristic", "random")
OF_RUN = ("warm_start", "past")


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(ApiConfig):
    """A match of a policy and others, or scripted players: common deals, sides swapped.

    With --tasks it answers tasks of lm-evaluation-harness instead, and so do the weights that it began with.
    """

    policy: str = setting(
        "runs/werewolf-tiny",
        "who is measured: a run folder (its newest weights), a model folder or 'tiny'; against an API model also "
        "heuristic or random",
        group="players", positional=True,
    )  # fmt: skip
    opponent: str = setting(
        "warm_start",
        "whom it plays: warm_start or past (selves), heuristic, random, a run, a model folder or api:MODEL; "
        "of several (a,b,c) everybody plays everybody",
        group="players",
        example="heuristic",
    )
    temperature: float = setting(1.0, "sampling temperature of the policy", group="players", positive=True)
    opponent_temperature: float = setting(1.0, "sampling temperature of the opponent", group="players", positive=True)
    games: str = setting(
        "", "the game, as name[:key=value,...]; empty: the run's", group="match",
        example=EXAMPLE_GAME,
    )  # fmt: skip
    num_games: int = setting(2048, "games; half of them with the sides swapped on the same deals", group="match", low=4)
    lanes: int = setting(128, "games played side by side", group="match", low=1)
    cpu_devices: int = setting(
        0, "virtual devices on a CPU; 0: as many as cores, if the games divide by them",
        group="match", low=0,
    )  # fmt: skip
    tasks: str = setting(
        "", "tasks or groups of lm-evaluation-harness instead of a match (docs/evaluation.md)",
        group="tasks", example="gsm8k,ifeval,theory_of_mind",
    )  # fmt: skip
    base: str = setting(
        "", "with whom --policy is compared: a run or a model folder; empty: the model that the run began with",
        group="tasks", example="/models/Qwen2.5-0.5B-Instruct",
    )  # fmt: skip
    tasks_path: str = setting("", "folder with task files (YAML) of your own", group="tasks", example="my_tasks")
    tasks_data: str = setting(
        ".", "folder with local copies of data sets (DIR/openai/gsm8k) and what task files name by relative paths",
        group="tasks",
    )  # fmt: skip
    num_fewshot: int = setting(-1, "examples before each question; -1: as many as the task says", group="tasks", low=-1)
    limit: int = setting(0, "only the first so many items of each task; 0: all", group="tasks", low=0)
    batch_size: int = setting(8, "texts read or written at a time", group="tasks", low=1)
    max_length: int = setting(
        0, "most tokens of a text with its reply; 0: as many as the model takes", group="tasks", low=0
    )
    apply_chat_template: bool = setting(False, "ask in turns of a chat, as the model's template has it", group="tasks")
    gen_kwargs: str = setting(
        "", "settings of replies in place of the tasks' own, as name=value,name=value", group="tasks",
        example="max_gen_toks=1024,do_sample=true,temperature=0.6",
    )  # fmt: skip
    seed: int = setting(0, "root of all randomness", group="in general", low=0, high=2**31 - 1)
    json: str = setting("", "also write the result to this file", group="in general", example="match.json")

    def validate(self) -> None:
        """Checks everything that can be known without devices, game or weights.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        check(self)
        self._refuse_of_the_other("match" if self.tasks else "tasks")
        self.check_api(() if self.tasks else self.opponents, "opponent")
        check_player("policy", self.policy, SCRIPTED if self.plays_api else ())
        if self.json:
            check_output("json", self.json)
        if self.tasks:
            self._check_tasks()
        else:
            self._check_match()

    def _refuse_of_the_other(self, group: str) -> None:
        """Raises `ConfigError` for a setting of tasks in a match, or of a match where there are tasks."""
        for field in dataclasses.fields(self):
            others = (group, "players") if group == "match" else (group,)
            if field.name not in ("policy", "tasks") and field.metadata["group"] in others:
                value: Any = getattr(self, field.name)
                if value != field.default:
                    what = "a match and --tasks asks for none" if group == "match" else "--tasks, which is not given"
                    raise ConfigError(f"--{field.name}={value} is of {what}; leave it out")

    def _check_tasks(self) -> None:
        """Checks names, folders and models of `--tasks`."""
        if not all(self.task_names) or len(set(self.task_names)) < len(self.task_names):
            raise ConfigError(f"--tasks={self.tasks} must name tasks once each, for example --tasks=gsm8k,ifeval")
        for name, folder in (("tasks_path", self.tasks_path), ("tasks_data", self.tasks_data)):
            if folder and not Path(folder).expanduser().is_dir():
                raise ConfigError(f"--{name}={folder} is not a folder; name the one with the files")
        if self.base:
            check_player("base", self.base, ())
        for player in filter(None, (self.policy, self.base or self.began_as(self.policy))):
            model = self.began_as(player) or player
            if model == "tiny":
                raise ConfigError(
                    f"{player} has the tiny model's vocabulary, the words of the games and single ASCII characters, "
                    "and would read a question mark for any other; tasks outside of the games need a model such as "
                    "--model=/models/Qwen2.5-0.5B-Instruct when training"
                )
            check_model(model, "--model" if is_run(player) else "--base" if player == self.base else "--policy")

    def _check_match(self) -> None:
        """Checks games, players and their number."""
        if self.games:
            parse_games(self.games)
        for name in self.opponents:
            if not is_api(name):
                check_player("opponent", name, (*OF_RUN, *SCRIPTED))
        if self.plays_api:
            self._check_api_match()
        if len(set(self.opponents)) < len(self.opponents):
            raise ConfigError(f"--opponent={self.opponent} names somebody twice; name each once, for example "
                              "--opponent=warm_start,heuristic")  # fmt: skip
        for name in set(OF_RUN) & set(self.opponents):
            if not is_run(self.policy):
                raise ConfigError(
                    f"--opponent={name} is that of a run, and --policy={self.policy} is none; name another opponent, "
                    "for example --opponent=heuristic"
                )
        if set(self.opponents) <= set(SCRIPTED) and self.opponent_temperature != 1:
            raise ConfigError(
                f"--opponent_temperature={self.opponent_temperature} means nothing to --opponent={self.opponent}, who "
                "samples no tokens; leave it out"
            )
        if self.num_games % 2:
            raise ConfigError(
                f"--num_games={self.num_games} is odd: each deal is played twice, sides swapped, "
                f"for example --num_games={self.num_games + 1}"
            )
        if self.cpu_devices:
            self.mesh_shape(self.cpu_devices)

    def _check_api_match(self) -> None:
        """Checks what is different where every move of one player is paid for."""
        if len(self.opponents) > 1:
            raise ConfigError(f"--opponent={self.opponent} are several players, and a model behind an API plays one "
                              "at a time; name it alone, for example --opponent=api:my-model")  # fmt: skip
        if self.num_games == type(self).num_games:
            raise ConfigError(
                f"--num_games={self.num_games} is the default among players on this machine, and a model behind an API "
                "is asked for every move; name a number, for example --num_games=32"
            )
        if self.policy in SCRIPTED and not self.games:
            raise ConfigError(f"--policy={self.policy} is of no run, so that --games must name the game, for example "
                              f"--games={EXAMPLE_GAME}")  # fmt: skip
        if self.policy in SCRIPTED and self.temperature != 1:
            raise ConfigError(f"--temperature={self.temperature} means nothing to --policy={self.policy}, who samples "
                              "no tokens; leave it out")  # fmt: skip
        if self.cpu_devices > 1:
            raise ConfigError(f"--cpu_devices={self.cpu_devices} is for games that this machine leads alone; against a "
                              "model behind an API leave it out")  # fmt: skip

    @property
    def plays_api(self) -> bool:
        """Whether an opponent is a model behind an API."""
        return not self.tasks and any(is_api(name) for name in self.opponents)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Those of `--tasks`, as they were given."""
        return tuple(name.strip() for name in self.tasks.split(","))

    @staticmethod
    def began_as(player: str) -> str:
        """The model that a run began with; empty for a player that is no run."""
        recorded = recorded_config(Path(player).expanduser()) if is_run(player) else None
        return recorded.get("model", "tiny") if recorded else ""

    @property
    def opponents(self) -> tuple[str, ...]:
        """Their names, as they were given."""
        return tuple(name.strip() for name in self.opponent.split(","))

    @property
    def strangers(self) -> tuple[str, ...]:
        """Opponents that are runs or models of their own."""
        return tuple(name for name in self.opponents if name not in (*OF_RUN, *SCRIPTED) and not is_api(name))

    @property
    def plays_everybody(self) -> bool:
        """Whether there are more than two players (how many past selves a run has is not known here)."""
        return len(self.opponents) > 1 or "past" in self.opponents

    def mesh_shape(self, num_devices: int) -> tuple[int, int, int]:
        """Sizes of the axes `('data', 'fsdp', 'tensor')` on `num_devices` devices: lanes and games are split over all.

        Raises:
          ConfigError: lanes or games do not divide by the devices.
        """
        if self.lanes % num_devices or self.num_games % num_devices:
            raise ConfigError(
                f"--lanes={self.lanes} and --num_games={self.num_games} do not both divide by {num_devices} devices, "
                f"for example --lanes={round_up(self.lanes, num_devices)} "
                f"--num_games={round_up(self.num_games, math.lcm(2, num_devices))}"
            )
        return num_devices, 1, 1

    def num_cpu_devices(self, num_cores: int | None = None) -> int:
        """Virtual devices to use on a CPU: those asked for, else the most that fit and divide."""
        if self.cpu_devices:
            return self.cpu_devices
        cores = num_cores or available_cores()
        common = math.gcd(self.lanes, self.num_games)
        return max(n for n in range(1, cores + 1) if common % n == 0)
