"""The socket of the demo: reachable from this machine only, unless another address is given."""

import errno
import ipaddress
import socket

from dpl.utils.errors import DplError


def listen(host: str, port: int) -> socket.socket:
    """Opens a socket for incoming connections.

    Args:
        host: a name or an address of this machine.
        port: 0 to 65535; 0: any free port.

    Returns:
        The open socket.

    Raises:
        DplError: there is no such address, or the port is out of range, in use or not permitted.
    """
    if not 0 <= port <= 65535:
        raise DplError(f"--port {port}: must be 0 (any that is free) to 65535")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise DplError(f"--host {host}: no such address; leave it out for this machine alone") from None
    listening = socket.socket(family, kind)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a port stays blocked for a minute after use
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        raise DplError(_why(error, host, port)) from None
    return listening


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port {port}: is in use by another program; give another, or 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"--port {port}: is not allowed here; give one above 1023"
    return f"--host {host}: cannot listen there ({error.strerror}); leave it out for this machine alone"


def is_loopback(listening: socket.socket) -> bool:
    """Returns whether only this machine can reach the socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def address(listening: socket.socket) -> str:
    """Returns the URL of the socket for a browser."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:  # all addresses of this machine
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
