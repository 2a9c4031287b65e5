"""The network: the one place that opens sockets for downloads (``client``), and the rules it works under.

``policy`` decides without a socket; ``status`` and ``translation`` turn answers and aiohttp's errors into ours.
Only ``client`` and ``translation`` import aiohttp.
"""
