"""The registered model's code: prompts in, replies out. MLflow copies this file into the model and runs it on loading.

It stands alone, so that a registered model can be served where this package is not installed. It is never imported.
"""

from __future__ import annotations

from pathlib import Path

import mlflow
import torch
from mlflow.pyfunc import PythonModel, PythonModelContext
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH = 16  # prompts generated together


class Replies(PythonModel):
    """Full weights, or an adapter on a base that lies beside it or is named by id and revision."""

    def load_context(self, context: PythonModelContext) -> None:
        folder = context.artifacts["model"]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if (Path(folder) / "adapter_config.json").exists():
            from peft import PeftModel

            base = context.artifacts.get("base", context.model_config["base"])
            revision = None if "base" in context.artifacts else context.model_config["revision"]
            whole = AutoModelForCausalLM.from_pretrained(base, revision=revision, dtype="auto")
            self.model = PeftModel.from_pretrained(whole, folder)
        else:
            self.model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        self.model.to(device).eval()

    @torch.inference_mode()
    def predict(self, model_input, params):  # type: ignore[no-untyped-def] # MLflow takes hints for a schema
        """Greedy replies to the column ``prompt``, each a single user turn, as they were evaluated."""
        prompts = model_input["prompt"].tolist()
        replies: list[str] = []
        for start in range(0, len(prompts), BATCH):
            chats = [[{"role": "user", "content": prompt}] for prompt in prompts[start : start + BATCH]]
            inputs = self.tokenizer.apply_chat_template(
                chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
            ).to(self.model.device)
            output = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                repetition_penalty=1.0,  # whatever the model's own settings say: so was it evaluated
                max_new_tokens=params["max_new_tokens"],
                pad_token_id=self.tokenizer.pad_token_id,
            )
            new = output[:, inputs["input_ids"].shape[1] :]
            replies += self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return replies


mlflow.models.set_model(Replies())
