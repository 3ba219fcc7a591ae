"""The configuration of `python -m maro_jax.export`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from maro_jax.run.directory import recorded_config
from maro_jax.run.fields import ConfigError, check, setting
from maro_jax.run.inputs import check_model, check_new_folder, has_checkpoint, is_run


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """A run's newest weights as an ordinary Hugging Face folder, for transformers or another run.

    Beside the weights it holds the config, tokenizer, chat template and generation settings of the model that the run
    began with. The embedded tiny model has no such folder: it is written as a Llama with its closed vocabulary, which
    knows the words of the games and single characters.
    """

    run: str = setting("", "folder of the run", group="export", positional=True, example="runs/werewolf-tiny")
    out: str = setting("", "folder to write; it must not exist", group="export", example="models/werewolf")
    model: str = setting(
        "", "where the model that the run began with is now; empty: where it was then", group="export",
        example="/models/Qwen2.5-0.5B-Instruct",
    )  # fmt: skip
    dtype: str = setting(
        "float32", "of the weights: float32, exactly as trained, or bfloat16, rounded, half as large",
        group="export", choices=("float32", "bfloat16"),
    )  # fmt: skip
    adapter: bool = setting(
        False, "of a run with --lora_rank, write the adapter alone, as PEFT reads it, not the model it was merged into",
        group="export",
    )  # fmt: skip
    max_shard_gib: float = setting(
        5.0, "weights beyond so many GiB are split over several files", group="export", positive=True
    )

    def validate(self) -> None:
        """Checks that the run has weights, that its model is where it was and that nothing lies in the way.

        Raises:
          ConfigError: one sentence naming what is missing or in the way, and an example.
        """
        check(self)
        command = f"python -m maro_jax.export {self.run or 'runs/werewolf-tiny'} --out=models/werewolf"
        if not self.run or not self.out:
            missing = "--out, the folder to write" if self.run else "the run to export"
            raise ConfigError(f"name {missing}, for example: {command}")
        if not is_run(self.run):
            raise ConfigError(
                f"{self.run} is not the folder of a run; training makes one, for example runs/werewolf-tiny"
            )
        if not has_checkpoint(self.run):
            raise ConfigError(
                f"{self.run} is a run without a checkpoint so far; train on with the command that began it, for "
                f"example python -m maro_jax.train --run_dir={self.run}"
            )
        if self.adapter and not self.settings.get("lora_rank"):
            raise ConfigError(f"{self.run} was trained without --lora_rank and has no adapter; leave --adapter out")
        check_new_folder("out", self.out)
        check_model(self.began_as)

    @property
    def began_as(self) -> str:
        """The model that the run began with: `tiny` or a folder."""
        return self.model or self.settings.get("model", "tiny")

    @property
    def settings(self) -> dict[str, Any]:
        """What the run was trained with."""
        return recorded_config(Path(self.run).expanduser()) or {}
