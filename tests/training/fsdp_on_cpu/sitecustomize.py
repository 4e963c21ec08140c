"""Imported at the start of each training process, as PYTHONPATH names this folder: FSDP2 on a CPU.

torch shards a model on CPUs, over gloo, as it does on GPUs; accelerate's state only turns FSDP on for accelerators.
"""

import os
from typing import Any

if os.environ.get("ACCELERATE_USE_FSDP") == "true":
    from accelerate import accelerator, state
    from accelerate.utils import DistributedType
    from torch.distributed.tensor import DTensor

    plain_init = state.AcceleratorState.__init__
    plain_prepare = accelerator.fsdp2_prepare_model

    def init(self: Any, *arguments: Any, fsdp_plugin: Any = None, **named: Any) -> None:
        plain_init(self, *arguments, fsdp_plugin=fsdp_plugin, **named)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    def prepare(*arguments: Any, **named: Any) -> Any:
        model = plain_prepare(*arguments, **named)
        sharded = [isinstance(parameter, DTensor) for parameter in model.parameters()]
        print(f"{sum(sharded)} of {len(sharded)} parameters are split", flush=True)
        return model

    state.AcceleratorState.__init__ = init
    accelerator.fsdp2_prepare_model = prepare
