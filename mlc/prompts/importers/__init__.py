"""Published prompt sets as prompt rows: ``records`` reads files, ``layouts`` knows how sets are laid out and which a
file has, ``rows`` makes prompt rows of their drafts, ``doubt`` looks whether languages are what they are called, and
``stage`` is the command."""
