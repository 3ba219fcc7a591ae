"""What a training run tells a person: the banner, figures of each iteration, notes, and the tables at the end."""

from __future__ import annotations

from typing import Any

import jax

from maro_jax.league.final import rows
from maro_jax.league.trainer import Trainer
from maro_jax.run import distributed
from maro_jax.run.config import TrainConfig
from maro_jax.run.console import Console, table
from maro_jax.run.directory import RunDirectory
from maro_jax.run.replay_html import write_replay


def banner(
    console: Console,
    config: TrainConfig,
    directory: RunDirectory,
    trainer: Trainer,
    memory: str,
    first: int,
    notes: list[str],
) -> None:
    """What is to be trained, on what, and how to stop; then `notes`."""
    policy, arenas = trainer.decisions.policy, trainer.arenas
    rooms = " and ".join(str(arena.sizes.capacity) for arena in arenas)
    each = " of each game" if len(arenas) > 1 else ""
    adapter = f"; frozen but for an adapter of {policy.num_trained():,}" if policy.lora else ""
    branches = 2 * config.fork_pairs
    forks = f"; {config.fork_behaviours} behaviours{each} forked, {branches} games each" if config.forks else ""
    several = distributed.num_processes()
    of_processes = f" of {several} processes" if several > 1 else ""
    console.banner(
        "maro-jax: self-play training",
        {
            "run": directory.path,
            "state": f"resumed after iteration {first}" if first else "new",
            "game": "; ".join(f"{arena.name}, {arena.table.spec.num_seats} seats" for arena in arenas),
            "model": f"{config.model}, {policy.num_params():,} parameters, {policy.dtype}" + adapter,
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}" + of_processes,
            "lanes": f"{arenas[0].lanes}, streams of up to {rooms} tokens a seat",
            "memory": memory,
            "plan": f"{trainer.warm_iterations} warm-start and {config.iterations} self-play iterations of "
            f"{config.episodes} games{each}",
            "credit": f"{config.decompose} / {config.baseline} / {config.balance} / {config.utility}" + forks,
            "stop": "Ctrl-C saves and leaves; the same command goes on",
        },
    )
    for note in notes:
        console.line(f"note: {note}")


def columns(report: dict[str, Any]) -> dict[str, Any]:
    """The few values worth a line."""
    names = {
        "loss": "loss",
        "negative_log_prob": "nll",
        "entropy": "entropy",
        "kl": "kl",
        "grad_norm": "grad",
        "games_per_second": "games/s",
        **({"forked_tokens": "forked tokens"} if "forked_tokens" in report else {}),
        "win_rate": "win_rate",
    }
    return {short: round(report[name], 4) if name in report else "" for name, short in names.items()}


_PLAY = ("win_rate", "mirror_win_rate/", "opponent_win_rate", "play/", "decisions_per_game")
_LEARNING = ("loss", "negative_log_prob", "entropy", "log_ratio_rms", "grad_norm", "learning_rate")
_SPEED = (
    "games_per_second", "sampled_tokens_per_second", "rollout_of_floor", "lane_occupancy", "useful_decode_slots",
    "useful_ingest_slots", "learner_tokens_per_second", "mfu", "forked_tokens",
)  # fmt: skip


def sections(report: dict[str, Any], warm: bool) -> dict[str, dict[str, float]]:
    """The figures worth a row of a terminal's table: how games went, learning and speed; less of the warm start."""
    learning = {name: report[name] for name in _LEARNING if name in report}
    if warm:
        return {"warm start": learning}
    play = {
        name: value
        for name, value in report.items()
        if any(f"/{part}" in f"/{name}" for part in _PLAY) and not name.endswith(("_low", "_high"))
    }
    return {"play": play, "learning": learning, "speed": {name: report[name] for name in _SPEED if name in report}}


def skips(report: dict[str, Any]) -> list[str]:
    """A note on optimizer steps that were not taken."""
    spikes, others = int(report["spikes"]), int(report["skipped"] - report["spikes"])
    reasons = [f"{others} not finite"] * (others > 0) + [f"{spikes} with a gradient that stood out"] * (spikes > 0)
    return [f"optimizer steps skipped: {', '.join(reasons)}"] if reasons else []


def alarms(report: dict[str, Any]) -> list[str]:
    """Notes for users of KTO: beyond these limits its damping rather than the outcomes decides what is learnt."""
    remedy = "fewer --epochs, a smaller --learning_rate or a smaller --beta keep it nearer (docs/credit.md)"
    alarms = []
    if report["gradient_scale"] < 0.5:
        alarms.append(f"KTO's gradient is down to {report['gradient_scale']:.2f} of REINFORCE's on average; {remedy}")
    if report["saturated"] > 0.05:
        alarms.append(f"KTO is saturated for {report['saturated']:.0%} of the behaviours; {remedy}")
    return alarms


def report_summary(summary: dict[str, Any], directory: RunDirectory) -> None:
    """The final tables, the replay and, as the last line, the run directory."""
    for game, (headers, lines) in rows(summary).items():
        print(f"\n{game}" if game else "")
        print(table(headers, lines))
    if "games" in summary:
        mean, low, high = (summary[f"win_rate{end}"] for end in ("", "_low", "_high"))
        print(f"\ntrained against its warm start, mean over the games: {mean:.3f} ({low:.3f} to {high:.3f})")
    print(
        f"\nsampling temperature {summary['temperature']}, seed {summary['seed']}; "
        f"{summary['games_per_second']:.0f} games/s played, {summary['seconds_total']:.0f} s in all, "
        f"{summary['peak_rss_gib']:.1f} GiB at the most"
    )
    if of := summary.get("self_play"):
        print(
            f"self-play: {of['sampled_tokens_per_second']:,.0f} tokens sampled/s, {of['rollout_of_floor']:.0%} of what "
            f"this machine's measured rates allow, lanes {of['lane_occupancy']:.0%} busy, slots used: "
            f"{of['useful_decode_slots']:.0%} of those that write, {of['useful_ingest_slots']:.0%} of those that read\n"
            f"learning: {of['learner_tokens_per_second']:,.0f} tokens/s, {of['mfu']:.0%} MFU; "
            f"{of['learner_seconds'] / of['rollout_seconds']:.1f} times as long as playing"
        )
    if of := summary.get("forks"):
        print(
            f"forks: {of['forked_tokens']:,.0f} tokens generated beside the games, {of['forked_share']:.0%} of all, in "
            f"{of['fork_seconds']:.0f} s of the last session"
        )
    if of := summary.get("compile"):
        print(f"compiled: {of['programs']} programs in {of['seconds']:.0f} s")
    if of := summary.get("beside"):
        parts = ", ".join(f"{part} {share:.1%}" for part, share in of.items())
        print(f"waited for what is beside playing and learning: {sum(of.values()):.1%} of the last session ({parts})")
    print(f"replay: {write_replay(directory.path, directory.replay)}")
    print(directory.path)
