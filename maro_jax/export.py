"""A run's weights as a Hugging Face folder: `python -m maro_jax.export runs/werewolf-tiny --out=models/werewolf`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from maro_jax.run import exit_codes
from maro_jax.run.export_config import ExportConfig
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import run_cli

if TYPE_CHECKING:
    from maro_jax.policy.decoder import Params, Policy


def export(config: ExportConfig) -> tuple[Path, int]:
    """Writes a run's newest weights; the run may go on meanwhile.

    Args:
      config: which run, and where to.

    Returns:
      The folder written, and how many iterations the run had finished.

    Raises:
      ConfigError: if the run or its model cannot be used, in one sentence; then nothing was written.
    """
    config.validate()
    import jax

    from maro_jax.policy.config import ModelError
    from maro_jax.policy.hf_folder import load_model
    from maro_jax.policy.hf_writer import GIB, save_adapter, save_model
    from maro_jax.policy.lora import Adapted, lora_of
    from maro_jax.policy.models import newest_params, open_policy

    out, began_as = Path(config.out).expanduser().resolve(), Path(config.began_as).expanduser()
    tiny = config.began_as == "tiny"
    try:
        policy, tokenizer = open_policy("tiny" if tiny else str(began_as))
        policy = dataclasses.replace(policy, lora=lora_of(config.settings))
        params, iterations = newest_params(config.run, policy, jax.devices("cpu")[0])
        if config.adapter:
            save_adapter(out, policy, params, began_as, dtype=config.dtype)
            return out, iterations
        if policy.lora:
            params = policy.merged(Adapted(load_model(began_as)[1], params))
        if tiny:
            policy, params = _as_llama(policy, params)
        save_model(
            out, policy, params, tokenizer,
            dtype=config.dtype,
            max_shard_bytes=int(config.max_shard_gib * GIB),
            began_as=None if tiny else began_as,
        )  # fmt: skip
    except ModelError as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"--out={config.out} cannot be written ({error.strerror}); name another folder") from None
    return out, iterations


def _as_llama(policy: Policy, params: Params) -> tuple[Policy, Params]:
    """The same function as a Llama, with one more bias, which is zero.

    transformers rebuilds the tokenizer of any Qwen2 folder as that of Qwen2, whatever its tokenizer.json says.
    """
    import jax.numpy as jnp

    config = dataclasses.replace(policy.config, family="llama", output_bias=True)
    bias = {"bias": jnp.zeros(config.hidden_size)}
    layers = {layer: block | {"output": block["output"] | bias} for layer, block in params["layers"].items()}
    return dataclasses.replace(policy, config=config), params | {"layers": layers}


def _main(config: ExportConfig) -> int:
    os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX starts: a run may go on on the accelerator
    out, iterations = export(config)
    files = sorted(path.name for path in out.glob("*.safetensors"))
    print(f"{config.run} after iteration {iterations}, {config.dtype}, in {len(files)} safetensors file(s)")
    if config.began_as == "tiny":
        print("the tiny model knows the games' words and single characters only, and has no chat template")
    print(out)
    return exit_codes.DONE


def main_cli() -> None:
    """Console entry point."""
    run_cli(ExportConfig, _main)


if __name__ == "__main__":
    main_cli()
