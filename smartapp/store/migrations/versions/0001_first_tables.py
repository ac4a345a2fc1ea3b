"""The first tables: launches, reading, enrolments, outbox, packets, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
NEVER_CHANGED = ("audit", "charge_packets")


def _of_session() -> sa.Column[str]:
    return sa.Column(
        "session_id", sa.String(64), sa.ForeignKey("launch_sessions.id", ondelete="CASCADE"), nullable=False
    )


def upgrade() -> None:
    op.create_table(
        "pending_launches",
        sa.Column("state_digest", sa.String(64), primary_key=True),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("expires_at", MOMENT, nullable=False, index=True),
    )
    op.create_table(
        "launch_sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, index=True),
        sa.Column("ended_because", sa.String(32)),
    )
    op.create_table(
        "tokens",
        _of_session(),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("session_id"),
    )
    op.create_table(
        "refresh_leases",
        _of_session(),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("session_id"),
    )
    op.create_table(
        "reading_jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        _of_session(),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("holder", sa.String(64)),
        sa.Column("lease_until", MOMENT),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("progress", sa.Text, nullable=False),
        sa.Column("failure", sa.String(64)),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_index("ix_reading_jobs_session_id", "reading_jobs", ["session_id"])
    op.create_table(
        "snapshots",
        sa.Column("id", sa.String(32), primary_key=True),
        _of_session(),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_snapshots_session_id", "snapshots", ["session_id"])
    op.create_table(
        "snapshot_chunks",
        sa.Column(
            "snapshot_id", sa.String(32), sa.ForeignKey("snapshots.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("snapshot_id", "position"),
    )
    op.create_table(
        "enrolments",
        sa.Column("issuer_id", sa.String(128), nullable=False),
        sa.Column("patient", sa.String(256), nullable=False),
        sa.Column("program", sa.String(16), nullable=False),
        sa.Column("anchor_day", sa.Date, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("confirmed_by", sa.String(256), nullable=False),
        sa.Column("confirmed_at", MOMENT, nullable=False),
        sa.Column("frozen", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("issuer_id", "patient", "program"),
    )
    op.create_table(
        "outbox",
        sa.Column("identifier", sa.String(256), primary_key=True),
        sa.Column("issuer_id", sa.String(128), nullable=False),
        sa.Column("patient", sa.String(256), nullable=False),
        sa.Column("code", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("holder", sa.String(64)),
        sa.Column("lease_until", MOMENT),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("charge_item", sa.String(256)),
        sa.Column("problem", sa.Text),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
    )
    op.create_index("outbox_patient", "outbox", ["issuer_id", "patient"])
    op.create_table(
        "charge_packets",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("identifier", sa.String(256), nullable=False),
        sa.Column("issuer_id", sa.String(128), nullable=False),
        sa.Column("patient", sa.String(256), nullable=False),
        sa.Column("charge_item", sa.String(256), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("keep_until", sa.Date, nullable=False),
        sa.UniqueConstraint("identifier", "charge_item", name="one_packet_a_charge"),
    )
    op.create_table(
        "audit",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "position": 0, "digest": "0" * 64}])
    _refuse_changes()


def _refuse_changes() -> None:
    """The database refuses to rewrite audit and packets; only a packet past its date may be deleted."""
    if op.get_bind().dialect.name == "sqlite":
        for table in NEVER_CHANGED:
            op.execute(
                f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is never changed'); END"
            )
        op.execute(
            "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
            "BEGIN SELECT RAISE(ABORT, 'audit is never deleted'); END"
        )
        op.execute(
            "CREATE TRIGGER charge_packets_no_delete BEFORE DELETE ON charge_packets "
            "WHEN OLD.keep_until >= date('now') "
            "BEGIN SELECT RAISE(ABORT, 'charge_packets are kept'); END"
        )
    elif op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is never changed', TG_TABLE_NAME; END $$"
        )
        for table in NEVER_CHANGED:
            op.execute(
                f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
            )
        op.execute(
            "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER charge_packets_no_delete BEFORE DELETE ON charge_packets FOR EACH ROW "
            "WHEN (OLD.keep_until >= CURRENT_DATE) EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    raise NotImplementedError("audit and packets are never dropped by a migration")
