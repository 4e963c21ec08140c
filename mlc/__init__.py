"""Retraining pipeline for multilingual language models around the MLC loss (arXiv 2602.16660)."""

__version__ = "0.1.0"
