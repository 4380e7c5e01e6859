"""Tables of the monitor's store. SQLite, by SQLAlchemy Core.

Times are wall-clock milliseconds since 1970, model ids 16 hexadecimal digits, documents JSON.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

SCHEMA_VERSION = 2
METADATA = MetaData()

META = Table("meta", METADATA, Column("key", String(32), primary_key=True), Column("value", Text, nullable=False))

DEVICE = Table(
    "device",
    METADATA,
    Column("device", String(32), primary_key=True),
    Column("site", String(64), nullable=False),
    Column("line", String(64), nullable=False),
    Column("product", String(64), nullable=False),
    Column("imported", Boolean, nullable=False),
    Column("first_seen_ms", BigInteger),
    Column("last_report_ms", BigInteger),
    Column("session", BigInteger),
    Column("online", Boolean),
    Column("state_ms", BigInteger),
    Column("reason", String(32)),
    Column("model", String(16)),
    Column("agent", Text),
    Column("runtime", Text),
    Column("hardware", Text),
    Column("interval_ms", BigInteger),
    Column("reports", BigInteger, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("quality", Text),
    Column("batch", BigInteger, nullable=False, server_default="0"),
    comment="one row a device; site, line and product come from `devices import`, the rest from the device itself",
)

BOOT = Table(
    "boot",
    METADATA,
    Column("device", String(32), primary_key=True),
    Column("boot", BigInteger, primary_key=True),
    Column("offset_ms", BigInteger, nullable=False),
    comment="smallest (received - monotonic) of the live reports of a boot: repairs reports of a wrong clock",
)

SPOOL = Table(
    "spool",
    METADATA,
    Column("device", String(32), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("contiguous", BigInteger, nullable=False),
    Column("missing", BigInteger, nullable=False),
    comment="highest sequence with nothing missing below; `missing` counts sequences that the device no longer holds",
)

Index("device_place", DEVICE.c.site, DEVICE.c.line, DEVICE.c.device)

MODEL = Table(
    "model",
    METADATA,
    Column("model", String(16), primary_key=True),
    Column("name", Text, nullable=False),
    Column("runtime", Text, nullable=False),
    Column("precision", String(8), nullable=False),
    Column("labels", Text, nullable=False),
    Column("baseline", Text),
    Column("learned", Text),
    Column("bundle_sha256", String(64)),
    Column("imported_ms", BigInteger),
    comment="labels and baseline of every artifact; without a baseline, `learned` is what its first day showed",
)

REPORT = Table(
    "report",
    METADATA,
    Column("device", String(32), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("first", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("interval_ms", BigInteger, nullable=False),
    Column("model", String(16), nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("score", Float),
    Column("payload", LargeBinary, nullable=False),
    Column("batch", BigInteger, nullable=False, server_default="0"),
    Column("live", Boolean, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
    comment="every report once; `first` to `sequence` is the range that a merged one stands for; `batch` grows with "
    "every transaction: those over their device's `batch` are in none of its sums yet",
)
Index("report_batch", REPORT.c.batch, REPORT.c.frames)
Index("report_time", REPORT.c.device, REPORT.c.at_ms)

QUARANTINE = Table(
    "quarantine",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("received_ms", BigInteger, nullable=False),
    Column("topic", Text, nullable=False),
    Column("device", String(32)),
    Column("reason", Text, nullable=False),
    Column("times", Integer, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("payload", LargeBinary, nullable=False),
    comment="messages that cannot be read, equal ones once with a count, see fleet.quarantine",
)

DETECTOR = Table(
    "detector_state",
    METADATA,
    Column("device", String(32), primary_key=True),
    Column("model", String(16), primary_key=True),
    Column("updated_ms", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("peers", LargeBinary, nullable=False),
    Column("reading", Text, nullable=False),
    Column("hot", Boolean, nullable=False, server_default="0"),
    Column("alone", LargeBinary),
    comment="what the detector remembers, written with or after the reports that it saw; `reading` is its last word, "
    "`hot` says whether there is anything in it, `alone` is the memory of a device that is judged without peers too",
)
Index("detector_hot", DETECTOR.c.hot)

ALERT = Table(
    "alert",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("opened_ms", BigInteger, nullable=False),
    Column("closed_ms", BigInteger),
    Column("document", Text, nullable=False),
    comment="one contract Alert each",
)
Index("alert_closed", ALERT.c.closed_ms)

EVENT = Table(
    "event",
    METADATA,
    Column("device", String(32), primary_key=True),
    Column("boot", BigInteger, primary_key=True),
    Column("monotonic_ms", BigInteger, primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("asked_ms", BigInteger, nullable=False),
    Column("action", String(32), nullable=False),
    Column("target", Text, nullable=False),
    Column("done_ms", BigInteger),
    Column("outcome", Text, nullable=False),
    comment="what people asked for; `done_ms` is empty until the monitor has done it",
)

SAMPLE = Table(
    "sample",
    METADATA,
    Column("sha256", String(64), primary_key=True),
    Column("device", String(32), nullable=False),
    Column("model", String(16), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("cell", Integer, nullable=False),
    Column("reason", String(16), nullable=False),
    Column("probability", Float),
    Column("bytes", Integer, nullable=False),
    comment="a sealed picture each, its file in a folder, see fleet.samples.archive; `at_ms` is the device's own "
    "clock, `cell` is class * 24 + bin, `probability` that of a frame that was drawn",
)
Index("sample_device", SAMPLE.c.device, SAMPLE.c.received_ms)

REFERENCE = Table(
    "reference",
    METADATA,
    Column("device", String(32), primary_key=True),
    Column("model", String(16), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("learnt_ms", BigInteger),
    Column("document", LargeBinary),
    comment="a device's own normal: learnt from its reports since `since_ms`, once there are enough healthy ones",
)
Index("reference_due", REFERENCE.c.learnt_ms, REFERENCE.c.since_ms)

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("alert", String(16), primary_key=True),
    Column("revision", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("fresh", Boolean, nullable=False),
    comment="the last change of each alert that people are told of; `fresh` until every route knows that it is there",
)
Index("outbox_fresh", OUTBOX.c.fresh)

DELIVERY = Table(
    "delivery",
    METADATA,
    Column("route", String(64), primary_key=True),
    Column("alert", String(16), primary_key=True),
    Column("told", Text, nullable=False),
    Column("told_ms", BigInteger),
    Column("due_ms", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("failing_ms", BigInteger),
    Column("held", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("given_up_ms", BigInteger),
    comment="what a route was told of an alert last, and when it is to be looked at again; no `due_ms`: nothing to do",
)
Index("delivery_due", DELIVERY.c.route, DELIVERY.c.due_ms)
Index("delivery_alert", DELIVERY.c.alert)

ROUTE_STATE = Table(
    "route_state",
    METADATA,
    Column("route", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("sent", BigInteger, nullable=False),
    Column("sent_ms", BigInteger),
    Column("failures", BigInteger, nullable=False),
    Column("failing_ms", BigInteger),
    Column("error", Text, nullable=False),
    Column("next_ms", BigInteger),
    comment="how a route does: messages taken, since when it fails, and when it is tried again",
)

ROUTE_LEASE = Table(
    "route_lease",
    METADATA,
    Column("name", String(16), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    comment="which process delivers alerts",
)

SILENCE = Table(
    "silence",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("matcher", Text, nullable=False),
    Column("from_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("weekly", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("who", String(64), nullable=False),
    Column("made_ms", BigInteger, nullable=False),
    Column("expired_ms", BigInteger),
    Column("ended_ms", BigInteger),
    comment="silences, maintenance and change-over windows; `ended_ms` is the end of the last one dealt with",
)

ACKNOWLEDGEMENT = Table(
    "acknowledgement",
    METADATA,
    Column("alert", String(16), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(64), nullable=False),
    Column("note", Text, nullable=False),
    comment="who saw an alert, which stops escalation and reminders",
)

JUDGEMENT = Table(
    "judgement",
    METADATA,
    Column("alert", String(16), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(64), nullable=False),
    Column("real", Boolean, nullable=False),
    Column("note", Text, nullable=False),
    comment="whether there was something to be found where an alert said so",
)

DIAL = Table(
    "dial",
    METADATA,
    Column("from_ms", BigInteger, primary_key=True),
    Column("pages_a_week", Float, nullable=False),
    comment="false pages a week that were promised, from when on",
)

ROLLUP = Table(
    "rollup",
    METADATA,
    Column("device", String(32), primary_key=True),
    Column("span", String(1), primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    Column("model", String(16), primary_key=True),
    Column("reports", BigInteger, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("parts", BigInteger, nullable=False),
    Column("same", BigInteger, nullable=False),
    Column("score", Float),
    Column("cells", LargeBinary, nullable=False),
    Column("infer", LargeBinary, nullable=False),
    Column("quality", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
    comment="sums of an hour (span h) or a day (d) of a device and model; see fleet.rollup",
)
Index("rollup_time", ROLLUP.c.span, ROLLUP.c.start_ms)

ROLLUP_DUE = Table(
    "rollup_due",
    METADATA,
    Column("start_ms", BigInteger, primary_key=True),
    Column("device", String(32), primary_key=True),
    comment="hours of a device that were summed and are to be summed again, as a report came late",
)

LEASE = Table(
    "lease",
    METADATA,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("worker", String(64), nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    comment="who serves a shard until when, by the clock of the database; `term` grows whenever it changes hands",
)

WORKER = Table(
    "worker",
    METADATA,
    Column("worker", String(64), primary_key=True),
    Column("shards", Text, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    comment="workers that are alive; `shards` are those that one keeps to, empty for one that takes what is free",
)

PEER_SUM = Table(
    "peer_sum",
    METADATA,
    Column("worker", String(64), primary_key=True),
    Column("minute", BigInteger, primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("site", String(64), primary_key=True),
    Column("product", String(64), primary_key=True),
    Column("sums", LargeBinary, nullable=False),
    comment="what the devices of a worker saw together, float64 each, at the end of a minute, see fleet.peer_sums",
)
Index("peer_sum_minute", PEER_SUM.c.minute, PEER_SUM.c.model)

PEER_MINUTE = Table(
    "peer_minute",
    METADATA,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    comment="minutes of each shard whose sums are written",
)

SHARD = Table(
    "shard",
    METADATA,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("clean", BigInteger, nullable=False),
    Column("granted", BigInteger, nullable=False),
    comment="what is stored of each shard: all memory up to the batch `clean`, and requests up to `granted`",
)

LABEL = Table(
    "label",
    METADATA,
    Column("item", String(96), primary_key=True),
    Column("annotator", String(64), primary_key=True),
    Column("label", String(64), nullable=False),
    Column("labelled_ms", BigInteger, nullable=False),
    Column("device", String(32), nullable=False),
    Column("model", String(16), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("predicted", Integer, nullable=False),
    Column("cell", Integer),
    comment="what people say of a part, one row for each of them; `item` is a sample's digest or device@ms, `cell` is "
    "empty where only the predicted class is known; kept when the sample expires",
)
Index("label_time", LABEL.c.at_ms, LABEL.c.device)

LABEL_REQUEST = Table(
    "label_request",
    METADATA,
    Column("request", String(16), primary_key=True),
    Column("sample", String(64), primary_key=True),
    Column("device", String(32), nullable=False),
    Column("model", String(16), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("stratum", Integer, nullable=False),
    Column("probability", Float, nullable=False),
    Column("weight", Float, nullable=False),
    Column("asked_ms", BigInteger, nullable=False),
    comment="samples that were drawn to be labelled; `weight` is the share of the line's frames that each stands for",
)

GOLDEN = Table(
    "golden",
    METADATA,
    Column("part", String(64), primary_key=True),
    Column("label", String(64), nullable=False),
    Column("claim", Float, nullable=False),
    Column("added_ms", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    comment="parts of known class; `claim` is how often a healthy line answers each of them rightly, at least",
)

GOLDEN_RUN = Table(
    "golden_run",
    METADATA,
    Column("device", String(32), primary_key=True),
    Column("at_ms", BigInteger, primary_key=True),
    Column("part", String(64), primary_key=True),
    Column("model", String(16), nullable=False),
    Column("predicted", String(64), nullable=False),
    Column("recorded_ms", BigInteger, nullable=False),
    comment="what a line answered for a part of known class",
)

TRIGGER = Table(
    "trigger",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("model", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("needed", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("candidate", String(16), nullable=False),
    Column("document", Text, nullable=False),
    comment="one contract Trigger each, its state beside it; `needed` people approve it, `candidate` is the new model",
)
Index("trigger_model", TRIGGER.c.model, TRIGGER.c.state)

APPROVAL = Table(
    "approval",
    METADATA,
    Column("subject", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(64), nullable=False),
    Column("action", String(16), nullable=False),
    Column("before", String(16), nullable=False),
    Column("after", String(16), nullable=False),
    Column("why", Text, nullable=False),
    comment="who did what to a trigger or a rollout, in order; nothing is ever changed or taken away here",
)

ROLLOUT = Table(
    "rollout",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    comment="a bundle that is brought to a group of devices in waves, see fleet.rollouts.plan",
)

SHADOW_TALLY = Table(
    "shadow_tally",
    METADATA,
    Column("device", String(32), primary_key=True),
    Column("serving", String(16), primary_key=True),
    Column("candidate", String(16), primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    Column("counts", LargeBinary, nullable=False),
    comment="an hour of a candidate beside the model that serves, see fleet.shadow.tally",
)
Index("shadow_time", SHADOW_TALLY.c.candidate, SHADOW_TALLY.c.start_ms)
