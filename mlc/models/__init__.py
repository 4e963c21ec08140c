"""Models on disk and in memory: the base, what a model was made from, loading, replies, hidden states."""
