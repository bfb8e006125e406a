"""The journal: the truth about every enrolment.

Nothing is asked of a CA, and nothing is told to a device, that is not committed here first.

    states.py         the state machine, as data
    records.py        the values that go in and come out
    tables.py         the tables
    database.py       Journal: opens the database and runs operations on it
    writer.py         groups what is to be committed
    statements.py     what the database is asked about transactions
    transactions.py   operations on transactions: plain functions (Connection, values) -> value
    certificates.py   what is kept of an issued certificate
    audit.py          append-only record of decisions and outcomes
    refusals.py       unauthenticated refusals, batched: no reply waits for them
    statistics.py     what the info endpoint counts
"""
