"""Two versions, revisions or experiments side by side."""
