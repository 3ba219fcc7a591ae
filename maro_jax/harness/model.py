"""The policy as lm-evaluation-harness asks for a model.

Texts become tokens, are truncated and are cut at stop strings as in the harness's own Hugging Face backend
(`lm_eval.models.huggingface.HFLM`), so that the same weights get the same scores.
"""

import bisect
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jinja2 import TemplateError
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    Collator,
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import PreTrainedTokenizerFast

from maro_jax.harness.generation import Sampling, generate
from maro_jax.harness.scoring import ALTERNATIVES, Row, score
from maro_jax.policy.config import ModelError
from maro_jax.policy.decoder import Params, Policy
from maro_jax.run.console import Console

_NEW_TOKENS = 256  # of a reply, where the task does not say

Request = tuple[tuple[str, str] | None, list[int], list[int]]  # texts, context and continuation


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model as it was read.

    Attributes:
        name: what people call it.
        policy: its shape.
        params: its parameters.
        tokenizer: as transformers has it.
        generation: the contents of its generation_config.json, or of its config.json where there is none.
    """

    name: str
    policy: Policy
    params: Params
    tokenizer: PreTrainedTokenizerFast
    generation: Mapping[str, Any]


class PolicyLM(TemplateLM):
    """Answers the harness's three kinds of requests; a class of `lm_eval.api.model`."""

    def __init__(
        self,
        model: LoadedModel,
        *,
        batch_size: int = 8,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        seed: int = 0,
        console: Console | None = None,
    ):
        """Takes a model.

        Args:
            model: weights and tokenizer.
            batch_size: texts read or written at a time.
            max_length: most tokens of a text; `None`: what the model was made for.
            add_bos_token: whether a text begins with the tokenizer's special tokens; `None`: as the tokenizer does.
            seed: of sampled replies, which do not depend on the batch they are in.
            console: where progress is shown; `None`: nowhere.
        """
        super().__init__()
        self.model, self.tokenizer = model, model.tokenizer
        self.batch_size, self.seed = batch_size, seed
        self.max_length = max_length or model.policy.config.max_positions
        self.add_bos_token = add_bos_token
        self._console = console or Console(enabled=False)
        ends = model.generation.get("eos_token_id")
        listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
        self._ends = frozenset([*listed, self.eot_token_id])

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token before a text that has none before it."""
        begin = self.tokenizer.bos_token_id
        return self.eot_token_id if begin is None else begin

    @property
    def tokenizer_name(self) -> str:
        """Names the chat template in the harness's caches."""
        return self.tokenizer.name_or_path.replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes beside its results."""
        policy = self.model.policy
        return {"model_num_parameters": policy.num_params(), "model_dtype": policy.dtype}

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Returns the tokens of a text, whose special tokens are found by their spelling.

        Args:
            string: the text.
            add_special_tokens: whether the tokenizer's own are added; `None`: as `add_bos_token` says, and not before a
                text that begins with one.
        """
        adds = self.add_bos_token if add_special_tokens is None else add_special_tokens
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            adds = False
        return self.tokenizer.encode(string) if adds is None else self.tokenizer.encode(string, add_special_tokens=adds)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Returns a chat as the model's template writes it; without the system's turn, if the template takes none."""

        def written(turns: list[dict[str, str]]) -> str:
            return self.tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )

        try:
            return written(chat_history)
        except TemplateError:
            return written([turn for turn in chat_history if turn["role"] != "system"])

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Returns log p of each continuation after its context, and whether it is what greedy decoding would write."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Returns log p of each text, in pieces of `max_length` where it is longer."""
        windows: list[Request] = []
        texts: list[int] = []
        for index, request in enumerate(requests):
            pieces = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for context, continuation in map(make_disjoint_window, pieces):
                windows.append((None, context, continuation))
                texts.append(index)
        totals = [0.0] * len(requests)
        for index, (log_prob, _) in zip(texts, self._loglikelihood_tokens(windows), strict=True):
            totals[index] += log_prob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _loglikelihood_tokens(self, requests: Sequence[Request], **_: Any) -> list[tuple[float, bool]]:
        """As `loglikelihood`, for tokens; continuations that differ in their last token only share a row."""
        groups: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for index, (texts, context, continuation) in enumerate(requests):
            if not 0 < len(continuation) <= self.max_length:
                raise ModelError(
                    f"a continuation to be scored has {len(continuation)} tokens and must have 1 to {self.max_length}, "
                    f"the model's length: {texts[1][:80] if texts else 'a piece of a text'!r}"
                )
            inputs = (context + continuation)[-(self.max_length + 1) :][:-1]
            groups.setdefault((tuple(inputs), len(continuation)), []).append(index)
        rows, members = [], []
        for (inputs_read, _count), indices in groups.items():
            for start in range(0, len(indices), ALTERNATIVES):
                members.append(indices[start : start + ALTERNATIVES])
                rows.append(Row(inputs_read, [requests[index][2] for index in members[-1]]))
        phase = self._console.phase(f"{self.model.name}: texts scored", len(rows))
        scored = score(
            self.model.policy, self.model.params, rows,
            batch_size=self.batch_size, max_length=self.max_length, finished=phase.update,
        )  # fmt: skip
        phase.finish()
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for indices, found in zip(members, scored, strict=True):
            for index, answer in zip(indices, found, strict=True):
                answers[index] = answer
                if requests[index][0] is not None:
                    self.cache_hook.add_partial("loglikelihood", requests[index][0], answer)
        return answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Returns the reply to each context, up to the first stop string, as the request's generation settings say."""
        asked = [(*request.args, index) for index, request in enumerate(requests)]
        collator = Collator(
            asked,
            sort_fn=lambda item: (-len(item[0]), item[0]),
            group_by="gen_kwargs",
            group_fn=lambda item: item[1],
        )
        phase = self._console.phase(f"{self.model.name}: replies", len(requests))
        replies: list[str] = []
        for batch in collator.get_batched(n=self.batch_size):
            written = self._reply([context for context, _, _ in batch], batch[0][1], [index for *_, index in batch])
            for (context, settings, _), reply in zip(batch, written, strict=True):
                self.cache_hook.add_partial("generate_until", (context, settings), reply)
            replies += written
            phase.update(len(replies))
        phase.finish()
        return collator.get_original(replies)

    def reply_settings(self, settings: Mapping[str, Any]) -> tuple[list[str], int, Sampling]:
        """How replies are written: the strings that end one, its most tokens, and how tokens are chosen.

        Raises:
            ModelError: a task's settings ask for what the model does not do.
        """
        wanted = normalize_gen_kwargs(dict(settings), _NEW_TOKENS)
        stops = handle_stop_sequences(wanted.pop("until"), self.tokenizer.decode(self.eot_token_id))
        max_new = wanted.pop("max_gen_toks")
        if max_new >= self.max_length:
            raise ModelError(
                f"a task asks for replies of up to {max_new} tokens, but the model takes {self.max_length} with the "
                f"question; ask for fewer, for example --gen_kwargs=max_gen_toks={min(1024, self.max_length // 2)}"
            )
        return stops, max_new, Sampling.of(wanted, self.model.generation)

    def _reply(self, contexts: Sequence[str], settings: dict[str, Any], indices: Sequence[int]) -> list[str]:
        """Returns the replies to one batch of contexts; `indices` of the requests decide what is sampled."""
        stops, max_new, sampling = self.reply_settings(settings)
        prompts = [self._prompt(context)[-(self.max_length - max_new) :] for context in contexts]
        root = jax.random.key(self.seed)
        lanes = [*indices, *[0] * (self.batch_size - len(indices))]
        written = generate(
            self.model.policy,
            self.model.params,
            prompts,
            keys=jax.vmap(lambda index: jax.random.fold_in(root, index))(jax.numpy.asarray(lanes)),
            sampling=sampling,
            ends=sorted(self._ends),
            max_new=max_new,
            stop_at=lambda tokens: self._stop_at(tokens, [stop for stop in stops if stop]),
        )
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [postprocess_generated_text(text, stops, None) for text in texts]

    def _stop_at(self, tokens: list[int], stops: Sequence[str]) -> int | None:
        """Returns how many tokens there are to the end of the first stop string, or `None`; control tokens are text."""

        def holds_one(count: int) -> bool:
            text = self.tokenizer.decode(tokens[:count])
            return any(stop in text for stop in stops)

        if not holds_one(len(tokens)):
            return None
        return bisect.bisect_left(range(len(tokens)), True, key=holds_one)

    def _prompt(self, context: str) -> list[int]:
        """Returns the tokens of a context to reply to."""
        begins = has_bos_prefix(context, self.tokenizer.bos_token)
        adds = False if begins else self.add_bos_token
        encoded = self.tokenizer.encode(context) if adds is None else self.tokenizer.encode(
            context, add_special_tokens=adds
        )  # fmt: skip
        return encoded or [self.prefix_token_id]
