"""By what a charge is found in its month, and what payers denied.

Charges that are there keep these columns empty: a migration has no key. Whoever opens the month of all
charges has them filled in.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", sa.Column("service_date", sa.Date))
    op.add_column("outbox", sa.Column("method", sa.String(32)))
    op.add_column("outbox", sa.Column("performer", sa.String(256)))
    op.add_column("outbox", sa.Column("payer", sa.String(64)))
    op.add_column("outbox", sa.Column("units", sa.Integer))
    # All that a month is counted by: rows hold much more, and none of it is read for that.
    op.create_index(
        "outbox_month",
        "outbox",
        ["issuer_id", "service_date", "state", "method", "performer", "payer", "units"],
    )
    op.create_table(
        "denials",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("denial_id", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("identifier", sa.String(256), nullable=False),
        sa.Column("issuer_id", sa.String(128), nullable=False),
        sa.Column("patient", sa.String(256), nullable=False),
        sa.Column("denied_on", sa.Date, nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("remark", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("denial_id", "version", name="one_row_a_version_of_a_denial"),
    )
    op.create_index("denials_charge", "denials", ["identifier"])
    op.create_index("denials_patient", "denials", ["issuer_id", "patient"])
    _refuse_changes()


def _refuse_changes() -> None:
    """The database refuses to rewrite or delete what was recorded."""
    dialect = op.get_bind().dialect.name
    for action in ("update", "delete"):
        if dialect == "sqlite":
            op.execute(
                f"CREATE TRIGGER denials_no_{action} BEFORE {action.upper()} ON denials "
                "BEGIN SELECT RAISE(ABORT, 'denials is never changed'); END"
            )
        elif dialect == "postgresql":
            op.execute(
                f"CREATE TRIGGER denials_no_{action} BEFORE {action.upper()} ON denials "
                "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
            )
    if dialect == "postgresql":  # SQLite has no TRUNCATE
        op.execute(
            "CREATE TRIGGER denials_no_truncate BEFORE TRUNCATE ON denials "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    raise NotImplementedError("what was recorded is never dropped by a migration")
