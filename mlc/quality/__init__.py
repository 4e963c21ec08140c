"""Translation quality: checks as plain columns, and the Great Expectations suite over them."""
