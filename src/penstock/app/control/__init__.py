"""The control process of a box: the one that touches the database and listens for administrators.

Where to begin: `process` is its life, start to end; `parts` what it is made of; `peers` what workers and other boxes
ask and are told; `administration` what administrators ask; `chores` what is done again and again; `bootstrap` what
comes before all of it (the data directory's lock, the secrets, by way of `files`).
Owns besides: its end of the link (`fleet`); draining the journals (`commits`); the admin listener (`listener`); what
only the running process can show (`balances`); prices that change by themselves (`prices`).
Refuses: rules. Which change is allowed is `control`'s business, what a record means the `ledger`'s.

`python -m penstock.app.control --config FILE --data DIR` runs it; the supervisor does so. Import from the modules.
"""
