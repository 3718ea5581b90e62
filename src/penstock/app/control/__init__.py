"""The control process of a box: the one that touches the database and listens for administrators.

Owns: the wiring of store, control room, ledger, records and admin surface (`process`); the data directory's lock and
secrets (`bootstrap`); its end of the link (`fleet`); draining the journals (`commits`); the admin listener
(`listener`); what only the running process can show (`balances`); prices that change by themselves (`prices`).
Refuses: rules. Which change is allowed is `control`'s business, what a record means the `ledger`'s.

`python -m penstock.app.control --config FILE --data DIR` runs it; the supervisor does so. Import from the modules.
"""
