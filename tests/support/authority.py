"""Certificates for a test, made by the command `openssl` (3.0), in a folder that goes with it."""

import dataclasses
import hashlib
import pathlib
import shutil
import ssl
import subprocess
import tempfile

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
FOR_SERVERS, FOR_CLIENTS = "serverAuth", "clientAuth"
NAMES = "DNS:localhost,IP:127.0.0.1"


def why_not():
    """Why certificates can't be made here; None if they can."""
    if not shutil.which("openssl"):
        return "needs the command openssl"
    reported = subprocess.run(["openssl", "version"], capture_output=True, text=True).stdout
    return None if reported.startswith("OpenSSL 3.") else f"needs OpenSSL 3, here is {reported.strip()}"


@dataclasses.dataclass(frozen=True)
class Pair:
    """Files with a certificate and its private key."""

    cert: pathlib.Path
    key: pathlib.Path

    @property
    def fingerprint(self):
        """SHA-256 of the certificate, in hexadecimal."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.cert.read_text())).hexdigest()


class Authority:
    """An authority, and the certificates that it signs."""

    def __init__(self, name="authority"):
        self._folder = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self._folder.name)
        self.own = self._pair(name)
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        self._openssl(*("req", "-x509", *KEY, "-nodes", "-days", 30, "-subj", f"/CN={name}", "-addext", usage),
                      *self._to(self.own))

    @property
    def ca(self):
        return self.own.cert

    def close(self):
        self._folder.cleanup()

    def issue(self, name, purpose=FOR_SERVERS, subject=None, days=30):
        """A certificate of `subject`, whose common name is `name` unless it is given; one of -1 days has expired."""
        pair = self._pair(name)
        request, extensions = pair.cert.with_suffix(".csr"), pair.cert.with_suffix(".ext")
        lines = ("basicConstraints=critical,CA:FALSE", f"extendedKeyUsage={purpose}", f"subjectAltName={NAMES}")
        extensions.write_text("\n".join(lines))
        self._openssl("req", "-new", *KEY, "-nodes", "-subj", subject or f"/CN={name}", "-keyout", pair.key,
                      "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.own.cert, "-CAkey", self.own.key, "-days", days,
                      "-extfile", extensions, "-out", pair.cert)
        return pair

    def encrypted(self, key):
        """The same key behind a passphrase."""
        path = key.with_suffix(".encrypted")
        self._openssl("pkcs8", "-topk8", "-in", key, "-passout", "pass:secret", "-out", path)
        return path

    def _pair(self, name):
        return Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")

    def _to(self, pair):
        return ("-keyout", pair.key, "-out", pair.cert)

    def _openssl(self, *arguments):
        command = ["openssl", *map(str, arguments)]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if run.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {run.stderr}")
