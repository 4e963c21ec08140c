"""What ``mlc init`` writes a project from: links to this repository's own files, whose contents a wheel packs."""
