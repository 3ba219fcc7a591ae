"""The part of a training configuration that is about machines: mesh, processes, and what is told of them."""

from __future__ import annotations

import dataclasses

from maro_jax.run.fields import setting


@dataclasses.dataclass(frozen=True)
class DeviceConfig:
    """Devices, processes, and how they are watched."""

    data: int = setting(0, "mesh size of data parallelism; 0: all devices left", group="devices", low=0)
    fsdp: int = setting(1, "mesh size over which parameters are sharded", group="devices", low=1)
    tensor: int = setting(1, "mesh size of tensor parallelism", group="devices", low=1)
    cpu_devices: int = setting(
        0, "virtual devices on a CPU, of all processes together; 0: as many as cores, if the batch divides by them",
        group="devices", low=0,
    )  # fmt: skip
    remat: str = setting(
        "auto", "what a gradient computes again instead of keeping it: nothing (none), all but matrix products (dots), "
        "whole layers (full); auto: full from 8 layers on", group="devices",
        choices=("auto", "none", "dots", "full"),
    )  # fmt: skip
    matmul_precision: str = setting(
        "default", "precision of matrix products", group="devices",
        choices=("default", "high", "highest"),
    )  # fmt: skip
    distributed: str = setting(
        "off", "auto: several processes find each other as Cloud TPU, SLURM, Open MPI or Kubernetes tells JAX; all run "
        "the same command", group="processes", choices=("off", "auto"),
    )  # fmt: skip
    coordinator: str = setting(
        "", "elsewhere: the first process's address, the same in all; its port must be free", group="processes",
        example="10.0.0.1:8476",
    )  # fmt: skip
    num_processes: int = setting(0, "with --coordinator: how many processes there are", group="processes", low=0)
    process_id: int = setting(
        -1, "with --coordinator: which of them this is, counted from 0", group="processes", low=-1, example="0"
    )
    join_minutes: float = setting(
        30.0, "how long a process waits for the others at the start", group="processes", positive=True
    )
    heartbeat_seconds: int = setting(
        100, "a process that is silent for so long is lost, and the others end", group="processes", low=5
    )
    tensorboard: bool = setting(
        False, "keep the metrics as event files too, in the run's folder tensorboard (needs the extra tensorboard)",
        group="watching",
    )  # fmt: skip
    profile: bool = setting(
        False, "write a trace of one iteration of self-play to the run's folder profile (on a CPU hundreds of MB)",
        group="watching",
    )  # fmt: skip

    @property
    def joins_others(self) -> bool:
        """Whether the run is trained by processes that have to find each other first."""
        return bool(self.coordinator) or self.distributed == "auto"
