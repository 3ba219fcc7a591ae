"""To compile is most of what tests do: how XLA compiles a third faster for CPUs, where it still can."""

from importlib.metadata import version

# From jaxlib 0.12 on fusions are always emitted the slower way, and the switch is an unknown flag.
_SWITCH = {"xla_cpu_use_fusion_emitters": False}
FASTER = _SWITCH if tuple(int(part) for part in version("jaxlib").split(".")[:2]) < (0, 12) else {}
FASTER_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in FASTER.items())
