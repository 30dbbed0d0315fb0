"""No key that a URI carries is printed or stored, whatever signs stand in it."""

from pathlib import Path

import pytest

from dynrcnn_ray.cli.program import program
from dynrcnn_ray.config.uris import shown_uri
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.predict.pictures import find_pictures

SECRETS = ("se/cr+et", "sec ret", "se#cret", "se@cr/et", "se?cr@et", "secr\net", "se%2Fcret")


def uris() -> list[str]:
    return [f"{scheme}://AKIA:{secret}@bucket/folder?region=x" for scheme in ("s3", "s9") for secret in SECRETS]


def assert_tells_no_secret(text: str) -> None:
    assert not [secret for secret in (*SECRETS, "cr/et", "cr+et", "cr@et", "cret", "AKIA") if secret in text], text


@pytest.mark.parametrize("uri", uris())
def test_a_storage_or_pictures_that_cannot_be_had(uri: str):
    if "%2F" not in uri or uri.startswith("s9"):  # The one URI that is right would ask Amazon.
        with pytest.raises(StoreError, match=r"^storage s\d://\.\.\.: ") as of_store:
            ResultStore.open(uri)
        assert_tells_no_secret(str(of_store.value))
        with pytest.raises(DataError) as of_pictures:
            find_pictures(uri)
        assert_tells_no_secret(str(of_pictures.value))
    assert shown_uri(uri).endswith("://bucket/folder")


def test_the_command_in_a_plan(tmp_path: Path):
    """Of every argument, also where the flag stands before an equals sign."""
    for uri in uris():
        call = Call("compare", ("a", "--storage-b", uri, f"--images={uri}", "b"), program())
        shown = call.shown(str(tmp_path), str(tmp_path))
        assert_tells_no_secret(shown)
        assert "--images=s" in shown
        assert shown.count("://bucket/folder") == 2


def test_what_is_no_uri_stays(tmp_path: Path):
    assert shown_uri("/home/me@work/what?/file") == "/home/me@work/what?/file"
