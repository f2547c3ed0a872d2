"""TLS in front of servers that speak none: the wheels' PostgreSQL and Redis are built without it.

Here: certificates of a test, and a front that ends TLS and passes the clear text on to a server on
this machine. Not here: other faults of the line (`fault_proxy.py`, placed before this front).
"""

import ipaddress
import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# Length 8 and code 80877103: "may we speak TLS?", the first message of a PostgreSQL client.
_SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


class Opening(Enum):
    """How a client begins."""

    TLS_AT_ONCE = auto()
    POSTGRES = auto()


def write_certificate(path: Path, *, host: str = "127.0.0.1") -> Path:
    """Make a key and a certificate signed by itself, in one file; clients may trust that file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


class TlsFront:
    """Ends TLS in front of one server; a context manager."""

    def __init__(
        self, port: int, certificate: Path, *, opening: Opening, is_stalled: bool = False
    ) -> None:
        """Take a free port.

        Args:
            port: Of the server on this machine.
            certificate: Key and certificate in one file.
            opening: How clients begin.
            is_stalled: Accept, and never answer the handshake.
        """
        self._server_port, self._opening, self._is_stalled = port, opening, is_stalled
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._closing = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self.accepted = self.secured = self.failed = 0

    def __enter__(self) -> Self:
        """Begin to accept."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Accept no more; what is open ends with its client."""
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.accepted += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self._opening is Opening.POSTGRES:
                if connection.recv(len(_SSL_REQUEST), socket.MSG_WAITALL) != _SSL_REQUEST:
                    return
                connection.sendall(b"S")
            if self._is_stalled:
                self._closing.wait()
                return
            try:
                secure = self._context.wrap_socket(connection, server_side=True)
            except OSError:
                self.failed += 1
                return
            with secure:
                self._pass(secure)

    def _pass(self, secure: ssl.SSLSocket) -> None:
        try:
            # In TLS 1.3 a client refuses the certificate after the server's handshake is over.
            first = secure.recv(65_536)
        except OSError:
            first = b""
        if not first:
            self.failed += 1
            return
        self.secured += 1
        with socket.create_connection(("127.0.0.1", self._server_port)) as server:
            server.sendall(first)
            back = threading.Thread(target=_pump, args=(server, secure), daemon=True)
            back.start()
            _pump(secure, server)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
