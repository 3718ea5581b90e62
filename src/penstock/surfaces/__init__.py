"""SURFACES: the HTTP edges: parse, call, encode.

Owns: `http1`, the data plane's server; `inference`, the calls and look-ups of callers; `admin`, the control plane's API
on its own listener, so that load on one cannot block the other.
Refuses: rules. Who may do what, what a call costs, what an object must look like: the rooms below know.
Import from the modules; this file exports nothing, so that a worker never loads FastAPI.
"""
