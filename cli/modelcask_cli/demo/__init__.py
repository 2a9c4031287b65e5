"""``modelcask demo``: the whole promise shown in a few seconds, without a network and without a trace left.

::

    models.py   the bytes of two small real model files
    origin.py   a server on loopback that hands them out, and misbehaves when told to
    story.py    the steps: what happens, the command for it, and what came of it
"""
