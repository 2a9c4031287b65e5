"""How far a pull is, as a person or a program sees it.

::

    tally.py   the sums: what is done, how fast, how long it will take; no drawing
    bars.py    bars, for a terminal
    lines.py   plain lines, for a log file
    above.py   prose above what is drawn
    work.py    one line that lives, for work whose end is not known
"""
