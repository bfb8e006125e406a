"""The journal: the truth about every enrolment.

Nothing is asked of a CA, and nothing is told to a device, that is not committed here first.

    states.py         the state machine, as data
    records.py        the values that go in and come out
    tables.py         the tables
    database.py       Journal: runs operations on the database, whichever it is
    writer.py         what every database's writer has in common: what waits together is committed together
    sqlite.py         a file, and one writer for all processes
    postgresql.py     a server, and any number of processes
    wakeup.py         says that there is work to do
    migrations/       how the tables came to be what they are
    upgrade.py        brings them to the newest revision
    copy.py           the whole journal in another database, or in a file
    statements.py     what the database is asked about transactions
    moves.py          the one way from a state to another
    transactions.py   what a request or a person causes: plain functions (Connection, values) -> value
    settle.py         what a CA's answer, or its silence, causes
    claims.py         who looks at what is due
    purge.py          what is forgotten, and when
    certificates.py   what is kept of an issued certificate
    audit.py          events: what was decided, and what became of it
    events.py         every kind of event there is, described
    chain.py          the hash chain that a process makes of its events
    checkpoints.py    signed statements of where the chains stand
    verify.py         finds what was changed in the audit
    export.py         events and checkpoints as others read them
    refusals.py       refusals, batched: no reply waits for them; and the summaries of what strangers cause
    statistics.py     what the info endpoint counts
"""
