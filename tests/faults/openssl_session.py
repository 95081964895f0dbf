"""TLS by the OpenSSL that Python's ssl module is linked to, for what that module can't do: KeyUpdate."""

import _ssl
import ctypes

KEY_UPDATE_NOT_REQUESTED, KEY_UPDATE_REQUESTED = 0, 1
POINTERS = ("TLS_client_method", "SSL_CTX_new", "SSL_new")


def library():
    """The symbols of libssl, or None where they can't be found."""
    try:
        found = ctypes.CDLL(_ssl.__file__)
        for name in POINTERS:
            getattr(found, name).restype = ctypes.c_void_p
        found.SSL_key_update.restype = ctypes.c_int
        return found
    except (AttributeError, OSError):
        return None


class OpensslSession:
    """A client on a connected socket, which it leaves to its owner. It doesn't check the server's certificate."""

    def __init__(self, connection):
        self._lib = library()
        connection.setblocking(True)
        self._context = ctypes.c_void_p(self._lib.SSL_CTX_new(ctypes.c_void_p(self._lib.TLS_client_method())))
        self._session = ctypes.c_void_p(self._lib.SSL_new(self._context))
        self._lib.SSL_set_fd(self._session, connection.fileno())
        self._check(self._lib.SSL_connect(self._session), "the handshake")

    def close(self):
        self._lib.SSL_free(self._session)
        self._lib.SSL_CTX_free(self._context)

    def write(self, data):
        self._check(self._lib.SSL_write(self._session, data, len(data)), "writing")

    def read(self, size):
        buffer = ctypes.create_string_buffer(size)
        got = self._lib.SSL_read(self._session, buffer, size)
        self._check(got, "reading")
        return buffer.raw[:got]

    def key_update(self, kind):
        """Sends a KeyUpdate; a requested one is answered with another."""
        self._check(self._lib.SSL_key_update(self._session, kind), "KeyUpdate")
        self._check(self._lib.SSL_do_handshake(self._session), "KeyUpdate")

    def _check(self, answer, what):
        if answer <= 0:
            raise ConnectionError(f"{what} failed: {self._lib.SSL_get_error(self._session, answer)}")
