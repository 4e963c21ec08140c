"""Alignment with the consistency objective: objectives in pure torch, TRL trainers with them, the stage."""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when transformers is imported
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # ORPO, CPO and SimPO live there
