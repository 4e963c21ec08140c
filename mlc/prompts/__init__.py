"""Multilingual prompt sets."""
