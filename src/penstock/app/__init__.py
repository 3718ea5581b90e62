"""The composition root: the only place where rooms are constructed and wired, one file or folder per process.

Owns: `supervisor`, which starts the other two and starts again whichever dies; `control`, the control process;
`worker`, one worker of the data plane; `link`, the Unix socket between them; `break_glass`, the file
that stops a box without any of them.
Refuses: rules of any kind. What a process does is in the rooms; here is only who is handed to whom.
Import from the modules; this file exports nothing, so that a worker never loads the control plane.
"""
