"""Signs models and datasets with Ed25519 keys, and checks signatures. Needs the extra `sign`.

A signature is one line of ASCII: `cxr-tfds-signature-1 KEY SIGNATURE`, both in hexadecimal. KEY is
the beginning of the SHA-256 of the public key. SIGNATURE is the Ed25519 signature of a line that
names the kind of the content, such as `cxr-tfds model`, followed by the SHA-512 of the content: a
signed dataset is never taken for a signed model.
"""

from __future__ import annotations

import hashlib
import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_tfds.errors import InputError, MissingData

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# Environment variables: the passphrase of the private key, and the public key of every model.
PASSPHRASE, TRUST = "CXR_TFDS_KEY_PASSPHRASE", "CXR_TFDS_TRUST"
_MARK = b"cxr-tfds-signature-1 "
_ID_CHARACTERS = 16
_SIGNATURE_BYTES = 64
SIGNATURE_BYTES = len(_MARK) + _ID_CHARACTERS + 1 + 2 * _SIGNATURE_BYTES  # of the line


def sign(content: bytes, kind: str, key: Ed25519PrivateKey) -> bytes:
    """Returns the signature of `content`, a line of `SIGNATURE_BYTES` bytes."""
    signature = key.sign(_message(content, kind)).hex().encode()
    return _MARK + _key_id(key.public_key()) + b" " + signature


def check_signature(
    content: bytes, line: bytes, kind: str, trust: str | PathLike[str], name: str
) -> str:
    """Checks that `content` was signed with the private key of a public key.

    Args:
      content: What was signed.
      line: The bytes where its signature is expected.
      kind: What `content` is, such as "model".
      trust: File of the public key.
      name: Name of the content, for messages.

    Returns:
      The id of the key.

    Raises:
      MissingData: The file of the public key does not exist.
      InputError: The content is not signed, was signed with another key, or was changed.
    """
    from cryptography.exceptions import InvalidSignature

    key = _load_public_key(trust)
    if len(line) != SIGNATURE_BYTES or not line.startswith(_MARK):
        raise InputError(
            f"{name} is not signed, or its end is missing or changed. Expected a signature with "
            f"the key {_key_id(key).decode()} ({trust}). Get the signed {kind} from the owner of "
            "the key."
        )
    key_id, _, text = line.removeprefix(_MARK).partition(b" ")
    if key_id != _key_id(key):
        raise InputError(
            f"{name} is signed with another key: {key_id.decode('ascii', 'replace')!r}; expected "
            f"{_key_id(key).decode()} ({trust}). Do not use it unless you trust the owner of that "
            "key, too."
        )
    try:
        signature = bytes.fromhex(text.decode())
        if signature.hex().encode() != text:  # other spellings of the same bytes
            raise InvalidSignature
        key.verify(signature, _message(content, kind))
    except (InvalidSignature, ValueError) as err:
        raise InputError(
            f"{name} was changed after it was signed. Do not use it; copy the {kind} again from "
            "where it came from."
        ) from err
    return key_id.decode()


def load_private_key(path: str | PathLike[str]) -> Ed25519PrivateKey:
    """Loads an Ed25519 private key, as openssl or ssh-keygen writes it.

    The environment variable CXR_TFDS_KEY_PASSPHRASE decrypts it.

    Raises:
      MissingData: The file does not exist.
      InputError: It contains no such key, or its passphrase is missing or wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        load_pem_private_key,
        load_ssh_private_key,
    )

    data = _read(path)
    if b"PRIVATE KEY" not in data:
        raise InputError(
            f"{path} contains no private key; expected one in PEM form, such as `openssl genpkey "
            "-algorithm ed25519` writes."
        )
    load: Any = load_ssh_private_key if b"BEGIN OPENSSH" in data else load_pem_private_key
    passphrase = os.environ.get(PASSPHRASE)
    try:
        try:
            key = load(data, None)
        except TypeError:  # it is encrypted
            if not passphrase:
                raise InputError(
                    f"{path} is encrypted. Give its passphrase in the environment variable "
                    f"{PASSPHRASE}."
                ) from None
            key = load(data, passphrase.encode())
    except InputError:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        raise InputError(
            f"{path} is not a readable private key: {err}. If it is encrypted, check {PASSPHRASE}."
        ) from err
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path} contains a key of type {_type_name(key)}; expected Ed25519.")
    return key


def _load_public_key(path: str | PathLike[str]) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import (
        load_pem_public_key,
        load_ssh_public_key,
    )

    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise InputError(
            f"{path} contains a private key, which signs; expected the public key. Remove the "
            "private key from this machine if it does not sign here."
        )
    load: Any = load_pem_public_key if b"BEGIN " in data else load_ssh_public_key
    try:
        key = load(data)
    except (ValueError, UnsupportedAlgorithm) as err:
        raise InputError(
            f"{path} is not a readable public key: {err}. Expected the file that `openssl pkey "
            "-pubout` or ssh-keygen writes."
        ) from err
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} contains a key of type {_type_name(key)}; expected Ed25519.")
    return key


def _read(path: str | PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as err:
        raise MissingData(f"{path} does not exist; expected the file of a key.") from err


def _message(content: bytes, kind: str) -> bytes:
    return f"cxr-tfds {kind}\n".encode() + hashlib.sha512(content).digest()


def _key_id(key: Any) -> bytes:
    raw = key.public_bytes_raw()
    return hashlib.sha256(raw).hexdigest()[:_ID_CHARACTERS].encode()


def _type_name(key: object) -> str:
    return type(key).__name__.removesuffix("PublicKey").removesuffix("PrivateKey").strip("_")
