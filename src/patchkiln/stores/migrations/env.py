"""What Alembic runs: the revisions that are due, in the transaction that the caller began."""

from alembic import context

from patchkiln.stores.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes a column by copying its table.
    render_as_batch=True,
)
context.run_migrations()
