"""The command line: what is refused, how, and how soon."""

import dataclasses
import json
import subprocess
import sys

import pytest

from maro_jax.run import fields
from maro_jax.run.config import TrainConfig, make_config, parse_games
from maro_jax.run.data_config import CheckConfig, ImportConfig, ScriptedConfig
from maro_jax.run.evaluate_config import EvaluateConfig
from maro_jax.run.export_config import ExportConfig
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import from_args, help_text, parse, run_cli
from maro_jax.run.play_config import PlayConfig
from maro_jax.run.pnlc_config import CollectConfig, CriticConfig
from maro_jax.run.pnlc_evaluate_config import PnlcEvaluateConfig
from maro_jax.run.presets import FOR_PODS, PRESETS
from maro_jax.run.replay_config import ReplayConfig

CONFIGS = [
    TrainConfig, EvaluateConfig, ReplayConfig, ExportConfig, PlayConfig, CheckConfig, ImportConfig, ScriptedConfig,
    CollectConfig, CriticConfig, PnlcEvaluateConfig,
]  # fmt: skip
COMMAND = """
import sys
from maro_jax.run.config import TrainConfig
from maro_jax.run.evaluate_config import EvaluateConfig
from maro_jax.run.replay_config import ReplayConfig
from maro_jax.run.flags import from_args
try:
    from_args({name}, sys.argv[1:])
finally:
    heavy = {{"jax", "flax", "optax", "orbax", "transformers", "numpy"}} & set(sys.modules)
    print("heavy:", sorted(heavy))
"""


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND.format(name=name), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("TrainConfig", ["--lerning_rate=3"], "did you mean --learning_rate?"),
        ("TrainConfig", ["learning_rate=3"], "did you mean --learning_rate=3?"),
        ("EvaluateConfig", ["num_games=3"], "did you mean --num_games=3?"),
        ("TrainConfig", ["--learning_rate=fast"], "it must be a number above 0"),
        ("TrainConfig", ["--preset=werewolf-tny"], "did you mean werewolf-tiny?"),
        ("ReplayConfig", [], "python -m maro_jax.replay runs/werewolf-tiny"),
    ],
)
def test_wrong_command_line_exits_with_2_and_one_sentence(name, arguments, sentence):
    result = _run(name, *arguments)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == "heavy: []\n"


def test_help_exits_with_0_without_a_framework():
    result = _run("TrainConfig", "--help", "--preset=werewolf-smoke")
    assert result.returncode == 0
    assert result.stdout.endswith("heavy: []\n")
    for field in dataclasses.fields(TrainConfig):
        assert f"--{field.name}=" in result.stdout
    assert f"--episodes={PRESETS['werewolf-smoke']['episodes']} " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--learning_rate=-1"],
            "--learning_rate=-1.0 is not allowed: it must be a number above 0",
        ),
        (["--learning_rate=nan"], "must be a number above 0"),
        (["--learning_rate"], "--learning_rate"),
        (["--learning_rate_final=2"], "must be a number from 0 to 1"),
        (["--episodes=3.5"], "must be an integer of at least 1"),
        (["--shuffle_outcomes=maybe"], "must be true or false"),
        (["--utility=ktoo"], "not one of kto, dro, reinforce, ppo, clone (did you mean kto?)"),
        (["--balance=deal"], "set --baseline=deal too"),
        (["--pool_every=3"], "--pool_every=3 means nothing with --opponents=mix"),
        (["--utility=dro", "--minibatches=1"], "with one optimizer step an iteration is REINFORCE: set --epochs=4"),
        (["--magnet=0.1", "--reference_point=token_kl"], "set --reference_point=sampled_kl, which needs none"),
        (["--utility=reinforce", "--beta=0.3"], "--beta=0.3 means nothing with --utility=reinforce; leave it out"),
        (["--utility=ppo", "--reference_point=zero"], "--reference_point=zero means nothing with --utility=ppo"),
        (["--utility=dro", "--reference=lagged"], "--reference=lagged means nothing with --utility=dro"),
        (["--clip=0.1"], "--clip=0.1 means nothing with --utility=kto; leave it out, or set --utility=ppo"),
        (["--discount=0.5"], "--discount=0.5 means nothing with --decompose=outcome; leave it out, or set"),
        (["--reference=lagged"], "with --reference=lagged set --reference_point=token_kl (or zero)"),
        (
            ["--reference=warm_start", "--reference_point=token_kl", "--magnet=0.1"],
            "takes the second forward pass that --reference=warm_start needs",
        ),
        (["--magnet_rate=0.2"], "--magnet_rate=0.2 means nothing without a magnet"),
        (["--value_decay=0.5"], "--value_decay=0.5 means nothing with --decompose=outcome; leave it out, or set"),
        (["--rules_weight=0.2"], "--rules_weight=0.2 means nothing with --decompose=outcome; leave it out, or set"),
        (["--critic=critics/x"], "--critic=critics/x means nothing with --decompose=outcome; leave it out, or set"),
        (["--decompose=pnlc"], "--decompose=pnlc needs the folder of a critic of the game, and --critic= is none"),
        (["--decompose=pnlc", "--critic=no/critic"], "and --critic=no/critic is none"),
        (["--decompose=value", "--critic_embedder=words:64"], "--critic_embedder=words:64 means nothing with"),
        (["--preset=pod-v6e-16"], "--preset=pod-v6e-16 is for a Hugging Face model; name its folder"),
        (["--warm_start_data=tests,"], "--warm_start_data= is no folder"),
        (["--warm_start_data=no/data"], "--warm_start_data=no/data is no folder"),
        (["--warm_start_holders=api"], "--warm_start_holders=api means nothing without --warm_start_data"),
        (["--warm_start_data=.", "--warm_start_holders=apo"], "--warm_start_holders=apo is not one of learner"),
        (["--warm_start_data=.", "--warm_start_games=0"], "and --warm_start_games=0 leaves that out"),
        (["--warm_start_data=.", "--games=kuhn-v0,avalon-v0"], "and --games=kuhn-v0,avalon-v0 are several"),
        (["--fork_pairs=2"], "--fork_pairs=2 means nothing with --decompose=outcome; leave it out, or set"),
        (["--decompose=value", "--fork_behaviours=8"], "--fork_behaviours=8 means nothing with --decompose=value"),
        (["--decompose=fork", "--value_decay=0.5"], "--value_decay=0.5 means nothing with --decompose=fork"),
        (["--decompose=fork", "--fork_behaviours=0"], "must be an integer of at least 1"),
        (["--decompose=fork_dr", "--shuffle_outcomes"], "but --decompose=fork_dr tells good from bad without them"),
        (["--baseline=deal", "--deal_group=8", "--decompose=fork"], "--decompose=outcome"),
        (["--decompose=rules", "--rules_weight=0"], "must be a number above 0"),
        (["--decompose=rules", "--shuffle_outcomes"], "tells good from bad without them; set --decompose=outcome"),
        (["--baseline=deal", "--deal_group=8", "--decompose=rules"], "--decompose=outcome"),
        (["--baseline=deal", "--deal_group=8", "--decompose=value"], "--decompose=outcome"),
        (["--baseline=deal"], "at least two episodes of a deal"),
        (["--baseline=deal", "--deal_group=8", "--decompose=discounted"], "--decompose=outcome"),
        (["--deal_group=3"], "does not divide into deals of --deal_group=3 episodes, for example --episodes=513"),
        (["--clip=1"], "--clip=1.0 is not allowed"),
        (["--games=avalon-v0,kuhn-v0,avalon-v0"], "names a game twice"),
        (["--games=werewolf-v0:6"], "'6' is not of the form key=value"),
        (["--games=werewolf-v0:num_seats=6,num_seats=7"], "twice"),
        (["--games="], "name:key=value"),
        (["--model=/no/such/folder"], "does not exist"),
        (["--episodes=500", "--minibatches=3"], "--episodes=501"),
        (["--lanes=1024"], "exceeds --episodes=512"),
        (["--data=3"], "--lanes=128 does not divide by the 3 devices"),
        (["--cpu_devices=3"], "--lanes=128 does not divide by the 3 devices"),
        (["--cpu_devices=4", "--tensor=3"], "does not fit 4 devices"),
        (["--data=1", "--tensor=3"], "--lanes=128 does not divide by the 3 devices"),
        (["--iterations=0", "--warm_start_games=0"], "leaves nothing to do"),
        (["--", "stray"], "unexpected argument stray"),
        (["--flagfile=/no/such/file"], "/no/such/file"),
    ],
)
def test_refused_training_flags(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        from_args(TrainConfig, arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.out == ""


def test_a_warm_start_is_taken_from_a_run_of_the_same_model_that_cloned_the_games(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"config": {"model": "tiny", "games": "werewolf-v0"}}))
    for folder, model in (("other", "/models/other"), ("both", "tiny")):
        (tmp_path / folder).mkdir()
        content = {"config": {"model": model, "games": "avalon-v0,werewolf-v0:num_seats=6,max_days=5"}}
        (tmp_path / folder / "config.json").write_text(json.dumps(content))
    for overrides, sentence in (
        ({"warm_start_from": str(tmp_path / "missing")}, "missing is no folder of a run"),
        ({"warm_start_from": str(tmp_path)}, "cloned --games=werewolf-v0, not werewolf-v0:num"),
        ({"warm_start_from": str(tmp_path / "other")}, "was trained with --model=/models/other, not --model=tiny"),
        ({"warm_start_from": str(tmp_path), "games": "werewolf-v0", "iterations": 0}, "leaves nothing to do"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            make_config(overrides=overrides)
    assert make_config(overrides={"warm_start_from": str(tmp_path), "games": "werewolf-v0"}).warm_iterations == 0
    for games in ("avalon-v0", "werewolf-v0:max_days=5,num_seats=6", "werewolf-v0:num_seats=6,max_days=5,avalon-v0"):
        assert make_config(overrides={"warm_start_from": str(tmp_path / "both"), "games": games}).warm_iterations == 0


def test_refused_models_name_the_reason(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    for file, sentence in (
        (None, "holds no *.safetensors"),
        ("pytorch_model.bin", "only pickled weights (pytorch_model.bin)"),
    ):
        if file:
            (tmp_path / file).write_bytes(b"")
        with pytest.raises(ConfigError, match=sentence.replace("(", r"\(").replace("*", r"\*")[:30]):
            make_config(overrides={"model": str(tmp_path)})
    with pytest.raises(ConfigError, match="is a file"):
        make_config(overrides={"model": str(tmp_path / "pytorch_model.bin")})
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert make_config(overrides={"model": str(tmp_path)}).model == str(tmp_path)


def test_flags_override_the_preset_and_only_they():
    config = from_args(TrainConfig, ["--preset=werewolf-smoke", "--episodes", "64", "--seed=7"])
    expected = {**PRESETS["werewolf-smoke"], "preset": "werewolf-smoke", "episodes": 64, "seed": 7}
    assert dataclasses.asdict(config) == {**dataclasses.asdict(TrainConfig()), **expected}
    assert from_args(TrainConfig, ["--shuffle_outcomes"]).shuffle_outcomes is True
    assert from_args(TrainConfig, ["--noshuffle_outcomes"]).shuffle_outcomes is False


def test_each_preset_is_valid_and_documents_its_fields(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    for preset in PRESETS:
        model = {"model": str(tmp_path)} if preset.startswith(FOR_PODS) else {}
        assert make_config(preset, model).preset == preset
    for config in CONFIGS:
        for field in dataclasses.fields(config):
            assert field.metadata["help"] and len(field.metadata["help"]) < 160
            assert f"{field.name}" in help_text(config) or field.metadata["positional"]


def test_make_config_refuses_unknown_fields_and_wrong_types():
    with pytest.raises(ConfigError, match="did you mean episodes"):
        make_config(overrides={"episode": 3})
    with pytest.raises(ConfigError, match="--episodes=3.0 is not allowed"):
        make_config(overrides={"episodes": 3.0})
    with pytest.raises(ConfigError, match="--seed=True is not allowed"):
        make_config(overrides={"seed": True})
    assert make_config(overrides={"beta": 1}).beta == 1


def test_parse_games():
    assert parse_games("werewolf-v0") == [("werewolf-v0", {})]
    text = "werewolf-v0:night_order=wolf,doctor,seer,num_seats=6,reveal_roles=false,x=0.5"
    game = ("werewolf-v0", {"night_order": "wolf,doctor,seer", "num_seats": 6, "reveal_roles": False, "x": 0.5})
    assert parse_games(text) == [game]
    several = [game, ("avalon-v0", {}), ("bargaining-v0", {"instances": "1,2,3/8,1,0/4,0,2;1,1,1/5,5,0/0,0,10"})]
    for separator in ",;":
        both = f"avalon-v0{separator}bargaining-v0:instances=1,2,3/8,1,0/4,0,2;1,1,1/5,5,0/0,0,10"
        assert parse_games(f"{text}{separator}{both}") == several
    with pytest.raises(ConfigError, match="names a game twice"):
        parse_games("kuhn-v0,avalon-v0,kuhn-v0")


def test_mesh_and_cpu_devices():
    config = make_config(overrides={"episodes": 96, "lanes": 24, "minibatches": 4})
    assert config.num_cpu_devices(num_cores=16) == 12
    assert config.num_cpu_devices(num_cores=7) == 6
    assert config.mesh_shape(8) == (8, 1, 1)
    with pytest.raises(ConfigError, match="--lanes=24 does not divide by the 16 devices"):
        config.mesh_shape(16)
    sharded = dataclasses.replace(config, fsdp=2, tensor=2)
    assert sharded.mesh_shape(8) == (2, 2, 2)
    assert sharded.num_cpu_devices(num_cores=8) == 8
    for cores in range(1, 9):
        assert sharded.mesh_shape(sharded.num_cpu_devices(num_cores=cores))[1:] == (2, 2)
    joined = {"coordinator": "10.0.0.1:8476", "num_processes": 3, "process_id": 1}
    of_three = dataclasses.replace(config, **joined)
    assert of_three.num_cpu_devices(num_cores=8) * 3 == 24 and of_three.num_cpu_devices(num_cores=3) * 3 == 6
    assert dataclasses.replace(of_three, cpu_devices=12).num_cpu_devices() == 4
    assert dataclasses.replace(of_three, data=6).num_cpu_devices() == 2


JOINED = "--coordinator=host:8476 --num_processes=2 --process_id=0"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--coordinator=host:8476", "--num_processes, --process_id is missing, for example --coordinator="),
        ("--num_processes=2 --process_id=1", "--coordinator is missing"),
        ("--process_id=0", "--coordinator, --num_processes is missing"),
        (f"{JOINED} --coordinator=host", "--coordinator=host is not of the form HOST:PORT"),
        (f"{JOINED} --coordinator=host:70000", "is not of the form HOST:PORT"),
        (f"{JOINED} --process_id=2", "--process_id=2 must lie below --num_processes=2: they count from 0"),
        (f"{JOINED} --cpu_devices=3", "--cpu_devices=3 does not divide by --num_processes=2"),
        (f"{JOINED} --distributed=auto", "--coordinator says what --distributed=auto finds out by itself"),
        ("--distributed=auto --cpu_devices=4", "whose number --distributed=auto does not tell in time"),
        ("--distributed=yes", "--distributed=yes is not one of off, auto"),
    ],
)
def test_processes_named_in_part_are_refused(flags, sentence):
    with pytest.raises(ConfigError) as refused:
        parse(TrainConfig, flags.split())
    assert sentence in str(refused.value)


def test_processes_are_joined_only_when_named():
    assert not make_config().joins_others
    for flags in (JOINED, "--distributed=auto"):
        assert parse(TrainConfig, flags.split()).joins_others


def _make_run(folder, checkpoint):
    (folder / "checkpoints" / checkpoint).mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": {}}))
    return str(folder)


def _refusal(capsys, config_class, *arguments):
    with pytest.raises(SystemExit) as stop:
        from_args(config_class, arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_evaluate_takes_runs_models_and_words(tmp_path, capsys):
    run = _make_run(tmp_path / "run", checkpoint="3")
    policy = f"--policy={run}"
    assert from_args(EvaluateConfig, [policy, "--opponent=random"]).opponent == "random"
    assert from_args(EvaluateConfig, [policy, f"--opponent={run}"]).opponent == run
    assert from_args(EvaluateConfig, [policy]).opponent == "warm_start"
    assert from_args(EvaluateConfig, ["--policy=tiny", "--opponent=tiny"]).policy == "tiny"
    young = _make_run(tmp_path / "young", checkpoint="3.orbax-checkpoint-tmp")
    for arguments, sentence in (
        ([policy, "--opponent=heuristc"], "did you mean heuristic?"),
        (["--policy=/nope"], "neither tiny nor a folder"),
        ([f"--policy={young}"], "is a run without a checkpoint so far"),
        ([f"--policy={tmp_path}", "--opponent=random"], "holds no *.safetensors"),
        (["--policy=tiny"], "--opponent=warm_start is that of a run"),
        ([policy, "--num_games=5"], "for example --num_games=6"),
        ([policy, "--cpu_devices=3"], "for example --lanes=129 --num_games=2052"),
        ([policy, "--opponent=random", "--opponent_temperature=0.5"], "means nothing to --opponent=random"),
        ([policy, f"--json={tmp_path}"], "is a folder; name a file in it"),
        ([policy, f"--json={tmp_path}/no/match.json"], "a folder that does not exist"),
    ):
        assert sentence in _refusal(capsys, EvaluateConfig, *arguments)


def test_replay_takes_one_run(tmp_path, capsys):
    run = _make_run(tmp_path / "run", checkpoint="3")
    assert from_args(ReplayConfig, [run, "--max_games=3"]).max_games == 3
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    for arguments, sentence in (
        ([run, "again"], "unexpected argument again"),
        ([str(tmp_path / "no")], "not the folder of a run"),
        ([str(tmp_path)], "not the folder of a run"),
        ([run, f"--output={tmp_path}/no/replay.html"], "a folder that does not exist"),
    ):
        assert sentence in _refusal(capsys, ReplayConfig, *arguments)


def test_run_cli_passes_the_exit_code_and_refuses_like_a_flag(capsys):
    for code in (0, 3, 75):
        with pytest.raises(SystemExit) as stop:
            run_cli(TrainConfig, lambda config, code=code: code, [])
        assert stop.value.code == code

    def refuse(config):
        raise ConfigError("the game chess-v0 is unknown")

    with pytest.raises(SystemExit) as stop:
        run_cli(TrainConfig, refuse, [])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: the game chess-v0 is unknown\n"


def test_nearest_stays_silent_on_nothing_alike():
    assert fields.nearest("zzz", ["kto", "reinforce"]) == ""
