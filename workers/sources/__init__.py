"""A feed or a data set → items, read in a process of its own. The one package that knows `datasets` and pyarrow.

    python -m workers.sources <<< '{"source": {…}, "paths": […], …}'

`reading.py` is the worker's end of it, `__main__.py` the other.
"""
