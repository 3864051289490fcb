"""The command line: a client of the HTTP API, and `up`, which starts the real parts here."""
