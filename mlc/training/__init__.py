"""Alignment training: objectives, representations, TRL trainers, and the stage."""
