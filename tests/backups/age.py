"""Keys of age, and a second reader of its files, written after its specification: what pyrage writes must not be checked by pyrage alone.

https://github.com/C2SP/C2SP/blob/main/age.md
"""

import base64
import hmac
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"age-encryption.org/v1\n"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
CHUNK, TAG = 64 * 1024, 16


class Key:
    """A private key in a file, as `age-keygen` writes it, and the public key beside it."""

    def __init__(self, file: Path):
        self.file = file
        self.private = X25519PrivateKey.generate()
        self.recipient = encode_bech32("age", self.private.public_key().public_bytes_raw())
        self.secret = encode_bech32("age-secret-key-", self.private.private_bytes_raw()).upper()
        file.write_text(f"# created: 2026-01-31T02:00:00Z\n# public key: {self.recipient}\n{self.secret}\n")
        file.chmod(0o600)

    def decrypt(self, content: bytes) -> bytes:
        """Return the plain bytes of an age file. Raises InvalidTag where one bit of it is another."""
        header, _, rest = content.partition(b"\n--- ")
        mac, _, payload = rest.partition(b"\n")
        assert header.startswith(MAGIC)
        file_key = self.unwrap(header)
        signed = hmac.digest(derive(file_key, b"", b"header"), header + b"\n---", "sha256")
        assert hmac.compare_digest(signed, decode_base64(mac))
        cipher, chunks = ChaCha20Poly1305(derive(file_key, payload[:16], b"payload")), payload[16:]
        size = CHUNK + TAG
        pieces = [chunks[start : start + size] for start in range(0, len(chunks), size)]
        nonces = [number.to_bytes(11) + bytes([number == len(pieces) - 1]) for number in range(len(pieces))]
        return b"".join(cipher.decrypt(nonce, piece, None) for nonce, piece in zip(nonces, pieces, strict=True))

    def unwrap(self, header: bytes) -> bytes:
        """Return the key of the file, from the stanza of this public key."""
        public = self.private.public_key().public_bytes_raw()
        for stanza in header.split(b"\n-> ")[1:]:
            first, *body = stanza.split(b"\n")
            if not first.startswith(b"X25519 "):
                continue
            share = decode_base64(first.split()[1])
            secret = self.private.exchange(X25519PublicKey.from_public_bytes(share))
            wrapping = ChaCha20Poly1305(derive(secret, share + public, b"age-encryption.org/v1/X25519"))
            return wrapping.decrypt(bytes(12), decode_base64(b"".join(body)), None)
        raise AssertionError("no stanza")


def derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(secret)


def decode_base64(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4))


def encode_bech32(prefix: str, data: bytes) -> str:
    bits = int.from_bytes(data) << (-len(data) * 8 % 5)
    count = -(-len(data) * 8 // 5)
    values = [bits >> 5 * (count - 1 - place) & 31 for place in range(count)]
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    checksum = compute_polymod([*expanded, *values, *[0] * 6]) ^ 1
    values += [checksum >> 5 * (5 - place) & 31 for place in range(6)]
    return f"{prefix}1{''.join(BECH32[value] for value in values)}"


def compute_polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for place, generator in enumerate(GENERATOR):
            checksum ^= generator if top >> place & 1 else 0
    return checksum
