"""How many requests each EHR was sent within the last minute, by all processes together."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "request_budgets",
        sa.Column("registration", sa.String(128), primary_key=True),
        sa.Column("begun", sa.Text, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("request_budgets")
