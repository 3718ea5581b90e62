"""RECORDS: RECORD. What every exchange did, kept so that it can be shown, summed and proved.

Owns: usage events in the store, hourly roll-ups committed with the ledger, receipts, usage by any dimension, metrics,
the log line of each exchange, whose is what providers keep, and how long events are kept.
Refuses: content and secrets (an event has none), deciding anything, and being a second account of the money: sums come
from the same events, in the same transaction, as the settlement.

Workers import `draft` alone, which imports no store; so nothing is imported here.
Import from the modules (`penstock.records.receipts`, ...); this file exports nothing.
"""
