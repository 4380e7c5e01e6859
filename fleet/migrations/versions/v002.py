"""Schema 2: what follows from reports is stored after them, devices have a normal of their own, alerts have routes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "002", "001"


def upgrade() -> None:
    """From schema 1."""
    op.add_column("device", sa.Column("batch", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("report", sa.Column("batch", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("report", sa.Column("live", sa.Boolean, nullable=False, server_default="0"))
    op.create_index("report_batch", "report", ["batch", "frames"])
    op.create_index("device_place", "device", ["site", "line", "device"])
    op.add_column("detector_state", sa.Column("hot", sa.Boolean, nullable=False, server_default="0"))
    op.add_column("detector_state", sa.Column("alone", sa.LargeBinary))
    op.create_index("detector_hot", "detector_state", ["hot"])
    op.create_table(
        "reference",
        sa.Column("device", sa.String(32), primary_key=True),
        sa.Column("model", sa.String(16), nullable=False),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.Column("learnt_ms", sa.BigInteger),
        sa.Column("document", sa.LargeBinary),
    )
    op.create_index("reference_due", "reference", ["learnt_ms", "since_ms"])
    _alerts()
    _sums()
    _workers()
    _labels()
    _retraining()
    op.execute("UPDATE meta SET value = '2' WHERE key = 'schema'")


def _workers() -> None:
    op.create_table(
        "shard",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("clean", sa.BigInteger, nullable=False),
        sa.Column("granted", sa.BigInteger, nullable=False),
    )
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


def _alerts() -> None:
    op.create_table(
        "acknowledgement",
        sa.Column("alert", sa.String(length=16), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("alert"),
    )
    op.create_table(
        "delivery",
        sa.Column("route", sa.String(length=64), nullable=False),
        sa.Column("alert", sa.String(length=16), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("told_ms", sa.BigInteger(), nullable=True),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failing_ms", sa.BigInteger(), nullable=True),
        sa.Column("held", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("given_up_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("route", "alert"),
    )
    op.create_index("delivery_alert", "delivery", ["alert"], unique=False)
    op.create_index("delivery_due", "delivery", ["route", "due_ms"], unique=False)
    op.create_table(
        "dial",
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("pages_a_week", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("from_ms"),
    )
    op.create_table(
        "judgement",
        sa.Column("alert", sa.String(length=16), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("real", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("alert"),
    )
    op.create_table(
        "outbox",
        sa.Column("alert", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("fresh", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("alert"),
    )
    op.create_index("outbox_fresh", "outbox", ["fresh"], unique=False)
    op.create_table(
        "route_lease",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "route_state",
        sa.Column("route", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("failing_ms", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("next_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("route"),
    )
    op.create_table(
        "silence",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("matcher", sa.Text(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("weekly", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("made_ms", sa.BigInteger(), nullable=False),
        sa.Column("expired_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )


def _sums() -> None:
    op.create_table(
        "rollup",
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("span", sa.String(length=1), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(length=16), nullable=False),
        sa.Column("reports", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("parts", sa.BigInteger(), nullable=False),
        sa.Column("same", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("cells", sa.LargeBinary(), nullable=False),
        sa.Column("infer", sa.LargeBinary(), nullable=False),
        sa.Column("quality", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device", "span", "start_ms", "model"),
        sqlite_with_rowid=False,
    )
    op.create_index("rollup_time", "rollup", ["span", "start_ms"], unique=False)
    op.create_table(
        "rollup_due",
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("start_ms", "device"),
    )


def _labels() -> None:
    op.create_table(
        "golden",
        sa.Column("part", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("claim", sa.Float(), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("part"),
    )
    op.create_table(
        "golden_run",
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=16), nullable=False),
        sa.Column("predicted", sa.String(length=64), nullable=False),
        sa.Column("recorded_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "at_ms", "part"),
    )
    op.create_table(
        "label",
        sa.Column("item", sa.String(length=96), nullable=False),
        sa.Column("annotator", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("labelled_ms", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=16), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("predicted", sa.Integer(), nullable=False),
        sa.Column("cell", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("item", "annotator"),
    )
    op.create_index("label_time", "label", ["at_ms", "device"], unique=False)
    op.create_table(
        "label_request",
        sa.Column("request", sa.String(length=16), nullable=False),
        sa.Column("sample", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=16), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("stratum", sa.Integer(), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("asked_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request", "sample"),
    )


def _retraining() -> None:
    op.create_table(
        "trigger",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("needed", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("candidate", sa.String(length=16), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("trigger_model", "trigger", ["model", "state"], unique=False)
    op.create_table(
        "approval",
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("before", sa.String(length=16), nullable=False),
        sa.Column("after", sa.String(length=16), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "number"),
    )
    op.create_table(
        "rollout",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "shadow_tally",
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("serving", sa.String(length=16), nullable=False),
        sa.Column("candidate", sa.String(length=16), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("counts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device", "serving", "candidate", "start_ms"),
    )
    op.create_index("shadow_time", "shadow_tally", ["candidate", "start_ms"], unique=False)
