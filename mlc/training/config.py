"""Configuration of the trainers: the parent's arguments and the consistency objective's."""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import DPOConfig, KTOConfig, SFTConfig
from trl.experimental.cpo import CPOConfig
from trl.experimental.orpo import ORPOConfig


@dataclass
class MLCArguments:
    """Arguments of the consistency objective. The defaults are the published settings (arXiv 2602.16660, section 4).

    Parameters:
        mlc_languages (`list[str]`): the languages of the variants columns, in their order; the first is the source.
        mlc_objective (`str`, defaults to `"mlc"`): `"mlc"`, the published loss; `"cosine"`, pairwise; `"relational"`,
            similarities to the batch's source prompts; or `"direction"`, agreement along the trusted languages'
            harmful-benign direction only. See [`mlc.training.objectives`].
        mlc_weight (`float`, defaults to `0.8`): lambda, weight of the objective; 0 trains the parent method alone.
        mlc_every (`int`, defaults to `2`): applied on the first optimizer step and every n-th after it, for its whole
            accumulation window.
        mlc_layer (`int`, defaults to `-1`): index into `hidden_states`: 1 is the first decoder layer's output, -1 the
            last's after the final norm; all others are before it.
        mlc_temperature (`float`, defaults to `0.2`): tau of the published loss and of the contrastive term.
        mlc_projection (`int` or `None`, defaults to `512`): width of the trainable projection head of all objectives
            but `"direction"`, `None` for none.
        mlc_anchored (`bool`, defaults to `False`): `"mlc"` and `"cosine"`: the source language is held, the others
            move to it.
        mlc_centred (`bool`, defaults to `False`): representations less each language's mean over the base's; not with
            a projection head. `"direction"` has its own centres.
        mlc_contrast_weight (`float`, defaults to `0`): weight, within the objective, of telling prompts apart.
        mlc_trusted_languages (`list[str]`): the languages in which the base is already safe.
        mlc_hinge (`float`, defaults to `0.8`): share of the trusted projection that `"direction"` asks for.
        mlc_refusal_weight (`float`, defaults to `0`): weight of beginning replies to harmful variants in the other
            languages as the base begins its refusals there.
        mlc_retain_weight (`float`, defaults to `0`): weight of the KL to the base's next token where the base is right.
        mlc_chunk_tokens (`int` or `None`, defaults to `None`): tokens of variants, padding included, whose activations
            are held at once; a batch with more is run again in the backward pass, a chunk at a time.
    """

    mlc_languages: list[str] = field(default_factory=list)
    mlc_objective: str = "mlc"
    mlc_weight: float = 0.8
    mlc_every: int = 2
    mlc_layer: int = -1
    mlc_temperature: float = 0.2
    mlc_projection: int | None = 512
    mlc_anchored: bool = False
    mlc_centred: bool = False
    mlc_contrast_weight: float = 0.0
    mlc_trusted_languages: list[str] = field(default_factory=list)
    mlc_hinge: float = 0.8
    mlc_refusal_weight: float = 0.0
    mlc_retain_weight: float = 0.0
    mlc_chunk_tokens: int | None = None


@dataclass
class MLCDPOConfig(MLCArguments, DPOConfig):
    """Arguments of [`MLCDPOTrainer`]."""


@dataclass
class MLCSFTConfig(MLCArguments, SFTConfig):
    """Arguments of [`MLCSFTTrainer`]."""


@dataclass
class MLCORPOConfig(MLCArguments, ORPOConfig):
    """Arguments of [`MLCORPOTrainer`]."""


@dataclass
class MLCCPOConfig(MLCArguments, CPOConfig):
    """Arguments of [`MLCCPOTrainer`]; SimPO is `loss_type="simpo"` with `cpo_alpha=0`."""


@dataclass
class MLCKTOConfig(MLCArguments, KTOConfig):
    """Arguments of [`MLCKTOTrainer`]."""
