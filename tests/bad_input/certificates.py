"""A certificate authority and a broker's certificate, made anew for each test session."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Certificates", "certificates"]

PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """PEM files: the authority's certificate, and the key and certificates of a broker at 127.0.0.1."""

    authority: Path
    broker: Path


def certificates(folder: Path) -> Certificates:
    """New ones, in `folder`."""
    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "microstream test authority")])
    authority = (
        _lasting(name, name, root.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    at = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    broker = _lasting(subject, name, key.public_key()).add_extension(at, critical=False).sign(root, hashes.SHA256())
    secret = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made = Certificates(authority=folder / "authority.pem", broker=folder / "broker.pem")
    made.authority.write_bytes(authority.public_bytes(PEM))
    made.broker.write_bytes(secret + broker.public_bytes(PEM) + authority.public_bytes(PEM))
    return made


def _lasting(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
