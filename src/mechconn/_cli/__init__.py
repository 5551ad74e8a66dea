"""The command line. Importing a module of commands adds them to the application."""

from mechconn._cli import _commands as _commands
from mechconn._cli import _run as _run
from mechconn._cli import _shelf as _shelf
from mechconn._cli._app import main as main

__all__ = ["main"]
