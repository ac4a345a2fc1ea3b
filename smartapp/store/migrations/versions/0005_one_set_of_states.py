"""A change that the EHR holds is called "confirmed", as a charge that it holds is."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE charge_changes SET state = 'confirmed' WHERE state = 'done'")


def downgrade() -> None:
    op.execute("UPDATE charge_changes SET state = 'done' WHERE state = 'confirmed'")
