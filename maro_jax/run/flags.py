"""From a command line to a configuration, before any framework is loaded.

A command is `run_cli(TrainConfig, main)`, where `main` takes the configuration and returns an exit
code. Flags are absl's (`--name=value`, `--name value`, `--noname`, `--flagfile=FILE`) in a set of
their own; a mistake is answered with one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from absl import flags

from maro_jax.run import exit_codes
from maro_jax.run.config import TrainConfig, make_config
from maro_jax.run.data_config import CheckConfig, ImportConfig, ScriptedConfig
from maro_jax.run.evaluate_config import EvaluateConfig
from maro_jax.run.export_config import ExportConfig
from maro_jax.run.fields import ConfigError, check_choice, describe, nearest
from maro_jax.run.play_config import PlayConfig
from maro_jax.run.pnlc_config import CollectConfig, CriticConfig
from maro_jax.run.pnlc_evaluate_config import PnlcEvaluateConfig
from maro_jax.run.presets import PRESETS
from maro_jax.run.replay_config import ReplayConfig
from maro_jax.run.storage import NotWrittenError

Config = TypeVar(
    "Config", TrainConfig, EvaluateConfig, ReplayConfig, ExportConfig, PlayConfig, CheckConfig, ImportConfig,
    ScriptedConfig, CollectConfig, CriticConfig, PnlcEvaluateConfig,
)  # fmt: skip

Command = tuple[type, Callable[[Any], int]]  # a configuration, and what takes it

_EXAMPLES: Mapping[type, tuple[str, ...]] = {
    TrainConfig: (
        "python -m maro_jax.train",
        "python -m maro_jax.train --run_dir=runs/seed-1 --seed=1 --utility=reinforce",
        "python -m maro_jax.train --model=/models/Qwen2.5-0.5B-Instruct --episodes=64 --lanes=16",
    ),
    EvaluateConfig: (
        "python -m maro_jax.evaluate runs/werewolf-tiny",
        "python -m maro_jax.evaluate runs/a --opponent=runs/b --num_games=4096",
        "python -m maro_jax.evaluate --opponent=heuristic --json=match.json",
        "python -m maro_jax.evaluate runs/a --opponent=api:my-model --api_base=http://localhost:8000/v1 --num_games=32",
        "python -m maro_jax.evaluate runs/qwen --tasks=gsm8k,ifeval --limit=100 --json=transfer.json",
    ),
    ReplayConfig: (
        "python -m maro_jax.replay runs/werewolf-tiny",
        "python -m maro_jax.replay runs/werewolf-tiny --output=games.html",
    ),
    ExportConfig: (
        "python -m maro_jax.export runs/werewolf-tiny --out=models/werewolf",
        "python -m maro_jax.export runs/qwen --out=models/qwen-werewolf --dtype=bfloat16",
    ),
    PlayConfig: (
        "python -m maro_jax.play --game=werewolf-v0:num_seats=6",
        "python -m maro_jax.play --game=avalon-v0:num_seats=5 --seat=2 --seed=7",
        "python -m maro_jax.play --others=runs/werewolf-tiny --output=mine.html",
    ),
    CheckConfig: (
        "python -m maro_jax.data check runs/werewolf-tiny/episodes",
        "python -m maro_jax.data check data/expert --model=/models/Qwen2.5-0.5B-Instruct",
    ),
    ImportConfig: ("python -m maro_jax.data import games.jsonl --game=shopping-v0 --out=data/expert",),
    ScriptedConfig: (
        "python -m maro_jax.data scripted --game=shopping-v0 --episodes=2500 --out=data/scripted",
        "python -m maro_jax.data scripted --game=avalon-v0:num_seats=5 --players=either --out=data/avalon",
    ),
    CollectConfig: (
        "python -m maro_jax.pnlc collect --out=data/persuasion",
        "python -m maro_jax.pnlc collect --game=avalon-v0:thought_tokens=12 --player=runs/avalon --opponent=heuristic "
        "--out=data/avalon",
    ),
    CriticConfig: (
        "python -m maro_jax.pnlc train data/persuasion --out=critics/persuasion",
        "python -m maro_jax.pnlc train data/avalon --embedder=sentence:/models/all-MiniLM-L6-v2 --medoids=64 "
        "--out=critics/avalon",
    ),
    PnlcEvaluateConfig: (
        "python -m maro_jax.pnlc evaluate --actor=random --critic=critics/persuasion --agents=plain,random,rerank",
        "python -m maro_jax.pnlc evaluate --actor=runs/avalon --critic=critics/avalon --sides=evil --num_games=1536",
        "python -m maro_jax.pnlc evaluate --actor=api:my-model --critic=critics/avalon --agents=react,refine "
        "--api_base=http://localhost:8000/v1 --num_games=16 --timed_decisions=0",
    ),
}
_SUBCOMMANDS: Mapping[type, str] = {
    CheckConfig: " check", ImportConfig: " import", ScriptedConfig: " scripted", CollectConfig: " collect",
    CriticConfig: " train", PnlcEvaluateConfig: " evaluate",
}  # fmt: skip


def from_args(config_class: type[Config], argv: Sequence[str] | None = None) -> Config:
    """Reads a command line into a validated configuration.

    Prints the help and exits with 0 if it is asked for; prints one sentence and exits with 2 if
    the command line is wrong.

    Args:
      config_class: which command.
      argv: arguments without the program's name; default: those of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(arguments):
            print(help_text(config_class, _wanted_preset(arguments)))
            raise SystemExit(exit_codes.DONE)
        return parse(config_class, arguments)
    except ConfigError as error:
        _refuse(error)


def parse(config_class: type[Config], arguments: Sequence[str]) -> Config:
    """Reads arguments into a validated configuration and leaves the answer to a mistake to the caller.

    Raises:
      ConfigError: one sentence on what is wrong.
    """
    values = _define_flags(config_class)
    names = list(values)
    try:
        rest = values(["maro", *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        name = error.flagname.lstrip("-")
        raise ConfigError(f"there is no flag --{name}{nearest(name, names, '--')}; --help lists them all") from None
    except flags.IllegalFlagValueError as error:
        raise ConfigError(_sentence(str(error))) from None
    except flags.Error as error:
        raise ConfigError(str(error).removeprefix("ERROR:: ")) from None
    given: dict[str, Any] = {name: values[name].value for name in names if values[name].value is not None}
    positional = _positional(config_class)
    if len(rest) > len(positional):
        raise ConfigError(_unexpected(rest[len(positional)], names))
    for name, value in zip(positional, rest, strict=False):
        if "=" in value and (value.partition("=")[0] in names or not Path(value).exists()):
            raise ConfigError(_unexpected(value, names))
        if name in given:
            raise ConfigError(f"unexpected argument {value}, since --{name}={given[name]} is given; name one of them")
        given[name] = value
    config: Any
    if config_class is TrainConfig:
        config = make_config(given.pop("preset", TrainConfig.preset), given)
    else:
        config = config_class(**given)
        config.validate()
    return config


def run_cli(
    config_class: type[Config],
    main: Callable[[Config], int],
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Runs a command: flags, then `main(config)`, then exits with the code it returns.

    A `ConfigError` from `main` (a run directory of another configuration, say) ends like a wrong
    flag: one sentence, exit code 2. A `NotWrittenError` (a full disk, say) is said as shortly: exit code 74.
    """
    config = from_args(config_class, argv)
    try:
        code = main(config)
    except ConfigError as error:
        _refuse(error)
    except NotWrittenError as error:
        print(f"error: {error}", file=sys.stderr)
        code = exit_codes.STORAGE
    raise SystemExit(code)


def run_commands(help: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None) -> NoReturn:
    """Runs one of several commands by its name, the first argument; see `run_cli`.

    Args:
      help: what is printed where no command is named.
      commands: of each name the configuration and what takes it.
      argv: arguments without the program's name; default: those of this process.
    """
    name, *arguments = list(sys.argv[1:] if argv is None else argv) or [""]
    if name in ("", "--help", "-h", "--helpfull", "--helpshort"):
        print(help)
        raise SystemExit(exit_codes.DONE if name else exit_codes.USAGE)
    if name in commands:
        run_cli(*commands[name], arguments)
    _refuse(ConfigError(f"there is no command {name}{nearest(name, commands)}; there are: {', '.join(commands)}"))


def help_text(config_class: type[Config], preset: str | None = None) -> str:
    """The help page: fields by group, with type, default and, for a preset, its values."""
    values = {field.name: field.default for field in dataclasses.fields(config_class)}
    if config_class is TrainConfig and preset:
        values |= {"preset": preset, **PRESETS[preset]}
    module = _EXAMPLES[config_class][0].split()[2]
    operands = "".join(f" {name.upper()}" for name in _positional(config_class))
    subcommand = _SUBCOMMANDS.get(config_class, "")
    lines = [f"Usage: python -m {module}{subcommand}{operands} [--name=value ...]", ""]
    lines += [(config_class.__doc__ or "").strip(), "", "Examples:"]
    lines += [f"  {example}" for example in _EXAMPLES[config_class]]
    if config_class is TrainConfig:
        lines += [
            "",
            f"Defaults are those of --preset={values['preset']}; presets: {', '.join(PRESETS)}.",
        ]
    group = None
    for field in sorted(dataclasses.fields(config_class), key=lambda field: field.name in _inherited(config_class)):
        if field.metadata["group"] != group:
            group = field.metadata["group"]
            lines += ["", f"{group[0].upper()}{group[1:]}"]
        shown = str(values[field.name]).lower() if field.type == "bool" else str(values[field.name])
        name = f"--{field.name}={shown}"
        if field.metadata["positional"]:
            name = f"[--{field.name}=]{shown or field.name.upper()}"
        allowed = "|".join(field.metadata["choices"])
        text = field.metadata["help"] + (f" ({allowed})" if allowed else "")
        wrapped = textwrap.wrap(text, width=100, initial_indent=" " * 36, subsequent_indent=" " * 36)
        if len(name) < 34:
            wrapped[0] = f"  {name:<34}" + wrapped[0].lstrip()
        else:
            lines.append(f"  {name}")
        lines += wrapped
    return "\n".join(lines)


class _Parser(flags.ArgumentParser):
    """Turns a flag's text into its field's type; absl adds the flag's name to the message."""

    def __init__(self, field: dataclasses.Field[Any]):
        super().__init__()
        self._field = field
        self.syntactic_help = describe(field)

    def parse(self, argument: Any) -> Any:
        kind: Callable[[Any], Any] = type(self._field.default)
        try:
            return kind(argument)
        except ValueError:
            raise ConfigError(
                f"--{self._field.name}={argument} is not allowed: it must be "
                f"{describe(self._field)}, for example --{self._field.name}="
                f"{self._field.metadata['example']}"
            ) from None


def _define_flags(config_class: type[Config]) -> flags.FlagValues:
    """A set of flags with one for each field; a flag that is not given is None."""
    values = flags.FlagValues()
    for field in dataclasses.fields(config_class):
        text = field.metadata["help"]
        if type(field.default) is bool:
            flags.DEFINE_boolean(field.name, None, text, flag_values=values)
        else:
            flags.DEFINE(_Parser(field), field.name, None, text, flag_values=values)
    return values


def _wanted_preset(arguments: Sequence[str]) -> str | None:
    """The preset named beside `--help`, so that the page can show its values."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "preset":
            preset = value if equals else following
            check_choice("preset", preset, PRESETS)
            return preset
    return None


def _unexpected(argument: str, names: Sequence[str]) -> str:
    name, equals, _ = argument.partition("=")
    if equals and name in names:
        return f"unexpected argument {argument}; did you mean --{argument}?"
    if equals:
        hint = nearest(name, names, "--")
        return f"unexpected argument {argument}; flags have the form --name=value{hint}"
    return f"unexpected argument {argument}; flags have the form --name=value (--help lists them)"


def _sentence(message: str) -> str:
    """From absl's `flag --name=value: reason` to our sentence.

    `_Parser` gives a whole sentence as the reason; only absl's own Boolean flags do not.
    """
    prefix, _, reason = message.partition(": ")
    if reason.startswith("--"):
        return reason
    setting, _, _ = prefix.removeprefix("flag ").partition("=")
    return f"{prefix.removeprefix('flag ')} is not allowed: it must be true or false, for example {setting}=true"


def _inherited(config_class: type) -> set[str]:
    """Names of the fields that a configuration shares with others: the help lists them last."""
    return {field.name for base in config_class.__bases__ if dataclasses.is_dataclass(base)
            for field in dataclasses.fields(base)}  # fmt: skip


def _positional(config_class: type) -> list[str]:
    return [f.name for f in dataclasses.fields(config_class) if f.metadata["positional"]]


def _refuse(error: ConfigError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(exit_codes.USAGE)
