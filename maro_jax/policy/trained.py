"""A player by name: a model, or what a run has made of one so far, with its newest weights whole on one device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from maro_jax.policy.decoder import Params, Policy
from maro_jax.policy.lora import Adapted, lora_of
from maro_jax.policy.models import load_policy, newest_params, usual_dtype
from maro_jax.policy.tokenizer import TextTokenizer
from maro_jax.run.config import TrainConfig
from maro_jax.run.directory import recorded_config
from maro_jax.run.inputs import is_run

UNTRAINED = -1  # iterations of a model that is of no run


@dataclasses.dataclass(frozen=True)
class Trained:
    """A policy with its weights.

    Attributes:
      policy: the model, without an adapter: a run's is merged into it.
      params: its parameters, as it computes with them.
      tokenizer: of the model.
      model: `tiny` or the Hugging Face folder whose tokenizer it is.
      iterations: that the run had finished, `UNTRAINED` without a run.
    """

    policy: Policy
    params: Params
    tokenizer: TextTokenizer
    model: str
    iterations: int


def open_trained(name: str) -> Trained:
    """Loads a player.

    Args:
      name: the folder of a run or of a model, or `tiny`, the embedded model with weights drawn from seed 0.

    Raises:
      ModelError: the folder cannot be used, or the run has no checkpoint.
      ConfigError: the run's folder is damaged, or its checkpoint is of another model.
    """
    recorded = recorded_config(Path(name).expanduser()) if is_run(name) else {"model": name}
    settings: dict[str, Any] = dataclasses.asdict(TrainConfig()) | (recorded or {})
    dtype = usual_dtype()
    model, lora = settings["model"], lora_of(settings)
    policy, params, tokenizer = load_policy(model, dtype=dtype, precision=settings["matmul_precision"])
    if params is None and (lora or not is_run(name)):
        params = jax.jit(policy.init)(jax.random.key(settings["seed"]))
    iterations = UNTRAINED
    if is_run(name):
        adapting = dataclasses.replace(policy, lora=lora)
        newest, iterations = newest_params(name, adapting, jax.devices()[0])
        params = adapting.merged(Adapted(policy.for_computing(params), newest)) if lora else newest
    return Trained(policy, policy.for_computing(params), tokenizer, model, iterations)
