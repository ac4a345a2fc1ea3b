"""The worklist: what people said of its rows, and files of it; and tokens of CDS clients."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "worklist_marks",
        sa.Column("issuer_id", sa.String(128), primary_key=True),
        sa.Column("patient", sa.String(256), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("person", sa.String(256), nullable=False),
        sa.Column("until", sa.Date(), nullable=True),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
    )
    op.create_table(
        "worklist_exports",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column(
            "session_id",
            sa.String(64),
            sa.ForeignKey("launch_sessions.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
    )
    op.create_index("ix_worklist_exports_session_id", "worklist_exports", ["session_id"])

    op.create_table(
        "cds_requests",
        sa.Column("issuer_id", sa.String(128), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("expires_at", MOMENT, nullable=False),
    )
    op.create_index("ix_cds_requests_expires_at", "cds_requests", ["expires_at"])


def downgrade() -> None:
    op.drop_table("cds_requests")
    op.drop_table("worklist_exports")
    op.drop_table("worklist_marks")
