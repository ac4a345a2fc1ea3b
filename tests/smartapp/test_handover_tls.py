"""Messages over MLLP with TLS: an authority made here, an engine with its certificate, and wrong ones."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from launch.http import Limits
from smartapp.configuration.handover import Mllp
from smartapp.ehr.handover.mllp import send_message
from smartapp.ehr.wire.sending import Fate
from tests.support.mllp import listening

MESSAGE = b"MSH|^~\\&|SMARTRM||ENGINE||20260401||DFT^P03|M1|P|2.5.1\rPID|1||MRN-1\r"
LIMITS = Limits(connect=10, read=10, total=10)
LONG_AGO, SOON_ENOUGH, FAR_AHEAD = (datetime(year, 1, 1, tzinfo=UTC) for year in (2020, 2021, 2099))

MAY_SIGN = x509.KeyUsage(
    **dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "encipher_only", "decipher_only"),
        ),
        False,
    ),
    key_cert_sign=True,
    crl_sign=True,
)


class Authority:
    """A certificate authority of one test."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._made(
            self._name, self._key, FAR_AHEAD, x509.BasicConstraints(ca=True, path_length=None), MAY_SIGN
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(own.public_bytes(Encoding.PEM))

    def engine(self, host: str = "127.0.0.1", until: datetime = FAR_AHEAD) -> ssl.SSLContext:
        """What an engine with a certificate for this host serves with."""
        key = ec.generate_private_key(ec.SECP256R1())
        named = x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "engine")])
        made = self._made(subject, key, until, x509.SubjectAlternativeName([named]))
        file = self._folder / "engine.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(private + made.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _made(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        until: datetime,
        *extensions: x509.ExtensionType,
    ) -> x509.Certificate:
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(LONG_AGO)
            .not_valid_after(until)
            # Without these, and an authority's KeyUsage, Python trusts no certificate from 3.13 on.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        for extension in extensions:
            critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
            made = made.add_extension(extension, critical=critical)
        return made.sign(self._key, hashes.SHA256())


@pytest.fixture
def hospital(tmp_path):
    return Authority(tmp_path, "hospital")


def sent_to(engine, ca_file):
    way = Mllp("127.0.0.1", engine.port, ca_file=str(ca_file) if ca_file else None)
    return send_message(way, MESSAGE, "M1", LIMITS)


def test_an_engine_with_a_certificate_of_the_sites_own_authority_gets_the_message_and_acknowledges(hospital):
    with listening(context=hospital.engine()) as engine:
        assert sent_to(engine, hospital.file).fate is Fate.TAKEN
        assert engine.received == [MESSAGE]


def test_its_refusal_and_its_silence_mean_what_they_mean_without_tls(hospital):
    with listening("reject", hospital.engine()) as engine:
        assert sent_to(engine, hospital.file).fate is Fate.REFUSED
    with listening("drop", hospital.engine()) as engine:
        assert sent_to(engine, hospital.file).fate is Fate.IN_DOUBT


@pytest.mark.parametrize(
    ("wrong", "how"),
    [
        ("another-authority", {}),
        ("hospital", {"host": "engine.example"}),
        ("hospital", {"host": "127.0.0.2"}),
        ("hospital", {"until": SOON_ENOUGH}),
    ],
)
def test_with_a_wrong_certificate_no_byte_of_the_message_leaves(tmp_path, hospital, wrong, how):
    signed_by = hospital if wrong == "hospital" else Authority(tmp_path, wrong)
    with listening(context=signed_by.engine(**how)) as engine:
        sent = sent_to(engine, hospital.file)
        assert sent.fate is Fate.REFUSED, "nothing left: it may be tried again"
        assert "could not be reached" in sent.problem
        assert engine.received == []


def test_an_authority_that_nobody_named_is_not_believed(hospital):
    with listening(context=hospital.engine()) as engine:
        assert sent_to(engine, None).fate is Fate.REFUSED
        assert engine.received == []
