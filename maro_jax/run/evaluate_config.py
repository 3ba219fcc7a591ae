"""The configuration of `python -m maro_jax.evaluate`."""

from __future__ import annotations

import dataclasses
import math

from maro_jax.run.config import available_cores, round_up
from maro_jax.run.fields import ConfigError, check, setting
from maro_jax.run.inputs import EXAMPLE_GAME, check_output, check_player, is_run, parse_games

SCRIPTED = ("heuristic", "random")
OF_RUN = ("warm_start", "past")


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """A match of a policy and others, or scripted players: common deals, sides swapped."""

    policy: str = setting(
        "runs/werewolf-tiny",
        "who is measured: a run folder (its newest weights), a model folder or 'tiny'",
        group="players",
    )
    opponent: str = setting(
        "warm_start",
        "whom it plays: warm_start or past (selves) of the run, heuristic, random, a run or a model folder; of several "
        "(a,b,c) everybody plays everybody",
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
    seed: int = setting(0, "root of all randomness", group="match", low=0, high=2**31 - 1)
    lanes: int = setting(128, "games played side by side", group="match", low=1)
    json: str = setting("", "also write the result to this file", group="match", example="match.json")
    cpu_devices: int = setting(
        0, "virtual devices on a CPU; 0: as many as cores, if the games divide by them",
        group="devices", low=0,
    )  # fmt: skip

    def validate(self) -> None:
        """Checks everything that can be known without devices, game or weights.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        check(self)
        if self.games:
            parse_games(self.games)
        check_player("policy", self.policy, ())
        for name in self.opponents:
            check_player("opponent", name, (*OF_RUN, *SCRIPTED))
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
        if self.json:
            check_output("json", self.json)
        if self.num_games % 2:
            raise ConfigError(
                f"--num_games={self.num_games} is odd: each deal is played twice, sides swapped, "
                f"for example --num_games={self.num_games + 1}"
            )
        if self.cpu_devices:
            self.mesh_shape(self.cpu_devices)

    @property
    def opponents(self) -> tuple[str, ...]:
        """Their names, as they were given."""
        return tuple(name.strip() for name in self.opponent.split(","))

    @property
    def strangers(self) -> tuple[str, ...]:
        """Opponents that are runs or models of their own."""
        return tuple(name for name in self.opponents if name not in (*OF_RUN, *SCRIPTED))

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
