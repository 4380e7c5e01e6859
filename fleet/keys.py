"""The fleet's keys in one folder: an authority and its certificates, a key that signs, one that samples are sealed to.

    authority.pem .key     gives out all certificates
    broker.pem .key        for the broker's own names and addresses
    fleet.pem .key         of the monitor
    workers/NAME.pem .key  of each further worker of it
    operator.pem .key      of who configures devices and gives them commands
    monitor.pem .key       of the monitor as a server, which devices send samples to
    devices/NAME.pem .key  of each device
    revoked.pem            those that hold no longer; the broker reads it
    signing.key .pub       Ed25519, for configuration and commands; devices know .pub
    samples.key .pub       X25519, for pictures that devices keep; devices know .pub
    acl, mosquitto.conf    with which Mosquitto lets every device speak for itself alone

The folder is to lie where no device and no broker can read it; each gets the files that are its own.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_agent.contract import topics
from device_agent.contract.errors import BadInput, NotFound, NotWritable
from device_agent.contract.files import write_whole

MONITOR, OPERATOR = "lineside-fleet", "lineside-operator"
YEARS = 10
_DAY = timedelta(days=1)
_PEM = serialization.Encoding.PEM
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | x25519.X25519PrivateKey


class Issued(NamedTuple):
    """A certificate that the authority gave out: to whom, until when (UTC), and when it was taken back."""

    name: str
    serial: int
    ends: datetime
    revoked: datetime | None


def create(folder: Path, hosts: Sequence[str], now: datetime) -> None:
    """A new authority with the keys of broker and monitor, in a folder that has none.

    Args:
        hosts: names and addresses under which the broker is reached.

    Raises:
        BadInput: the folder holds keys already, or no host is given.
        NotWritable: it cannot be written.
    """
    if (folder / "authority.key").exists():
        raise BadInput(f"{folder}: holds the keys of a fleet already; name another folder")
    if not hosts:
        raise BadInput("name the broker's host, as devices call it: --host broker.example")
    _private(folder)
    authority = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"lineside fleet authority {secrets.token_hex(4)}")  # of its own: others are then told as unknown
    made = (
        _builder(name, name, authority.public_key(), now, now + YEARS * 365 * _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .sign(authority, hashes.SHA256())
    )
    write_whole(folder / "authority.pem", made.public_bytes(_PEM))
    for each, key in (
        ("signing", ed25519.Ed25519PrivateKey.generate()),
        ("samples", x25519.X25519PrivateKey.generate()),
    ):
        _write_key(folder / f"{each}.key", key)
        public = key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        write_whole(folder / f"{each}.pub", public)
    _write_key(folder / "authority.key", authority)  # last: with it the folder is a fleet's
    _certify(folder, folder / "broker", hosts[0], now, days=YEARS * 365, hosts=hosts)
    _certify(folder, folder / "fleet", MONITOR, now, days=YEARS * 365)
    _certify(folder, folder / "operator", OPERATOR, now, days=YEARS * 365)
    _write_revoked(folder, [], now)
    write_whole(folder / "acl", ACL)
    write_whole(folder / "mosquitto.conf", MOSQUITTO)


def certify_device(folder: Path, device: str, now: datetime, *, days: int) -> Path:
    """Certificate and key of a device, DEVICE.pem and DEVICE.key; the path without suffix. One that it had is replaced,
    and taken back.

    Raises:
        BadInput: no device id, or the monitor's name.
        NotFound: the folder holds no fleet's keys.
    """
    topics.check_device(device)
    if device == OPERATOR or device.startswith(MONITOR):
        raise BadInput(f"{device!r} is a name of the fleet's own")
    _authority(folder)
    path = folder / "devices" / device
    if path.with_suffix(".pem").exists():
        revoke(folder, device, now)
    _private(path.parent)
    _certify(folder, path, device, now, days=days)
    return path


def certify_worker(folder: Path, worker: str, now: datetime) -> Path:
    """Certificate and key of a further worker of the monitor, who may do what the monitor may; the path without suffix.
    The broker ends a connection when another one comes with the same certificate, so each worker needs its own.

    Raises:
        BadInput: no name of a worker: lineside-fleet- and up to 17 of a-z, 0-9 and '-'.
        NotFound: the folder holds no fleet's keys.
    """
    topics.check_device(worker)
    if not worker.startswith(f"{MONITOR}-"):
        raise BadInput(f"worker {worker!r}: must begin with {MONITOR}-, for example {MONITOR}-2")
    _authority(folder)
    path = folder / "workers" / worker
    _private(path.parent)
    _certify(folder, path, worker, now, days=YEARS * 365)
    names = sorted(each.stem for each in path.parent.glob("*.pem"))
    write_whole(folder / "acl", ACL + "".join(f"\nuser {name}\ntopic readwrite {topics.ROOT}/#\n" for name in names))
    return path


def certify_monitor(folder: Path, hosts: Sequence[str], now: datetime) -> Path:
    """Certificate and key with which the monitor serves HTTPS under the names and addresses `hosts`; the path without
    suffix. One that was there is replaced.

    Raises:
        BadInput: no host is given.
        NotFound: the folder holds no fleet's keys.
    """
    if not hosts:
        raise BadInput("name the monitor's host, as devices call it: --host monitor.example")
    path = folder / "monitor"
    _certify(folder, path, hosts[0], now, days=YEARS * 365, hosts=hosts)
    return path


def revoke(folder: Path, device: str, now: datetime) -> None:
    """Take the certificate of a device back. The broker learns of it when it reads revoked.pem again.

    Raises:
        NotFound: it has none.
    """
    path = folder / "devices" / f"{device}.pem"
    if not path.exists():
        raise NotFound(f"{folder}: has no certificate of {device!r}")
    serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
    gone = [(each.serial_number, each.revocation_date_utc) for each in _revoked(folder)]
    if serial not in {number for number, _ in gone}:
        _write_revoked(folder, [*gone, (serial, now)], now)


def issued(folder: Path) -> list[Issued]:
    """The certificates of all devices, by name.

    Raises:
        NotFound: the folder holds no fleet's keys.
    """
    _authority(folder)
    gone = {each.serial_number: each.revocation_date_utc for each in _revoked(folder)}
    found = []
    for path in sorted((folder / "devices").glob("*.pem")):
        made = x509.load_pem_x509_certificate(path.read_bytes())
        serial = made.serial_number
        found.append(Issued(path.stem, serial, made.not_valid_after_utc, gone.get(serial)))
    return found


def _certify(folder: Path, path: Path, name: str, now: datetime, *, days: int, hosts: Sequence[str] = ()) -> None:
    """A key and its certificate: of a server for `hosts`, of a client without."""
    authority, issuer = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(_name(name), issuer.subject, key.public_key(), now, now + days * _DAY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(each) for each in hosts]), critical=False)
    _write_key(path.with_suffix(".key"), key)
    write_whole(path.with_suffix(".pem"), builder.sign(authority, hashes.SHA256()).public_bytes(_PEM))


def _authority(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key((folder / "authority.key").read_bytes(), None)
        made = x509.load_pem_x509_certificate((folder / "authority.pem").read_bytes())
    except FileNotFoundError:
        raise NotFound(
            f"{folder}: holds no keys of a fleet; make them with: lineside-fleet keys init --keys {folder}"
        ) from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder}: its authority cannot be read: {error}") from error
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key, made


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    """A certificate that is not signed yet; it holds from a day before, for devices whose clock is behind."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - _DAY)
        .not_valid_after(ends)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _revoked(folder: Path) -> list[x509.RevokedCertificate]:
    return list(x509.load_pem_x509_crl((folder / "revoked.pem").read_bytes()))


def _write_revoked(folder: Path, gone: Sequence[tuple[int, datetime]], now: datetime) -> None:
    authority, issuer = _authority(folder)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    builder = builder.last_update(now - _DAY).next_update(now + YEARS * 365 * _DAY)
    for serial, when in gone:
        one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        builder = builder.add_revoked_certificate(one)
    write_whole(folder / "revoked.pem", builder.sign(authority, hashes.SHA256()).public_bytes(_PEM))


def _write_key(path: Path, key: Key) -> None:
    """For this user's eyes only from the first byte on."""
    content = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    before = os.umask(0o077)
    try:
        write_whole(path, content)
    finally:
        os.umask(before)


def _private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritable(f"{folder}: cannot be made: {(error.strerror or str(error)).lower()}") from error


def utc_now() -> datetime:
    """Now, to the second: certificates hold no parts of one."""
    return datetime.now(timezone.utc).replace(microsecond=0)


ACL = f"""# A device writes and reads under its own name; the monitor everything. Names are those of the certificates.
pattern write {topics.ROOT}/up/+/%u/#
pattern read {topics.ROOT}/down/%u/#
pattern read {topics.FLEET_STATE}

user {MONITOR}
topic readwrite {topics.ROOT}/#

user {OPERATOR}
topic write {topics.ROOT}/down/#
topic read {topics.ROOT}/up/#
"""
MOSQUITTO = """# For Mosquitto 2; the files that are named here go to /etc/mosquitto/lineside.
listener 8883
cafile /etc/mosquitto/lineside/authority.pem
certfile /etc/mosquitto/lineside/broker.pem
keyfile /etc/mosquitto/lineside/broker.key
crlfile /etc/mosquitto/lineside/revoked.pem
acl_file /etc/mosquitto/lineside/acl
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
set_tcp_nodelay true
max_packet_size 1048576
persistence false
"""
