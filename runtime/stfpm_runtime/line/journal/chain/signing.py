"""Ed25519 keys for the heads of the chain: the private key stays outside the journal, the public one verifies."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from stfpm_runtime.errors import JournalError, MissingExtraError, OutputError

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_pem_private_key,
        load_pem_public_key,
    )
except ImportError:
    raise MissingExtraError("cryptography", "signing") from None

REMEDY = "make a pair with: stfpm-journal --new-key FILE"


class KeyPair:
    """Signs heads, and recognises its own signatures."""

    def __init__(self, path: Path) -> None:
        """Read the private key. Raises JournalError for a file that is missing, unreadable or no such key."""
        try:
            private = load_pem_private_key(path.read_bytes(), None)
        except OSError as error:
            raise JournalError(f"{path}: the signing key cannot be read ({error.strerror}); {REMEDY}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise JournalError(f"{path}: is no private Ed25519 key in PEM without a password; {REMEDY}")
        self._private = private
        self._public = PublicKey(private.public_key())
        self.key = self._public.key

    def sign(self, text: str) -> str:
        """Return the signature in hexadecimal."""
        return self._private.sign(text.encode()).hex()

    def has_signed(self, text: str, signature: str) -> bool:
        """Return whether this key has made the signature."""
        return self._public.has_signed(text, signature)


class PublicKey:
    """Verifies signatures."""

    def __init__(self, public: Ed25519PublicKey) -> None:
        """Store the key."""
        self._public = public
        self.key = hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]
        """The beginning of the SHA-256 of the key, in hexadecimal."""

    def has_signed(self, text: str, signature: str) -> bool:
        """Return whether the key's owner has made the signature."""
        try:
            data = bytes.fromhex(signature)
            self._public.verify(data, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return data.hex() == signature


def read_public_key(path: Path) -> PublicKey:
    """Read a public key. Raises JournalError for a file that is missing, unreadable or no such key."""
    try:
        public = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise JournalError(f"{path}: the public key cannot be read ({error.strerror})") from None
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if not isinstance(public, Ed25519PublicKey):
        raise JournalError(f"{path}: is no public Ed25519 key in PEM; expected the FILE.pub beside the signing key")
    return PublicKey(public)


def write_new_key(path: Path) -> Path:
    """Write a new private key, which its owner alone may read, and its public key as FILE.pub.

    Returns the path of the public key. Raises OutputError where a file cannot be written, or is there already.
    """
    private, public_path = Ed25519PrivateKey.generate(), path.with_name(path.name + ".pub")
    files = (
        (path, 0o600, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
        (public_path, 0o644, private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
    )
    for place, mode, data in files:
        try:
            with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
        except OSError as error:
            raise OutputError(f"{place}: cannot be written ({error.strerror}); choose another name") from None
    return public_path
