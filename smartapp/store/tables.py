"""The tables. Every column of bytes holds a seal of the `Vault`, bound to its row (`sealed_column`); so does
`audit.entry`, as text.

What else stands here is what rows are found by: logical ids of patients and people, codes, states, payers'
short names, and days and moments (when a program's periods begin, which month is certified, when a clock was
started). No name, no
number, no reading, nobody's words.

Plain tables, no mapped classes: every statement is written out where it is used. The migrations under
`migrations/versions` create exactly these (a test compares the two).
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from smartapp.store.database import UtcDateTime
from smartapp.store.vault import sealed_column

METADATA = MetaData()

# A launch between our redirect and the callback. `sealed` is erased when it is taken.
PENDING_LAUNCHES = Table(
    "pending_launches",
    METADATA,
    Column("state_digest", String(64), primary_key=True),
    sealed_column("sealed", "state_digest", nullable=True),
    Column("expires_at", UtcDateTime(), index=True, nullable=False),
)


# A launch session; `sealed` is the record as it began, the columns are what changes.
LAUNCH_SESSIONS = Table(
    "launch_sessions",
    METADATA,
    Column("id", String(64), primary_key=True),
    sealed_column("sealed", "id"),
    Column("last_seen", UtcDateTime(), nullable=False),
    Column("expires_at", UtcDateTime(), nullable=False),
    Column("ended_at", UtcDateTime(), index=True, nullable=True),
    Column("ended_because", String(32), nullable=True),
)


# The tokens of a session that has not ended; `version` is what compare-and-set compares.
TOKENS = Table(
    "tokens",
    METADATA,
    Column("session_id", String(64), ForeignKey("launch_sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer(), nullable=False),
    sealed_column("sealed", "session_id"),
)


# Who may use a session's refresh token now, and until when.
REFRESH_LEASES = Table(
    "refresh_leases",
    METADATA,
    Column("session_id", String(64), ForeignKey("launch_sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until", UtcDateTime(), nullable=False),
)


# The reading of one chart: any process answers for its state, one process at a time does it.
READING_JOBS = Table(
    "reading_jobs",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column(
        "session_id",
        String(64),
        ForeignKey("launch_sessions.id", ondelete="CASCADE"),
        index=True,
        nullable=False,
    ),
    Column("state", String(16), nullable=False),
    Column("holder", String(64), nullable=True),
    Column("lease_until", UtcDateTime(), nullable=True),
    Column("attempts", Integer(), nullable=False),
    # JSON: steps done and expected, resources so far. Counts only.
    Column("progress", Text, nullable=False),
    Column("failure", String(64), nullable=True),
    Column("created_at", UtcDateTime(), nullable=False),
    Column("whole", Boolean(), nullable=False, server_default=false()),
)


# What one reading found. Lives as long as its session.
SNAPSHOTS = Table(
    "snapshots",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column(
        "session_id",
        String(64),
        ForeignKey("launch_sessions.id", ondelete="CASCADE"),
        index=True,
        nullable=False,
    ),
    Column("created_at", UtcDateTime(), nullable=False),
    Column("sha256", String(64), nullable=False),
    # The assessment and everything a page shows, as JSON.
    sealed_column("sealed", "id", "session_id"),
)


# The resources of a snapshot as the EHR sent them, one row a search page.
SNAPSHOT_CHUNKS = Table(
    "snapshot_chunks",
    METADATA,
    Column("snapshot_id", String(32), ForeignKey("snapshots.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer(), primary_key=True),
    sealed_column("sealed", "snapshot_id", "position"),
)


# The anchor day of a program's 30-day periods. Frozen with the first accepted charge.
ENROLMENTS = Table(
    "enrolments",
    METADATA,
    Column("issuer_id", String(128), primary_key=True),
    Column("patient", String(256), primary_key=True),
    Column("program", String(16), primary_key=True),
    Column("anchor_day", Date(), nullable=False),
    Column("source", String(32), nullable=False),
    Column("confirmed_by", String(256), nullable=False),
    Column("confirmed_at", UtcDateTime(), nullable=False),
    Column("frozen", Boolean(), nullable=False),
)


# One charge on its way to the EHR. `identifier` is deterministic: the same charge is the same row.
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("identifier", String(256), primary_key=True),
    Column("issuer_id", String(128), nullable=False),
    Column("patient", String(256), nullable=False),
    Column("code", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("holder", String(64), nullable=True),
    Column("lease_until", UtcDateTime(), nullable=True),
    Column("attempt", Integer(), nullable=False),
    # The ChargeItem as it is (to be) sent and who confirmed what.
    sealed_column("sealed", "identifier", "issuer_id", "patient", "code"),
    Column("charge_item", String(256), nullable=True),
    # In the open only in rows from before revision 0004, until `smartapp keys reseal`.
    Column("problem", Text, nullable=True),
    Column("created_at", UtcDateTime(), nullable=False),
    Column("changed_at", UtcDateTime(), nullable=False),
    # The EHR's own words, which may name somebody.
    sealed_column("problem_sealed", "identifier", nullable=True),
    # The same day as in the content; of older rows nobody knows it without the key.
    Column("keep_until", Date(), nullable=True),
    # By what a charge is found in its month, as its content says it; of rows from before revision 0007 nobody
    # knows it until `Billing.fill_in`.
    Column("service_date", Date(), nullable=True),
    Column("method", String(32), nullable=True),
    Column("performer", String(256), nullable=True),
    Column("payer", String(64), nullable=True),
    # What the EHR was told last.
    Column("units", Integer(), nullable=True),
    Index("outbox_patient", "issuer_id", "patient"),
    # All that a month is counted by: rows hold much more, and none of it is read for that.
    Index("outbox_month", "issuer_id", "service_date", "state", "method", "performer", "payer", "units"),
)


# One version of what a payer denied of a charge. Append-only: what was done about it, and taking it back, are
# new versions. `reason` and `remark` are codes of a remittance, never its text.
DENIALS = Table(
    "denials",
    METADATA,
    Column("position", Integer(), primary_key=True, autoincrement=True),
    # Made of charge, day and codes: the same denial is the same one.
    Column("denial_id", String(64), nullable=False),
    Column("version", Integer(), nullable=False),
    # Of the charge.
    Column("identifier", String(256), nullable=False),
    Column("issuer_id", String(128), nullable=False),
    Column("patient", String(256), nullable=False),
    Column("denied_on", Date(), nullable=False),
    Column("reason", String(16), nullable=False),
    Column("remark", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    # The note, and who recorded it.
    sealed_column("sealed", "denial_id", "version", "identifier", "state"),
    Column("created_at", UtcDateTime(), nullable=False),
    UniqueConstraint("denial_id", "version", name="one_row_a_version_of_a_denial"),
    Index("denials_charge", "identifier"),
    Index("denials_patient", "issuer_id", "patient"),
)


# The evidence of one written charge. Never changed; kept until `keep_until`.
CHARGE_PACKETS = Table(
    "charge_packets",
    METADATA,
    Column("id", Integer(), primary_key=True, autoincrement=True),
    Column("identifier", String(256), nullable=False),
    Column("issuer_id", String(128), nullable=False),
    Column("patient", String(256), nullable=False),
    Column("charge_item", String(256), nullable=False),
    Column("sha256", String(64), nullable=False),
    sealed_column("sealed", "identifier", "issuer_id", "patient", "charge_item"),
    Column("created_at", UtcDateTime(), nullable=False),
    Column("keep_until", Date(), nullable=False),
    UniqueConstraint("identifier", "charge_item", name="one_packet_a_charge"),
)


# One version of an entry of the time log. Append-only: a correction is a new version.
TIME_ENTRIES = Table(
    "time_entries",
    METADATA,
    Column("position", Integer(), primary_key=True, autoincrement=True),
    Column("entry_id", String(36), nullable=False),
    Column("version", Integer(), nullable=False),
    Column("issuer_id", String(128), nullable=False),
    Column("patient", String(256), nullable=False),
    # Reference of whose time it is, so that nobody is signed for with two patients at once.
    Column("person", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    # When, who, what, the note, and who entered or signed it.
    sealed_column("sealed", "entry_id", "version", "issuer_id", "patient", "state"),
    Column("created_at", UtcDateTime(), nullable=False),
    UniqueConstraint("entry_id", "version", name="one_row_a_version"),
    Index("time_entries_patient", "issuer_id", "patient"),
    Index("time_entries_person", "issuer_id", "person", "created_at"),
)


# How many requests each EHR was sent within a minute, by all processes: JSON, the moment and how many.
REQUEST_BUDGETS = Table(
    "request_budgets",
    METADATA,
    # The entry in the issuers file.
    Column("registration", String(128), primary_key=True),
    Column("begun", Text, nullable=False),
)


# A clock somebody started and has not stopped. One a person: nobody is in two conversations at once.
RUNNING_CLOCKS = Table(
    "running_clocks",
    METADATA,
    Column("issuer_id", String(128), primary_key=True),
    Column("fhir_user", String(256), primary_key=True),
    Column("patient", String(256), nullable=False),
    Column("started_at", UtcDateTime(), nullable=False),
)


# What somebody stated about a patient (an attestation, an episode of care, how a reason for review was
# settled), or the revocation of it.
# Append-only.
ATTESTATIONS = Table(
    "attestations",
    METADATA,
    Column("position", Integer(), primary_key=True, autoincrement=True),
    Column("attestation_id", String(36), nullable=False),
    Column("issuer_id", String(128), nullable=False),
    Column("patient", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    sealed_column("sealed", "attestation_id", "issuer_id", "patient", "state"),
    Column("created_at", UtcDateTime(), nullable=False),
    UniqueConstraint("attestation_id", "state", name="stated_once_revoked_once"),
    Index("attestations_patient", "issuer_id", "patient"),
)


# One change of a charge that was written: an update, a replacement, a withdrawal. `id` names the charge
# and the version that was read, so that two people who change the same version share one row.
CHARGE_CHANGES = Table(
    "charge_changes",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("issuer_id", String(128), nullable=False),
    Column("patient", String(256), nullable=False),
    Column("charge_item", String(256), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(24), nullable=False),
    Column("holder", String(64), nullable=True),
    Column("lease_until", UtcDateTime(), nullable=True),
    Column("attempt", Integer(), nullable=False),
    # The charge before and after, who confirmed it and why.
    sealed_column("sealed", "id", "issuer_id", "patient", "charge_item"),
    # In the open only in rows from before revision 0004, until `smartapp keys reseal`.
    Column("problem", Text, nullable=True),
    Column("created_at", UtcDateTime(), nullable=False),
    Column("changed_at", UtcDateTime(), nullable=False),
    # The EHR's own words, which may name somebody.
    sealed_column("problem_sealed", "id", nullable=True),
    # The same day as in the content; of older rows nobody knows it without the key.
    Column("keep_until", Date(), nullable=True),
    Index("charge_changes_patient", "issuer_id", "patient"),
)


# What one change wrote, and why. Never changed; kept until `keep_until`.
CHANGE_PACKETS = Table(
    "change_packets",
    METADATA,
    Column("change_id", String(64), primary_key=True),
    Column("issuer_id", String(128), nullable=False),
    Column("patient", String(256), nullable=False),
    Column("charge_item", String(256), nullable=False),
    Column("sha256", String(64), nullable=False),
    sealed_column("sealed", "change_id", "issuer_id", "patient", "charge_item"),
    Column("created_at", UtcDateTime(), nullable=False),
    Column("keep_until", Date(), nullable=False),
)


# Whether a patient's calendar month is certified, and who said so last. The audit trail has the rest.
MONTHS = Table(
    "months",
    METADATA,
    Column("issuer_id", String(128), primary_key=True),
    Column("patient", String(256), primary_key=True),
    Column("first_day", Date(), primary_key=True),
    Column("certified", Boolean(), nullable=False),
    # Who, and the reason of a reopening.
    sealed_column("sealed", "issuer_id", "patient", "first_day"),
    Column("changed_at", UtcDateTime(), nullable=False),
)


# What somebody said of a patient on the worklist last: taken, called, put off, done. `digest`: of what the
# row told then. The audit trail has the rest.
WORKLIST_MARKS = Table(
    "worklist_marks",
    METADATA,
    Column("issuer_id", String(128), primary_key=True),
    Column("patient", String(256), primary_key=True),
    # What compare-and-set compares: of two people at once one is told.
    Column("version", Integer(), nullable=False),
    Column("kind", String(16), nullable=False),
    # Reference of who said it.
    Column("person", String(256), nullable=False),
    Column("until", Date(), nullable=True),
    Column("digest", String(32), nullable=False),
    # What they are called.
    sealed_column("sealed", "issuer_id", "patient"),
    Column("changed_at", UtcDateTime(), nullable=False),
)


# A file on its way, of a worklist or of a month of charges (it is named for the first one there was): any
# process answers for its state, the one that began it does it.
WORKLIST_EXPORTS = Table(
    "worklist_exports",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column(
        "session_id",
        String(64),
        ForeignKey("launch_sessions.id", ondelete="CASCADE"),
        index=True,
        nullable=False,
    ),
    Column("state", String(16), nullable=False),
    # JSON: which file it is, patients asked about and rows so far. Counts only.
    Column("progress", Text, nullable=False),
    # The file, once it is whole.
    sealed_column("sealed", "id", "session_id", nullable=True),
    Column("created_at", UtcDateTime(), nullable=False),
    Column("changed_at", UtcDateTime(), nullable=False),
)


# Tokens of CDS clients that were taken, so that none is taken twice: of each a digest, until it is over.
CDS_REQUESTS = Table(
    "cds_requests",
    METADATA,
    Column("issuer_id", String(128), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("expires_at", UtcDateTime(), index=True, nullable=False),
)


# Who did what, when. Append-only; each entry's digest covers the one before. `entry` is one of the forms of
# `smartapp.store.chain`.
AUDIT = Table(
    "audit",
    METADATA,
    Column("position", Integer(), primary_key=True, autoincrement=False),
    Column("at", UtcDateTime(), nullable=False),
    sealed_column("entry", "position", type_=Text),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
)


# The last audit entry: one row, locked while the next entry is written.
AUDIT_HEAD = Table(
    "audit_head",
    METADATA,
    Column("id", Integer(), primary_key=True, autoincrement=False),
    Column("position", Integer(), nullable=False),
    Column("digest", String(64), nullable=False),
)
