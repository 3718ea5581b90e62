"""The composition root: the only place where rooms are constructed and wired, one file per process.

`supervisor` starts and restarts the other two and does nothing else; `control` is the control process; `worker` is one
worker of the data plane; `link` is the Unix socket between them.
"""
