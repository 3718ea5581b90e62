"""TLS of the two listeners: TLS 1.2 and later, certificates that are read again when their files change.

Connections that are open keep the certificate with which they began; the next handshake has the new one. Files that
cannot be used leave the old certificate in force. Another `client_ca` needs a restart.
"""

import ssl
from pathlib import Path

from penstock.domain.snapshot import TlsFiles
from penstock.errors import ConfigError

LOOK_S = 2.0
HANDSHAKE_TIMEOUT_S = 15.0

_Stamp = tuple[int, int, int]


class Certificates:
    """`context`: for a listener, always with the newest certificate that could be used. Raises ConfigError for files
    that cannot be."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamps = self._look()
        self.context = server_context(files)

    def renew(self) -> bool:
        """Takes up files that have changed since this was asked last: whether there were any. Raises ConfigError, once
        per change, where they cannot be used."""
        stamps = self._look()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        server_context(self._files)  # a certificate and a key of two different pairs must not come into use
        _load(self.context, self._files)
        return True

    def _look(self) -> tuple[_Stamp, ...]:
        return tuple(_stamp(Path(path)) for path in (self._files.cert, self._files.key))


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Raises ConfigError where a file is none of its kind, with a sentence."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load(context, files)
    if files.client_ca:
        try:
            context.load_verify_locations(files.client_ca)
        except OSError as error:
            raise ConfigError(f"the file {files.client_ca} holds no certificates: {_reason(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    try:
        # Without a word for it, an encrypted key would be asked for on the terminal.
        context.load_cert_chain(files.cert, files.key, password=lambda: "")
    except OSError as error:
        sentence = f"{files.cert} and {files.key} are no certificate and its key: {_reason(error)}"
        raise ConfigError(sentence) from None


def _reason(error: OSError) -> str:
    """`ssl.SSLError` is an OSError, whose own reason is the one that helps."""
    reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
    return str(reason).lower().replace("_", " ")


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)
