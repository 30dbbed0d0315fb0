"""URIs as they may be printed and stored: one may carry the key of whoever gave it."""


def shown_uri(uri: str) -> str:
    """Without who asks, his secret, whatever signs stand in it, and options. What is no URI stays as it is."""
    scheme, separator, rest = uri.partition("://")
    return scheme + separator + rest.rpartition("@")[2].partition("?")[0] if separator else uri


def without_secrets(text: str, uri: str) -> str:
    """A text that may hold a URI, also with its spaces joined, with the URI as it may be printed."""
    for written in (uri, " ".join(uri.split())):
        text = text.replace(written, shown_uri(uri))
    return text


def check_key(uri: str) -> None:
    """Refuse a key with a sign that ends it early: the rest would be taken for a bucket, and shown as one.

    Raises:
        ValueError: saying how to write it.
    """
    if uri.partition("?")[0].count("@") > 1:
        raise ValueError("more than one @ stands in it; in a key write @ as %40 and / as %2F")
