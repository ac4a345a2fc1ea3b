"""Time logged in this app, running clocks, and attestations. Entries and attestations are never rewritten."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
NEVER_CHANGED = ("time_entries", "attestations")


def upgrade() -> None:
    op.create_table(
        "time_entries",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("entry_id", sa.String(36), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("issuer_id", sa.String(128), nullable=False),
        sa.Column("patient", sa.String(256), nullable=False),
        sa.Column("person", sa.String(256), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.UniqueConstraint("entry_id", "version", name="one_row_a_version"),
    )
    op.create_index("time_entries_patient", "time_entries", ["issuer_id", "patient"])
    op.create_index("time_entries_person", "time_entries", ["issuer_id", "person", "created_at"])
    op.create_table(
        "running_clocks",
        sa.Column("issuer_id", sa.String(128), nullable=False),
        sa.Column("fhir_user", sa.String(256), nullable=False),
        sa.Column("patient", sa.String(256), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("issuer_id", "fhir_user"),
    )
    op.create_table(
        "attestations",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("attestation_id", sa.String(36), nullable=False),
        sa.Column("issuer_id", sa.String(128), nullable=False),
        sa.Column("patient", sa.String(256), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.UniqueConstraint("attestation_id", "state", name="stated_once_revoked_once"),
    )
    op.create_index("attestations_patient", "attestations", ["issuer_id", "patient"])
    _refuse_changes()


def _refuse_changes() -> None:
    """The database refuses to rewrite or delete what somebody logged or stated."""
    for table in NEVER_CHANGED:
        for action in ("update", "delete"):
            if op.get_bind().dialect.name == "sqlite":
                op.execute(
                    f"CREATE TRIGGER {table}_no_{action} BEFORE {action.upper()} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is never changed'); END"
                )
            elif op.get_bind().dialect.name == "postgresql":
                op.execute(
                    f"CREATE TRIGGER {table}_no_{action} BEFORE {action.upper()} ON {table} "
                    "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
                )


def downgrade() -> None:
    raise NotImplementedError("what was logged and stated is never dropped by a migration")
