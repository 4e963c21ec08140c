"""Published prompt sets as prompt rows: ``records`` reads files, ``layouts`` knows how each set is laid out, ``rows``
makes prompt rows of both, and ``stage`` is the command."""
