"""Changes of written charges with their packets, and months that are certified."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "charge_changes",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("issuer_id", sa.String(128), nullable=False),
        sa.Column("patient", sa.String(256), nullable=False),
        sa.Column("charge_item", sa.String(256), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(24), nullable=False),
        sa.Column("holder", sa.String(64)),
        sa.Column("lease_until", MOMENT),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("problem", sa.Text),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
    )
    op.create_index("charge_changes_patient", "charge_changes", ["issuer_id", "patient"])
    op.create_table(
        "change_packets",
        sa.Column("change_id", sa.String(64), primary_key=True),
        sa.Column("issuer_id", sa.String(128), nullable=False),
        sa.Column("patient", sa.String(256), nullable=False),
        sa.Column("charge_item", sa.String(256), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("keep_until", sa.Date, nullable=False),
    )
    op.create_table(
        "months",
        sa.Column("issuer_id", sa.String(128), nullable=False),
        sa.Column("patient", sa.String(256), nullable=False),
        sa.Column("first_day", sa.Date, nullable=False),
        sa.Column("certified", sa.Boolean, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("issuer_id", "patient", "first_day"),
    )
    _refuse_changes()


def _refuse_changes() -> None:
    """The database refuses to rewrite a packet; only one past its date may be deleted."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER change_packets_no_update BEFORE UPDATE ON change_packets "
            "BEGIN SELECT RAISE(ABORT, 'change_packets is never changed'); END"
        )
        op.execute(
            "CREATE TRIGGER change_packets_no_delete BEFORE DELETE ON change_packets "
            "WHEN OLD.keep_until >= date('now') "
            "BEGIN SELECT RAISE(ABORT, 'change_packets are kept'); END"
        )
    elif op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER change_packets_no_update BEFORE UPDATE ON change_packets "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER change_packets_no_delete BEFORE DELETE ON change_packets FOR EACH ROW "
            "WHEN (OLD.keep_until >= CURRENT_DATE) EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    raise NotImplementedError("packets are never dropped by a migration")
