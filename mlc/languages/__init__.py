"""Languages: their tags, and which language a text is in."""
