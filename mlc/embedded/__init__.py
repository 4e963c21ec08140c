"""The offline world: prompts in nine languages, and a small instruct model trained on them."""
