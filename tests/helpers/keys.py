"""Ed25519 keys for tests of signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


class KeyPair(NamedTuple):
    """The files of a key in PEM form."""

    private: Path
    public: Path


def write_keys(folder: Path, name: str = "key", key: Any = None, passphrase: str = "") -> KeyPair:
    """Writes a pair of keys as openssl does; a new Ed25519 key by default."""
    key = key or Ed25519PrivateKey.generate()
    pair = KeyPair(folder / f"{name}.pem", folder / f"{name}.pub.pem")
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    pair.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public = key.public_key()
    pair.public.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return pair


def write_ssh_keys(folder: Path) -> KeyPair:
    """Writes a pair of keys as ssh-keygen does."""
    key = Ed25519PrivateKey.generate()
    pair = KeyPair(folder / "id_ed25519", folder / "id_ed25519.pub")
    pair.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    pair.public.write_bytes(public + b" somebody@somewhere\n")
    return pair
