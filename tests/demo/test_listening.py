import socket

import pytest

from dpl.demo.listening import address, is_loopback, listen
from dpl.utils.errors import DplError


def test_any_free_port_is_found_on_this_machine_alone():
    with listen("127.0.0.1", 0) as one, listen("localhost", 0) as other:
        assert address(one).startswith("http://127.0.0.1:") and address(one) != address(other)
        assert is_loopback(one) and is_loopback(other)
        socket.create_connection(one.getsockname()[:2], timeout=5).close()


def test_other_addresses_are_no_loopback_and_have_a_name_that_a_browser_can_use():
    with listen("0.0.0.0", 0) as listening:
        assert not is_loopback(listening) and address(listening).startswith(f"http://{socket.gethostname()}:")


def test_a_port_in_use_is_told_in_a_line():
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(DplError) as error:
            listen("127.0.0.1", port)
    assert str(error.value) == f"--port {port}: is in use by another program; give another, or 0 for any that is free"


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [
        ("127.0.0.1", 70000, "--port 70000: must be 0"),
        ("127.0.0.1", -1, "--port -1: must be 0"),
        ("192.0.2.1", 0, "--host 192.0.2.1: cannot listen there"),
        ("no such host", 0, "--host no such host: no such address"),
        ("x" * 300, 0, f"--host {'x' * 300}: no such address"),
    ],
)
def test_what_cannot_be_listened_on_is_told_in_a_line(host: str, port: int, told: str):
    with pytest.raises(DplError) as error:
        listen(host, port)
    assert str(error.value).startswith(told) and "\n" not in str(error.value)
