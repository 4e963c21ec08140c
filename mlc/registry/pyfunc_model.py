"""The registered model's code: chats in, replies out. MLflow copies this file into the model and runs it on loading.

With ``mlc/models/inference.py``, which is copied beside the weights, it stands alone, so that a registered model can be
served where this package is not installed. It is never imported. Replies are made by the very code that made the
evaluated ones, in the evaluation's precision; of the model's own generation settings only the end tokens count.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext


class Replies(PythonModel):
    """Full weights, or an adapter merged into a base that lies beside it or is named by id and revision."""

    def load_context(self, context: PythonModelContext) -> None:
        # By its path: a module of that name may be loaded already, from another version or by whoever serves this.
        self.inference = SimpleNamespace(**runpy.run_path(context.artifacts["inference"]))
        self.config = context.model_config
        base, revision = context.artifacts.get("base"), None
        if base is None:
            base, revision = self.config["base"], self.config["revision"]
        folder, precision = Path(context.artifacts["model"]), self.config["precision"]
        self.model, self.tokenizer = self.inference.load(folder, base, precision, revision)
        self.model.to(self.inference.device())

    def predict(self, model_input, params):  # type: ignore[no-untyped-def] # MLflow takes hints for a schema
        """Greedy replies to the chats in the column ``messages``, in their order; each as a chat completion.

        Raises:
            MlflowException: longer replies are asked for than those that the model was judged by.
        """
        longest, asked = self.config["max_new_tokens"], params["max_tokens"]
        if not 1 <= asked <= longest:
            raise MlflowException.invalid_parameter_value(
                f"max_tokens is {asked}: this model was judged by replies of up to {longest} tokens, and gives none "
                "that are longer. Ask for 1 to that many"
            )
        completions = []
        for answer in self.answers(model_input["messages"], asked):  # type: ignore[no-untyped-call]
            message = {"role": "assistant", "content": answer.text}  # nobody has judged what the model thought
            choice = {"index": 0, "message": message, "finish_reason": "stop" if answer.ended else "length"}
            completions.append({"object": "chat.completion", "choices": [choice]})
        return completions

    def answers(self, chats, max_new_tokens):  # type: ignore[no-untyped-def]
        """The replies to chats, in their order, each with the thinking before it."""
        encoded = [self.inference.chat_ids(self.tokenizer, messages) for messages in chats]
        lengths = [len(ids) + max_new_tokens for ids in encoded]
        found: dict[int, object] = {}
        for batch in self.inference.batches_by_tokens(lengths, self.config["batch_tokens"]):
            rows = [encoded[i] for i in batch]
            answers = self.inference.answers(self.model, self.tokenizer, rows, max_new_tokens)
            found.update(zip(batch, answers, strict=True))
        return [found[i] for i in range(len(encoded))]


mlflow.models.set_model(Replies())
