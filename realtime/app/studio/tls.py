"""TLS for other machines: a certificate of our own, made at first use."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from contextlib import suppress
from pathlib import Path

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import settings
from livepuppet.realtime.app.studio.access import names_of_this_computer

#: Days that a certificate is good for, and before whose end a new one is made.
DAYS, RENEWED_BEFORE = 397, 30


def certificate_path() -> Path:
    return settings.config_folder() / "studio-certificate.pem"


def key_path() -> Path:
    return settings.config_folder() / "studio-key.pem"


def certificate(address: str) -> tuple[Path, Path, str]:
    """Certificate, key and fingerprint for a server that listens at `address`. A new one is made where
    there is none, it does not name the address, or it ends soon.

    Returns:
        The two files, and SHA-256 of the certificate as browsers show it.

    Raises:
        UserError: the package that makes it is missing, or it cannot be written.
    """
    known = _known(address)
    data = _make(address) if known is None else known
    der = ssl.PEM_cert_to_DER_cert(data.decode())
    digest = hashlib.sha256(der).hexdigest().upper()
    return certificate_path(), key_path(), ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def own_certificate(path: Path, key: Path) -> tuple[str, tuple[str, ...]]:
    """Fingerprint of a certificate that somebody else has made (SHA-256), and the names that it is for, without wildcards.

    Args:
        path: the certificate, and those between it and its authority (PEM).
        key: its private key (PEM, without a passphrase).

    Raises:
        UserError: either cannot be used.
    """
    _check_pair(path, key)
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
    except ImportError as error:
        raise UserError("TLS needs the package cryptography: pip install 'livepuppet[studio]'.") from error

    found = x509.load_pem_x509_certificate(path.read_bytes())
    if found.not_valid_after_utc <= datetime.datetime.now(datetime.timezone.utc):
        raise UserError(f"The certificate {path} is no longer valid: renew it.")
    names: list[str] = []
    with suppress(x509.ExtensionNotFound):
        told = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [name.lower() for name in told.get_values_for_type(x509.DNSName) if "*" not in name]
    return found.fingerprint(hashes.SHA256()).hex(), tuple(names)


def _check_pair(path: Path, key: Path) -> None:
    def encrypted() -> str:
        raise UserError(f"The key {key} has a passphrase: give one without, that only you may read.")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key, password=encrypted)
    except OSError as error:
        if not isinstance(error, ssl.SSLError):
            raise UserError(
                f"Certificate or key cannot be read ({error.strerror}): {path if not path.is_file() else key}."
            ) from error
        raise UserError(
            f"{path} and {key} are no certificate and its key: both have to be PEM files, of each other."
        ) from error


def _known(address: str) -> bytes | None:
    try:
        from cryptography import x509
    except ImportError as error:
        raise UserError("TLS needs the package cryptography: pip install 'livepuppet[studio]'.") from error
    try:
        data = certificate_path().read_bytes()
        key_path().read_bytes()
        found = x509.load_pem_x509_certificate(data)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return None
    left = found.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
    covered = ipaddress.ip_address(address) in names.get_values_for_type(x509.IPAddress)
    return data if covered and left.days > RENEWED_BEFORE else None


def _make(address: str) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "livepuppet studio")])
    addresses = {ipaddress.ip_address(text) for text in ("127.0.0.1", "::1", address)}
    names = [
        x509.DNSName("localhost"),
        *(x509.DNSName(known) for known in sorted(names_of_this_computer()) if known.isascii()),
        *(x509.IPAddress(known) for known in addresses),
    ]
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    data = made.public_bytes(serialization.Encoding.PEM)
    settings.write_file(key_path(), secret, mode=0o600)
    settings.write_file(certificate_path(), data, mode=0o600)
    return data
