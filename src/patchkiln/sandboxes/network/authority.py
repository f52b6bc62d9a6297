"""The certificate authority of one server's sandboxes: made at its start, gone at its end.

For hosts whose credential the server adds to requests, and for no other: there it has to speak TLS
with the program inside. The keys never leave this process, and the certificate is believed inside
sandboxes alone.
"""

import datetime as dt
import ipaddress
import os
import ssl
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from patchkiln.sandboxes.network.names import is_address

_DAYS = 3650  # longer than any server runs: it cannot be renewed inside living sandboxes
_SKEW = dt.timedelta(days=1)
_MAX_HOSTS = 256
_NAME = "Patchkiln sandbox proxy"
_MAX_COMMON_NAME_CHARS = 64
# Where distributions keep what OpenSSL's own directory of hashed names holds too.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class Authority:
    """Makes certificates for hosts, on demand."""

    def __init__(self) -> None:
        """Begin without a key: most servers never need one."""
        self._contexts: dict[str, ssl.SSLContext] = {}

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def _certificate(self) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        key = self._key.public_key()
        return (
            _certificate(_NAME, _NAME, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def bundle(self) -> bytes:
        """Return what programs inside are to believe: this machine's authorities, and this one."""
        own = self._certificate.public_bytes(serialization.Encoding.PEM)
        return _system_bundle() + b"\n" + own

    def context(self, host: str) -> ssl.SSLContext:
        """Return the server's side of TLS for a host, name or address."""
        if host not in self._contexts:
            if len(self._contexts) == _MAX_HOSTS:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[host] = self._make_context(host)
        return self._contexts[host]

    def _make_context(self, host: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        alternative: x509.GeneralName = (
            x509.IPAddress(ipaddress.ip_address(host)) if is_address(host) else x509.DNSName(host)
        )
        certificate = (
            _certificate(host[:_MAX_COMMON_NAME_CHARS], _NAME, key.public_key())
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        _load(context, key, certificate)
        return context


def upstream_context() -> ssl.SSLContext:
    """Return the client's side of TLS: this machine's authorities, names checked."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _certificate(
    subject: str, issuer: str, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return x509.CertificateBuilder(
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]),
        issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _SKEW,
        not_valid_after=now + dt.timedelta(days=_DAYS),
    )


def _load(
    context: ssl.SSLContext, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    """Hand over key and certificate in memory: the only way in is by a file's name."""
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    memory = os.memfd_create("certificate")
    try:
        os.write(memory, secret + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)


def _system_bundle() -> bytes:
    named: str | None = ssl.get_default_verify_paths().cafile
    for place in (*((named,) if named else ()), *_BUNDLES):
        if Path(place).is_file():
            return Path(place).read_bytes()
    loaded = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, loaded)).encode()
