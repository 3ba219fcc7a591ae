"""The benchmark of plain generation: all sides write the same tokens, and the floor counts what it should."""

import numpy as np

from maro_jax.league.floor import MachineRates
from maro_jax.policy.hf_folder import load_model
from tests.benchmarks.engine import floor_seconds, ours, row_of
from tests.benchmarks.peers import transformers_peer, tunix_peer
from tests.policy.hf_fixture import make_model_folder


def test_all_sides_write_the_same_tokens(tmp_path):
    model = make_model_folder(tmp_path, num_layers=1)
    policy, params, _ = load_model(tmp_path, precision="highest")
    prompts = np.random.default_rng(0).integers(0, policy.config.vocab_size, (3, 7))
    mine = ours(policy, params, prompts, 5)
    others = [peer for peer in (transformers_peer(model), tunix_peer(tmp_path, policy.config, 12)) if peer]
    assert mine.shape == (3, 5) and all(peer(prompts, 5).tolist() == mine.tolist() for peer in others)


def test_the_floor_is_the_work_over_the_rates(tmp_path):
    """Counted over the weights themselves: every kernel and the head, twice a token, and what attention reads."""
    make_model_folder(tmp_path, num_layers=2, tied=False)
    policy, params, _ = load_model(tmp_path)
    config, rows, prompt, new = policy.config, 3, 7, 4
    parts = [part for block in params["layers"].values() for part in block.values()]
    kernels = sum(part["kernel"].size for part in parts if "kernel" in part)
    others = policy.num_params() - 2 * params["head"].size - kernels  # norms and biases
    head, width = params["head"].size, config.num_heads * config.head_dim
    flops = 0
    for place in range(prompt + new - 1):
        flops += 2 * (kernels + others) + 4 * config.num_layers * width * (place + 1)
        flops += 2 * head * (place >= prompt - 1)
    quick_memory = MachineRates(gflops=1e-9, gigabytes=1e9)
    np.testing.assert_allclose(floor_seconds(config, quick_memory, rows, prompt, new), rows * flops, rtol=1e-6)
    quick_products = MachineRates(gflops=1e9, gigabytes=1e-9)
    entry = 2 * 4 * config.num_layers * config.num_kv_heads * config.head_dim
    read = sum(4 * (kernels + others + head) + rows * entry * length for length in range(prompt + 1, prompt + new))
    np.testing.assert_allclose(floor_seconds(config, quick_products, rows, prompt, new), read, rtol=1e-6)


def test_a_line_of_the_table():
    seconds = {"ours": [1.0, 2.0, 1.0], "transformers": [2.0, 2.0, 3.0]}
    result = {"shape": "tiny", "parameters": 2_000_000, "batch": 8, "same_tokens": {"transformers": 1.0}, "floor": 0.5,
              "seconds": seconds}  # fmt: skip
    start, end = ["tiny (2.0 M)", 8, "80", "40"], ["1.5", "0.50", "100.0%"]
    assert row_of(result, 10) == [*start, "–", "2.00 (1.00 to 3.00)", *end]
    seconds["Tunix"], result["same_tokens"]["Tunix"] = [1.6, 4.0, 1.2], 0.5
    assert row_of(result, 10) == [*start, "50", "1.60 (1.20 to 2.00)", "1.5", "0.50", "50.0%"]
