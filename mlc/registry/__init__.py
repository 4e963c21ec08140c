"""Registered versions: made, promoted, verified, exported, made again, audited."""
