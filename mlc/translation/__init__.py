"""Translators: they fill in the missing variants of a prompt set, and translate variants back."""
