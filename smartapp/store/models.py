"""The tables. `sealed` columns hold bytes of the `Vault`; nothing else here is secret or clinical.

The migration under `migrations/versions` creates exactly these (a test compares the two).
"""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from smartapp.store.database import UtcDateTime


class Base(DeclarativeBase):
    type_annotation_map = {datetime: UtcDateTime, bytes: LargeBinary}  # noqa: RUF012


class PendingLaunchRow(Base):
    """A launch between our redirect and the callback. `sealed` is erased when it is taken."""

    __tablename__ = "pending_launches"

    state_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    sealed: Mapped[bytes | None]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class LaunchSessionRow(Base):
    """A launch session; `sealed` is the record as it began, the columns are what changes."""

    __tablename__ = "launch_sessions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sealed: Mapped[bytes]
    last_seen: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(index=True)
    ended_because: Mapped[str | None] = mapped_column(String(32))


class TokenRow(Base):
    """The tokens of a session that has not ended; `version` is what compare-and-set compares."""

    __tablename__ = "tokens"

    session_id: Mapped[str] = mapped_column(
        ForeignKey("launch_sessions.id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int]
    sealed: Mapped[bytes]


class RefreshLeaseRow(Base):
    """Who may use a session's refresh token now, and until when."""

    __tablename__ = "refresh_leases"

    session_id: Mapped[str] = mapped_column(
        ForeignKey("launch_sessions.id", ondelete="CASCADE"), primary_key=True
    )
    holder: Mapped[str] = mapped_column(String(64))
    until: Mapped[datetime]


class ReadingJobRow(Base):
    """The reading of one chart: any process answers for its state, one process at a time does it."""

    __tablename__ = "reading_jobs"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("launch_sessions.id", ondelete="CASCADE"), index=True)
    state: Mapped[str] = mapped_column(String(16))
    holder: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int]
    progress: Mapped[str] = mapped_column(Text)
    """JSON: steps done and expected, resources so far. Counts only."""
    failure: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]


class SnapshotRow(Base):
    """What one reading found. Lives as long as its session."""

    __tablename__ = "snapshots"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("launch_sessions.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    sha256: Mapped[str] = mapped_column(String(64))
    sealed: Mapped[bytes]
    """The assessment and everything a page shows, as JSON."""


class SnapshotChunkRow(Base):
    """The resources of a snapshot as the EHR sent them, one row a search page."""

    __tablename__ = "snapshot_chunks"

    snapshot_id: Mapped[str] = mapped_column(ForeignKey("snapshots.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]


class EnrolmentRow(Base):
    """The anchor day of a program's 30-day periods. Frozen with the first accepted charge."""

    __tablename__ = "enrolments"

    issuer_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    patient: Mapped[str] = mapped_column(String(256), primary_key=True)
    program: Mapped[str] = mapped_column(String(16), primary_key=True)
    anchor_day: Mapped[date]
    source: Mapped[str] = mapped_column(String(32))
    confirmed_by: Mapped[str] = mapped_column(String(256))
    confirmed_at: Mapped[datetime]
    frozen: Mapped[bool]


class OutboxRow(Base):
    """One charge on its way to the EHR. `identifier` is deterministic: the same charge is the same row."""

    __tablename__ = "outbox"
    __table_args__ = (Index("outbox_patient", "issuer_id", "patient"),)

    identifier: Mapped[str] = mapped_column(String(256), primary_key=True)
    issuer_id: Mapped[str] = mapped_column(String(128))
    patient: Mapped[str] = mapped_column(String(256))
    code: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    holder: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    attempt: Mapped[int]
    sealed: Mapped[bytes]
    """The ChargeItem as it is (to be) sent and who confirmed what."""
    charge_item: Mapped[str | None] = mapped_column(String(256))
    problem: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class ChargePacketRow(Base):
    """The evidence of one written charge. Never changed; kept until `keep_until`."""

    __tablename__ = "charge_packets"
    __table_args__ = (UniqueConstraint("identifier", "charge_item", name="one_packet_a_charge"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    identifier: Mapped[str] = mapped_column(String(256))
    issuer_id: Mapped[str] = mapped_column(String(128))
    patient: Mapped[str] = mapped_column(String(256))
    charge_item: Mapped[str] = mapped_column(String(256))
    sha256: Mapped[str] = mapped_column(String(64))
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]
    keep_until: Mapped[date]


class TimeEntryRow(Base):
    """One version of an entry of the time log. Append-only: a correction is a new version."""

    __tablename__ = "time_entries"
    __table_args__ = (
        UniqueConstraint("entry_id", "version", name="one_row_a_version"),
        Index("time_entries_patient", "issuer_id", "patient"),
        Index("time_entries_person", "issuer_id", "person", "created_at"),
    )

    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    entry_id: Mapped[str] = mapped_column(String(36))
    version: Mapped[int]
    issuer_id: Mapped[str] = mapped_column(String(128))
    patient: Mapped[str] = mapped_column(String(256))
    person: Mapped[str] = mapped_column(String(256))
    """Reference of whose time it is, so that nobody is signed for with two patients at once."""
    state: Mapped[str] = mapped_column(String(16))
    sealed: Mapped[bytes]
    """When, who, what, the note, and who entered or signed it."""
    created_at: Mapped[datetime]


class RunningClockRow(Base):
    """A clock somebody started and has not stopped. One a person: nobody is in two conversations at once."""

    __tablename__ = "running_clocks"

    issuer_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    fhir_user: Mapped[str] = mapped_column(String(256), primary_key=True)
    patient: Mapped[str] = mapped_column(String(256))
    started_at: Mapped[datetime]


class AttestationRow(Base):
    """What somebody stated about a patient, or the revocation of it. Append-only."""

    __tablename__ = "attestations"
    __table_args__ = (
        UniqueConstraint("attestation_id", "state", name="stated_once_revoked_once"),
        Index("attestations_patient", "issuer_id", "patient"),
    )

    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    attestation_id: Mapped[str] = mapped_column(String(36))
    issuer_id: Mapped[str] = mapped_column(String(128))
    patient: Mapped[str] = mapped_column(String(256))
    state: Mapped[str] = mapped_column(String(16))
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]


class ChargeChangeRow(Base):
    """One change of a charge that was written: an update, a replacement, a withdrawal. `id` names the charge
    and the version that was read, so that two people who change the same version share one row."""

    __tablename__ = "charge_changes"
    __table_args__ = (Index("charge_changes_patient", "issuer_id", "patient"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    issuer_id: Mapped[str] = mapped_column(String(128))
    patient: Mapped[str] = mapped_column(String(256))
    charge_item: Mapped[str] = mapped_column(String(256))
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(24))
    holder: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    attempt: Mapped[int]
    sealed: Mapped[bytes]
    """The charge before and after, who confirmed it and why."""
    problem: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class ChangePacketRow(Base):
    """What one change wrote, and why. Never changed; kept until `keep_until`."""

    __tablename__ = "change_packets"

    change_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    issuer_id: Mapped[str] = mapped_column(String(128))
    patient: Mapped[str] = mapped_column(String(256))
    charge_item: Mapped[str] = mapped_column(String(256))
    sha256: Mapped[str] = mapped_column(String(64))
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]
    keep_until: Mapped[date]


class MonthRow(Base):
    """Whether a patient's calendar month is certified, and who said so last. The audit trail has the rest."""

    __tablename__ = "months"

    issuer_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    patient: Mapped[str] = mapped_column(String(256), primary_key=True)
    first_day: Mapped[date] = mapped_column(primary_key=True)
    certified: Mapped[bool]
    sealed: Mapped[bytes]
    """Who, and the reason of a reopening."""
    changed_at: Mapped[datetime]


class AuditRow(Base):
    """Who did what, when. Append-only; each entry's digest covers the one before."""

    __tablename__ = "audit"

    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    entry: Mapped[str] = mapped_column(Text)
    previous: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))


class AuditHeadRow(Base):
    """The last audit entry: one row, locked while the next entry is written."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
