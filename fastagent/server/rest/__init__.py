"""The house over HTTP: agents and sessions, seen and changed by administrators.

`problems` is how every error is answered, `bodies` and `queries` read what comes in, `models` says what goes
out, `operations` joins a route with what the document says of it, `openapi` writes the document.
"""
