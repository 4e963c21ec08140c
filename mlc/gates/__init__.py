"""Samples -> verdict. A rule passes when the bound of its interval clears the threshold; any doubt fails it."""
