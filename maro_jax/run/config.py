"""The configuration of training, and every check that needs no framework.

The fields are the documentation: `--help` prints them and `flags.py` makes a flag of each.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maro_jax.run.api_config import check_address
from maro_jax.run.device_config import DeviceConfig
from maro_jax.run.fields import ConfigError, check, check_choice, nearest, setting
from maro_jax.run.inputs import EXAMPLE_GAME, check_model, check_processes, check_targets, parse_games
from maro_jax.run.presets import FOR_PODS, PRESETS
from maro_jax.run.warm_start_config import WarmStartConfig

MEETING_PAST_SELVES = ("past", "league")  # values of --opponents
FORKING = ("fork", "fork_dr")  # values of --decompose
BY_VALUE = ("value", "pnlc", "fork_dr")  # those told by what was to be expected
MATCHMAKING = ("pfsp", "uniform")
REFERENCES = ("iteration", "warm_start", "lagged")


@dataclasses.dataclass(frozen=True)
class TrainConfig(DeviceConfig, WarmStartConfig):
    """Everything that decides a training run; its run directory refuses any other."""

    preset: str = setting("werewolf-tiny", "named set of defaults; the flags you give override it", group="run")
    run_dir: str = setting(
        "", "folder of the run; empty: runs/<preset>. It resumes if it exists", group="run",
        example="runs/my-run",
    )  # fmt: skip
    seed: int = setting(0, "root of all randomness", group="run", low=0, high=2**31 - 1)
    model: str = setting(
        "tiny", "'tiny' (embedded) or a Hugging Face model folder", group="run",
        example="/models/Qwen2.5-0.5B-Instruct",
    )  # fmt: skip
    games: str = setting(
        EXAMPLE_GAME, "the game, as name[:key=value,...]; or several, one after the other, learnt together with equal "
        "weight", group="run", example="werewolf-v0:num_seats=6,avalon-v0,bargaining-v0",
    )  # fmt: skip

    iterations: int = setting(20, "rounds of playing, then learning", group="self-play", low=0)
    episodes: int = setting(512, "episodes an iteration, of each game", group="self-play", low=1)
    lanes: int = setting(
        128, "episodes played side by side, at most --episodes; 0: a quarter of them, or as many as a device holds",
        group="self-play", low=0,
    )  # fmt: skip
    capacity: int = setting(
        0, "tokens a seat can see and say after its role prefix; 0: the game's worst case",
        group="self-play", low=0, example="512",
    )  # fmt: skip
    overflow: str = setting(
        "refuse",
        "if the worst case exceeds the capacity: refuse to start, or truncate such episodes (untrained, counted)",
        group="self-play",
        choices=("refuse", "truncate"),
    )
    opponents: str = setting(
        "mix",
        "who holds a side in half of the games: warm start, heuristic players (scripted), either (mix), past selves, "
        "they or scripted (league), the learner (mirror)",
        group="self-play",
        choices=("mix", "warm_start", "scripted", "past", "league", "mirror"),
    )
    pool_size: int = setting(
        8, "past selves kept beside the warm start, for --opponents=past or league; the oldest goes first",
        group="self-play", low=1,
    )  # fmt: skip
    pool_every: int = setting(5, "iterations from one past self to the next", group="self-play", low=1)
    matchmaking: str = setting(
        "pfsp", "which past self an iteration meets: any alike (uniform), or rather those that win (pfsp)",
        group="self-play", choices=MATCHMAKING,
    )  # fmt: skip
    deal_group: int = setting(
        1,
        "episodes that share a deal and its holders, for --baseline=deal; divides --episodes",
        group="self-play",
        low=1,
    )

    decompose: str = setting(
        "outcome",
        "credit of a behaviour: its seat's outcome (none: for the last alone; discounted: "
        "less early on), prospects moved (value), rules beside it, other replies (fork)",
        group="credit",
        choices=("none", "outcome", "discounted", "value", "pnlc", "rules", *FORKING),
    )
    critic: str = setting(
        "", "for --decompose=pnlc, which is value with prospects told by a critic: its folder (docs/pnlc.md)",
        group="credit", example="critics/werewolf",
    )  # fmt: skip
    discount: float = setting(
        0.9, "factor a behaviour for --decompose=discounted", group="credit",
        positive=True, high=1,
    )  # fmt: skip
    critic_embedder: str = setting(
        "", "the embedder that the critic was trained with, if it is elsewhere now; empty: where it was then",
        group="credit", example="policy:runs/persuasion",
    )  # fmt: skip
    critic_api_base: str = setting(
        "", "address of the server of a critic's api:MODEL embedder; empty: where it was then", group="credit",
        example="http://localhost:8000/v1",
    )  # fmt: skip
    value_decay: float = setting(
        0.95, "lambda of --decompose=value, pnlc, fork_dr: 1 is the outcome less what was expected, 0 its next change",
        group="credit", low=0, high=1,
    )  # fmt: skip
    rules_weight: float = setting(
        0.5, "what the game's rules of thumb count beside the outcome, for --decompose=rules", group="credit",
        positive=True,
    )  # fmt: skip
    fork_behaviours: int = setting(
        256, "behaviours an iteration, of each game, for which --decompose=fork and fork_dr try other replies",
        group="credit", low=1,
    )  # fmt: skip
    fork_pairs: int = setting(
        1, "other replies tried of each; a pair plays the game on twice from there, with the reply and with another",
        group="credit", low=1,
    )  # fmt: skip
    baseline: str = setting(
        "role",
        "mean return taken off: none, that of the role, of the role and phase (cell), or of the seat over the "
        "--deal_group episodes of its deal (deal, as GRPO)",
        group="credit",
        choices=("none", "role", "cell", "deal"),
    )
    balance: str = setting(
        "role_label",
        "weights that even out roles, roles and outcome labels, or how far results of a deal spread (deal, as GRPO)",
        group="credit",
        choices=("none", "role", "role_label", "deal"),
    )
    utility: str = setting(
        "kto", "objective for one behaviour without a pair; dro suits several --epochs, clone learns from good ones",
        group="credit", choices=("kto", "dro", "reinforce", "ppo", "clone"),
    )  # fmt: skip
    beta: float = setting(
        0.1, "KTO's inverse temperature; for dro the advantage that is worth a nat", group="credit", positive=True
    )
    reference_point: str = setting(
        "token_kl", "KTO's reference point, the KL from its reference: exact (token_kl), estimated without a second "
        "forward pass (sampled_kl), or zero",
        group="credit", choices=("token_kl", "sampled_kl", "zero"),
    )  # fmt: skip
    reference: str = setting(
        "iteration", "what KTO measures a behaviour's change from: the weights that an iteration begins with, the warm "
        "start, or weights that follow at --magnet_rate (lagged)",
        group="credit", choices=REFERENCES,
    )  # fmt: skip
    clip: float = setting(
        0.2, "PPO's: how far a probability ratio may leave 1", group="credit", positive=True, high=0.99
    )
    shuffle_outcomes: bool = setting(
        False, "control experiment: permute the outcomes over the episodes; nothing may be learnt",
        group="credit",
    )  # fmt: skip

    minibatches: int = setting(4, "optimizer steps an epoch", group="learning", low=1)
    epochs: int = setting(1, "passes over an iteration's episodes", group="learning", low=1)
    optimizer: str = setting(
        "muon", "of the warm start too; muon: matrices of the layers by Muon, the rest by Adam at half the rate",
        group="learning", choices=("muon", "adam"),
    )  # fmt: skip
    learning_rate: float = setting(1.5e-3, "of the optimizer, at first", group="learning", positive=True)
    learning_rate_final: float = setting(
        0.1, "fraction of it left at the end of a linear decay", group="learning", low=0, high=1
    )
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm", group="learning", positive=True)
    entropy: float = setting(0.0, "weight of the entropy bonus", group="learning", low=0)
    magnet: float = setting(
        0.0, "weight of the KL to the magnet, weights that begin as the warm start and follow the learner's slowly",
        group="learning", low=0,
    )  # fmt: skip
    magnet_rate: float = setting(
        0.05, "part of the way that the magnet, or a lagged --reference, follows in an iteration; 0: it stays the warm "
        "start",
        group="learning", low=0, high=1,
    )  # fmt: skip
    lora_rank: int = setting(
        0, "train a LoRA adapter of this rank (8, for example) and leave the model's own weights frozen; 0: train them",
        group="learning", low=0,
    )  # fmt: skip
    lora_alpha: float = setting(
        32.0, "the adapter's product is multiplied by this over its rank", group="learning", positive=True
    )
    lora_targets: str = setting(
        ".*", "regular expression for the matrices it changes: query, key, value, output, gate, up, down",
        group="learning", example="'query|value'",
    )  # fmt: skip
    max_spike: float = setting(
        6.0, "skip a step whose gradient norm is so many standard deviations above the mean of the last 128; 0: none",
        group="learning", low=0,
    )  # fmt: skip
    max_bad_steps: int = setting(
        8, "stop (exit code 3) after so many steps in a row that are not finite",
        group="learning", low=1,
    )  # fmt: skip

    eval_every: int = setting(
        5, "iterations between matches against the warm start; 0: none", group="evaluation", low=0
    )
    eval_games: int = setting(512, "games of each such match", group="evaluation", low=4)
    final_games: int = setting(
        2048, "games of the last match against the warm start; others: half", group="evaluation", low=8
    )
    temperature: float = setting(
        1.0, "sampling temperature in matches (training samples at 1)", group="evaluation",
        positive=True,
    )  # fmt: skip

    save_every_minutes: float = setting(
        5.0, "minutes between checkpoints; also saved when stopped and at the end",
        group="checkpoints", low=0,
    )  # fmt: skip
    save_every: int = setting(
        0, "iterations between checkpoints, whatever the time; 0: by time alone", group="checkpoints", low=0
    )
    keep_checkpoints: int = setting(2, "newest checkpoints kept", group="checkpoints", low=1)

    record_episodes: int = setting(
        0, "episodes of each iteration and game kept in the run's folder, as a dataset (docs/data.md); 0: none",
        group="episodes on disk", low=0, example="64",
    )  # fmt: skip

    def validate(self) -> None:
        """Checks everything that can be known without devices, game or weights.

        Raises:
          ConfigError: one sentence naming the flag, what is allowed, and an example.
        """
        check_choice("preset", self.preset, PRESETS)
        check(self)
        parse_games(self.games)
        check_model(self.model)
        if self.preset.startswith(FOR_PODS) and self.model == "tiny":
            raise ConfigError(
                f"--preset={self.preset} is for a Hugging Face model; name its folder, for example "
                "--model=/models/Qwen2.5-0.5B-Instruct"
            )
        self._check_credit()
        self._check_unused()
        self._check_adapter()
        check_processes(self.distributed, self.coordinator, self.num_processes, self.process_id, self.cpu_devices)
        self.check_warm_start(self.games, self.model)
        if not self.iterations and not self.warm_iterations:
            raise ConfigError(
                "--iterations=0 with --warm_start_games=0 leaves nothing to do, for example --iterations=16"
            )
        if self.record_episodes > self.episodes:
            raise ConfigError(
                f"--record_episodes={self.record_episodes} exceeds --episodes={self.episodes}, which an iteration "
                f"plays, for example --record_episodes={self.episodes}"
            )
        if self.lanes > self.episodes:
            raise ConfigError(
                f"--lanes={self.lanes} exceeds --episodes={self.episodes}: a lane plays at least "
                f"one episode, for example --lanes={self.episodes}"
            )
        if self.episodes % self.minibatches:
            raise ConfigError(
                f"--episodes={self.episodes} does not divide into --minibatches="
                f"{self.minibatches}, for example --episodes="
                f"{round_up(self.episodes, self.minibatches)}"
            )
        if self.data:
            self._check_divides(self.data * self.fsdp * self.tensor)
        if self.cpu_devices:
            self.mesh_shape(self.cpu_devices)

    @property
    def meets_past_selves(self) -> bool:
        """Whether the frozen opponent is drawn from a pool of past selves."""
        return self.opponents in MEETING_PAST_SELVES

    @property
    def keeps_magnet(self) -> bool:
        """Whether there are weights that follow the learner's slowly."""
        return self.magnet > 0 or (self.utility == "kto" and self.reference == "lagged")

    @property
    def judges_by_value(self) -> bool:
        """Whether behaviours are credited by a value function."""
        return self.decompose in BY_VALUE

    @property
    def forks(self) -> bool:
        """Whether other replies are tried for some behaviours."""
        return self.decompose in FORKING

    @property
    def warm_iterations(self) -> int:
        """Iterations of cloning before self-play."""
        return 0 if self.warm_start_from else math.ceil(self.warm_start_games / self.episodes)

    def mesh_shape(self, num_devices: int) -> tuple[int, int, int]:
        """Sizes of the axes `('data', 'fsdp', 'tensor')` on `num_devices` devices.

        Lanes and episodes are split over all devices: while playing, each has a whole copy of the parameters.

        Raises:
          ConfigError: the sizes do not multiply to the devices, or do not divide the batch.
        """
        inner = self.fsdp * self.tensor
        data = self.data or num_devices // inner
        if data * inner != num_devices:
            raise ConfigError(
                f"the mesh --data={self.data} --fsdp={self.fsdp} --tensor={self.tensor} does not "
                f"fit {num_devices} devices: the sizes must multiply to their number, for example "
                f"--data={num_devices} --fsdp=1 --tensor=1"
            )
        self._check_divides(num_devices)
        return data, self.fsdp, self.tensor

    def num_cpu_devices(self, num_cores: int | None = None) -> int:
        """Virtual devices of this process on a CPU: its share of those asked for, else the most that fit and divide.

        Args:
          num_cores: cores of the machine; default: those this process may use.
        """
        processes = max(1, self.num_processes)
        if self.cpu_devices:
            return self.cpu_devices // processes
        if self.data:
            return max(1, self.data * self.fsdp * self.tensor // processes)
        cores = (num_cores or available_cores()) * processes
        inner = self.fsdp * self.tensor
        common = math.gcd(self.lanes, self.episodes // self.minibatches)
        fitting = [n * inner for n in range(1, cores // inner + 1) if common % (n * inner) == 0]
        return max(1, max((n for n in fitting if n % processes == 0), default=inner) // processes)

    def resolved_run_dir(self) -> Path:
        """The run's folder as an absolute path."""
        return Path(self.run_dir or f"runs/{self.preset}").expanduser().resolve()

    def _check_unused(self) -> None:
        """Settings that mean nothing beside the others."""
        no_pool = "" if self.meets_past_selves else f"with --opponents={self.opponents}, which meets no past self"
        no_magnet = "" if self.keeps_magnet else "without a magnet"
        no_kto, no_beta, no_clip = (
            "" if self.utility in those else f"with --utility={self.utility}"
            for those in (("kto",), ("kto", "dro"), ("ppo",))
        )
        no_discount = "" if self.decompose == "discounted" else f"with --decompose={self.decompose}"
        no_adapter = "" if self.lora_rank else "without an adapter"
        no_rules = "" if self.decompose == "rules" else f"with --decompose={self.decompose}"
        no_value = "" if self.judges_by_value else f"with --decompose={self.decompose}"
        no_critic = "" if self.decompose == "pnlc" else f"with --decompose={self.decompose}"
        no_data = "" if self.warm_start_data else "without --warm_start_data"
        no_forks = "" if self.forks else f"with --decompose={self.decompose}"
        for name, reason, remedy in (
            ("pool_size", no_pool, "--opponents=league"),
            ("pool_every", no_pool, "--opponents=league"),
            ("matchmaking", no_pool, "--opponents=league"),
            ("magnet_rate", no_magnet, "--magnet=0.1"),
            ("reference", no_kto, "--utility=kto"),
            ("reference_point", no_kto, "--utility=kto"),
            ("beta", no_beta, "--utility=kto"),
            ("clip", no_clip, "--utility=ppo"),
            ("discount", no_discount, "--decompose=discounted"),
            ("value_decay", no_value, "--decompose=value"),
            ("fork_behaviours", no_forks, "--decompose=fork_dr"),
            ("fork_pairs", no_forks, "--decompose=fork_dr"),
            ("lora_alpha", no_adapter, "--lora_rank=8"),
            ("lora_targets", no_adapter, "--lora_rank=8"),
            ("rules_weight", no_rules, "--decompose=rules"),
            ("critic", no_critic, "--decompose=pnlc"),
            ("critic_embedder", no_critic, "--decompose=pnlc"),
            ("critic_api_base", no_critic, "--decompose=pnlc"),
            ("warm_start_holders", no_data, "--warm_start_data=FOLDER"),
        ):
            value = getattr(self, name)
            if reason and value not in (getattr(type(self), name), PRESETS[self.preset].get(name)):
                raise ConfigError(f"--{name}={value} means nothing {reason}; leave it out, or set {remedy}")

    def _check_adapter(self) -> None:
        """An adapter needs a trained model under it."""
        check_targets("--lora_targets", self.lora_targets)
        if self.lora_rank and (self.model == "tiny" or self.warm_start_from):
            began = f"--warm_start_from={self.warm_start_from}" if self.warm_start_from else "--model=tiny"
            raise ConfigError(
                f"--lora_rank={self.lora_rank} adapts the frozen weights of a --model folder, and {began} is none; a "
                "run becomes one by python -m maro_jax.export RUN --out=DIR"
            )

    def _check_credit(self) -> None:
        """Switches of credit that make no sense together."""
        if self.balance == "role_label" and self.baseline == "none":
            raise ConfigError(
                "--balance=role_label needs a baseline to tell good from bad for a role: set --baseline=role or cell, "
                "or --balance=none or role"
            )
        if self.balance == "deal" and self.baseline != "deal":
            raise ConfigError("--balance=deal divides by the spread of a deal's results: set --baseline=deal too")
        if self.utility == "kto" and self.reference != "iteration":
            self._check_reference()
        elif self.magnet and self.utility == "kto" and self.reference_point == "token_kl":
            raise ConfigError(
                f"--magnet={self.magnet} takes the second forward pass that --reference_point=token_kl measures its KL "
                "with; set --reference_point=sampled_kl, which needs none"
            )
        if self.utility == "dro" and self.epochs * self.minibatches == 1:
            raise ConfigError(
                "--utility=dro with one optimizer step an iteration is REINFORCE: set --epochs=4 or --utility=reinforce"
            )
        if self.baseline == "deal" and (self.deal_group < 2 or self.decompose not in ("none", "outcome")):
            raise ConfigError(
                "--baseline=deal holds whole outcomes of at least two episodes of a deal against each other, for "
                "example --deal_group=8 --decompose=outcome"
            )
        if self.shuffle_outcomes and (self.decompose == "rules" or self.forks):
            raise ConfigError(
                f"--shuffle_outcomes is the control in which nothing may be learnt, but --decompose={self.decompose} "
                "tells good from bad without them; set --decompose=outcome"
            )
        if self.decompose == "pnlc" and not Path(self.critic or "-").expanduser().is_dir():
            raise ConfigError(
                f"--decompose=pnlc needs the folder of a critic of the game, and --critic={self.critic} is none; "
                "python -m maro_jax.pnlc train makes one, for example --critic=critics/werewolf"
            )
        check_address(self.critic_api_base, "OPENAI_API_KEY", "--critic_api_base")
        if self.episodes % self.deal_group:
            raise ConfigError(
                f"--episodes={self.episodes} does not divide into deals of --deal_group={self.deal_group} episodes, "
                f"for example --episodes={round_up(self.episodes, self.deal_group)}"
            )

    def _check_reference(self) -> None:
        """What KTO's other references do not go with."""
        if self.reference_point == "sampled_kl":
            raise ConfigError(
                f"--reference_point=sampled_kl is an estimate from tokens that the reference itself has sampled; with "
                f"--reference={self.reference} set --reference_point=token_kl (or zero)"
            )
        if self.magnet:
            raise ConfigError(
                f"--magnet={self.magnet} takes the second forward pass that --reference={self.reference} needs; set "
                "--magnet=0 or --reference=iteration"
            )

    def _check_divides(self, shards: int) -> None:
        for name, value, what in (
            ("lanes", self.lanes, f"--lanes={self.lanes}"),
            (
                "episodes",
                self.episodes // self.minibatches,
                f"--episodes={self.episodes} in --minibatches={self.minibatches}",
            ),
        ):
            if value % shards:
                unit = shards * (self.minibatches if name == "episodes" else 1)
                raise ConfigError(
                    f"{what} does not divide by the {shards} devices that share a batch, for "
                    f"example --{name}={round_up(getattr(self, name), unit)}"
                )


def make_config(preset: str = "werewolf-tiny", overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """The preset's configuration with `overrides` on top, validated.

    Raises:
      ConfigError: for an unknown preset or field, or a value that is refused.
    """
    check_choice("preset", preset, PRESETS)
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    for name in overrides or {}:
        if name not in names:
            raise ConfigError(f"TrainConfig has no field {name}{nearest(name, names)}")
    config = TrainConfig(**{"preset": preset, **PRESETS[preset], **(overrides or {})})
    config.validate()
    return config


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def round_up(value: int, unit: int) -> int:
    """The least multiple of `unit` that is not below `value`."""
    return -(-value // unit) * unit


def warm_iterations_of(settings: Mapping[str, Any]) -> int:
    """Iterations of cloning in a run, from its recorded configuration; what an older run does not know is default."""
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    return TrainConfig(**{name: settings[name] for name in names if name in settings}).warm_iterations
