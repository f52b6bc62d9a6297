"""How the tables came to be, one revision after the other; run by Alembic when a store opens.

A new revision is a module in `versions` that names the one before it as its `down_revision`; with
it, `schema.HEAD` moves on. What a released revision does is never changed. There is no way back:
`downgrade` is left out, for a database is restored from its copy.
"""
