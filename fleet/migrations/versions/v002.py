"""Schema 2: what follows from reports is stored after them, and a device has a normal of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "002", "001"


def upgrade() -> None:
    """From schema 1."""
    op.add_column("device", sa.Column("batch", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("report", sa.Column("batch", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("report", sa.Column("live", sa.Boolean, nullable=False, server_default="0"))
    op.create_index("report_batch", "report", ["batch"])
    op.create_table(
        "reference",
        sa.Column("device", sa.String(32), primary_key=True),
        sa.Column("model", sa.String(16), nullable=False),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.Column("learnt_ms", sa.BigInteger),
        sa.Column("document", sa.LargeBinary),
    )
    op.create_index("reference_due", "reference", ["learnt_ms", "since_ms"])
    op.create_table(
        "lease",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "worker",
        sa.Column("worker", sa.String(64), primary_key=True),
        sa.Column("shards", sa.Text, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "peer_sum",
        sa.Column("worker", sa.String(64), primary_key=True),
        sa.Column("minute", sa.BigInteger, primary_key=True),
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("site", sa.String(64), primary_key=True),
        sa.Column("product", sa.String(64), primary_key=True),
        sa.Column("sums", sa.LargeBinary, nullable=False),
    )
    op.create_index("peer_sum_minute", "peer_sum", ["minute", "model"])
    op.create_table(
        "peer_minute",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    op.execute("UPDATE meta SET value = '2' WHERE key = 'schema'")
