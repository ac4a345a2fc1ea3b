"""Sealed words of the EHR, the day a row may go, and guards against TRUNCATE.

Nothing that is there is changed: a migration has no key. Audit entries and problems that stand in the open
stay readable, and entries verifiable, as they are; `smartapp keys reseal` seals them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NEVER_CHANGED = ("audit", "charge_packets", "change_packets", "time_entries", "attestations")


def upgrade() -> None:
    for table in ("outbox", "charge_changes"):
        op.add_column(table, sa.Column("problem_sealed", sa.LargeBinary))
        op.add_column(table, sa.Column("keep_until", sa.Date))
    if op.get_bind().dialect.name == "postgresql":  # SQLite has no TRUNCATE
        for table in NEVER_CHANGED:
            op.execute(
                f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )


def downgrade() -> None:
    raise NotImplementedError("what was sealed is never put in the open again")
