"""The ``modelcask`` command.

::

    __main__.py    the entry point: runs the command, turns errors into one line and an exit code
    app.py         the group of commands and what they share; a command is imported when it is named
    commands/      one command a file
    progress/      how far a pull is: the sums, and bars, lines or JSON made of them
    documents.py   every JSON field that is printed, with its meaning
    reference.py   writes docs/cli.md from all of these

Results go to stdout, everything else to stderr. ``modelcask --help``, ``modelcask path`` and shell completion import
neither rich nor any of the library's heavy parts.
"""
