"""What an actor behind an API is asked about its thoughts: text files that a user may replace."""

from __future__ import annotations

import dataclasses
from string import Template

from maro_jax.api.prompts import load_templates

# Of each prompt what it must hold, and what it may hold besides.
PLACEHOLDERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "think": (("question",), ()),
    "follow": (("question", "thought"), ()),
    "rate": (("question", "thought"), ()),
    "imagine": (("question", "thought"), ()),
    "likelihood": (("goal", "percent"), ()),
    "unknown": (("goal",), ()),
    "refine": (("question", "thought", "likelihoods"), ()),
    "expect": (("question", "thought", "futures"), ()),
    "reconsider": (("question", "thought", "likelihoods"), ()),
}


@dataclasses.dataclass(frozen=True)
class ThoughtPrompts:
    """Templates in the syntax of `string.Template`; `$question` is what the game asks, see `maro_jax.api.prompts`.

    Attributes:
      think: asks for a thought. `$question`.
      follow: asks for a reply after a thought. `$question`, `$thought`.
      rate: asks how good a thought is. The same.
      imagine: asks for what may come of a thought, a line each. The same.
      likelihood: a line of what the critic says. `$goal`, `$percent`.
      unknown: the same of what is like none of the critic's goals. `$goal`.
      refine: asks for a better thought, in sight of the critic's likelihoods. `$question`, `$thought`, `$likelihoods`.
      expect: asks for the actor's own likelihoods, a line each. `$question`, `$thought`, `$futures`.
      reconsider: asks for a better thought, in sight of these. As `refine`.
    """

    think: Template
    follow: Template
    rate: Template
    imagine: Template
    likelihood: Template
    unknown: Template
    refine: Template
    expect: Template
    reconsider: Template

    @staticmethod
    def load(folder: str = "") -> ThoughtPrompts:
        """Reads the prompts of this package, or those in their place.

        Args:
          folder: holds files such as `refine.txt`; what it does not hold is the package's own. Empty: all are.

        Raises:
          ConfigError: a file has no place here, or lacks or misspells a placeholder.
        """
        return ThoughtPrompts(**load_templates("maro_jax.pnlc", PLACEHOLDERS, folder, "--prompts"))
