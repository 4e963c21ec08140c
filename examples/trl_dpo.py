"""Somebody's own TRL script, with the consistency objective: three lines differ from plain DPO, marked below.

    python examples/trl_dpo.py embedded-base data/alignment.jsonl /tmp/aligned

The prompt file is this project's JSON Lines; any dataset with TRL's preference columns will do, with one column more:
``variants``, each prompt in every language, as a mapping from language to text.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from mlc.training.config import MLCDPOConfig as DPOConfig  # 1: was `from trl import DPOConfig, DPOTrainer`
from mlc.training.trainers import MLCDPOTrainer as DPOTrainer

LANGUAGES = ["en", "es", "ru", "zh", "ja", "ar", "hi", "sw"]


def main(model_path: str, prompts: str, output: str, steps: int = 20) -> None:
    rows = [json.loads(line) for line in Path(prompts).read_text(encoding="utf-8").splitlines()]
    dataset = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": row["prompts"]["en"]}],
                "chosen": [{"role": "assistant", "content": row["chosen"]}],
                "rejected": [{"role": "assistant", "content": row["rejected"]}],
                "variants": {tag: row["prompts"].get(tag) for tag in LANGUAGES},
            }
            for row in rows
        ]
    )
    args = DPOConfig(
        output_dir=output,
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=1e-4,
        logging_steps=2,
        save_strategy="no",
        report_to="none",
        bf16=torch.cuda.is_available(),
        mlc_languages=LANGUAGES,  # 2
        mlc_weight=0.8,  # 3
    )
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_path),
        args=args,
        train_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(model_path),
    )
    trainer.train()
    trainer.save_model(output)


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
