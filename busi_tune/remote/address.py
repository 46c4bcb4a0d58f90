"""An s3:// address as `storage` has it: bucket, prefix and how the service is reached."""

from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode, urlsplit

SCHEME = "s3://"
OPTIONS = ("endpoint_override", "scheme", "region", "tls_ca_file_path")
_SECRETS = ("access_key", "secret_key", "session_token")


@dataclass(frozen=True)
class Address:
    """A place in a bucket."""

    bucket: str
    prefix: str
    """Without slashes at its ends; empty for the bucket itself."""
    options: tuple[tuple[str, str], ...] = ()
    """How the service is reached, as in the query of pyarrow's URI."""

    def child(self, name: str) -> "Address":
        """Return the address of what lies below."""
        return replace(self, prefix=f"{self.prefix}/{name}".strip("/"))

    @property
    def path(self) -> str:
        """Bucket and prefix, as pyarrow's file systems take them."""
        return f"{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def shown(self) -> str:
        """The address without its options, for people."""
        return f"{SCHEME}{self.path}"

    @property
    def service(self) -> str:
        """The service that has the bucket, for people."""
        return dict(self.options).get("endpoint_override", "AWS")

    def __str__(self) -> str:
        query = urlencode(self.options, safe=":/")
        return self.shown + (f"?{query}" if query else "")


def is_remote(storage: str | None) -> bool:
    """Tell whether a storage is no folder."""
    return storage is not None and "://" in storage


def parse_address(uri: str) -> Address:
    """Read s3://bucket/prefix, with ?endpoint_override=HOST:PORT&scheme=http for other services.

    Raises:
        ValueError: it is none; says what is wrong with it.
    """
    parts = urlsplit(uri)
    if not uri.startswith(SCHEME) or not parts.netloc or parts.fragment:
        raise ValueError(f"storage is a folder or s3://bucket/prefix, not {_without_user(uri)}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "@" in parts.netloc or any(name in options for name in _SECRETS):
        raise ValueError(
            "storage must not name keys, they would be written to config.yaml: set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use ~/.aws/credentials or a role"
        )
    unknown = sorted(options.keys() - set(OPTIONS))
    if unknown:
        raise ValueError(
            f"storage has the unknown option {unknown[0]}; there are {', '.join(OPTIONS)}"
        )
    scheme, found, host = options.get("endpoint_override", "").partition("://")
    if found:
        options = {**options, "endpoint_override": host, "scheme": scheme}
    prefix = "/".join(part for part in parts.path.split("/") if part)
    if ".." in prefix.split("/"):
        raise ValueError(f"storage must not have .. in its path, got {uri}")
    return Address(parts.netloc, prefix, tuple(options.items()))


def find_fault(storage: str | None) -> str:
    """Say what is wrong with a storage; empty where nothing is."""
    if storage is None or not is_remote(storage):
        return ""
    try:
        parse_address(storage)
    except ValueError as error:
        return str(error)
    return ""


def _without_user(uri: str) -> str:
    head, at, tail = uri.partition("@")
    return f"{head.partition('://')[0]}://...{at}{tail}" if at else uri
