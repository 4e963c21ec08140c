"""The registered model's code: chats in, replies out. MLflow copies this file into the model and runs it on loading.

It stands alone, so that a registered model can be served where this package is not installed. It is never imported.
"""

from __future__ import annotations

from pathlib import Path

import mlflow
import torch
from mlflow.pyfunc import PythonModel, PythonModelContext
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH = 16  # chats answered together
SAFE = {"trust_remote_code": False, "use_safetensors": True}  # no code and no pickle comes with weights


class Replies(PythonModel):
    """Full weights, or an adapter on a base that lies beside it or is named by id and revision."""

    def load_context(self, context: PythonModelContext) -> None:
        folder = context.artifacts["model"]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=False)
        if (Path(folder) / "adapter_config.json").exists():
            from peft import PeftModel

            base = context.artifacts.get("base", context.model_config["base"])
            revision = None if "base" in context.artifacts else context.model_config["revision"]
            whole = AutoModelForCausalLM.from_pretrained(base, revision=revision, dtype="auto", **SAFE)
            self.model = PeftModel.from_pretrained(whole, folder, use_safetensors=True)
        else:
            self.model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", **SAFE)
        self.model.to(device).eval()

    @torch.inference_mode()
    def predict(self, model_input, params):  # type: ignore[no-untyped-def] # MLflow takes hints for a schema
        """Greedy replies to the chats in the column ``messages``, in their order; each as a chat completion.

        Generation is as the evaluation was, whatever the model's own settings say.
        """
        chats = [[dict(message) for message in messages] for messages in model_input["messages"]]
        completions = []
        for start in range(0, len(chats), BATCH):
            inputs = self.tokenizer.apply_chat_template(
                chats[start : start + BATCH],
                add_generation_prompt=True,
                padding=True,
                return_tensors="pt",
                return_dict=True,
            ).to(self.model.device)
            output = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                repetition_penalty=1.0,
                max_new_tokens=params["max_tokens"],
                pad_token_id=self.tokenizer.pad_token_id,
            )
            ends = self.model.generation_config.eos_token_id
            ends = ends if isinstance(ends, list) else [ends]
            for tokens in output[:, inputs["input_ids"].shape[1] :].tolist():
                message = {"role": "assistant", "content": self.tokenizer.decode(tokens, skip_special_tokens=True)}
                stopped = any(token in ends for token in tokens)
                choice = {"index": 0, "message": message, "finish_reason": "stop" if stopped else "length"}
                completions.append({"object": "chat.completion", "choices": [choice]})
        return completions


mlflow.models.set_model(Replies())
